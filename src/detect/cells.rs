//! What a detector says of each cell, before thresholds and NMS: what a student that sees the same cells can learn from.

use super::candidates::around;
use super::distances::Distances;
use super::grid::Grid;
use super::head::cells;
use super::part::{Map, Maps};
use super::scores::{Binary, Scores};
use super::{Detector, Head};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::nets::convnet::program::Shape;

/// The cells that a head sees objects in.
#[derive(Debug, Clone, PartialEq)]
pub struct Cells {
    /// The sides of the cells of each grid, in pixels of the input, in the head's order.
    pub strides: Vec<usize>,
    /// Of heads with distributions: where a cell's centre lies, in cells from its top left corner, and the bins of a side.
    pub bins: Option<(f32, usize)>,
}

/// What was seen in each cell, grid by grid and row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// `[cells][classes]`: probabilities.
    pub scores: Vec<f32>,
    /// `[cells]`: left, top, right, bottom in pixels of the input.
    pub boxes: Vec<[f32; 4]>,
    /// `[cells][4 · bins]`: logits for left, top, right and bottom, of heads with distributions.
    pub bins: Vec<f32>,
    /// Of detectors [with features](Detector::with_features), for each grid `[cells][channels]`.
    pub features: Vec<Vec<f32>>,
}

impl Detector {
    /// The same detector, which also gives its features of each cell when it [looks](Self::look): the maps that its heads
    /// begin with.
    ///
    /// # Errors
    /// `Unsupported` if it has no such map for each of its grids.
    pub fn with_features(self) -> Result<Self> {
        let none = Error::unsupported(format!("{}: has no features of each cell", self.name()));
        let levels: Vec<(usize, usize)> = match &self.spec().head {
            Head::Distances(head) => head.levels.iter().map(|level| (level.classes.output, level.stride)).collect(),
            Head::Grid(head) => head.levels.iter().map(|level| (level.cells.output, level.stride)).collect(),
            _ => return Err(none),
        };
        let (input, first) = (self.input(), self.outputs().len());
        let mut made = self.with_net("give its features", |net| {
            let program = net.program();
            let feature = |&(output, stride): &(usize, usize)| {
                let (feature, grid) = (program.feature(output)?, cells(input, stride));
                let shape = program.shapes()[feature];
                (feature > 0 && (shape.h, shape.w) == (grid.h, grid.w)).then_some(feature)
            };
            let features: Option<Vec<usize>> = levels.iter().map(feature).collect();
            net.with_outputs(&features.ok_or(none)?)
        })?;
        made.features = (first..first + levels.len()).collect();
        Ok(made)
    }

    /// The cells, if the head has a box for each cell of some grids.
    pub fn cells(&self) -> Option<Cells> {
        self.spec().head.cells()
    }

    /// Channels of the [features](Self::with_features) of each grid; none, if it does not give them.
    pub fn feature_channels(&self) -> Vec<usize> {
        self.features.iter().map(|&i| self.outputs()[i].c).collect()
    }

    /// What is seen in each [cell](Self::cells) of `picture`, in pixels of the input; nothing, if there are no cells.
    ///
    /// # Errors
    /// As [`Detector::detect`].
    pub fn look(&mut self, picture: &Picture) -> Result<Seen> {
        self.place_and_run(picture)?;
        let mut seen = Seen::default();
        let (spec, input) = (self.spec(), self.input());
        spec.head.look(|i| self.output(i), input, spec.classes.len(), &mut seen);
        seen.features = self.features.iter().map(|&i| self.output(i).data.to_vec()).collect();
        Ok(seen)
    }
}

impl Head {
    /// As [`Detector::cells`].
    pub fn cells(&self) -> Option<Cells> {
        match self {
            Self::Distances(Distances { scores: Scores::Softmax, .. }) => None,
            Self::Distances(Distances { levels, bins, centre, .. }) => {
                Some(Cells { strides: levels.iter().map(|level| level.stride).collect(), bins: Some((*centre, *bins)) })
            }
            Self::Grid(Grid { levels, .. }) => {
                Some(Cells { strides: levels.iter().map(|level| level.stride).collect(), bins: None })
            }
            _ => None,
        }
    }

