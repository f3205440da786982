//! How good a student was so far, and what was seen since it was last measured.

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// A measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// Steps that were done.
    pub(super) step: u64,
    /// The loss on the validation part: the smaller, the better.
    pub(super) validation: f64,
    /// What the student makes of the validation part: the greater, the better.
    pub(super) score: Option<f64>,
}

/// What is kept with the best student so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub(super) best: Best,
    /// The dimensions of its network, for those whom it will teach.
    pub(super) student: toml::Table,
}

/// What tells which of two measurements is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judge {
    /// The loss: of conversations, whose few answers are like those of people by chance as much as by skill.
    Loss,
    /// The score where there is one.
    Score,
}

impl Best {
    fn beats(&self, other: &Self, judge: Judge) -> bool {
        match (self.score, other.score) {
            (Some(mine), Some(theirs)) if judge == Judge::Score && mine != theirs => mine > theirs,
            _ => self.validation < other.validation,
        }
    }
}

/// The best measurement so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) best: Option<Best>,
    /// Measurements since then.
    pub(super) waited: u64,
}

impl Standing {
    /// Takes note of a measurement, and says whether it is the best.
    pub(super) fn is_best(&mut self, now: Best, judge: Judge) -> bool {
        match self.best {
            Some(best) if !now.beats(&best, judge) => {
                self.waited += 1;
                false
            }
            _ => {
                *self = Self { best: Some(now), waited: 0 };
                true
            }
        }
    }
}

/// Sums since the last record.
pub(super) struct Window {
    /// Of losses, each times its count.
    pub(super) loss: f64,
    /// What the losses are divided by: tokens, or steps.
    pub(super) count: usize,
    /// What was read, by which speed is counted.
    pub(super) read: usize,
    /// Of the last gradient.
    pub(super) norm: f64,
    pub(super) started: Instant,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { loss: 0.0, count: 0, read: 0, norm: 0.0, started: Instant::now() }
    }

    /// The mean loss.
    pub(super) fn mean(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }

    /// What was read a second.
    pub(super) fn speed(&self) -> f64 {
        self.read as f64 / self.started.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_decides_what_is_best() {
        let best = |validation, score| Best { step: 1, validation, score };
        let better = |judge, now| {
            let mut standing = Standing { best: Some(best(2.0, Some(30.0))), waited: 0 };
            let better = standing.is_best(now, judge);
            assert_eq!(standing.waited, u64::from(!better));
            better
        };
        let luckier = best(2.5, Some(31.0));
        assert!(better(Judge::Score, luckier) && !better(Judge::Loss, luckier));
        let surer = best(1.5, Some(29.0));
        assert!(!better(Judge::Score, surer) && better(Judge::Loss, surer));
        // What is as good, or has no score, is told apart by its loss.
        for judge in [Judge::Score, Judge::Loss] {
            assert!(better(judge, best(1.9, Some(30.0))) && better(judge, best(1.9, None)));
            assert!(!better(judge, best(2.0, Some(30.0))));
        }
    }
}
