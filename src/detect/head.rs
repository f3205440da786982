//! The head: how a network's outputs say where objects are.

use super::anchors::Anchors;
use super::boxes::{Boxes, Form};
use super::candidates::Candidates;
use super::distances::Distances;
use super::finals::Final;
use super::grid::Grid;
use super::part::{Map, Maps};
use crate::error::{Error, Result};
use crate::nets::convnet::program::Shape;
use serde::{Deserialize, Serialize};

/// The most grids over one picture.
const MAX_LEVELS: usize = 16;
/// The longest side of a cell.
const MAX_STRIDE: usize = 4096;

/// How a network's outputs say where objects are. No detector is known by its name: the families differ in where the
/// numbers are and in how boxes follow from them, and the file says all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Head {
    /// One box for each cell, relative to it.
    Grid(Grid),
    /// Distances from each cell's centre to the sides, as distributions.
    Distances(Distances),
    /// Boxes relative to anchors.
    Anchors(Anchors),
    /// Boxes that the graph decodes itself.
    Boxes(Boxes),
    /// Objects that the graph lists itself.
    Final(Final),
}

impl Head {
    /// The number of classes that outputs of these shapes have scores for, if they say so.
    pub fn classes(&self, shapes: &[Shape]) -> Option<usize> {
        match self {
            Self::Grid(head) => head.classes(shapes),
            Self::Distances(head) => head.classes(shapes),
            Self::Anchors(head) => head.classes(shapes),
            Self::Boxes(head) => head.classes(shapes),
            Self::Final(_) => None,
        }
    }

    /// What the four numbers of a box are, if the outputs have boxes as they are.
    pub fn form(&self) -> Option<Form> {
        match self {
            Self::Boxes(head) => Some(head.form),
            Self::Final(head) => Some(head.form),
            _ => None,
        }
    }

    /// The same head with boxes of another form; `None` if the outputs have no boxes as they are.
    pub fn with_form(mut self, form: Form) -> Option<Self> {
        match &mut self {
            Self::Boxes(head) => head.form = form,
            Self::Final(head) => head.form = form,
            _ => return None,
        }
        Some(self)
    }

    /// Whether overlapping boxes are still to be dropped.
    pub fn needs_nms(&self) -> bool {
        !matches!(self, Self::Final(_))
    }

    /// Checks that the head finds all its numbers in outputs of these shapes.
    ///
    /// # Errors
    /// `Format`, with a message that says what is missing.
    pub fn check(&self, shapes: &[Shape], input: Shape, classes: usize) -> Result<()> {
        let levels = match self {
            Self::Grid(head) => head.levels.len(),
            Self::Distances(head) => head.levels.len(),
            Self::Anchors(head) => head.levels.len(),
            Self::Boxes(_) | Self::Final(_) => 1,
        };
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(Error::format(format!("the head has {levels} levels, expected 1 to {MAX_LEVELS}")));
        }
        if let Some(has) = self.classes(shapes).filter(|&has| has != classes) {
            return Err(Error::format(format!("there are {classes} class names, but the head has scores of {has}")));
        }
        match self {
            Self::Grid(head) => head.check(shapes, input, classes),
            Self::Distances(head) => head.check(shapes, input, classes),
            Self::Anchors(head) => head.check(shapes, input, classes),
            Self::Boxes(head) => head.check(shapes, classes),
            Self::Final(head) => head.check(shapes),
        }
    }

    /// Adds what the outputs propose to `found`, with boxes in pixels of the input.
    ///
    /// # Panics
    /// If the head was not [checked](Self::check) against these outputs.
    pub fn decode<'a>(&self, output: impl Fn(usize) -> Map<'a>, input: Shape, classes: usize, found: &mut Candidates) {
        let maps: Maps = &output;
        match self {
            Self::Grid(head) => head.decode(maps, input, classes, found),
            Self::Distances(head) => head.decode(maps, input, classes, found),
            Self::Anchors(head) => head.decode(maps, input, classes, found),
            Self::Boxes(head) => head.decode(maps, input, classes, found),
            Self::Final(head) => head.decode(maps, input, classes, found),
        }
    }
}

/// The cells of a grid over the whole input, as a map of one channel.
pub(super) fn cells(input: Shape, stride: usize) -> Shape {
    Shape::new(input.h.div_ceil(stride), input.w.div_ceil(stride), 1)
}

pub(super) fn check_stride(stride: usize) -> Result<()> {
    match stride {
        1..=MAX_STRIDE => Ok(()),
        _ => Err(Error::format(format!("the head has cells of {stride} pixels, expected 1 to {MAX_STRIDE}"))),
    }
}