    /// Adds what the outputs say of each cell to `seen`.
    ///
    /// # Panics
    /// If the head was not [checked](Self::check) against these outputs.
    pub fn look<'a>(&self, output: impl Fn(usize) -> Map<'a>, input: Shape, classes: usize, seen: &mut Seen) {
        let maps: Maps = &output;
        match self {
            Self::Distances(head) if head.scores != Scores::Softmax => head.look(maps, input, classes, seen),
            Self::Grid(head) => head.look(maps, input, classes, seen),
            _ => {}
        }
    }
}

impl Distances {
    fn look(&self, maps: Maps, input: Shape, classes: usize, seen: &mut Seen) {
        let kind = Binary::of(self.scores);
        for level in &self.levels {
            let grid = cells(input, level.stride);
            let (scores, distances) = (level.classes.view(maps), level.distances.view(maps));
            for place in 0..grid.len() {
                seen.scores.extend((0..classes).map(|class| kind.probability(scores.get(place, class))));
                seen.boxes.push(self.corners(&distances, place, grid, level.stride, input));
                seen.bins.extend((0..4 * self.bins).map(|bin| distances.get(place, bin)));
            }
        }
    }
}

impl Grid {
    fn look(&self, maps: Maps, input: Shape, classes: usize, seen: &mut Seen) {
        let kind = Binary::of(self.scores);
        for level in &self.levels {
            let (grid, stride) = (cells(input, level.stride), level.stride as f32);
            let view = level.cells.view(maps);
            for place in 0..grid.len() {
                let objectness = kind.probability(view.get(place, 4));
                seen.scores.extend((0..classes).map(|class| objectness * kind.probability(view.get(place, 5 + class))));
                let [x, y, w, h] = view.four(place);
                let (row, column) = ((place / grid.w) as f32, (place % grid.w) as f32);
                seen.boxes.push(around((x + column) * stride, (y + row) * stride, w.exp() * stride, h.exp() * stride));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::distances::DistanceLevel;
    use super::super::grid::GridLevel;
    use super::super::part::Part;
    use super::*;

    const INPUT: Shape = Shape::new(16, 16, 3);

    fn look(head: &Head, channels: usize, data: &[f32]) -> Seen {
        let shape = Shape::new(2, 2, channels);
        head.check(&[shape], INPUT, 2).unwrap();
        let mut seen = Seen::default();
        head.look(|_| Map { shape, data }, INPUT, 2, &mut seen);
        seen
    }

    /// Four cells of 8 pixels, each with these numbers.
    fn alike(numbers: &[f32]) -> Vec<f32> {
        numbers.repeat(4)
    }

    #[test]
    fn distributions_come_with_their_boxes() {
        let level = DistanceLevel { classes: Part::of(0), distances: Part::of(0).from_channel(2), stride: 8 };
        let head = Distances { levels: vec![level], bins: 2, centre: 0.0, scores: Scores::Sigmoid, every: false };
        let head = Head::Distances(head);
        assert_eq!(head.cells(), Some(Cells { strides: vec![8], bins: Some((0.0, 2)) }));
        let sides = [0.0, 0.0, 0.0, 0.0, 0.0, 100.0, 0.0, 0.0];
        let seen = look(&head, 10, &alike(&[&[0.0, f32::NEG_INFINITY], &sides[..]].concat()));
        assert_eq!((&seen.scores[..2], &seen.bins[8..16]), (&[0.5, 0.0][..], &sides[..]));
        // The last cell: half a cell to the left, the top and the bottom, a whole one to the right.
        assert_eq!((seen.boxes.len(), seen.boxes[3]), (4, [4.0, 4.0, 16.0, 12.0]));
    }

    #[test]
    fn grids_multiply_with_objectness() {
        let levels = vec![GridLevel { cells: Part::of(0), stride: 8 }];
        let head = Head::Grid(Grid { levels, scores: Scores::Probability, every: true });
        assert_eq!(head.cells(), Some(Cells { strides: vec![8], bins: None }));
        let seen = look(&head, 7, &alike(&[0.5, 0.25, 0.0, 0.0, 0.5, 0.5, 1.0]));
        assert_eq!((&seen.scores[6..], seen.boxes[1], seen.bins.len()), (&[0.25, 0.5][..], [8.0, -2.0, 16.0, 6.0], 0));
    }
}
