//! Precision over recall.

use super::{LIMITS, THRESHOLDS, matching::Outcome};

/// Precision is read at recall 0, .01, … 1.
const RECALLS: usize = 101;

/// What the curves of a class say, for one area range and limit: an entry for each IoU threshold.
pub(super) struct Curve {
    /// Average precision: the mean of the precisions at 101 recalls.
    pub(super) precision: [f64; THRESHOLDS],
    /// The recall that all detections together reach.
    pub(super) recall: [f64; THRESHOLDS],
}

/// Reads the curves off a class's detections, which are sorted by score; `None` if there is nothing to find.
pub(super) fn read(outcomes: &[Outcome], truths: usize, area: usize, limit: usize) -> Option<Curve> {
    if truths == 0 {
        return None;
    }
    let mut curve = Curve { precision: [0.0; THRESHOLDS], recall: [0.0; THRESHOLDS] };
    for threshold in 0..THRESHOLDS {
        let counted = outcomes.iter().filter(|outcome| outcome.rank < LIMITS[limit]);
        let points = points(counted.filter_map(|outcome| outcome.verdict(area, threshold)), truths);
        curve.precision[threshold] = average_precision(&points);
        curve.recall[threshold] = points.last().map_or(0.0, |point| point.recall);
    }
    Some(curve)
}

struct Point {
    recall: f64,
    precision: f64,
}

/// Recall and precision after each detection, given whether each was right.
fn points(verdicts: impl Iterator<Item = bool>, truths: usize) -> Vec<Point> {
    let (mut right, mut wrong) = (0.0, 0.0);
    let mut points: Vec<Point> = verdicts
        .map(|hit| {
            *if hit { &mut right } else { &mut wrong } += 1.0;
            Point { recall: right / truths as f64, precision: right / (wrong + right + f64::EPSILON) }
        })
        .collect();
    // The best precision at this recall or a higher one.
    let mut best = 0.0f64;
    for point in points.iter_mut().rev() {
        best = best.max(point.precision);
        point.precision = best;
    }
    points
}

fn average_precision(points: &[Point]) -> f64 {
    let at = |step: usize| {
        let recall = if step + 1 == RECALLS { 1.0 } else { step as f64 * 0.01 };
        let reached = points.partition_point(|point| point.recall < recall);
        points.get(reached).map_or(0.0, |point| point.precision)
    };
    (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64
}
