//! Boxes that the graph decodes itself: exports as in YOLOv5 and YOLOv8, SSD, and graphs that were cut before their NMS.

use super::candidates::{Candidates, around};
use super::part::{Maps, Part, is_false};
use super::scores::{Scan, Scores};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// For each place a box of four numbers and the scores of the classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boxes {
    /// Four numbers.
    pub boxes: Part,
    /// A number for each class, the background among them.
    pub classes: Part,
    /// One number: whether there is anything at all. Scores are multiplied with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectness: Option<Part>,
    /// What the four numbers are.
    pub form: Form,
    /// Whether they are fractions of the input's sides; pixels otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub normalised: bool,
    /// The class that stands for nothing. The classes behind it move up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<usize>,
    /// What objectness and classes are.
    #[serde(default)]
    pub scores: Scores,
    /// Whether each class above the threshold is an object, not only the best of a place.
    #[serde(default, skip_serializing_if = "is_false")]
    pub every: bool,
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Centre x and y, width, height.
    Centre,
    /// Left, top, right, bottom.
    Corners,
    /// Top, left, bottom, right.
    CornersYx,
}

impl Form {
    /// Their names, for `--boxes`.
    pub const NAMES: [(&str, Self); 3] = [("xyxy", Self::Corners), ("yxyx", Self::CornersYx), ("cxcywh", Self::Centre)];

    /// Its name, for `--boxes`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, form)| *form == self).map_or("", |(name, _)| name)
    }

    /// Left, top, right, bottom in pixels; `unit` is what 1 stands for, in each direction.
    pub(super) fn corners(self, [a, b, c, d]: [f32; 4], unit: [f32; 2]) -> [f32; 4] {
        let [x0, y0, x1, y1] = match self {
            Self::Centre => around(a, b, c, d),
            Self::Corners => [a, b, c, d],
            Self::CornersYx => [b, a, d, c],
        };
        [x0 * unit[0], y0 * unit[1], x1 * unit[0], y1 * unit[1]]
    }
}

/// What 1 stands for, in pixels.
pub(super) fn unit(normalised: bool, input: Shape) -> [f32; 2] {
    if normalised { [input.w as f32, input.h as f32] } else { [1.0, 1.0] }
}

impl Boxes {
    pub(super) fn classes(&self, shapes: &[Shape]) -> Option<usize> {
        let others = self.objectness.into_iter().chain([self.boxes]);
        self.classes.room(others, shapes)?.checked_sub(usize::from(self.background.is_some()))
    }

    /// Number of places.
    fn places(&self, shapes: &[Shape]) -> Result<usize> {
        let (places, _) = self.boxes.extent(shapes)?;
        places.checked_sub(self.boxes.place).filter(|n| *n > 0).ok_or_else(|| {
            Error::format(format!("the head reads boxes from place {}, but there are {places}", self.boxes.place))
        })
    }

    /// Classes and background.
    fn channels(&self, classes: usize) -> usize {
        classes + usize::from(self.background.is_some())
    }

    pub(super) fn check(&self, shapes: &[Shape], classes: usize) -> Result<()> {
        let (places, channels) = (self.places(shapes)?, self.channels(classes));
        if self.background.is_some_and(|background| background >= channels) {
            return Err(Error::format(format!("the head's background is no class, expected 0 to {classes}")));
        }
        self.boxes.check(shapes, places, 4)?;
        self.classes.check(shapes, places, channels)?;
        self.objectness.map_or(Ok(()), |part| part.check(shapes, places, 1))
    }

    pub(super) fn decode(&self, maps: Maps, input: Shape, classes: usize, found: &mut Candidates) {
        let shape = maps(self.boxes.output).shape;
        let places = if self.boxes.transposed { shape.c } else { shape.pixels() } - self.boxes.place;
        let (boxes, unit) = (self.boxes.view(maps), unit(self.normalised, input));
        let background = self.background.unwrap_or(usize::MAX);
        let scan = Scan {
            places,
            classes: self.classes.view(maps),
            count: self.channels(classes),
            objectness: self.objectness.map(|part| part.view(maps)),
            scores: self.scores,
            every: self.every,
        };
        scan.above(found.floor(), |place, channel, score| {
            if channel != background {
                let class = channel - usize::from(channel > background);
                found.push(class, score, self.form.corners(boxes.four(place), unit));
            }
        });
    }
}
