//! Training: from a recipe to a student's file.
//!
//! For students that look at pictures, see [`detect`]. For the others [`distill`] is the whole of it: [`prepare`] makes
//! examples of text, [`trainer`] goes through them step by step as [`schedule`] says, [`checkpoint`] keeps what it takes to
//! go on, [`evaluate`] says how good the student is, and what was best becomes a file.

pub mod checkpoint;
mod course;
pub mod detect;
pub mod evaluate;
mod file;
mod made_for;
mod make;
pub mod metrics;
pub mod plots;
pub mod prepare;
pub mod rollout;
pub mod schedule;
mod standing;
pub mod step;
mod teach;
pub mod trainer;
mod weights;

use crate::{
    device::DeviceKind,
    error::{Error, Result},
    recipe::Recipe,
    student::Student,
};
use candle_core::Device;
use prepare::Prepared;
use std::{
    fs,
    path::{Path, PathBuf},
};
use trainer::Trainer;

/// How a training goes about it, besides the recipe.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where checkpoints, records and curves go.
    pub folder: PathBuf,
    /// Begins anew, whatever is in the folder.
    pub fresh: bool,
    /// Threads of the runtime, for measurements.
    pub threads: usize,
    /// Where the student learns.
    pub device: DeviceKind,
}

/// Whoever watches a training.
pub trait Watch {
    /// Something that people should know.
    fn say(&mut self, line: &str);
    /// After each step.
    fn step(&mut self, progress: &Progress);
    /// Whether to stop here and go on another time.
    fn stop(&self) -> bool;
}

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps that were done.
    pub step: u64,
    /// All steps.
    pub steps: u64,
    /// The part of the training.
    pub phase: schedule::Phase,
    /// The loss of this step, a token or a batch of pictures.
    pub loss: f64,
    /// Tokens a second, padding not included, or pictures a second.
    pub speed: f64,
    /// Seconds that are left.
    pub left: f64,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<R = Report> {
    /// It was stopped after this step and can go on.
    Stopped(u64),
    /// The student is there.
    Done(R),
}

/// What came of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Numbers in the student.
    pub parameters: usize,
    /// The size of its file in bytes.
    pub bytes: usize,
    /// The step after which it was best.
    pub step: u64,
    /// The best measurement on the validation part: cross-entropy a token.
    pub validation: f64,
    /// What the score is called.
    pub score_name: &'static str,
    /// The score of the file on the test part, or on the validation part if there is no other.
    pub score: Option<f64>,
}

/// The files in the folder of a training.
pub(crate) mod files {
    pub const CHECKPOINT: &str = "checkpoint.safetensors";
    pub const BEST: &str = "best.safetensors";
    pub const NOW: &str = "now.gguf";
    pub const METRICS: &str = "metrics.jsonl";
    pub const TOKENIZER: &str = "tokenizer.gguf";
}

/// Trains the student of a recipe, or goes on with it, and writes its file.
///
/// # Errors
/// Before anything is trained: whatever the recipe, its files, or the folder of another training get wrong. Later:
/// `Input` if the loss is no number, `Io` if the disk is full; the last checkpoint is then as it was.
pub fn distill(recipe: &Recipe, options: &Options, watch: &mut dyn Watch) -> Result<Outcome> {
    options.device.run(|device| on(device, recipe, options, watch))
}

fn on(device: &Device, recipe: &Recipe, options: &Options, watch: &mut dyn Watch) -> Result<Outcome> {
    let folder = &options.folder;
    let kept = folder.join(files::TOKENIZER);
    let goes_on = !options.fresh && folder.join(files::CHECKPOINT).exists();
    let data = Prepared::new(recipe, goes_on.then_some(&*kept), &mut |line| watch.say(&line))?;
    let student = make::student(recipe, data.vocabulary.tokenizer(), device)?;
    watch.say(&format!("student: {:.2} M parameters", parameters(&*student) as f64 / 1e6));
    let teacher = teach::open(recipe, &data, options.threads, device)?;
    // Nothing of an earlier training is touched before it is sure that there will be one.
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, &error))?;
    if !goes_on {
        forget(folder)?;
    }
    let mut trainer = Trainer::new(recipe, options, &data, student, teacher)?;
    data.vocabulary.save(&kept)?;
    data.save_held_out(folder)?;
    match trainer.run(watch)? {
        true => Ok(Outcome::Done(trainer.finish()?)),
        false => Ok(Outcome::Stopped(trainer.steps_done())),
    }
}

/// Numbers in all variables.
fn parameters(student: &dyn Student) -> usize {
    student.variables().values().map(|variable| variable.elem_count()).sum()
}

/// Sets the threads that training computes with, in all of the program and once for all.
///
/// candle's own threads, which add tensors, spin for a while after each of them. Where cores are few and shared with others,
/// `CANDLE_BARRIER_POOL_SPIN_LIMIT=2000` in the environment has them sleep sooner (it is 25,000 otherwise).
pub fn use_threads(threads: usize) {
    // candle asks rayon's pool how many there are; a pool that is there already stays.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Removes what an earlier training left.
fn forget(folder: &Path) -> Result<()> {
    use files::{BEST, CHECKPOINT, METRICS, TOKENIZER};
    let failed = |error| Error::io(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if [CHECKPOINT, BEST, METRICS, TOKENIZER].contains(&name) || detect::sheet::is_name(name) {
            fs::remove_file(&path).map_err(|error| Error::io(&path, &error))?;
        }
    }
    Ok(())
}
