//! Mean average precision of detectors, as COCO defines it and pycocotools computes it.
//!
//! Each picture is matched (`matching.rs`) when it is added, class by class: which detections hit which box at which IoU
//! threshold. In the end the detections of a class are sorted by score, precision over recall (`curve.rs`) is read off, and
//! the [scores](Scores) are means of that.
//!
//! Source: <https://cocodataset.org/#detection-eval>; the numbers equal pycocotools 2.0.11.

mod curve;
mod matching;
mod scores;

pub use scores::{Score, Scores};

use crate::{
    data::detect::Truth,
    error::{Error, Result},
};
use matching::Outcome;
use pupil::Detection;
use std::collections::HashSet;

/// Pixel areas of boxes, both ends included: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// How many of a class's best detections in a picture count.
const LIMITS: [usize; 3] = [1, 10, MOST_FOUND];

/// The most objects of a picture that COCO's evaluation looks at.
pub const MOST_FOUND: usize = 100;

/// How many IoU thresholds there are: .5, .55, … .95.
const THRESHOLDS: usize = 10;

/// The IoU that counts as a hit. The arithmetic is numpy's `linspace`, so that the last bit is the same.
fn threshold(index: usize) -> f64 {
    if index + 1 == THRESHOLDS { 0.95 } else { 0.5 + index as f64 * ((0.95 - 0.5) / (THRESHOLDS - 1) as f64) }
}

/// What a detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The index of its class.
    pub class: usize,
    /// How sure the detector is. Any scale will do: only the order counts.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the picture.
    pub rect: [f32; 4],
}

impl From<&Detection> for Found {
    fn from(&Detection { class, score, ref rect }: &Detection) -> Self {
        Self { class, score, rect: [rect.x0, rect.y0, rect.x1, rect.y1] }
    }
}

impl Found {
    fn check(&self, classes: usize) -> Result<()> {
        let [x0, y0, x1, y1] = self.rect;
        if self.class >= classes {
            return Err(Error::input(format!("the class is {}, expected less than {classes}", self.class)));
        }
        if self.score.is_nan() {
            return Err(Error::input("the score is NaN, expected a number"));
        }
        if !self.rect.iter().all(|edge| edge.is_finite()) || x0 > x1 || y0 > y1 {
            return Err(Error::input(format!(
                "the rectangle is {:?}, expected finite [left, top, right, bottom]",
                self.rect
            )));
        }
        Ok(())
    }
}

/// What is known of one class so far.
#[derive(Default)]
struct Class {
    name: String,
    /// Pictures with a box of the class.
    pictures: usize,
    /// Boxes to find, by area range.
    truths: [usize; AREAS.len()],
    found: usize,
    /// The picture's index, and what became of a detection.
    outcomes: Vec<(usize, Outcome)>,
}

/// Collects what a detector found, picture by picture, and scores it.
///
/// ```
/// use pupil_distill::{data::detect::Truth, eval::detect::{Evaluation, Found}};
///
/// let mut evaluation = Evaluation::new(["cat"]);
/// let truth = Truth::new(0, [10.0, 10.0, 50.0, 50.0]);
/// evaluation.add(0, &[truth], &[Found { class: 0, score: 0.9, rect: [10.0, 10.0, 50.0, 40.0] }])?;
/// let total = evaluation.finish().total;
/// assert!(total.ap50 > Some(0.999) && total.ap75 > Some(0.999)); // their IoU is .75 …
/// assert!(total.ap < Some(0.601)); // … which is enough for six thresholds of ten
/// # Ok::<(), pupil_distill::Error>(())
/// ```
pub struct Evaluation {
    classes: Vec<Class>,
    pictures: HashSet<usize>,
}

impl Evaluation {
    /// An evaluation of a detector that knows these classes.
    pub fn new<S: Into<String>>(classes: impl IntoIterator<Item = S>) -> Self {
        let classes = classes.into_iter().map(|name| Class { name: name.into(), ..Class::default() }).collect();
        Self { classes, pictures: HashSet::new() }
    }

    /// Adds a picture: the boxes that are in it, and what the detector found.
    ///
    /// `index` names the picture. Pictures may come in any order; the index only decides which of two detections with
    /// the same score comes first.
    ///
    /// # Errors
    /// `Input` if a class, score or rectangle makes no sense, or the picture was there already. Nothing is added then.
    pub fn add(&mut self, index: usize, truths: &[Truth], found: &[Found]) -> Result<()> {
        self.check(truths, found).map_err(|error| error.at(format!("picture {index}")))?;
        if !self.pictures.insert(index) {
            return Err(Error::input(format!("picture {index}: added twice, expected once")));
        }
        for (number, class) in self.classes.iter_mut().enumerate() {
            let truths: Vec<Truth> = truths.iter().filter(|truth| truth.class == number).copied().collect();
            let found: Vec<Found> = found.iter().filter(|found| found.class == number).copied().collect();
            class.pictures += usize::from(!truths.is_empty());
            class.found += found.len();
            for (count, area) in class.truths.iter_mut().zip(AREAS) {
                *count += truths.iter().filter(|truth| !matching::is_ignored(truth, area)).count();
            }
            let outcomes = matching::outcomes(&truths, found);
            class.outcomes.extend(outcomes.into_iter().map(|outcome| (index, outcome)));
        }
        Ok(())
    }

    fn check(&self, truths: &[Truth], found: &[Found]) -> Result<()> {
        let classes = self.classes.len();
        for (i, truth) in truths.iter().enumerate() {
            truth.check(classes).map_err(|error| error.at(format!("box {i}")))?;
        }
        for (i, found) in found.iter().enumerate() {
            found.check(classes).map_err(|error| error.at(format!("detection {i}")))?;
        }
        Ok(())
    }

    /// The scores.
    pub fn finish(self) -> Scores {
        let pictures = self.pictures.len();
        Scores::new(pictures, self.classes.into_iter().map(Class::finish).collect())
    }
}

impl Class {
    fn finish(mut self) -> Score {
        // Stable: a picture's detections are in order already.
        self.outcomes.sort_by_key(|(picture, _)| *picture);
        self.outcomes.sort_by(|(_, a), (_, b)| matching::by_score(a.score, b.score));
        let outcomes: Vec<Outcome> = self.outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        let stats = scores::stats(|area, limit| curve::read(&outcomes, self.truths[area], area, limit));
        Score::new(self.name, [self.pictures, self.truths[0], self.found], stats)
    }
}
