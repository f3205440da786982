//! Which detections of one class in one picture hit which boxes.

use super::{AREAS, Found, LIMITS, THRESHOLDS, threshold};
use crate::data::detect::Truth;
use std::cmp::Ordering;

/// What became of a detection.
pub(super) struct Outcome {
    pub(super) score: f32,
    /// How many detections of its class and picture are better.
    pub(super) rank: usize,
    /// By area range: a bit for each IoU threshold at which it hit a box.
    hits: [u16; AREAS.len()],
    /// The same for being neither right nor wrong.
    ignored: [u16; AREAS.len()],
}

impl Outcome {
    /// Whether it is right (`Some(true)`), wrong, or neither.
    pub(super) fn verdict(&self, area: usize, threshold: usize) -> Option<bool> {
        let bit = 1 << threshold;
        (self.ignored[area] & bit == 0).then_some(self.hits[area] & bit != 0)
    }
}

/// The better score first.
pub(super) fn by_score(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// Whether a box need not be found: finding it is neither right nor wrong.
pub(super) fn is_ignored(truth: &Truth, area: [f64; 2]) -> bool {
    truth.crowd || truth.ignore || is_outside(truth.area, area)
}

fn is_outside(size: f64, [smallest, largest]: [f64; 2]) -> bool {
    size < smallest || size > largest
}

/// What became of the detections, the best first. All are of one class and one picture.
pub(super) fn outcomes(truths: &[Truth], mut found: Vec<Found>) -> Vec<Outcome> {
    found.sort_by(|a, b| by_score(a.score, b.score));
    found.truncate(LIMITS[LIMITS.len() - 1]);
    let rects: Vec<[f64; 4]> = found.iter().map(|found| found.rect.map(f64::from)).collect();
    let overlaps: Vec<Vec<f64>> =
        rects.iter().map(|rect| truths.iter().map(|truth| overlap(rect, truth)).collect()).collect();
    let outcome = |(rank, found): (usize, &Found)| Outcome { score: found.score, rank, hits: [0; 4], ignored: [0; 4] };
    let mut outcomes: Vec<Outcome> = found.iter().enumerate().map(outcome).collect();
    for (area, &range) in AREAS.iter().enumerate() {
        let ignored: Vec<bool> = truths.iter().map(|truth| is_ignored(truth, range)).collect();
        for step in 0..THRESHOLDS {
            let hits = hits(truths, &ignored, &overlaps, threshold(step));
            for ((outcome, rect), hit) in outcomes.iter_mut().zip(&rects).zip(hits) {
                let ignored = hit.map_or_else(|| is_outside(size(rect), range), |truth| ignored[truth]);
                outcome.hits[area] |= u16::from(hit.is_some()) << step;
                outcome.ignored[area] |= u16::from(ignored) << step;
            }
        }
    }
    outcomes
}

/// The box that each detection hits. The better detection chooses first, and a box is hit once, unless it is a crowd.
fn hits(truths: &[Truth], ignored: &[bool], overlaps: &[Vec<f64>], threshold: f64) -> Vec<Option<usize>> {
    let mut taken = vec![false; truths.len()];
    let choose = |overlaps: &Vec<f64>| {
        let free = |&truth: &usize| !taken[truth] || truths[truth].crowd;
        let among = |wanted: bool| (0..truths.len()).filter(move |&truth| ignored[truth] == wanted).filter(free);
        // A box that counts goes before one that does not, however well that one fits.
        let hit = fittest(among(false), overlaps, threshold).or_else(|| fittest(among(true), overlaps, threshold));
        if let Some(truth) = hit {
            taken[truth] = true;
        }
        hit
    };
    overlaps.iter().map(choose).collect()
}

/// The box that overlaps most, and at least `threshold`; of equals the last.
fn fittest(truths: impl Iterator<Item = usize>, overlaps: &[f64], threshold: f64) -> Option<usize> {
    truths.filter(|&truth| overlaps[truth] >= threshold).max_by(|&a, &b| overlaps[a].total_cmp(&overlaps[b]))
}

/// Intersection over union; for a crowd, over the detection's own area.
fn overlap(rect: &[f64; 4], truth: &Truth) -> f64 {
    let other = &truth.rect;
    let width = rect[2].min(other[2]) - rect[0].max(other[0]);
    let height = rect[3].min(other[3]) - rect[1].max(other[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let both = width * height;
    let union = if truth.crowd { size(rect) } else { size(rect) + size(other) - both };
    both / union
}

/// The area of a rectangle.
fn size([x0, y0, x1, y1]: &[f64; 4]) -> f64 {
    (x1 - x0) * (y1 - y0)
}
