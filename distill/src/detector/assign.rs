//! Which cell is to see which object: dynamic soft-label assignment.
//!
//! Each object takes those cells whose predictions would cost least, as many as their IoUs sum to, out of cells whose centre
//! it holds. The costs are those of RTMDet (Lyu et al. 2022), as used in NanoDet-Plus before it, and the number of cells is
//! that of OTA's fast form (Ge et al. 2021, "SimOTA"):
//!
//! `Σ_classes BCE(z, y) · |y − σ(z)|² − 3 ln IoU + 10^(distance of the centres in cells − 3)`
//!
//! where y is the IoU for the object's class and 0 for the others.

use super::anchors::Anchor;
use super::boxes::{Rect, iou};
use super::pieces::{focal, softmax};
use super::student::Outputs;
use crate::data::detect::Truth;
use crate::error::{Error, Result};
use rayon::prelude::*;

/// Cells whose IoUs are summed to find how many an object takes.
const TOP: usize = 13;
/// Of the boxes' costs, against those of classes.
const OF_BOXES: f64 = 3.0;
/// The exponent of the classes' costs.
const BETA: f32 = 2.0;

/// What a cell is to see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Nothing.
    Background,
    /// Whatever it likes: it lies in a crowd, or its picture has no labels.
    Ignored,
    /// An object.
    Object {
        /// Its class.
        class: usize,
        /// Left, top, right, bottom in pixels of the input.
        rect: Rect,
        /// The IoU of what the cell saw with it: the probability that it is to have.
        quality: f32,
    },
}

/// What each cell of each picture is to see, in the order of the outputs' rows. `truths` are the boxes in pixels of the
/// input, or `None` for pictures without labels. A box that holds no cell's centre is given to the cell that is nearest.
///
/// # Errors
/// `Input` for truths of another number of pictures, or that make no sense.
pub fn assign(outputs: &Outputs, truths: &[Option<&[Truth]>]) -> Result<Vec<Target>> {
    if truths.len() != outputs.pictures {
        return Err(Error::input(format!("boxes of {} pictures, expected {}", truths.len(), outputs.pictures)));
    }
    for (i, truths) in truths.iter().enumerate() {
        for truth in truths.unwrap_or_default() {
            truth.check(outputs.classes).map_err(|error| error.at(format!("picture {i}")))?;
        }
    }
    let rows = outputs.numbers()?;
    let picture = |(rows, truths): (&[f32], &Option<&[Truth]>)| match truths {
        None => vec![Target::Ignored; outputs.anchors.len()],
        Some(truths) => Picture { rows, outputs }.assign(truths),
    };
    let of_each = outputs.anchors.len() * outputs.width();
    Ok(rows.par_chunks(of_each).zip(truths).flat_map_iter(picture).collect())
}

impl Outputs {
    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.classes + 4 * self.bins
    }

    /// All rows.
    pub(super) fn numbers(&self) -> Result<Vec<f32>> {
        Ok(self.rows.detach().flatten_all()?.to_vec1()?)
    }

    /// The distributions of a row's sides, with their means in cells, and the box that follows.
    pub(super) fn decode(&self, row: &[f32], anchor: &Anchor) -> ([(Vec<f64>, f64); 4], Rect) {
        let side = |side: usize| softmax(&row[self.classes + side * self.bins..][..self.bins], 1.0);
        let sides = std::array::from_fn(side);
        let rect = std::array::from_fn(|side| {
            let (centre, stride) = (if side.is_multiple_of(2) { anchor.x } else { anchor.y }, f64::from(anchor.stride));
            f64::from(centre) + outward(side) * stride * sides[side].1
        });
        (sides, rect)
    }
}

/// Left and top decrease with their distance, right and bottom increase.
pub(super) fn outward(side: usize) -> f64 {
    if side < 2 { -1.0 } else { 1.0 }
}

/// What the cells of one picture say.
struct Picture<'a> {
    rows: &'a [f32],
    outputs: &'a Outputs,
}

