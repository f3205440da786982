//! What a detector is trained to make small.
//!
//! With labels, over the cells that see an object (weights: how well they do) and, for classes, over all cells:
//!
//! | part | per cell | divided by |
//! |---|---|---|
//! | `classes` | quality focal loss, Σ over classes | the number of objects' cells |
//! | `boxes` | `1 − GIoU` | the sum of weights |
//! | `bins` | distribution focal loss, mean over sides | the sum of weights |
//!
//! With a teacher, over the cells in which it sees something (weights: the score of its best class):
//!
//! | part | per cell | divided by |
//! |---|---|---|
//! | `kd_classes` | `Σ BCE(z_s, σ(z_t)) · \|σ(z_s) − σ(z_t)\|^β`, over all cells | the sum of weights |
//! | `kd_boxes` | for teachers with bins `Σ_sides T² KL` (LD, Zheng et al. 2022), for others `1 − GIoU` with its boxes | the sum of weights |
//! | `kd_features` | [PKD](super::features), if the teacher gives features; over all cells | one |
//!
//! No divisor is below 1. The teacher's sum of weights stands for its number of objects, which pictures without labels do
//! not say.

use super::anchors::Anchor;
use super::assign::{Target, outward};
use super::boxes::{Rect, giou};
use super::pieces::{bins, bins_of_teacher, focal};
use super::student::Outputs;
use crate::error::{Error, Result, within};
use crate::loss::vector::sigmoid;
use crate::nn::{by_hand::of_one, vectorised};
use candle_core::Tensor;
use rayon::prelude::*;
use std::ops::AddAssign;

/// The least weight of a cell that sees an object: boxes that are still far off are learnt as well.
const LEAST_WEIGHT: f32 = 0.1;
/// Cells that are worked on together.
const CHUNK: usize = 256;

/// How much the parts of the loss weigh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Of the classes.
    pub classes: f64,
    /// Of the boxes.
    pub boxes: f64,
    /// Of the bins.
    pub bins: f64,
    /// Of the teacher's classes.
    pub kd_classes: f64,
    /// Of the teacher's boxes.
    pub kd_boxes: f64,
    /// Of the teacher's features.
    pub kd_features: f64,
    /// The exponent β of the focal losses, at least 1.
    pub beta: f32,
    /// The temperature T of the teacher's bins.
    pub temperature: f32,
    /// The score, 0 to 1, below which the teacher sees nothing: the many cells of the background are not to outweigh the
    /// few of objects.
    pub floor: f32,
}

impl Default for Objective {
    /// Weights of 1, 2 and ¼ as in NanoDet-Plus, β of 2. The teacher's classes weigh more: in short trainings on photographs
    /// of vehicles at a low rate 4 did better than 1 and 12, and what was found at higher rates was found with 8.
    fn default() -> Self {
        Self {
            classes: 1.0,
            boxes: 2.0,
            bins: 0.25,
            kd_classes: 8.0,
            kd_boxes: 0.5,
            kd_features: 0.0,
            beta: 2.0,
            temperature: 2.0,
            floor: 0.1,
        }
    }
}

impl Objective {
    /// The largest weight that makes sense.
    pub const MOST: f64 = 1e6;

    /// # Errors
    /// `Input` for a number that makes no sense.
    pub fn check(&self) -> Result<()> {
        for (name, weight) in [
            ("classes", self.classes),
            ("boxes", self.boxes),
            ("bins", self.bins),
            ("kd_classes", self.kd_classes),
            ("kd_boxes", self.kd_boxes),
            ("kd_features", self.kd_features),
        ] {
            within(name, weight, 0.0, Self::MOST)?;
        }
        within("beta", self.beta.into(), 1.0, 10.0)?;
        within("temperature", self.temperature.into(), 0.01, 100.0)?;
        within("floor", self.floor.into(), 0.0, 1.0)
    }
}

/// What a teacher says of each cell of each picture, in the order of the student's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Soft {
    /// `[rows][classes]`: logits; NaN for classes that the teacher does not know. Of objects of such a class it says nothing.
    pub classes: Vec<f32>,
    /// Its boxes.
    pub boxes: SoftBoxes,
}

/// A teacher's boxes.
#[derive(Debug, Clone, PartialEq)]
pub enum SoftBoxes {
    /// None: only classes count.
    None,
    /// `[rows][4 · bins]`: logits of as many bins as the student's.
    Bins(Vec<f32>),
    /// `[rows]`: left, top, right, bottom in pixels of the input.
    Rects(Vec<[f32; 4]>),
}

