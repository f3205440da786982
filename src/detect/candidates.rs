//! The objects that a head proposes, before the overlapping ones are dropped.

use crate::image::{Detection, Rect};

/// How many candidates are kept, the best ones: bounds the time of what comes after.
const LIMIT: usize = 30_000;

/// Collects candidates of at least a certain score, in memory that is used again for each picture.
#[derive(Debug, Default)]
pub struct Candidates {
    list: Vec<Detection>,
    floor: f32,
    /// The classes that are wanted; all if it is empty.
    wanted: Vec<bool>,
}

impl Candidates {
    /// A collection for scores above `floor`, of all classes or those that are `wanted`.
    pub fn new(floor: f32, wanted: Vec<bool>) -> Self {
        Self { list: Vec::new(), floor, wanted }
    }

    /// Empties the collection; from now on it takes scores above `floor`.
    pub fn restart(&mut self, floor: f32) {
        self.list.clear();
        self.floor = floor;
    }

    /// A score must be above this one to get in.
    pub fn floor(&self) -> f32 {
        self.floor
    }

    /// The candidates so far.
    pub fn list(&mut self) -> &mut Vec<Detection> {
        &mut self.list
    }

    /// Adds a candidate, unless its score is too low, its class is not wanted or a number of it is not finite.
    pub(super) fn push(&mut self, class: usize, score: f32, corners: [f32; 4]) {
        let wanted = self.wanted.is_empty() || self.wanted.get(class) == Some(&true);
        let above = score > self.floor;
        if !wanted || !above || !score.is_finite() || !corners.iter().all(|x| x.is_finite()) {
            return;
        }
        let [x0, y0, x1, y1] = corners;
        self.list.push(Detection { class, score, rect: Rect { x0, y0, x1, y1 } });
        if self.list.len() == 2 * LIMIT {
            self.cut();
        }
    }

    /// Keeps the best, and asks more of those to come.
    fn cut(&mut self) {
        let (_, last, _) = self.list.select_nth_unstable_by(LIMIT - 1, |a, b| b.score.total_cmp(&a.score));
        self.floor = last.score;
        self.list.truncate(LIMIT);
    }
}

/// The corners of a box around (x, y).
pub(super) fn around(x: f32, y: f32, width: f32, height: f32) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_and_finite_gets_in() {
        let unit = [0.0, 0.0, 1.0, 1.0];
        let mut candidates = Candidates::new(0.5, vec![true, false, true]);
        candidates.push(0, 0.5, unit);
        candidates.push(1, 0.9, unit);
        candidates.push(3, 0.9, unit);
        candidates.push(0, f32::NAN, unit);
        candidates.push(0, f32::INFINITY, unit);
        candidates.push(0, 0.9, [0.0, f32::NAN, 1.0, 1.0]);
        assert!(candidates.list().is_empty());
        candidates.push(2, 0.9, unit);
        assert_eq!(candidates.list().len(), 1);
        candidates.restart(0.95);
        candidates.push(2, 0.9, unit);
        assert!(candidates.list().is_empty());
    }

    #[test]
    fn of_too_many_the_best_stay() {
        let mut candidates = Candidates::new(0.0, vec![]);
        let scores = (1..=100_000).map(|i| (i * 7919 % 100_003) as f32 / 100_003.0);
        scores.for_each(|score| candidates.push(0, score, [0.0; 4]));
        assert!(candidates.list().len() < 2 * LIMIT && candidates.floor() > 0.3);
        let best = candidates.list().iter().filter(|candidate| candidate.score > 0.7).count();
        assert!((29_900..30_100).contains(&best));
    }
}
