//! Dense convolutions of several pixels, as products of what windows see: for the first layer, whose maps have few
//! channels.

use super::super::{TASK, fused, linear::linear, numbers, tensor, with_numbers};
use super::{Maps, Window, composed};
use crate::loss::matmul::{Matrix, multiply};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The maps `x`, `[pixels, inputs]`, through filters of `[outputs, kernel · kernel · inputs]`, rows of pixels first:
/// `[positions, outputs]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn dense(x: &Tensor, weight: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
    window.check()?;
    let inputs = maps.channels(x)?;
    if weight.dims2()?.1 != window.taps() * inputs {
        bail!("filters of {:?}, expected rows of {} x {inputs}", weight.shape(), window.taps());
    }
    match fused(&[x, weight]) {
        true => x.contiguous()?.apply_op2(weight, Dense { maps, window }),
        false => linear(&composed::windows(x, maps, window)?, weight),
    }
}

struct Dense {
    maps: Maps,
    window: Window,
}

impl Dense {
    /// What the windows see, `[positions, kernel · kernel · inputs]`.
    fn im2col(&self, x: &[f32], inputs: usize) -> Vec<f32> {
        let Self { maps, window } = *self;
        let (to, width) = (maps.through(window), window.taps() * inputs);
        let vertical = window.covered(maps.height, to.height);
        let horizontal = window.covered(maps.width, to.width);
        let mut seen = vec![0.0; to.rows() * width];
        let rows = (TASK / (to.width * width)).max(1);
        seen.par_chunks_mut(to.width * width).with_min_len(rows).enumerate().for_each(|(y, seen)| {
            for (seen, horizontal) in seen.chunks_exact_mut(width).zip(&horizontal) {
                for v in &vertical[y % to.height] {
                    let first = maps.start(y / to.height * maps.height + v.at);
                    for h in horizontal {
                        let to = &mut seen[(v.tap * window.kernel + h.tap) * inputs..][..inputs];
                        to.copy_from_slice(&x[(first + h.at) * inputs..][..inputs]);
                    }
                }
            }
        });
        seen
    }

    /// The reverse: what each pixel is given by the windows that see it.
    fn col2im(&self, seen: &[f32], inputs: usize) -> Vec<f32> {
        let Self { maps, window } = *self;
        let (to, width) = (maps.through(window), window.taps() * inputs);
        let vertical = window.covering(maps.height, to.height);
        let horizontal = window.covering(maps.width, to.width);
        let mut x = vec![0.0; maps.rows() * inputs];
        x.par_chunks_mut(maps.width * inputs).enumerate().for_each(|(y, x)| {
            for (pixel, horizontal) in x.chunks_exact_mut(inputs).zip(&horizontal) {
                for v in &vertical[y % maps.height] {
                    let first = to.start(y / maps.height * to.height + v.at);
                    for h in horizontal {
                        let at = (first + h.at) * width + (v.tap * window.kernel + h.tap) * inputs;
                        pixel.iter_mut().zip(&seen[at..]).for_each(|(x, seen)| *x += seen);
                    }
                }
            }
        });
        x
    }
}

impl CustomOp2 for Dense {
    fn name(&self) -> &'static str {
        "dense-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (inputs, (outputs, width)) = (x_layout.shape().dims2()?.1, weight_layout.shape().dims2()?);
        let rows = self.maps.through(self.window).rows();
        let (seen, weight) = (self.im2col(numbers(x, x_layout)?, inputs), numbers(weight, weight_layout)?);
        let (seen, weight) = (Matrix::new(&seen, [rows, width], width), Matrix::new(weight, [outputs, width], width));
        let mut out = vec![0.0; rows * outputs];
        multiply(&mut out, outputs, false, 1.0, seen, weight.transposed());
        Ok((CpuStorage::F32(out), Shape::from((rows, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (inputs, (outputs, width)) = (x.dim(1)?, weight.dims2()?);
        let rows = gradient.dim(0)?;
        // Pictures need no gradient.
        let wanted = x.is_variable() || x.track_op();
        let (of_x, of_weight) = with_numbers([x, weight, gradient], |[x, weight, gradient]| {
            let gradient = Matrix::new(gradient, [rows, outputs], outputs);
            let mut seen = self.im2col(x, inputs);
            let mut of_weight = vec![0.0; outputs * width];
            multiply(
                &mut of_weight,
                width,
                false,
                1.0,
                gradient.transposed(),
                Matrix::new(&seen, [rows, width], width),
            );
            let of_x = wanted.then(|| {
                multiply(&mut seen, width, false, 1.0, gradient, Matrix::new(weight, [outputs, width], width));
                self.col2im(&seen, inputs)
            });
            (of_x, of_weight)
        })?;
        Ok((of_x.map(|of_x| tensor(of_x, x)).transpose()?, Some(tensor(of_weight, weight)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        for (kernel, stride, height, width) in [(3, 2, 5, 4), (3, 1, 3, 4), (5, 2, 4, 4)] {
            let (maps, window) = (Maps { n: 2, height, width }, Window { kernel, stride });
            let case = Case::new(&[&[maps.rows(), 3], &[4, 3 * window.taps()]]);
            check(
                case,
                |t| dense(&t[0], &t[1], maps, window),
                |t| composed::windows(&t[0], maps, window)?.matmul(&t[1].t()?),
            );
        }
    }
}
