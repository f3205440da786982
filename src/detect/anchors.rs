//! Boxes relative to anchors of known size: heads as in YOLOv3 to YOLOv7 and Yolo-FastestV2, before their decoding.

use super::candidates::{Candidates, around};
use super::head::{cells, check_stride};
use super::part::{Maps, Part, is_false};
use super::scores::{Scan, Scores, sigmoid};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// The most anchors of a grid.
const MAX_ANCHORS: usize = 64;

/// For each cell and anchor `x, y, width, height`, objectness, and the classes, which anchors may share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// The grids.
    pub levels: Vec<AnchorLevel>,
    /// How boxes follow from these numbers.
    pub sizes: Sizes,
    /// What objectness and classes are. If they are probabilities, the sigmoid was applied to the boxes as well.
    #[serde(default)]
    pub scores: Scores,
    /// Whether each class above the threshold is an object, not only the best of an anchor.
    #[serde(default, skip_serializing_if = "is_false")]
    pub every: bool,
}

/// How a box follows from its numbers, with `s` = σ(number), and the cell's column, row and side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// Centre `(2s − ½ + column) side`, width `(2s)² anchor`: since YOLOv5.
    Square,
    /// Centre `(s + column) side`, width `eʷ anchor`: YOLOv3.
    Exp,
}

/// A grid over the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorLevel {
    /// The side of a cell in the input's pixels.
    pub stride: usize,
    /// The anchors.
    pub anchors: Vec<Anchor>,
}

/// An anchor, and what the network says of it in each cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Width and height in the input's pixels.
    pub size: [f32; 2],
    /// Four numbers.
    pub boxes: Part,
    /// One number.
    pub objectness: Part,
    /// A number for each class.
    pub classes: Part,
}

impl Anchors {
    pub(super) fn classes(&self, shapes: &[Shape]) -> Option<usize> {
        let anchors = &self.levels.first()?.anchors;
        let others = anchors.iter().flat_map(|anchor| [anchor.boxes, anchor.objectness, anchor.classes]);
        anchors.first()?.classes.room(others, shapes)
    }

    pub(super) fn check(&self, shapes: &[Shape], input: Shape, classes: usize) -> Result<()> {
        if self.sizes == Sizes::Exp && self.scores == Scores::Probability {
            return Err(Error::unsupported("an anchor head with exponential sizes whose graph applies the sigmoid"));
        }
        for level in &self.levels {
            check_stride(level.stride)?;
            if !(1..=MAX_ANCHORS).contains(&level.anchors.len()) {
                let n = level.anchors.len();
                return Err(Error::format(format!("the head has {n} anchors in a grid, expected 1 to {MAX_ANCHORS}")));
            }
            let places = cells(input, level.stride).len();
            for Anchor { size, boxes, objectness, classes: scores } in &level.anchors {
                if !size.iter().all(|side| side.is_finite() && *side > 0.0) {
                    return Err(Error::format(format!(
                        "the head has an anchor of {size:?}, expected positive numbers"
                    )));
                }
                boxes.check(shapes, places, 4)?;
                objectness.check(shapes, places, 1)?;
                scores.check(shapes, places, classes)?;
            }
        }
        Ok(())
    }

    pub(super) fn decode(&self, maps: Maps, input: Shape, classes: usize, found: &mut Candidates) {
        for level in &self.levels {
            let (grid, stride) = (cells(input, level.stride), level.stride as f32);
            for anchor in &level.anchors {
                let boxes = anchor.boxes.view(maps);
                let scan = Scan {
                    places: grid.len(),
                    classes: anchor.classes.view(maps),
                    count: classes,
                    objectness: Some(anchor.objectness.view(maps)),
                    scores: self.scores,
                    every: self.every,
                };
                scan.above(found.floor(), |place, class, score| {
                    let cell = [(place % grid.w) as f32, (place / grid.w) as f32];
                    found.push(class, score, self.corners(boxes.four(place), cell, stride, anchor.size));
                });
            }
        }
    }

    fn corners(&self, numbers: [f32; 4], [column, row]: [f32; 2], stride: f32, [width, height]: [f32; 2]) -> [f32; 4] {
        let raw = self.scores != Scores::Probability;
        let [x, y, w, h] = if raw { numbers.map(sigmoid) } else { numbers };
        match self.sizes {
            Sizes::Square => {
                let (x, y) = (2.0 * x - 0.5 + column, 2.0 * y - 0.5 + row);
                around(x * stride, y * stride, 4.0 * w * w * width, 4.0 * h * h * height)
            }
            Sizes::Exp => {
                let [_, _, w, h] = numbers;
                around((x + column) * stride, (y + row) * stride, w.exp() * width, h.exp() * height)
            }
        }
    }
}
