//! Which convolutions stay in f32: those that lose most for what they cost.

use super::convert::{Choices, convert};
use super::gains::{self, Gains};
use super::layout::{Layout, convolutions, never};
use super::ranges;
use super::stats::{self, Channels};
use super::{Options, Report, Samples, Why, bias};
use crate::error::Result;
use crate::nets::convnet::Session;
use crate::nets::convnet::program::{Op, Program};
use crate::nets::convnet::weights::{Draft, FilterShape};
use std::collections::{BTreeMap, BTreeSet};

/// Pictures that single convolutions are judged by.
const FEW: usize = 6;

/// How many times the average loss of a multiply-add one has to cause to be worth staying in f32.
const WORTH: f64 = 2.0;

/// The results of the f32 network on some pictures.
pub(super) struct Expected {
    outputs: Vec<Vec<Vec<f32>>>,
}

impl Expected {
    pub(super) fn gather(session: &mut Session, samples: &mut Samples, count: usize) -> Result<Self> {
        let mut outputs = Vec::new();
        for i in 0..count {
            (samples.place)(i, session.input())?;
            session.run();
            let n = session.net().program().outputs().len();
            outputs.push((0..n).map(|o| session.output(o).to_vec()).collect());
        }
        Ok(Self { outputs })
    }

    /// The share of the results' variance that the network's differences make up: of each channel, averaged over those
    /// that vary at all, and over the results. A box's side and a class's score are channels of very different size.
    pub(super) fn loss(&self, session: &mut Session, samples: &mut Samples) -> Result<f64> {
        let program = session.net().program();
        let channels: Vec<_> = program.outputs().iter().map(|&x| program.shapes()[x].c).collect();
        let mut moments: Vec<_> = channels.iter().map(|&c| vec![Moments::default(); c]).collect();
        for (i, expected) in self.outputs.iter().enumerate() {
            (samples.place)(i, session.input())?;
            session.run();
            for ((o, expected), moments) in expected.iter().enumerate().zip(&mut moments) {
                for (k, (x, y)) in session.output(o).iter().zip(expected).enumerate() {
                    moments[k % channels[o]].add(*x, *y);
                }
            }
        }
        Ok(moments.iter().map(|moments| shares(moments)).sum::<f64>() / channels.len() as f64)
    }
}

/// What was seen of one channel of a result.
#[derive(Clone, Default)]
struct Moments {
    count: f64,
    sum: f64,
    square: f64,
    error: f64,
}

impl Moments {
    fn add(&mut self, x: f32, exact: f32) {
        let (x, exact) = (f64::from(x), f64::from(exact));
        self.count += 1.0;
        self.sum += exact;
        self.square += exact * exact;
        self.error += (x - exact) * (x - exact);
    }

    fn variance(&self) -> f64 {
        (self.square - self.sum * self.sum / self.count).max(0.0)
    }
}

/// Error over variance, averaged over channels; those that hardly vary count for what they are.
fn shares(moments: &[Moments]) -> f64 {
    let mean = moments.iter().map(Moments::variance).sum::<f64>() / moments.len() as f64;
    let floor = (1e-3 * mean).max(f64::MIN_POSITIVE);
    moments.iter().map(|m| m.error / m.variance().max(floor)).sum::<f64>() / moments.len() as f64
}

/// Makes the network with the convolutions at `kept` in f32.
pub(super) fn make(draft: &Draft, exact: &[Channels], gains: &Gains, kept: BTreeSet<usize>) -> Result<Draft> {
    let layout = Layout::new(&draft.program, &kept);
    let quants = ranges::search(&draft.program, exact, &layout, gains);
    let mut choices = Choices { kept, gains: gains.clone(), quants, biases: BTreeMap::new() };
    let mut made = convert(draft, &layout, &choices)?;
    bias::correct(draft, exact, &made, &mut choices);
    made = convert(draft, &layout, &choices)?;
    Ok(made)
}

/// The search's way and end.
pub(super) struct Search<'a, 's> {
    pub(super) draft: &'a Draft,
    pub(super) exact: &'a [Channels],
    pub(super) samples: &'a mut Samples<'s>,
    pub(super) options: &'a Options,
    pub(super) session: &'a mut Session,
}

