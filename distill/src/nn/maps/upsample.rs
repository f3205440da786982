//! Nearest upsampling: twice the height and width, each pixel four times.

use super::super::{TASK, fused, numbers, tensor, with_numbers};
use super::Maps;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// The maps `x`, `[pixels, channels]`, with each pixel four times: `[4 · pixels, channels]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn upsample(x: &Tensor, maps: Maps) -> Result<Tensor> {
    let channels = maps.channels(x)?;
    match fused(&[x]) {
        true => x.contiguous()?.apply_op1(Upsample { maps }),
        false => {
            let Maps { n, height, width } = maps;
            let x = x.reshape((n * height, 1, width, 1, channels))?;
            x.broadcast_as((n * height, 2, width, 2, channels))?.reshape((4 * maps.rows(), channels))
        }
    }
}

struct Upsample {
    maps: Maps,
}

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, channels) = layout.shape().dims2()?;
        let (x, line) = (numbers(x, layout)?, self.maps.width * channels);
        let mut out = vec![0.0; 4 * x.len()];
        out.par_chunks_mut(2 * line).with_min_len((TASK / line).max(1)).enumerate().for_each(|(y, out)| {
            let x = &x[y / 2 * line..][..line];
            for (out, x) in out.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels)) {
                out[..channels].copy_from_slice(x);
                out[channels..].copy_from_slice(x);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((4 * rows, channels))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let channels = x.dim(1)?;
        let line = self.maps.width * channels;
        let of_x = with_numbers([gradient], |[gradient]| {
            let mut of_x = vec![0.0; x.elem_count()];
            of_x.par_chunks_mut(line).with_min_len((TASK / line).max(1)).enumerate().for_each(|(y, of_x)| {
                let (above, below) = gradient[y * 4 * line..][..4 * line].split_at(2 * line);
                for (i, of_x) in of_x.chunks_exact_mut(channels).enumerate() {
                    let (left, right) = (2 * i * channels, (2 * i + 1) * channels);
                    for c in 0..channels {
                        of_x[c] = above[left + c] + above[right + c] + below[left + c] + below[right + c];
                    }
                }
            });
            of_x
        })?;
        tensor(of_x, x).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        let maps = Maps { n: 2, height: 3, width: 2 };
        let composed = |t: &[Tensor]| {
            let x = t[0].reshape((6, 1, 2, 1, 3))?;
            x.broadcast_as((6, 2, 2, 2, 3))?.reshape((48, 3))
        };
        check(Case::new(&[&[12, 3]]), |t| upsample(&t[0], maps), composed);
    }
}
