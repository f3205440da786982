//! A whole network as one operation, which candle knows nothing of but the result: one pass forward that remembers what it
//! did, and one back.
//!
//! | file | what |
//! |---|---|
//! | `product.rs` | dense convolutions, as products of matrices |
//! | `depthwise.rs` | a filter for each channel |
//! | `read.rs` | norms and activations, applied by whoever reads, and gradients through them |
//! | `pool.rs` | memory that is used again |
//!
//! As operations of their own these would be bound by memory: each would read and write maps that do not fit into a cache,
//! and candle adds every gradient to zeros first. Here a convolution reads the result of the one before, applies that
//! one's norm to what it read, and writes its own result with its moments; on the way back it is the same. Sums are made
//! of parts that do not depend on the number of threads.

mod depthwise;
mod pool;
mod product;
mod read;
#[cfg(test)]
mod tests;

pub use pool::Pool;

use super::super::by_hand::of_one;
use super::super::{TASK, tensor, with_numbers};
use super::moments::Moments;
use super::{Activation, Maps, Window};
use candle_core::{Result, Tensor, bail};
use depthwise::Depthwise;
use pool::Lent;
use product::Input;
use rayon::prelude::*;
use read::{Lens, Norm, Slope, Sums, Target};
use std::ops::Range;
use std::sync::Arc;

/// Parts that rows are cut into at most, each a task.
const PARTS: usize = 16;

/// Rows of a task.
fn tasks(rows: usize) -> usize {
    rows.div_ceil(PARTS).max(128)
}

/// The moments of some rows: mean, and sum of squared differences from it.
struct Part {
    rows: usize,
    moments: [Vec<f32>; 2],
}

/// A batch of maps on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

/// A convolution. Ranges are places in the list of all parameters.
#[derive(Debug, Clone)]
pub struct Filters {
    /// `[outputs, kernel · kernel · inputs]`, or `[kernel · kernel, channels]` if it is depthwise.
    pub weight: Range<usize>,
    /// Whether each channel has a filter of its own.
    pub depthwise: bool,
    /// Size and movement.
    pub window: Window,
    /// What comes after it.
    pub then: Then,
}

/// What comes after a convolution.
#[derive(Debug, Clone)]
pub enum Then {
    /// This is added.
    Bias(Range<usize>),
    /// A batch norm, and an activation.
    Norm {
        /// What it multiplies with.
        weight: Range<usize>,
        /// What it adds.
        bias: Range<usize>,
        /// What is applied after it.
        activation: Activation,
    },
}

/// What was done, and what came of it.
#[derive(Debug)]
pub struct Tape {
    pool: Arc<Pool>,
    nodes: Vec<Node>,
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Node {
    maps: Maps,
    channels: usize,
    numbers: Lent,
    /// What readers apply.
    norm: Option<Norm>,
    /// The operation that read them first: the last one on the way back.
    reader: Option<usize>,
}

#[derive(Debug)]
enum Operation {
    Convolve { xs: Vec<Id>, filters: Filters, y: Id },
    Add { x: Id, y: Id, sum: Id },
    Upsample { x: Id, y: Id },
}

impl Tape {
    /// An empty tape, which takes its memory out of this pool.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool, nodes: Vec::new(), operations: Vec::new() }
    }

    fn push(&mut self, maps: Maps, channels: usize, numbers: Lent) -> Id {
        self.nodes.push(Node { maps, channels, numbers, norm: None, reader: None });
        Id(self.nodes.len() - 1)
    }

    /// Takes down what was done with some maps.
    fn done(&mut self, xs: &[Id], operation: Operation) {
        for x in xs {
            self.nodes[x.0].reader.get_or_insert(self.operations.len());
        }
        self.operations.push(operation);
    }