impl Search<'_, '_> {
    /// The network in bytes, but for the convolutions that are worth staying in f32.
    pub(super) fn run(&mut self, mut progress: impl FnMut(f64)) -> Result<(Draft, Report)> {
        let program = &self.draft.program;
        let few = FEW.min(self.samples.count);
        let expected = Expected::gather(self.session, self.samples, few)?;
        let never = never(program);

        // How much the gains shall move from the values to the weights.
        let mut best: Option<(f64, Gains, Draft)> = None;
        let candidates = [None, Some(0.5), Some(0.75), Some(1.0)];
        for (i, alpha) in candidates.into_iter().enumerate() {
            let gains = alpha.map_or_else(|| gains::none(program), |a| gains::balance(self.draft, self.exact, a));
            let made = make(self.draft, self.exact, &gains, never.clone())?;
            let loss = expected.loss(&mut stats::session(&made, self.options.threads)?, self.samples)?;
            if best.as_ref().is_none_or(|best| loss < best.0) {
                best = Some((loss, gains, made));
            }
            progress(0.2 * (i + 1) as f64 / candidates.len() as f64);
        }
        let (mut loss, gains, mut made) = best.expect("some candidates");

        let mut kept = never.clone();
        let mut single = BTreeMap::new();
        if self.options.budget > 0.0 {
            single = self.single_losses(&expected, &gains, &never, |part| progress(0.2 + 0.8 * part))?;
            kept = self.choose(&single, &never);
        }
        if kept != never {
            made = make(self.draft, self.exact, &gains, kept.clone())?;
            loss = expected.loss(&mut stats::session(&made, self.options.threads)?, self.samples)?;
        }
        progress(1.0);
        let pixel = |i: usize| program.shapes()[i + 1].pixels() == 1;
        let by_rule = |i| if pixel(i) { Why::SinglePixel } else { Why::First };
        let why = |i| single.get(&i).map_or_else(|| by_rule(i), |&loss| Why::Loss(loss));
        let names = kept.iter().map(|&i| (name(program, i), why(i))).collect();
        let converted = convolutions(program).count() - kept.len();
        Ok((made, Report { converted, kept: names, loss }))
    }

    /// What stays in f32: `never`, and those that lose most for what they cost, as far as the budget goes.
    fn choose(&self, losses: &BTreeMap<usize, f64>, never: &BTreeSet<usize>) -> BTreeSet<usize> {
        let loss: f64 = losses.values().sum();
        let cost: f64 = losses.keys().map(|i| self.cost(*i)).sum();
        let share = |i: usize| (losses[&i] / loss) / (self.cost(i) / cost);
        let mut order: Vec<usize> = losses.keys().copied().filter(|&i| share(i) >= WORTH).collect();
        order.sort_by(|&a, &b| share(b).total_cmp(&share(a)));
        let mut left = self.options.budget * cost;
        let mut kept = never.clone();
        for i in order {
            if self.cost(i) <= left {
                left -= self.cost(i);
                kept.insert(i);
            }
        }
        // One that reads a value that stays in bytes for others would hardly gain.
        let program = &self.draft.program;
        loop {
            let layout = Layout::new(program, &kept);
            let gains = |i: &usize| program.ops()[*i].inputs().iter().all(|&x| !layout.is_bytes(x));
            let count = kept.len();
            kept.retain(|i| never.contains(i) || gains(i));
            if kept.len() == count {
                return kept;
            }
        }
    }

    /// The loss of each convolution if it alone computes in bytes.
    fn single_losses(
        &mut self,
        expected: &Expected,
        gains: &Gains,
        never: &BTreeSet<usize>,
        mut progress: impl FnMut(f64),
    ) -> Result<BTreeMap<usize, f64>> {
        let all: BTreeSet<_> = convolutions(&self.draft.program).collect();
        let layout = Layout::new(&self.draft.program, never);
        let quants = ranges::search(&self.draft.program, self.exact, &layout, gains);
        let mut losses = BTreeMap::new();
        for (n, &i) in all.difference(never).enumerate() {
            let kept = all.iter().copied().filter(|&other| other != i).collect();
            let layout = Layout::new(&self.draft.program, &kept);
            let choices = Choices { kept, gains: gains.clone(), quants: quants.clone(), biases: BTreeMap::new() };
            let made = convert(self.draft, &layout, &choices)?;
            let mut session = stats::session(&made, self.options.threads)?;
            losses.insert(i, expected.loss(&mut session, self.samples)?);
            progress((n + 1) as f64 / all.len() as f64);
        }
        Ok(losses)
    }

    /// Multiply-adds of a convolution.
    fn cost(&self, i: usize) -> f64 {
        let program = &self.draft.program;
        let Op::Conv { x, .. } = &program.ops()[i] else { return 1.0 };
        let shape = FilterShape::of(&program.ops()[i], program.shapes()[*x].c).expect("a convolution");
        (program.shapes()[i + 1].pixels() * shape.len()) as f64
    }
}

fn name(program: &Program, i: usize) -> String {
    match &program.ops()[i] {
        Op::Conv { name, .. } => name.clone(),
        _ => String::new(),
    }
}
