//! The distances from each cell's centre to the four sides of its box, as distributions: heads as in NanoDet and PicoDet
//! (generalized focal loss, Li et al. 2020).

use super::candidates::Candidates;
use super::head::{cells, check_stride};
use super::part::{Maps, Part, View, is_false};
use super::scores::{Scan, Scores};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// The most bins of a distribution.
const MAX_BINS: usize = 256;

/// For each cell the scores of the classes and, for left, top, right and bottom, `bins` logits. The distance is the mean
/// of `0, 1, … bins − 1` under their softmax, in cells; with one bin it is that number itself. Boxes end at the picture's
/// edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distances {
    /// The grids.
    pub levels: Vec<DistanceLevel>,
    /// Numbers for each side.
    pub bins: usize,
    /// Where the centre of a cell lies, in cells from its top left corner: 0 or ½.
    pub centre: f32,
    /// What the scores are.
    #[serde(default)]
    pub scores: Scores,
    /// Whether each class above the threshold is an object, not only the best of a cell.
    #[serde(default, skip_serializing_if = "is_false")]
    pub every: bool,
}

/// A grid over the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceLevel {
    /// A score for each class.
    pub classes: Part,
    /// Four times `bins` numbers.
    pub distances: Part,
    /// The side of a cell in the input's pixels.
    pub stride: usize,
}

impl Distances {
    pub(super) fn classes(&self, shapes: &[Shape]) -> Option<usize> {
        let DistanceLevel { classes, distances, .. } = self.levels.first()?;
        classes.room([*distances], shapes)
    }

    pub(super) fn check(&self, shapes: &[Shape], input: Shape, classes: usize) -> Result<()> {
        if !(1..=MAX_BINS).contains(&self.bins) {
            return Err(Error::format(format!("the head has {} bins, expected 1 to {MAX_BINS}", self.bins)));
        }
        if !(0.0..=1.0).contains(&self.centre) {
            return Err(Error::format(format!("the head's centre is {}, expected 0 to 1", self.centre)));
        }
        for level in &self.levels {
            check_stride(level.stride)?;
            let places = cells(input, level.stride).len();
            level.classes.check(shapes, places, classes)?;
            level.distances.check(shapes, places, 4 * self.bins)?;
        }
        Ok(())
    }

    pub(super) fn decode(&self, maps: Maps, input: Shape, classes: usize, found: &mut Candidates) {
        for level in &self.levels {
            let grid = cells(input, level.stride);
            let distances = level.distances.view(maps);
            let scan = Scan {
                places: grid.len(),
                classes: level.classes.view(maps),
                count: classes,
                objectness: None,
                scores: self.scores,
                every: self.every,
            };
            scan.above(found.floor(), |place, class, score| {
                found.push(class, score, self.corners(&distances, place, grid, level.stride, input));
            });
        }
    }

    /// The box of a cell.
    pub(super) fn corners(&self, distances: &View, place: usize, grid: Shape, stride: usize, input: Shape) -> [f32; 4] {
        let (right, bottom, stride) = (input.w as f32, input.h as f32, stride as f32);
        let x = ((place % grid.w) as f32 + self.centre) * stride;
        let y = ((place / grid.w) as f32 + self.centre) * stride;
        let [l, t, r, b] = std::array::from_fn(|side| stride * distance(distances, place, side, self.bins));
        [(x - l).clamp(0.0, right), (y - t).clamp(0.0, bottom), (x + r).clamp(0.0, right), (y + b).clamp(0.0, bottom)]
    }
}

/// The mean of the bins of one side.
fn distance(distances: &View, place: usize, side: usize, bins: usize) -> f32 {
    if bins == 1 {
        return distances.get(place, side);
    }
    let logits = (0..bins).map(|bin| distances.get(place, side * bins + bin));
    let max = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut mean) = (0.0, 0.0);
    for (bin, logit) in logits.enumerate() {
        let weight = (logit - max).exp();
        sum += weight;
        mean += bin as f32 * weight;
    }
    mean / sum
}
