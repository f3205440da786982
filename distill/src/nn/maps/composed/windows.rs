//! Convolutions: what each place in a window sees is picked by index, and so are, for the gradient, the positions that see
//! a pixel there.

use super::super::super::{
    by_hand::{of_one, of_two},
    linear::linear,
    rows::NONE,
};
use super::super::{Maps, Tap, Window};
use super::column_sums;
use candle_core::{DeviceLocation, Result, Tensor, bail};
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

/// The maps `x`, `[pixels, channels]`, each channel through a filter of its own, `[kernel · kernel, channels]`:
/// `[positions, channels]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn depthwise(x: &Tensor, weight: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
    window.check()?;
    let channels = maps.channels(x)?;
    if weight.dims2()? != (window.taps(), channels) {
        bail!("filters of {:?}, expected {} x {channels}", weight.shape(), window.taps());
    }
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
    linear(&windows(x, maps, window)?, weight)
}

/// What windows see, `[positions, places · channels]`.
fn windows(x: &Tensor, maps: Maps, window: Window) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use super::super::super::super::check::{Case, check};
    use super::*;

    #[test]
    fn gradients() {
        for (kernel, stride, height, width, channels) in
            [(3, 1, 4, 5, 3), (3, 2, 5, 4, 9), (5, 1, 4, 6, 2), (5, 2, 6, 6, 2), (5, 2, 2, 1, 1), (1, 1, 2, 2, 41)]
        {
            let (maps, window) = (Maps { n: 2, height, width }, Window { kernel, stride });
            let case = Case::new(&[&[maps.rows(), channels], &[window.taps(), channels]]);
            let of_each = |t: &[Tensor]| depthwise(&t[0], &t[1], maps, window);
            check(case, of_each, of_each);
        }
        for (kernel, stride, height, width) in [(3, 2, 5, 4), (3, 1, 3, 4), (5, 2, 4, 4)] {
            let (maps, window) = (Maps { n: 2, height, width }, Window { kernel, stride });
            let case = Case::new(&[&[maps.rows(), 3], &[4, 3 * window.taps()]]);
            let of_all = |t: &[Tensor]| dense(&t[0], &t[1], maps, window);
            check(case, of_all, of_all);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let zeros = |shape: (usize, usize)| Tensor::zeros(shape, candle_core::DType::F32, &candle_core::Device::Cpu);
        let (maps, window) = (Maps { n: 1, height: 2, width: 2 }, Window { kernel: 3, stride: 1 });
        assert!(depthwise(&zeros((4, 3)).unwrap(), &zeros((9, 4)).unwrap(), maps, window).is_err());
        assert!(depthwise(&zeros((5, 3)).unwrap(), &zeros((9, 3)).unwrap(), maps, window).is_err());
        assert!(dense(&zeros((4, 3)).unwrap(), &zeros((2, 26)).unwrap(), maps, window).is_err());
    }
}