    fn lens(&self, id: Id) -> Lens<'_> {
        let Node { channels, numbers, norm, .. } = &self.nodes[id.0];
        Lens { numbers, channels: *channels, norm: norm.as_ref() }
    }

    /// The size of maps.
    pub fn maps(&self, id: Id) -> Maps {
        self.nodes[id.0].maps
    }

    /// Maps that come from elsewhere, `[pixels, channels]`. There is no gradient of them.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn input(&mut self, numbers: &[f32], maps: Maps) -> Result<Id> {
        let channels = numbers.len() / maps.rows().max(1);
        if numbers.is_empty() || numbers.len() != maps.rows() * channels {
            bail!("{} numbers for the {} pixels of {maps:?}", numbers.len(), maps.rows());
        }
        let mut own = self.pool.take(numbers.len());
        own.copy_from_slice(numbers);
        Ok(self.push(maps, channels, own))
    }

    /// Whether these are maps that came from elsewhere.
    fn is_input(&self, id: Id) -> bool {
        !self.operations.iter().any(|operation| match operation {
            Operation::Convolve { y, .. } | Operation::Upsample { y, .. } => *y == id,
            Operation::Add { sum, .. } => *sum == id,
        })
    }

    /// A convolution of maps of the same size, whose channels are taken as if they were side by side, with the moments of
    /// its result if it has a norm. The norm goes by `moments`, if there are some, or else by those.
    ///
    /// # Errors
    /// If the shapes do not fit; for windows over maps that were computed, or depthwise ones over several maps.
    pub fn convolve(
        &mut self,
        xs: &[Id],
        filters: Filters,
        parameters: &[f32],
        moments: Option<&Moments>,
    ) -> Result<(Id, Option<Moments>)> {
        filters.window.check()?;
        let maps = self.maps(xs[0]);
        let to = maps.through(filters.window);
        let weight = &parameters[filters.weight.clone()];
        let inputs = xs.iter().map(|&x| self.nodes[x.0].channels).sum::<usize>();
        let taps = filters.window.taps();
        let outputs = if filters.depthwise { inputs } else { weight.len() / (taps * inputs) };
        let count = if filters.depthwise { taps * inputs } else { taps * inputs * outputs };
        if weight.is_empty() || weight.len() != count || xs.iter().any(|&x| self.maps(x) != maps) {
            bail!("{} weights for {inputs} channels of {maps:?}, expected {count}", weight.len());
        }
        let mut out = self.pool.take(to.rows() * outputs);
        let (bias, with_moments) = match &filters.then {
            Then::Bias(range) => (Some(&parameters[range.clone()]), false),
            Then::Norm { .. } => (None, moments.is_none()),
        };
        if filters.depthwise && bias.is_some() {
            bail!("a depthwise convolution with a bias, expected a norm");
        }
        let parts = match filters.depthwise {
            true => self.depthwise(xs, &filters, weight)?.forward(&mut out, with_moments, &self.pool),
            false => {
                product::forward(&self.products(xs, filters.window)?, weight, bias, &mut out, with_moments, &self.pool)
            }
        };
        let y = self.push(to, outputs, out);
        let mut seen = None;
        if let Then::Norm { weight, bias, activation } = &filters.then {
            seen = with_moments.then(|| combine(parts, outputs));
            let moments = moments.or(seen.as_ref()).expect("moments of a norm");
            let both = [weight, bias].map(|range| &parameters[range.clone()]);
            if both.iter().any(|numbers| numbers.len() != outputs) || moments.mean.len() != outputs {
                bail!("a norm of {} channels for {outputs}", both[0].len());
            }
            self.nodes[y.0].norm = Some(Norm::new(moments, both, *activation));
        }
        self.done(xs, Operation::Convolve { xs: xs.to_vec(), filters, y });
        Ok((y, seen))
    }

    fn products(&self, xs: &[Id], window: Window) -> Result<Input<'_>> {
        match window {
            Window { kernel: 1, stride: 1 } => Ok(Input::Beside(xs.iter().map(|&x| self.lens(x)).collect())),
            _ if xs.len() == 1 && self.is_input(xs[0]) => {
                Ok(Input::Windows(self.lens(xs[0]), self.maps(xs[0]), window))
            }
            _ => bail!("a dense convolution with {window:?}, expected pixels, or pictures"),
        }
    }

    fn depthwise<'a>(&'a self, xs: &[Id], filters: &Filters, weight: &'a [f32]) -> Result<Depthwise<'a>> {
        match xs {
            [x] => Ok(Depthwise { lens: self.lens(*x), maps: self.maps(*x), window: filters.window, weight }),
            _ => bail!("a depthwise convolution of {} maps, expected one", xs.len()),
        }
    }

    /// The sum of two maps.
    ///
    /// # Errors
    /// If they are not of the same size.
    pub fn add(&mut self, x: Id, y: Id) -> Result<Id> {
        let (maps, channels) = (self.maps(x), self.nodes[x.0].channels);
        if maps != self.maps(y) || channels != self.nodes[y.0].channels {
            bail!("a sum of {maps:?} and {:?}", self.maps(y));
        }
        let mut out = self.pool.take(maps.rows() * channels);
        let [first, second] = [x, y].map(|id| self.lens(id));
        let rows = (TASK / channels).max(1);
        out.par_chunks_mut(rows * channels).enumerate().for_each(|(i, out)| {
            let range = i * rows..i * rows + out.len() / channels;
            let mut more = self.pool.take(out.len());
            first.read(range.clone(), out, channels);
            second.read(range, &mut more, channels);
            out.iter_mut().zip(&*more).for_each(|(sum, more)| *sum += more);
        });
        let sum = self.push(maps, channels, out);
        self.done(&[x, y], Operation::Add { x, y, sum });
        Ok(sum)
    }

    /// Twice the height and width, each pixel four times.
    pub fn upsample(&mut self, x: Id) -> Id {
        let Node { maps, channels, .. } = self.nodes[x.0];
        let mut out = self.pool.take(4 * maps.rows() * channels);
        let (lens, line) = (self.lens(x), maps.width * channels);
        out.par_chunks_mut(4 * line).enumerate().for_each(|(y, out)| {
            let mut row = self.pool.take(line);
            lens.read(y * maps.width..(y + 1) * maps.width, &mut row, channels);
            let (above, below) = out.split_at_mut(2 * line);
            for (out, pixel) in above.chunks_exact_mut(2 * channels).zip(row.chunks_exact(channels)) {
                out[..channels].copy_from_slice(pixel);
                out[channels..].copy_from_slice(pixel);
            }
            below.copy_from_slice(above);
        });
        let y = self.push(maps.doubled(), channels, out);
        self.done(&[x], Operation::Upsample { x, y });
        y
    }

    /// Adds rows of several maps of as many channels, `[n][pixels of each of these][channels]`.
    fn rows(&self, outputs: &[Id], rows: &mut Vec<f32>) {
        for map in 0..self.maps(outputs[0]).n {
            for &output in outputs {
                let Node { maps, channels, .. } = self.nodes[output.0];
                let (start, pixels) = (rows.len(), maps.height * maps.width);
                rows.resize(start + pixels * channels, 0.0);
                self.lens(output).read(map * pixels..(map + 1) * pixels, &mut rows[start..], channels);
            }
        }
    }

    /// The gradient of all parameters, given that of the [rows](Self::rows) of all groups of outputs.
    fn backward(&self, groups: &[Vec<Id>], of_rows: &[f32], parameters: &[f32]) -> Result<Vec<f32>> {
        let mut back = Back {
            tape: self,
            parameters,
            of_maps: self.nodes.iter().map(|_| None).collect(),
            sums: self.nodes.iter().map(|_| None).collect(),
            of_parameters: vec![0.0; parameters.len()],
        };
        let mut of_rows = of_rows;
        for outputs in groups {
            let numbers = outputs.iter().map(|output| self.nodes[output.0].numbers.len()).sum();
            let Some((of_group, rest)) = of_rows.split_at_checked(numbers) else {
                bail!("a gradient of {} numbers, expected {numbers}", of_rows.len());
            };
            back.begin(outputs, of_group);
            of_rows = rest;
        }
        for (number, operation) in self.operations.iter().enumerate().rev() {
            match operation {
                Operation::Convolve { xs, filters, y } => back.convolve(number, xs, filters, *y)?,
                Operation::Add { x, y, sum } => back.add([*x, *y], *sum),
                Operation::Upsample { x, y } => back.upsample(*x, *y),
            }
        }
        Ok(back.of_parameters)
    }
}

