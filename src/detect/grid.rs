//! One box for each cell, relative to the cell: anchor-free heads as in YOLOX (Ge et al. 2021).

use super::candidates::{Candidates, around};
use super::head::{cells, check_stride};
use super::part::{Maps, Part, is_false};
use super::scores::{Scan, Scores};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// Cells of `x, y, width, height, objectness, classes…`. With the cell's column and row and its side `s` in pixels, the
/// box is `((x + column) s, (y + row) s)` wide `eʷ s` and high `eʰ s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The grids.
    pub levels: Vec<GridLevel>,
    /// What objectness and classes are.
    #[serde(default)]
    pub scores: Scores,
    /// Whether each class above the threshold is an object, not only the best of a cell.
    #[serde(default, skip_serializing_if = "is_false")]
    pub every: bool,
}

/// A grid over the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridLevel {
    /// Its cells.
    pub cells: Part,
    /// The side of a cell in the input's pixels.
    pub stride: usize,
}

impl Grid {
    pub(super) fn classes(&self, shapes: &[Shape]) -> Option<usize> {
        self.levels.first()?.cells.room([], shapes)?.checked_sub(5)
    }

    pub(super) fn check(&self, shapes: &[Shape], input: Shape, classes: usize) -> Result<()> {
        for level in &self.levels {
            check_stride(level.stride)?;
            level.cells.check(shapes, cells(input, level.stride).len(), 5 + classes)?;
        }
        match self.scores {
            Scores::Softmax => Err(Error::unsupported("a grid head with softmax, expected probability or sigmoid")),
            _ => Ok(()),
        }
    }

    pub(super) fn decode(&self, maps: Maps, input: Shape, classes: usize, found: &mut Candidates) {
        for level in &self.levels {
            let (grid, stride) = (cells(input, level.stride), level.stride as f32);
            let part = level.cells;
            let boxes = part.view(maps);
            let scan = Scan {
                places: grid.len(),
                classes: part.from_channel(part.channel + 5).view(maps),
                count: classes,
                objectness: Some(part.from_channel(part.channel + 4).view(maps)),
                scores: self.scores,
                every: self.every,
            };
            scan.above(found.floor(), |place, class, score| {
                let [x, y, w, h] = boxes.four(place);
                let (row, column) = ((place / grid.w) as f32, (place % grid.w) as f32);
                let corners = around((x + column) * stride, (y + row) * stride, w.exp() * stride, h.exp() * stride);
                found.push(class, score, corners);
            });
        }
    }
}
