//! Which convolutions stay in f32: those that lose most for what they cost.

use super::convert::{Choices, convert};
use super::gains::{self, Gains};
use super::layout::{Layout, convolutions, never};
use super::ranges;
use super::stats::{self, Channels};
use super::{Options, Report, Samples, bias};
use crate::error::Result;
use crate::nets::convnet::Session;
use crate::nets::convnet::program::{Op, Program};
use crate::nets::convnet::weights::{Draft, FilterShape};
use std::collections::{BTreeMap, BTreeSet};

/// Pictures that single convolutions are judged by.
const FEW: usize = 6;

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
pub(super) fn make(
    draft: &Draft,
    exact: &[Channels],
    gains: &Gains,
    session: &mut Session,
    samples: &mut Samples,
    kept: BTreeSet<usize>,
) -> Result<Draft> {
    let layout = Layout::new(&draft.program, &kept);
    let quants = ranges::search(session, samples, exact, &layout, gains)?;
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
    /// The network in bytes, with as many convolutions left in f32 as the budget asks for.
    pub(super) fn run(&mut self, mut progress: impl FnMut(f64)) -> Result<(Draft, Report)> {
        let program = &self.draft.program;
        let few = FEW.min(self.samples.count);
        let expected = Expected::gather(self.session, self.samples, few)?;
        let never = never(program);

        // How much the gains shall move from the values to the weights.
        let mut best: Option<(f64, Gains, Draft)> = None;
        let candidates = [None, Some(0.3), Some(0.5), Some(0.75)];
        for (i, alpha) in candidates.into_iter().enumerate() {
            let gains = alpha.map_or_else(|| gains::none(program), |a| gains::balance(self.draft, self.exact, a));
            let made = self.make(&gains, &never)?;
            let loss = expected.loss(&mut stats::session(&made, self.options.threads)?, self.samples)?;
            if best.as_ref().is_none_or(|best| loss < best.0) {
                best = Some((loss, gains, made));
            }
            progress(0.5 * (i + 1) as f64 / candidates.len() as f64);
        }
        let (mut loss, gains, mut made) = best.expect("some candidates");

        let mut kept = never.clone();
        if loss > self.options.budget {
            let single = self.single_losses(&expected, &gains, &never, |part| progress(0.5 + 0.4 * part))?;
            let mut order: Vec<_> = single.iter().collect();
            order.sort_by(|a, b| (b.1 / self.cost(*b.0)).total_cmp(&(a.1 / self.cost(*a.0))));
            let mut order = order.into_iter();
            // A few at a time: what is left is measured, not added up.
            while loss > self.options.budget {
                let more: Vec<_> = order.by_ref().take(3).map(|(i, _)| *i).collect();
                if more.is_empty() {
                    break;
                }
                kept.extend(more);
                made = self.make(&gains, &kept)?;
                loss = expected.loss(&mut stats::session(&made, self.options.threads)?, self.samples)?;
            }
        }
        progress(1.0);
        let why = |i: &usize| if never.contains(i) { "first, or of a single pixel" } else { "sensitive to rounding" };
        let names = kept.iter().map(|i| (name(program, *i), why(i).to_string())).collect();
        let converted = convolutions(program).count() - kept.len();
        Ok((made, Report { converted, kept: names, loss }))
    }

    fn make(&mut self, gains: &Gains, kept: &BTreeSet<usize>) -> Result<Draft> {
        let Self { draft, exact, samples, session, .. } = self;
        make(draft, exact, gains, session, samples, kept.clone())
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
        let quants = ranges::search(self.session, self.samples, self.exact, &layout, gains)?;
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
