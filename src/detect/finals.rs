//! Objects that the graph lists itself, after an NMS of its own or without need of one.

use super::boxes::{Form, unit};
use super::candidates::Candidates;
use super::part::{Maps, Part, is_false};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// A list of boxes, each with a score and the number of its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Final {
    /// Four numbers.
    pub boxes: Part,
    /// One number, a probability.
    pub scores: Part,
    /// One number. Rows of a number that is no class are empty.
    pub labels: Part,
    /// The number of the first class.
    #[serde(default)]
    pub first: usize,
    /// What the four numbers are.
    pub form: Form,
    /// Whether they are fractions of the input's sides; pixels otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub normalised: bool,
}

impl Final {
    /// Number of rows.
    fn rows(&self, shapes: &[Shape]) -> Result<usize> {
        Ok(self.boxes.extent(shapes)?.0.saturating_sub(self.boxes.place))
    }

    pub(super) fn check(&self, shapes: &[Shape]) -> Result<()> {
        let rows = self.rows(shapes)?;
        if rows == 0 {
            return Err(Error::format("the head reads no boxes, expected at least one place"));
        }
        self.boxes.check(shapes, rows, 4)?;
        self.scores.check(shapes, rows, 1)?;
        self.labels.check(shapes, rows, 1)
    }

    pub(super) fn decode(&self, maps: Maps, input: Shape, classes: usize, found: &mut Candidates) {
        let shape = maps(self.boxes.output).shape;
        let rows = if self.boxes.transposed { shape.c } else { shape.pixels() } - self.boxes.place;
        let (boxes, scores, labels) = (self.boxes.view(maps), self.scores.view(maps), self.labels.view(maps));
        let unit = unit(self.normalised, input);
        for row in 0..rows {
            let (score, label) = (scores.get(row, 0), labels.get(row, 0).round() - self.first as f32);
            if score > found.floor() && label >= 0.0 && label < classes as f32 {
                found.push(label as usize, score, self.form.corners(boxes.four(row), unit));
            }
        }
    }
}
