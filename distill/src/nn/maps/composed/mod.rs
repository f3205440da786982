//! The operations out of candle's own: for devices without forms of their own, and to hold the [tape](super::tape) against.
//!
//! | file | what |
//! |---|---|
//! | `windows.rs` | convolutions |
//! | `norm.rs` | batch norms with what is applied to their result |

mod norm;
mod windows;

pub use norm::{Batch, norm, norm_of_batch};
pub use windows::{dense, depthwise};

use super::Maps;
use candle_core::{Result, Tensor};

/// The maps `x`, `[pixels, channels]`, at twice the height and width, each pixel four times: `[4 · pixels, channels]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn upsample(x: &Tensor, maps: Maps) -> Result<Tensor> {
    let (channels, Maps { n, height, width }) = (maps.channels(x)?, maps);
    let x = x.reshape((n * height, 1, width, 1, channels))?;
    x.broadcast_as((n * height, 2, width, 2, channels))?.reshape((4 * maps.rows(), channels))
}

/// The sum of the rows of `[rows, columns]`, as one row. In two rounds, of which the first has more sums to share among the
/// many threads of a card than there are columns.
fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let wide = 1 << rows.trailing_zeros().min(6);
    x.contiguous()?.reshape((rows / wide, wide * columns))?.sum(0)?.reshape((wide, columns))?.sum_keepdim(0)
}
