//! What the numbers of a class channel are.

use super::part::View;
use serde::{Deserialize, Serialize};

/// What the network's class scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// Probabilities: the graph applies the sigmoid or softmax.
    #[default]
    Probability,
    /// Logits of independent classes, for the sigmoid.
    Sigmoid,
    /// Logits of classes that exclude each other, for the softmax over them. Objectness is a logit for the sigmoid.
    Softmax,
}

/// The scores of a map of places.
pub(super) struct Scan<'a> {
    /// Number of places.
    pub(super) places: usize,
    /// A channel for each class.
    pub(super) classes: View<'a>,
    /// Number of classes.
    pub(super) count: usize,
    /// One channel: whether there is anything at all. Scores are multiplied with it.
    pub(super) objectness: Option<View<'a>>,
    /// What these numbers are.
    pub(super) scores: Scores,
    /// Whether each class above the floor counts, not only the best of a place.
    pub(super) every: bool,
}

impl Scan<'_> {
    /// Visits what scores above `floor`, with place, class and score.
    pub(super) fn above(&self, floor: f32, mut visit: impl FnMut(usize, usize, f32)) {
        let kind = Binary::of(self.scores);
        let Some(objectness) = self.objectness else {
            return match self.scores {
                Scores::Softmax => (0..self.places).for_each(|place| self.softmaxes(place, 1.0, floor, &mut visit)),
                _ => self.classes.above(self.places, self.count, kind.raw(floor), self.every, |place, class, x| {
                    visit(place, class, kind.probability(x));
                }),
            };
        };
        // No class can lift the score above the objectness.
        let least = kind.raw(floor);
        for place in 0..self.places {
            let raw = objectness.get(place, 0);
            if raw > least {
                let objectness = kind.probability(raw);
                match self.scores {
                    Scores::Softmax => self.softmaxes(place, objectness, floor, &mut visit),
                    _ => self.products(place, objectness, floor, kind, &mut visit),
                }
            }
        }
    }

    /// The independent classes of one place.
    fn products(
        &self,
        place: usize,
        objectness: f32,
        floor: f32,
        kind: Binary,
        visit: &mut impl FnMut(usize, usize, f32),
    ) {
        let least = kind.raw(floor / objectness);
        let mut look = |class: usize, x: f32| {
            if x > least {
                visit(place, class, objectness * kind.probability(x));
            }
        };
        if self.every {
            (0..self.count).for_each(|class| look(class, self.classes.get(place, class)));
        } else {
            let (class, x) = self.classes.best(place, self.count);
            look(class, x);
        }
    }

    /// The classes of one place, that exclude each other.
    fn softmaxes(&self, place: usize, objectness: f32, floor: f32, visit: &mut impl FnMut(usize, usize, f32)) {
        let (best, max) = self.classes.best(place, self.count);
        let all = (0..self.count).map(|class| self.classes.get(place, class));
        let scale = objectness / all.clone().map(|x| (x - max).exp()).sum::<f32>();
        let mut look = |class: usize, x: f32| {
            let score = (x - max).exp() * scale;
            if score > floor {
                visit(place, class, score);
            }
        };
        if self.every {
            all.enumerate().for_each(|(class, x)| look(class, x));
        } else {
            look(best, max);
        }
    }
}

/// `1 / (1 + e⁻ˣ)`
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(p / (1 − p))`: numbers are compared with this one before any sigmoid is computed.
fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

/// Probabilities, or logits of independent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Probability,
    Logit,
}

impl Binary {
    /// What the numbers of independent classes are.
    pub(super) fn of(scores: Scores) -> Self {
        if scores == Scores::Probability { Self::Probability } else { Self::Logit }
    }

    /// The number that stands for the probability `p`.
    pub(super) fn raw(self, p: f32) -> f32 {
        match self {
            Self::Probability => p,
            // A little lower, so that rounding loses nothing; the probability itself decides.
            Self::Logit => logit(p.clamp(0.0, 1.0)) - 1e-4,
        }
    }

    /// The probability that `x` stands for.
    pub(super) fn probability(self, x: f32) -> f32 {
        match self {
            Self::Probability => x,
            Self::Logit => sigmoid(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_numbers_invert_probabilities() {
        for p in [0.001, 0.3, 0.5, 0.97] {
            assert!((Binary::Logit.probability(Binary::Logit.raw(p)) - p).abs() < 1e-4);
            assert_eq!(Binary::Probability.raw(p), p);
        }
        assert_eq!(Binary::Logit.raw(0.0), f32::NEG_INFINITY);
        assert_eq!(Binary::Logit.raw(1.0), f32::INFINITY);
    }
}
