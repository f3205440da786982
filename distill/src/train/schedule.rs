//! What each step of a training is: its phase, and its learning rate.

use crate::recipe::{Recipe, Weight};
use std::f64::consts::PI;

/// A part of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The student reads the text.
    Text,
    /// The student looks at pictures.
    Pictures,
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
            Self::Pictures => "pictures",
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
    /// Steps of this part.
    pub of: u64,
    /// The learning rate.
    pub rate: f64,
}

impl Moment {
    /// How much of its part was done before it, 0 to below 1.
    pub fn done(&self) -> f64 {
        self.since as f64 / self.of.max(1) as f64
    }
}

/// The phases of a training, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    parts: Vec<Part>,
    floor: f64,
}

/// How long a phase is, and how fast the student learns in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Which one.
    pub phase: Phase,
    /// Its steps.
    pub steps: u64,
    /// The highest learning rate.
    pub rate: f64,
    /// Steps in which the rate rises from 0.
    pub warmup: u64,
}

impl Schedule {
    /// These parts, in each of which the rate falls to `floor` times the highest.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(parts: Vec<Part>, floor: f64) -> Self {
        assert!(!parts.is_empty(), "a schedule has at least one part");
        Self { parts, floor }
    }

    /// The schedule of a recipe of which the text takes `steps`.
    pub fn of_text(recipe: &Recipe, steps: u64) -> Self {
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
        Self::new(parts, train.floor)
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
        Moment { phase: part.phase, since, of: part.steps, rate: self.rate(part, since) }
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

impl Weight {
    /// What it is at a step. It changes in the first phase.
    pub fn at(self, moment: &Moment) -> f64 {
        match (self, moment.phase) {
            (Self::Fixed(weight), _) => weight,
            (Self::Cosine { from, to }, Phase::Text | Phase::Pictures) => {
                to + (from - to) * wave(moment.since, moment.of)
            }
            (Self::Cosine { to, .. }, _) => to,
        }
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
        Schedule { parts: vec![part(Phase::Text, 100, 1e-3, 10), part(Phase::Quantize, 20, 1e-4, 2)], floor: 0.1 }
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
        let Moment { phase, since, of, rate } = schedule.at(101);
        assert_eq!((phase, since, of), (Phase::Quantize, 1, 20));
        assert_eq!(schedule.at(25).done(), 0.25);
        assert!((rate - 1e-4).abs() < 1e-12);
        assert_eq!(schedule.at(500).phase, Phase::Quantize);
        assert_eq!([0, 99, 100, 500].map(|done| schedule.end_of(done)), [100, 100, 120, 120]);
    }

    #[test]
    fn weights_go_from_one_end_to_the_other() {
        let schedule = schedule();
        let weight = |done| Weight::Cosine { from: 0.9, to: 0.1 }.at(&schedule.at(done));
        assert!((weight(0) - 0.9).abs() < 1e-12 && (weight(50) - 0.5).abs() < 1e-12);
        assert!(weight(99) < 0.11 && weight(100) == 0.1);
        let pictures = Moment { phase: Phase::Pictures, ..schedule.at(50) };
        assert!((Weight::Cosine { from: 8.0, to: 0.0 }.at(&pictures) - 4.0).abs() < 1e-12);
        assert_eq!(Weight::Fixed(8.0).at(&pictures), 8.0);
    }
}