/// What a batch lost: the parts, each divided as they are, but not yet weighed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lost {
    /// Cells that see an object.
    pub objects: usize,
    /// Of the classes.
    pub classes: f64,
    /// Of the boxes.
    pub boxes: f64,
    /// Of the bins.
    pub bins: f64,
    /// Of the teacher's classes.
    pub kd_classes: f64,
    /// Of the teacher's boxes.
    pub kd_boxes: f64,
    /// Of the teacher's features, which are not part of [`loss`].
    pub kd_features: f64,
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.classes += other.classes;
        self.boxes += other.boxes;
        self.bins += other.bins;
        self.kd_classes += other.kd_classes;
        self.kd_boxes += other.kd_boxes;
        self.kd_features += other.kd_features;
    }
}

/// The loss, a scalar whose gradient reaches the outputs, and what it is made of.
///
/// # Errors
/// `Input` for targets or a teacher of other cells, classes or bins.
pub fn loss(
    outputs: &Outputs,
    targets: &[Target],
    teacher: Option<&Soft>,
    objective: &Objective,
) -> Result<(Tensor, Lost)> {
    check(outputs, targets, teacher, objective)?;
    let numbers = outputs.numbers()?;
    let soft = teacher.map(|soft| (soft, weights(soft, outputs.classes, objective.floor)));
    let rows = Rows { outputs, numbers: &numbers, targets, soft: soft.as_ref(), objective };
    let divisors = rows.divisors();
    let width = outputs.width();
    let mut gradient = vec![0.0; numbers.len()];
    let chunks = gradient.par_chunks_mut(CHUNK * width).enumerate().map(|(i, gradient)| {
        vectorised(
            #[inline(always)]
            || {
                let mut lost = Lost::default();
                for (row, gradient) in gradient.chunks_exact_mut(width).enumerate() {
                    rows.run(i * CHUNK + row, &divisors, gradient, &mut lost);
                }
                lost
            },
        )
    });
    let mut lost = Lost::default();
    chunks.collect::<Vec<_>>().into_iter().for_each(|chunk| lost += chunk);
    let Objective { classes, boxes, bins, kd_classes, kd_boxes, .. } = *objective;
    let total = classes * lost.classes
        + boxes * lost.boxes
        + bins * lost.bins
        + kd_classes * lost.kd_classes
        + kd_boxes * lost.kd_boxes;
    let rows = &outputs.rows;
    let gradient = Tensor::from_vec(gradient, rows.shape(), rows.device())?;
    let value = |_: &Tensor| Tensor::new(total as f32, rows.device());
    // It is computed already.
    let loss = of_one(rows, value, move |_, _, of_loss| gradient.broadcast_mul(of_loss))?;
    Ok((loss, lost))
}

fn check(outputs: &Outputs, targets: &[Target], teacher: Option<&Soft>, objective: &Objective) -> Result<()> {
    objective.check()?;
    let rows = outputs.pictures * outputs.anchors.len();
    let has = |what: &str, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(Error::input(format!("{found} {what}, expected {expected} for {rows} cells"))),
    };
    has("targets", targets.len(), rows)?;
    for target in targets {
        if let Target::Object { class, .. } = target
            && *class >= outputs.classes
        {
            return Err(Error::input(format!("a target of class {class}, expected less than {}", outputs.classes)));
        }
    }
    let Some(Soft { classes, boxes }) = teacher else { return Ok(()) };
    has("logits of the teacher", classes.len(), rows * outputs.classes)?;
    match boxes {
        SoftBoxes::None => Ok(()),
        SoftBoxes::Bins(bins) => has("bins of the teacher", bins.len(), rows * 4 * outputs.bins),
        SoftBoxes::Rects(rects) => has("boxes of the teacher", rects.len(), rows),
    }
}

/// The score of the teacher's best class in each cell, or 0.
fn weights(soft: &Soft, classes: usize, floor: f32) -> Vec<f32> {
    let best = |row: &[f32]| sigmoid(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let scores = soft.classes.chunks_exact(classes).map(best);
    scores.map(|score| if score >= floor { score } else { 0.0 }).collect()
}

/// What goes into the loss.
struct Rows<'a> {
    outputs: &'a Outputs,
    numbers: &'a [f32],
    targets: &'a [Target],
    /// The teacher, and the weight of each cell.
    soft: Option<&'a (&'a Soft, Vec<f32>)>,
    objective: &'a Objective,
}

/// What sums are divided by.
struct Divisors {
    objects: f64,
    weights: f64,
    teacher: f64,
}