/// A cell that may see an object.
struct Candidate {
    cell: usize,
    iou: f64,
    cost: f64,
}

impl Picture<'_> {
    fn assign(&self, truths: &[Truth]) -> Vec<Target> {
        let Outputs { anchors, classes, .. } = self.outputs;
        let free = |truth: &&Truth| truth.crowd || truth.ignore;
        let in_crowd = |anchor: &Anchor| truths.iter().filter(free).any(|truth| holds(truth.rect, anchor));
        let other = |anchor| if in_crowd(anchor) { Target::Ignored } else { Target::Background };
        let mut targets: Vec<Target> = anchors.iter().map(other).collect();
        let mut costs = vec![f64::INFINITY; anchors.len()];
        // What each cell says, and what it would cost if there was nothing; only where an object asks for it.
        let mut said: Vec<Option<(Rect, f64)>> = vec![None; anchors.len()];
        for truth in truths.iter().filter(|truth| !free(truth)) {
            let mut candidates: Vec<Candidate> = Vec::new();
            for cell in cells(truth.rect, anchors) {
                let (row, anchor) = (&self.rows[cell * self.outputs.width()..], &anchors[cell]);
                let (rect, nothing) = *said[cell].get_or_insert_with(|| {
                    let nothing = row[..*classes].iter().map(|&z| f64::from(focal(z, 0.0, BETA).0)).sum();
                    (self.outputs.decode(row, anchor).1, nothing)
                });
                let iou = iou(rect, truth.rect);
                let of_class = |y: f64| f64::from(focal(row[truth.class], y as f32, BETA).0);
                let cost =
                    nothing - of_class(0.0) + of_class(iou) - OF_BOXES * (iou + 1e-7).ln() + far(truth.rect, anchor);
                candidates.push(Candidate { cell, iou, cost });
            }
            candidates.sort_by(|a, b| b.iou.total_cmp(&a.iou));
            let sum: f64 = candidates.iter().take(TOP).map(|candidate| candidate.iou).sum();
            candidates.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.cell.cmp(&b.cell)));
            for Candidate { cell, iou, cost } in candidates.into_iter().take((sum as usize).max(1)) {
                // What several objects want goes to the one that it fits best.
                if cost < costs[cell] {
                    costs[cell] = cost;
                    targets[cell] = Target::Object { class: truth.class, rect: truth.rect, quality: iou as f32 };
                }
            }
        }
        targets
    }
}

/// Whether a cell's centre lies within a box.
fn holds([x0, y0, x1, y1]: Rect, anchor: &Anchor) -> bool {
    let (x, y) = (f64::from(anchor.x), f64::from(anchor.y));
    x0 < x && x < x1 && y0 < y && y < y1
}

/// From the centre of a cell to that of a box, in cells.
fn distance([x0, y0, x1, y1]: Rect, anchor: &Anchor) -> f64 {
    let (x, y) = ((x0 + x1) / 2.0 - f64::from(anchor.x), (y0 + y1) / 2.0 - f64::from(anchor.y));
    x.hypot(y) / f64::from(anchor.stride)
}

/// The soft prior of centres.
fn far(rect: Rect, anchor: &Anchor) -> f64 {
    10_f64.powf(distance(rect, anchor) - 3.0)
}

/// The cells whose centre a box holds; if there are none, the nearest of the finest.
fn cells(rect: Rect, anchors: &[Anchor]) -> Vec<usize> {
    let cells: Vec<usize> = (0..anchors.len()).filter(|&cell| holds(rect, &anchors[cell])).collect();
    if !cells.is_empty() {
        return cells;
    }
    let finest = anchors.iter().take_while(|anchor| anchor.stride == anchors[0].stride).enumerate();
    let nearest = finest.min_by(|(_, a), (_, b)| distance(rect, a).total_cmp(&distance(rect, b)));
    nearest.map(|(cell, _)| cell).into_iter().collect()
}
