//! From a network in f32 to one in bytes.
//!
//! Pictures like those that the network will see run through it, and what is seen decides how each value is stored:
//!
//! 1. `gains`: channels of a value share one scale, so a loud channel would leave the others a few of the 256 steps. Each
//!    channel is multiplied by a gain where it is made, and the weights that read it are divided by it (Xiao et al. 2022);
//!    the network computes the same.
//! 2. `ranges`: the range that bytes stand for is the one with the least squared error over a histogram, not the one
//!    from the smallest to the largest element. The same goes for the weights of each output channel.
//! 3. `bias`: what rounding the weights adds to a channel on average is taken off its bias (Nagel et al. 2019).
//! 4. `sensitive`: the convolutions that lose most for what they cost stay in f32.
//!
//! `layout` says which values are stored in bytes at all, and `convert` makes the network.

mod bias;
mod convert;
mod gains;
mod layout;
mod ranges;
mod sensitive;
mod stats;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::nets::convnet::weights::Draft;
use layout::{Layout, never};
use sensitive::Search;

/// The pictures, placed and normalised: how many there are, and how to get one of them.
pub struct Samples<'a> {
    /// How many.
    pub count: usize,
    /// Writes the picture with this number, `[height][width][channels]`.
    pub place: &'a mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
}

/// How to go about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads to compute with.
    pub threads: usize,
    /// Which share of the multiply-adds may stay in f32.
    pub budget: f64,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Convolutions in bytes.
    pub converted: usize,
    /// Convolutions that stay in f32, and why.
    pub kept: Vec<(String, Why)>,
    /// The share of the results' variance that rounding takes.
    pub loss: f64,
}

/// Why a convolution stays in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// It reads the picture: what is lost there is lost for all that follow.
    First,
    /// It makes a single pixel, which is soon done.
    SinglePixel,
    /// It alone in bytes would take this share of the results' variance, which is much for what it costs.
    Loss(f64),
}

/// Makes a network that computes in bytes where that costs little. `progress` is told the share of the work that is done.
///
/// # Errors
/// `Input` if there are no pictures, and whatever error a picture brings.
pub fn calibrate(
    draft: &Draft,
    samples: &mut Samples,
    options: &Options,
    mut progress: impl FnMut(f64),
) -> Result<(Draft, Report)> {
    if samples.count == 0 {
        return Err(Error::input("no pictures to calibrate with, expected at least one"));
    }
    let mut session = stats::session(draft, options.threads)?;
    let layout = Layout::new(&draft.program, &never(&draft.program));
    let wanted = |x: usize| x > 0 && layout.is_source(&draft.program, x);
    let exact = stats::gather(&mut session, samples, wanted, |part| progress(0.4 * part))?;
    let mut search = Search { draft, exact: &exact, samples, options, session: &mut session };
    search.run(|part| progress(0.4 + 0.6 * part))
}
