//! Batches of maps: the operations of convolutional students.
//!
//! | file | what |
//! |---|---|
//! | [`depthwise`] | a filter for each channel |
//! | [`dense`] | filters over all channels; those of one pixel are [products](super::linear) |
//! | [`batch_norm`] | norms by the statistics of a batch or by those of many, with what is applied to the result |
//! | [`activation`] | activations |
//! | [`mod@upsample`] | twice the height and width |
//! | `composed.rs` | windows out of candle's operations, for other devices |
//!
//! A batch of n maps is a matrix `[n · height · width, channels]` with a row for each pixel, map by map and row by row: the
//! order in which the runtime keeps its maps. A convolution of single pixels is then a product with a matrix, and all other
//! operations run over channels that lie side by side.

pub mod activation;
pub mod batch_norm;
mod composed;
pub mod dense;
pub mod depthwise;
pub mod upsample;

pub use activation::Activation;

use candle_core::{Result, Tensor, bail};

/// The widest window.
const MAX_KERNEL: usize = 7;

/// How many maps there are, and their size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps {
    /// Maps.
    pub n: usize,
    /// Height.
    pub height: usize,
    /// Width.
    pub width: usize,
}

impl Maps {
    /// Pixels of all maps: the rows of their matrix.
    pub fn rows(self) -> usize {
        self.n * self.height * self.width
    }

    /// What a window makes of them.
    pub fn through(self, window: Window) -> Self {
        let Self { n, height, width } = self;
        Self { n, height: height.div_ceil(window.stride), width: width.div_ceil(window.stride) }
    }

    /// Twice the height and width.
    pub fn doubled(self) -> Self {
        Self { n: self.n, height: 2 * self.height, width: 2 * self.width }
    }

    /// The row of the pixel at (0, y) of all maps' rows of pixels, counted over all maps.
    fn start(self, y: usize) -> usize {
        y * self.width
    }

    /// The channels of a matrix of these maps.
    fn channels(self, x: &Tensor) -> Result<usize> {
        let (rows, channels) = x.dims2()?;
        if rows != self.rows() || rows == 0 || channels == 0 {
            bail!("a matrix of {rows} rows of {channels}, expected the {} pixels of {self:?}", self.rows());
        }
        Ok(channels)
    }
}

/// A square window that moves over maps, which are surrounded by `kernel / 2` pixels of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its side: 1, 3, 5 or 7.
    pub kernel: usize,
    /// How far it moves: 1 or more.
    pub stride: usize,
}

impl Window {
    /// Pixels of the window.
    pub fn taps(self) -> usize {
        self.kernel * self.kernel
    }

    fn check(self) -> Result<()> {
        if self.kernel.is_multiple_of(2) || self.kernel > MAX_KERNEL || self.stride == 0 {
            bail!("{self:?}: expected a kernel of 1, 3, 5 or 7 and a stride");
        }
        Ok(())
    }

    /// For each of `to` positions of the window along a side of `from` pixels: the pixels that it covers, and their places
    /// in the window.
    fn covered(self, from: usize, to: usize) -> Vec<Vec<Tap>> {
        let covered = |position: usize| {
            let taps = (0..self.kernel).filter_map(move |tap| {
                let at = (position * self.stride + tap).checked_sub(self.kernel / 2)?;
                (at < from).then_some(Tap { at, tap })
            });
            taps.collect()
        };
        (0..to).map(covered).collect()
    }

    /// For each of `from` pixels along a side: the positions of the window that cover it, out of `to`, and its place in
    /// the window there.
    fn covering(self, from: usize, to: usize) -> Vec<Vec<Tap>> {
        let mut all = vec![Vec::new(); from];
        for (position, taps) in self.covered(from, to).into_iter().enumerate() {
            taps.into_iter().for_each(|Tap { at, tap }| all[at].push(Tap { at: position, tap }));
        }
        all
    }

    /// The positions, out of `to`, at which the window's place `tap` lies within a side of `from` pixels.
    fn inside(self, from: usize, to: usize, tap: usize) -> std::ops::Range<usize> {
        let pad = self.kernel / 2;
        let first = pad.saturating_sub(tap).div_ceil(self.stride);
        // The last has position · stride + tap − pad ≤ from − 1.
        let end = (from + pad).saturating_sub(tap).div_ceil(self.stride).min(to);
        first.min(end)..end
    }
}

/// A pixel or position along a side, and a place in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tap {
    at: usize,
    tap: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_what_they_say() {
        for kernel in [1, 3, 5, 7] {
            for stride in [1, 2, 3] {
                for from in 1..12 {
                    let window = Window { kernel, stride };
                    let to = Maps { n: 1, height: from, width: 1 }.through(window).height;
                    // The usual formula.
                    assert_eq!(to, (from + 2 * (kernel / 2) - kernel) / stride + 1);
                    let (covered, covering) = (window.covered(from, to), window.covering(from, to));
                    for tap in 0..kernel {
                        let inside = window.inside(from, to, tap);
                        for (position, covered) in covered.iter().enumerate() {
                            let has = covered.iter().find(|t| t.tap == tap);
                            assert_eq!(has.is_some(), inside.contains(&position), "{window:?} {from} {tap} {position}");
                            if let Some(Tap { at, .. }) = has {
                                assert!(covering[*at].contains(&Tap { at: position, tap }));
                            }
                        }
                    }
                    let count = |all: &[Vec<Tap>]| all.iter().map(Vec::len).sum::<usize>();
                    assert_eq!(count(&covered), count(&covering));
                }
            }
        }
    }

    #[test]
    fn windows_and_matrices_that_do_not_fit_are_refused() {
        assert!(Window { kernel: 4, stride: 1 }.check().is_err());
        assert!(Window { kernel: 9, stride: 1 }.check().is_err());
        assert!(Window { kernel: 3, stride: 0 }.check().is_err());
        let x = Tensor::zeros((6, 2), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        assert_eq!(Maps { n: 1, height: 2, width: 3 }.channels(&x).unwrap(), 2);
        assert!(Maps { n: 2, height: 2, width: 3 }.channels(&x).is_err());
    }
}
