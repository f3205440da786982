//! Windows over maps out of candle's operations, for devices without forms of their own: what each place in a window sees
//! is picked by index, and so are, for the gradient, the positions that see a pixel there.

use super::super::by_hand::{of_one, of_two};
use super::super::rows::NONE;
use super::{Maps, Tap, Window};
use candle_core::{DeviceLocation, Result, Tensor};
use std::{cell::RefCell, collections::HashMap, sync::Arc};

/// For each place in a window, in a map: which pixel each position sees there, and which position sees each pixel there.
struct Ids {
    sees: Vec<Tensor>,
    seen_by: Vec<Tensor>,
}

/// Ids by the size of maps, the window and where they are.
type Known = HashMap<(usize, usize, Window, DeviceLocation), Arc<Ids>>;

thread_local! {
    /// They are the same in each step, and take longer to make than to use.
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The depthwise convolution of [`super::depthwise`].
pub(super) fn depthwise(x: &Tensor, weight: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
    let (ids, to) = (ids(x, maps, window)?, maps.through(window));
    let sum = move |ids: &[Tensor], x: &Tensor, from: Maps, weight: &Tensor| -> Result<Tensor> {
        let part = |(tap, ids)| pick(x, from, ids)?.broadcast_mul(&weight.narrow(0, tap, 1)?);
        ids.iter().enumerate().map(part).reduce(|a, b| a? + b?).expect("a window has places")
    };
    let there = ids.clone();
    of_two(
        x,
        weight,
        |x, weight| sum(&there.sees, x, maps, weight),
        move |x, weight, gradient| {
            let of_tap = |ids| column_sums(&pick(x, maps, ids)?.mul(gradient)?);
            let of_weight = ids.sees.iter().map(of_tap).collect::<Result<Vec<_>>>()?;
            Ok((sum(&ids.seen_by, gradient, to, weight)?, Tensor::cat(&of_weight, 0)?))
        },
    )
}

/// What windows see, `[positions, places · channels]`.
pub(super) fn windows(x: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
    let (ids, to, channels) = (ids(x, maps, window)?, maps.through(window), x.dim(1)?);
    let all = ids.sees.iter().map(|ids| pick(&x.detach(), maps, ids)).collect::<Result<Vec<_>>>()?;
    of_one(
        x,
        |_| Tensor::cat(&all, 1),
        move |_, _, gradient| {
            let part = |(tap, ids)| pick(&gradient.narrow(1, tap * channels, channels)?.contiguous()?, to, ids);
            ids.seen_by.iter().enumerate().map(part).reduce(|a, b| a? + b?).expect("a window has places")
        },
    )
}

/// The sum of the rows of `[rows, columns]`, as one row. In two rounds, of which the first has more sums to share among the
/// many threads of a card than there are columns.
pub(super) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let wide = 1 << rows.trailing_zeros().min(6);
    x.contiguous()?.reshape((rows / wide, wide * columns))?.sum(0)?.reshape((wide, columns))?.sum_keepdim(0)
}

/// The same pixels of each of the maps, `[maps · ids, channels]`.
fn pick(x: &Tensor, maps: Maps, ids: &Tensor) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let x = x.contiguous()?.reshape((maps.n, maps.height * maps.width, channels))?;
    x.index_select(ids, 1)?.reshape((maps.n * ids.dim(0)?, channels))
}

fn ids(x: &Tensor, maps: Maps, window: Window) -> Result<Arc<Ids>> {
    let key = (maps.height, maps.width, window, x.device().location());
    if let Some(ids) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return Ok(ids);
    }
    let to = maps.through(window);
    let here = |all: Vec<Vec<u32>>| all.into_iter().map(|ids| Tensor::new(ids, x.device())).collect::<Result<_>>();
    let (vertical, horizontal) = (window.covered(maps.height, to.height), window.covered(maps.width, to.width));
    let sees = here(rows(window, &vertical, &horizontal, maps.width))?;
    let (vertical, horizontal) = (window.covering(maps.height, to.height), window.covering(maps.width, to.width));
    let seen_by = here(rows(window, &vertical, &horizontal, to.width))?;
    let ids = Arc::new(Ids { sees, seen_by });
    KNOWN.with_borrow_mut(|known| known.insert(key, ids.clone()));
    Ok(ids)
}

/// For each place in the window, the row of what lies there, in a map `width` pixels wide, or [`NONE`].
fn rows(window: Window, vertical: &[Vec<Tap>], horizontal: &[Vec<Tap>], width: usize) -> Vec<Vec<u32>> {
    let at = |side: &[Tap], tap: usize| side.iter().find(|t| t.tap == tap).map(|t| t.at);
    let place = |tap: usize| {
        let pixels = vertical.iter().flat_map(|y| horizontal.iter().map(move |x| (y, x)));
        let row = |(y, x): (&Vec<Tap>, &Vec<Tap>)| match (at(y, tap / window.kernel), at(x, tap % window.kernel)) {
            (Some(y), Some(x)) => (y * width + x) as u32,
            _ => NONE,
        };
        pixels.map(row).collect()
    };
    (0..window.taps()).map(place).collect()
}