impl Rows<'_> {
    fn divisors(&self) -> Divisors {
        let (mut objects, mut weights) = (0.0_f64, 0.0_f64);
        for target in self.targets {
            if let Target::Object { quality, .. } = target {
                objects += 1.0;
                weights += f64::from(quality.max(LEAST_WEIGHT));
            }
        }
        let teacher: f64 = self.soft.map_or(0.0, |(_, weights)| weights.iter().copied().map(f64::from).sum());
        Divisors { objects: objects.max(1.0), weights: weights.max(1.0), teacher: teacher.max(1.0) }
    }

    /// Adds what a cell loses, and fills its gradient.
    #[inline(always)]
    fn run(&self, row: usize, divisors: &Divisors, gradient: &mut [f32], lost: &mut Lost) {
        let (objective, Outputs { classes, .. }) = (self.objective, self.outputs);
        let width = gradient.len();
        let z = &self.numbers[row * width..][..width];
        let (of_classes, of_bins) = gradient.split_at_mut(*classes);
        let z_classes = &z[..of_classes.len()];

        let (class, quality) = match self.targets[row] {
            Target::Object { class, quality, .. } => (class, quality),
            _ => (usize::MAX, 0.0),
        };
        if self.targets[row] != Target::Ignored {
            let mut sum = 0.0;
            let weight = (objective.classes / divisors.objects) as f32;
            for (i, gradient) in of_classes.iter_mut().enumerate() {
                let y = if i == class { quality } else { 0.0 };
                let (one, slope) = focal(z_classes[i], y, objective.beta);
                sum += one;
                *gradient += weight * slope;
            }
            lost.classes += f64::from(sum) / divisors.objects;
        }
        if let Some((soft, _)) = self.soft {
            let theirs = &soft.classes[row * classes..][..z_classes.len()];
            let mut sum = 0.0;
            let stranger = theirs.get(class).is_some_and(|z| z.is_nan());
            let weight = if stranger { 0.0 } else { (objective.kd_classes / divisors.teacher) as f32 };
            for (i, gradient) in of_classes.iter_mut().enumerate() {
                let (one, slope) = focal(z_classes[i], sigmoid(theirs[i]), objective.beta);
                let knows = !(theirs[i].is_nan() || stranger);
                sum += if knows { one } else { 0.0 };
                *gradient += if knows { weight * slope } else { 0.0 };
            }
            lost.kd_classes += f64::from(sum) / divisors.teacher;
        }
        self.boxes(row, z, divisors, of_bins, lost);
    }

    /// What the box of a cell loses. Few cells have one, so nothing here is in vectors.
    fn boxes(&self, row: usize, z: &[f32], divisors: &Divisors, gradient: &mut [f32], lost: &mut Lost) {
        let Outputs { anchors, classes, bins: count, .. } = self.outputs;
        let anchor = &anchors[row % anchors.len()];
        if let Target::Object { rect, quality, .. } = self.targets[row] {
            let weight = f64::from(quality.max(LEAST_WEIGHT)) / divisors.weights;
            lost.objects += 1;
            lost.boxes += weight * self.overlap(z, anchor, rect, weight * self.objective.boxes, gradient);
            let (sides, _) = self.outputs.decode(z, anchor);
            let of_bins = weight * self.objective.bins / 4.0;
            for (side, ((p, _), gradient)) in sides.iter().zip(gradient.chunks_exact_mut(*count)).enumerate() {
                let centre = f64::from(if side.is_multiple_of(2) { anchor.x } else { anchor.y });
                let distance = outward(side) * (rect[side] - centre) / f64::from(anchor.stride);
                lost.bins += weight * bins(p, distance, of_bins, gradient) / 4.0;
            }
        }
        let Some((soft, weights)) = self.soft else { return };
        if weights[row] == 0.0 {
            return;
        }
        let weight = f64::from(weights[row]) / divisors.teacher;
        let weighed = weight * self.objective.kd_boxes;
        match &soft.boxes {
            SoftBoxes::None => {}
            SoftBoxes::Rects(rects) => {
                let rect = rects[row].map(f64::from);
                lost.kd_boxes += weight * self.overlap(z, anchor, rect, weighed, gradient);
            }
            SoftBoxes::Bins(theirs) => {
                let ours = z[*classes..].chunks_exact(*count);
                let theirs = theirs[row * 4 * count..].chunks_exact(*count);
                for (gradient, (ours, theirs)) in gradient.chunks_exact_mut(*count).zip(ours.zip(theirs)) {
                    let temperature = self.objective.temperature;
                    lost.kd_boxes += weight * bins_of_teacher(ours, theirs, temperature, weighed, gradient);
                }
            }
        }
    }

    /// `1 − GIoU` with a box. Adds `weight` times its gradient by the bins' logits: a side moves with the mean of its bins,
    /// and that by `p (bin − mean)`.
    fn overlap(&self, z: &[f32], anchor: &Anchor, rect: Rect, weight: f64, gradient: &mut [f32]) -> f64 {
        let (sides, decoded) = self.outputs.decode(z, anchor);
        let (giou, slopes) = giou(decoded, rect);
        for (side, gradient) in gradient.chunks_exact_mut(self.outputs.bins).enumerate() {
            let of_mean = -weight * slopes[side] * outward(side) * f64::from(anchor.stride);
            let (p, mean) = &sides[side];
            for (bin, (gradient, p)) in gradient.iter_mut().zip(p).enumerate() {
                *gradient += (of_mean * p * (bin as f64 - mean)) as f32;
            }
        }
        1.0 - giou
    }
}