/// What `forward` does with a list of parameters, as one operation: a list of the numbers of all groups of maps that it
/// gives, one after the other. Of a group, whose maps have as many channels, they are
/// `[n][pixels of each of its maps][channels]`.
///
/// # Errors
/// What `forward` says.
pub fn run<E>(
    parameters: &Tensor,
    pool: &Arc<Pool>,
    forward: impl FnOnce(&mut Tape, &[f32]) -> std::result::Result<Vec<Vec<Id>>, E> + Send,
) -> std::result::Result<Tensor, E>
where
    E: From<candle_core::Error> + Send,
{
    let mut tape = Tape::new(pool.clone());
    // All of it on a thread of the pool: to hand over each operation would take two switches between threads.
    let groups = with_numbers([&parameters.detach()], |[parameters]| {
        let tape = &mut tape;
        rayon::scope(move |_| forward(tape, parameters))
    })??;
    let mut rows = Vec::new();
    groups.iter().for_each(|outputs| tape.rows(outputs, &mut rows));
    let count = rows.len();
    let rows = Tensor::from_vec(rows, count, parameters.device())?;
    let backward = move |parameters: &Tensor, _: &Tensor, gradient: &Tensor| {
        let back = |[numbers, gradient]: [&[f32]; 2]| rayon::scope(|_| tape.backward(&groups, gradient, numbers));
        tensor(with_numbers([parameters, gradient], back)??, parameters)
    };
    Ok(of_one(parameters, |_| Ok(rows), backward)?)
}

