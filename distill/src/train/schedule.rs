//! What each step of a training is: its phase, its learning rate, and how much of the loss is the text's.

use crate::recipe::{Alpha, Recipe};
use std::f64::consts::PI;

/// A part of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The student reads the text.
    Text,
    /// It also reads what it wrote.
    OnPolicy,
    /// Its weights are rounded as they will be.
    Quantize,
}

impl Phase {
    /// For people and for records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::OnPolicy => "on-policy",
            Self::Quantize => "quantize",
        }
    }
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The part of the training.
    pub phase: Phase,
    /// Steps of this part before this one.
    pub since: u64,
    /// The learning rate.
    pub rate: f64,
    /// The part of cross-entropy with the text.
    pub alpha: f64,
}

/// The phases of a training, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    parts: Vec<Part>,
    alpha: Alpha,
    floor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    phase: Phase,
    steps: u64,
    rate: f64,
    warmup: u64,
}

impl Schedule {
    /// The schedule of a recipe of which the text takes `steps`.
    pub fn new(recipe: &Recipe, steps: u64) -> Self {
        let train = &recipe.train;
        let mut parts = vec![Part { phase: Phase::Text, steps, rate: train.learning_rate, warmup: train.warmup }];
        // Later phases start from weights that are good, so a short rise will do.
        let mut then = |phase, steps: u64, rate| parts.push(Part { phase, steps, rate, warmup: (steps / 10).min(100) });
        if let Some(on_policy) = &recipe.on_policy {
            then(Phase::OnPolicy, on_policy.steps, on_policy.learning_rate);
        }
        if let Some(quantize) = &recipe.quantize {
            then(Phase::Quantize, quantize.steps, quantize.learning_rate);
        }
        Self { parts, alpha: recipe.loss.alpha, floor: train.floor }
    }

    /// The steps of all phases.
    pub fn steps(&self) -> u64 {
        self.parts.iter().map(|part| part.steps).sum()
    }

    /// The steps of all phases up to the end of the one that the step after `done` others belongs to.
    pub fn end_of(&self, done: u64) -> u64 {
        let mut end = 0;
        for part in &self.parts {
            end += part.steps;
            if done < end {
                break;
            }
        }
        end
    }

    /// What the step is that comes after `done` others.
    pub fn at(&self, done: u64) -> Moment {
        let mut since = done;
        let mut part = self.parts[0];
        for next in &self.parts {
            part = *next;
            if since < part.steps {
                break;
            }
            since -= part.steps;
        }
        let alpha = match (self.alpha, part.phase) {
            (Alpha::Fixed(alpha), _) => alpha,
            (Alpha::Cosine { from, to }, Phase::Text) => to + (from - to) * wave(since, part.steps),
            (Alpha::Cosine { to, .. }, _) => to,
        };
        Moment { phase: part.phase, since, rate: self.rate(part, since), alpha }
    }

    /// A straight rise from 0, and half a cosine wave down to the floor.
    fn rate(&self, part: Part, since: u64) -> f64 {
        if since < part.warmup {
            return part.rate * (since + 1) as f64 / part.warmup as f64;
        }
        let left = wave(since - part.warmup, part.steps.saturating_sub(part.warmup));
        part.rate * (self.floor + (1.0 - self.floor) * left)
    }
}

/// Half a cosine wave, from 1 at 0 to 0 at `end`.
fn wave(at: u64, end: u64) -> f64 {
    let part = at as f64 / end.max(1) as f64;
    0.5 * (1.0 + (PI * part.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let part = |phase, steps, rate, warmup| Part { phase, steps, rate, warmup };
        Schedule {
            parts: vec![part(Phase::Text, 100, 1e-3, 10), part(Phase::Quantize, 20, 1e-4, 2)],
            alpha: Alpha::Cosine { from: 0.9, to: 0.1 },
            floor: 0.1,
        }
    }

    #[test]
    fn rates_rise_and_fall_and_phases_follow() {
        let schedule = schedule();
        assert_eq!(schedule.steps(), 120);
        assert!((schedule.at(0).rate - 1e-4).abs() < 1e-12 && (schedule.at(9).rate - 1e-3).abs() < 1e-12);
        assert!((schedule.at(10).rate - 1e-3).abs() < 1e-12);
        assert!((schedule.at(55).rate - 0.55e-3).abs() < 1e-12);
        assert!((1..90).all(|i| schedule.at(10 + i).rate < schedule.at(9 + i).rate));
        assert!(schedule.at(99).rate < 1.1e-4);
        let Moment { phase, since, rate, alpha } = schedule.at(101);
        assert_eq!((phase, since, alpha), (Phase::Quantize, 1, 0.1));
        assert!((rate - 1e-4).abs() < 1e-12);
        assert_eq!(schedule.at(500).phase, Phase::Quantize);
        assert_eq!([0, 99, 100, 500].map(|done| schedule.end_of(done)), [100, 100, 120, 120]);
    }

    #[test]
    fn alpha_goes_from_one_end_to_the_other() {
        let schedule = schedule();
        assert!((schedule.at(0).alpha - 0.9).abs() < 1e-12);
        assert!((schedule.at(50).alpha - 0.5).abs() < 1e-12);
        assert!(schedule.at(99).alpha < 0.11);
    }
}
