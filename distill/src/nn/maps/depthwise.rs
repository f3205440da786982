//! Depthwise convolutions: a filter for each channel.
//!
//! Channels are summed in blocks that stay in registers, over all that the window covers. Which pixels those are is the
//! same question for the result (what does this position see?) and for the gradient of the maps (which positions see this
//! pixel?), so that one loop answers both.

use super::super::{TASK, fused, numbers, tensor, vectorised, with_numbers};
use super::{MAX_KERNEL, Maps, Tap, Window, composed};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The maps `x`, `[pixels, channels]`, through filters of `[kernel · kernel, channels]`: `[positions, channels]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn depthwise(x: &Tensor, weight: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
    window.check()?;
    let channels = maps.channels(x)?;
    if weight.dims2()? != (window.taps(), channels) {
        bail!("filters of {:?}, expected [{}, {channels}]", weight.shape(), window.taps());
    }
    match fused(&[x, weight]) {
        true => x.contiguous()?.apply_op2(weight, Depthwise { maps, window }),
        false => composed::depthwise(x, weight, maps, window),
    }
}

struct Depthwise {
    maps: Maps,
    window: Window,
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Self { maps, window } = *self;
        let (to, channels) = (maps.through(window), x_layout.shape().dims2()?.1);
        let (x, weight) = (numbers(x, x_layout)?, numbers(weight, weight_layout)?);
        let vertical = window.covered(maps.height, to.height);
        let horizontal = window.covered(maps.width, to.width);
        let out = gather(&Gather { x, weight, channels, window, from: maps, to, vertical, horizontal });
        Ok((CpuStorage::F32(out), Shape::from((to.rows(), channels))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Self { maps, window } = *self;
        let (to, channels) = (maps.through(window), x.dim(1)?);
        let vertical = window.covering(maps.height, to.height);
        let horizontal = window.covering(maps.width, to.width);
        let (of_x, of_weight) = with_numbers([x, weight, gradient], |[x, weight, gradient]| {
            let back = Gather { x: gradient, weight, channels, window, from: to, to: maps, vertical, horizontal };
            (gather(&back), self.of_weight(x, gradient, channels))
        })?;
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?)))
    }
}

/// Sums over what windows cover.
struct Gather<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    channels: usize,
    window: Window,
    /// The maps of `x`.
    from: Maps,
    /// The maps that are made.
    to: Maps,
    /// For each row of pixels of `to`, the rows of `from` that go into it.
    vertical: Vec<Vec<Tap>>,
    /// For each column.
    horizontal: Vec<Vec<Tap>>,
}

/// Rows of pixels that make a task.
fn task(maps: Maps, channels: usize) -> usize {
    (TASK / (maps.width * channels)).max(1)
}

fn gather(gather: &Gather<'_>) -> Vec<f32> {
    let (to, channels) = (gather.to, gather.channels);
    let mut out = vec![0.0; to.rows() * channels];
    let rows = task(to, channels);
    out.par_chunks_mut(rows * to.width * channels).enumerate().for_each(|(i, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (row, out) in out.chunks_exact_mut(to.width * channels).enumerate() {
                    gather.row(i * rows + row, out);
                }
            },
        );
    });
    out
}

impl Gather<'_> {
    /// Row `y` of pixels, counted over all maps.
    #[inline(always)]
    fn row(&self, y: usize, out: &mut [f32]) {
        let channels = self.channels;
        let first = y / self.to.height * self.from.height;
        let mut places = [(0, 0); MAX_KERNEL * MAX_KERNEL];
        for (pixel, horizontal) in out.chunks_exact_mut(channels).zip(&self.horizontal) {
            let mut count = 0;
            for v in &self.vertical[y % self.to.height] {
                for h in horizontal {
                    let row = self.from.start(first + v.at) + h.at;
                    places[count] = (row * channels, (v.tap * self.window.kernel + h.tap) * channels);
                    count += 1;
                }
            }
            let places = &places[..count];
            let mut c = 0;
            while c + 32 <= channels {
                self.block::<32>(places, c, pixel);
                c += 32;
            }
            while c + 8 <= channels {
                self.block::<8>(places, c, pixel);
                c += 8;
            }
            while c < channels {
                self.block::<1>(places, c, pixel);
                c += 1;
            }
        }
    }

    /// `L` channels of a pixel, from channel `c` on.
    #[inline(always)]
    fn block<const L: usize>(&self, places: &[(usize, usize)], c: usize, pixel: &mut [f32]) {
        let mut sum = [0.0_f32; L];
        for &(x, weight) in places {
            let (x, weight) = (lanes::<L>(self.x, x + c), lanes::<L>(self.weight, weight + c));
            for lane in 0..L {
                sum[lane] = x[lane].mul_add(weight[lane], sum[lane]);
            }
        }
        pixel[c..c + L].copy_from_slice(&sum);
    }
}

#[inline(always)]
fn lanes<const L: usize>(numbers: &[f32], at: usize) -> &[f32; L] {
    numbers[at..at + L].try_into().expect("L numbers")
}

impl Depthwise {
    /// The gradient of the filters: rows of pixels make parts, which are added in order, so that the result does not
    /// depend on the threads.
    fn of_weight(&self, x: &[f32], gradient: &[f32], channels: usize) -> Vec<f32> {
        let to = self.maps.through(self.window);
        let vertical = self.window.covered(self.maps.height, to.height);
        let (all, rows) = (to.n * to.height, task(to, channels));
        let part = |i: usize| {
            let mut part = vec![0.0; self.window.taps() * channels];
            vectorised(
                #[inline(always)]
                || {
                    for y in i * rows..all.min((i + 1) * rows) {
                        for v in &vertical[y % to.height] {
                            let source = y / to.height * self.maps.height + v.at;
                            let x = &x[self.maps.start(source) * channels..][..self.maps.width * channels];
                            let gradient = &gradient[to.start(y) * channels..][..to.width * channels];
                            self.add_row(x, gradient, channels, &mut part[v.tap * self.window.kernel * channels..]);
                        }
                    }
                },
            );
            part
        };
        let parts: Vec<Vec<f32>> = (0..all.div_ceil(rows)).into_par_iter().map(part).collect();
        let mut sum = vec![0.0; self.window.taps() * channels];
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sum
    }

    /// Adds what a row of pixels and a row of gradients make of a row of the filters.
    #[inline(always)]
    fn add_row(&self, x: &[f32], gradient: &[f32], channels: usize, sums: &mut [f32]) {
        let mut c = 0;
        while c + 32 <= channels {
            self.add_block::<32>(x, gradient, channels, c, sums);
            c += 32;
        }
        while c + 8 <= channels {
            self.add_block::<8>(x, gradient, channels, c, sums);
            c += 8;
        }
        while c < channels {
            self.add_block::<1>(x, gradient, channels, c, sums);
            c += 1;
        }
    }

    #[inline(always)]
    fn add_block<const L: usize>(&self, x: &[f32], gradient: &[f32], channels: usize, c: usize, sums: &mut [f32]) {
        let Window { kernel, stride } = self.window;
        for tap in 0..kernel {
            let mut sum = [0.0_f32; L];
            for position in self.window.inside(x.len() / channels, gradient.len() / channels, tap) {
                let x = lanes::<L>(x, (position * stride + tap - kernel / 2) * channels + c);
                let gradient = lanes::<L>(gradient, position * channels + c);
                for lane in 0..L {
                    sum[lane] = x[lane].mul_add(gradient[lane], sum[lane]);
                }
            }
            let sums = &mut sums[tap * channels + c..][..L];
            for lane in 0..L {
                sums[lane] += sum[lane];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        for (kernel, stride, height, width, channels) in
            [(3, 1, 4, 5, 3), (3, 2, 5, 4, 9), (5, 1, 4, 6, 2), (5, 2, 6, 6, 2), (5, 2, 2, 1, 1), (1, 1, 2, 2, 41)]
        {
            let (maps, window) = (Maps { n: 2, height, width }, Window { kernel, stride });
            let case = Case::new(&[&[maps.rows(), channels], &[window.taps(), channels]]);
            check(case, |t| depthwise(&t[0], &t[1], maps, window), |t| composed::depthwise(&t[0], &t[1], maps, window));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |shape: (usize, usize)| Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu);
        let (maps, window) = (Maps { n: 1, height: 2, width: 2 }, Window { kernel: 3, stride: 1 });
        assert!(depthwise(&zeros((4, 3)).unwrap(), &zeros((9, 4)).unwrap(), maps, window).is_err());
        assert!(depthwise(&zeros((5, 3)).unwrap(), &zeros((9, 3)).unwrap(), maps, window).is_err());
    }
}
