//! The loop that all trainings share: steps as the schedule says, measurements, checkpoints, and a way out.

use super::{
    Progress, Watch,
    schedule::{Moment, Phase, Schedule},
};
use crate::error::Result;
use std::time::Instant;

/// Seconds between checkpoints, besides those at measurements.
const SAVE_EVERY: f64 = 600.0;

/// What goes through a schedule.
pub(super) trait Course {
    /// Its phases.
    fn schedule(&self) -> &Schedule;

    /// Steps that were done.
    fn step_number(&self) -> u64;

    /// Seconds that they took.
    fn seconds(&self) -> f64;

    /// Before the first step of a phase other than the first one.
    fn begin(&mut self, phase: Phase) -> Result<()>;

    /// Why it ends before its last step, if it does.
    fn over(&self) -> Option<String> {
        None
    }

    /// One change of the weights. Returns the loss, and how much was read a second.
    fn step(&mut self, moment: Moment) -> Result<(f64, f64)>;

    /// Measures the student, keeps it if it is the best, and adds a record.
    fn measure(&mut self, moment: Moment, watch: &mut dyn Watch) -> Result<()>;

    /// Writes the checkpoint.
    fn save(&self) -> Result<()>;

    /// Draws the curves.
    fn draw(&self) -> Result<()>;
}

/// Goes on until the end, or until `watch` says stop; then it is false. The checkpoint is there in both cases.
pub(super) fn run(course: &mut impl Course, eval_every: u64, watch: &mut dyn Watch) -> Result<bool> {
    if course.step_number() > 0 {
        watch.say(&format!("going on after step {}", course.step_number()));
    }
    let steps = course.schedule().steps();
    let mut saved = Instant::now();
    while course.step_number() < steps {
        if let Some(why) = course.over() {
            watch.say(&why);
            break;
        }
        let moment = course.schedule().at(course.step_number());
        if moment.since == 0 && course.step_number() > 0 {
            course.begin(moment.phase)?;
        }
        let (loss, speed) = course.step(moment)?;
        let step = course.step_number();
        let left = course.seconds() / step as f64 * (steps - step) as f64;
        watch.step(&Progress { step, steps, phase: moment.phase, loss, speed, left });
        let last = step == steps || course.schedule().at(step).phase != moment.phase;
        if step.is_multiple_of(eval_every) || last {
            course.measure(moment, watch)?;
            course.save()?;
            saved = Instant::now();
        } else if saved.elapsed().as_secs_f64() > SAVE_EVERY {
            course.save()?;
            saved = Instant::now();
        }
        if watch.stop() && course.step_number() < steps && course.over().is_none() {
            course.save()?;
            course.draw()?;
            return Ok(false);
        }
    }
    Ok(true)
}
