//! What whole trainings are listened to with.

use pupil_distill::{
    device::DeviceKind,
    train::{Options, Outcome, Progress, Watch},
};
use std::path::Path;

/// Hears everything, and stops after a step.
#[derive(Default)]
pub struct Ears {
    pub said: Vec<String>,
    pub losses: Vec<f64>,
    pub stop_after: Option<u64>,
    pub step: u64,
}

impl Watch for Ears {
    fn say(&mut self, line: &str) {
        self.said.push(line.into());
    }

    fn step(&mut self, progress: &Progress) {
        self.step = progress.step;
        self.losses.push(progress.loss);
    }

    fn stop(&self) -> bool {
        self.stop_after.is_some_and(|step| self.step >= step)
    }
}

/// Those of a training that leaves its files in `folder`.
pub fn options(folder: &Path, name: &str) -> Options {
    Options { folder: folder.join(format!("{name}-run")), fresh: false, threads: 1, device: DeviceKind::Cpu }
}

/// What came of a training that went to its end.
pub fn done<R>(outcome: Outcome<R>) -> R {
    match outcome {
        Outcome::Done(report) => report,
        Outcome::Stopped(step) => panic!("stopped after {step}"),
    }
}