/// Combines parts in f64 (Chan, Golub and LeVeque 1979).
fn combine(parts: Vec<Part>, channels: usize) -> Moments {
    let (mut rows, mut mean, mut squares) = (0.0, vec![0.0_f64; channels], vec![0.0_f64; channels]);
    for Part { rows: more, moments: [its_mean, its_squares] } in parts {
        let more = more as f64;
        for i in 0..channels {
            let difference = f64::from(its_mean[i]) - mean[i];
            mean[i] += difference * more / (rows + more);
            squares[i] += f64::from(its_squares[i]) + difference * difference * rows * more / (rows + more);
        }
        rows += more;
    }
    Moments {
        mean: mean.into_iter().map(|x| x as f32).collect(),
        variance: squares.into_iter().map(|x| (x / rows) as f32).collect(),
        rows: rows as usize,
    }
}

/// The way back. Gradients are those of what readers of maps see.
struct Back<'a> {
    tape: &'a Tape,
    parameters: &'a [f32],
    /// A sum gives the same gradient to both of its parts.
    of_maps: Vec<Option<Arc<Lent>>>,
    /// Of norms, where they were taken already.
    sums: Vec<Option<Sums>>,
    of_parameters: Vec<f32>,
}

impl Back<'_> {
    /// Gives outputs their gradients.
    fn begin(&mut self, outputs: &[Id], of_rows: &[f32]) {
        let of_map = |&output: &Id| {
            let Node { maps, channels, .. } = self.tape.nodes[output.0];
            maps.height * maps.width * channels
        };
        let lengths: Vec<usize> = outputs.iter().map(of_map).collect();
        let all: usize = lengths.iter().sum();
        let mut start = 0;
        for (output, length) in outputs.iter().zip(lengths) {
            let mut gradient = self.tape.pool.take(self.tape.nodes[output.0].numbers.len());
            for (to, from) in gradient.chunks_exact_mut(length).zip(of_rows.chunks_exact(all)) {
                to.copy_from_slice(&from[start..start + length]);
            }
            self.of_maps[output.0] = Some(Arc::new(gradient));
            start += length;
        }
    }

    /// The gradient of maps, and whether there are numbers in it already.
    fn open(&mut self, id: Id) -> (Arc<Lent>, bool) {
        match self.of_maps[id.0].take() {
            Some(gradient) => (gradient, true),
            None => (Arc::new(self.tape.pool.take(self.tape.nodes[id.0].numbers.len())), false),
        }
    }

    fn convolve(&mut self, number: usize, xs: &[Id], filters: &Filters, y: Id) -> Result<()> {
        let tape = self.tape;
        let Some(gradient) = self.of_maps[y.0].take() else { return Ok(()) };
        let lens = tape.lens(y);
        let known = self.sums[y.0].take();
        let sums = lens.norm.map(|norm| known.unwrap_or_else(|| norm.sums(lens.numbers, &gradient)));
        match (&filters.then, &sums, lens.norm) {
            (Then::Norm { weight, bias, .. }, Some(sums), Some(norm)) => {
                let [of_weight, of_bias] = norm.of_parameters(sums);
                self.of_parameters[weight.clone()].copy_from_slice(&of_weight);
                self.of_parameters[bias.clone()].copy_from_slice(&of_bias);
            }
            (Then::Bias(bias), ..) => {
                let mut sums = vec![0.0_f64; lens.channels];
                for row in gradient.chunks_exact(lens.channels) {
                    sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
                }
                self.of_parameters[bias.clone()].iter_mut().zip(sums).for_each(|(to, sum)| *to = sum as f32);
            }
            _ => {}
        }
        let slope = Slope::new(lens, &gradient, sums.as_ref());
        let weight = &self.parameters[filters.weight.clone()];
        let mut of_xs: Vec<(Id, Arc<Lent>, bool)> = Vec::new();
        for &x in xs.iter().filter(|&&x| !tape.is_input(x)) {
            let (of_x, add) = self.open(x);
            of_xs.push((x, of_x, add));
        }
        let of_weight = &mut self.of_parameters[filters.weight.clone()];
        let last = |x: Id| {
            let lens = tape.lens(x);
            lens.norm.filter(|_| tape.nodes[x.0].reader == Some(number)).map(|norm| (lens, norm))
        };
        let targets = of_xs.iter_mut().map(|(x, of_x, add)| Target {
            numbers: &mut Arc::make_mut(of_x)[..],
            add: *add,
            last: last(*x),
        });
        let mut of_maps: Vec<Target<'_>> = targets.collect();
        let sums = match filters.depthwise {
            true => {
                let Some(of_map) = of_maps.pop() else { bail!("a depthwise convolution of pictures") };
                vec![tape.depthwise(xs, filters, weight)?.backward(&slope, of_map, of_weight, &tape.pool)]
            }
            false => {
                let (input, rows) = (tape.products(xs, filters.window)?, tape.maps(y).rows());
                product::backward(&input, weight, &slope, rows, of_maps, of_weight, &tape.pool)
            }
        };
        for ((x, of_x, _), sums) in of_xs.into_iter().zip(sums) {
            self.of_maps[x.0] = Some(of_x);
            self.sums[x.0] = sums;
        }
        Ok(())
    }

    fn add(&mut self, parts: [Id; 2], sum: Id) {
        let Some(gradient) = self.of_maps[sum.0].take() else { return };
        for part in parts {
            let of_part = match self.of_maps[part.0].take() {
                None => gradient.clone(),
                Some(mut before) => {
                    let chunks = Arc::make_mut(&mut before).par_chunks_mut(TASK).zip(gradient.par_chunks(TASK));
                    chunks.for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more));
                    before
                }
            };
            self.of_maps[part.0] = Some(of_part);
        }
    }

    fn upsample(&mut self, x: Id, y: Id) {
        let Some(gradient) = self.of_maps[y.0].take() else { return };
        let (mut of_x, add) = self.open(x);
        let Node { maps, channels, .. } = self.tape.nodes[x.0];
        let line = maps.width * channels;
        let lines = Arc::make_mut(&mut of_x).par_chunks_mut(line).zip(gradient.par_chunks(4 * line));
        lines.for_each(|(of_x, gradient)| {
            let (above, below) = gradient.split_at(2 * line);
            let pairs = above.chunks_exact(2 * channels).zip(below.chunks_exact(2 * channels));
            for (of_x, (above, below)) in of_x.chunks_exact_mut(channels).zip(pairs) {
                for c in 0..channels {
                    let sum = above[c] + above[channels + c] + below[c] + below[channels + c];
                    of_x[c] = if add { of_x[c] + sum } else { sum };
                }
            }
        });
        self.of_maps[x.0] = Some(of_x);
    }
}
