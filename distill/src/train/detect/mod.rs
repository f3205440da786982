//! Training detectors: from a recipe to a file.
//!
//! | file | what |
//! |---|---|
//! | [`prepare`] | which pictures there are, and who may learn from them |
//! | `begin.rs` | what the student begins with |
//! | [`trainer`] | steps, measurements, checkpoints |
//! | [`exam`] | what the runtime finds with a student's file, and how good that is |
//! | [`sheet`] | the same as a picture for people |
//! | `finish.rs` | the files that come out |

mod begin;
pub mod exam;
mod finish;
pub mod prepare;
pub mod sheet;
pub mod trainer;

use super::{Options, Outcome, Watch, files, forget};
use crate::{
    detector::Detector,
    error::{Error, Result},
    eval::detect::Scores,
    recipe::detect::Recipe,
};
use candle_core::Device;
use prepare::Prepared;
use pupil::output;
use std::{fs, path::PathBuf};
use trainer::Trainer;

/// What came of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Numbers in the student.
    pub parameters: usize,
    /// The step after which it was best.
    pub step: u64,
    /// The files, the one in f32 first.
    pub files: Vec<FileReport>,
    /// What the files were measured on: `validation` or `validation and test`.
    pub measured_on: &'static str,
}

/// One of the files that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// `f32` or `int8`.
    pub arithmetic: &'static str,
    /// Its size in bytes.
    pub bytes: usize,
    /// Its scores.
    pub scores: Scores,
    /// Milliseconds that the network takes for a picture, on the training's threads: the median.
    pub milliseconds: f64,
}

/// Trains the student of a recipe, or goes on with it, and writes its files.
///
/// # Errors
/// Before anything is trained: whatever the recipe, its files, or the folder of another training get wrong. Later: `Input`
/// if the loss is no number, `Io` if the disk is full; the last checkpoint is then as it was.
pub fn distill(recipe: &Recipe, options: &Options, watch: &mut dyn Watch) -> Result<Outcome<Report>> {
    options.device.run(|device| distill_on(device, recipe, options, watch))
}

fn distill_on(device: &Device, recipe: &Recipe, options: &Options, watch: &mut dyn Watch) -> Result<Outcome<Report>> {
    let folder = &options.folder;
    let data = Prepared::new(recipe, &mut |line| watch.say(&line))?;
    let config = recipe.student.config(data.classes.len())?;
    let student = begin::student(recipe, config, device, watch)?;
    watch.say(&format!("student: {:.2} M parameters", parameters(&student) as f64 / 1e6));
    let teacher = data.teacher(recipe, student.config(), options.threads, &mut |line| watch.say(&line))?;
    // Nothing of an earlier training is touched before it is sure that there will be one.
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, &error))?;
    output::check(&folder.join(files::BEST), recipe.init.iter().map(|init| &init.file))?;
    if options.fresh {
        forget(folder)?;
    }
    let mut trainer = Trainer::new(recipe, options, &data, student, teacher)?;
    match trainer.run(watch)? {
        true => Ok(Outcome::Done(trainer.finish(watch)?)),
        false => Ok(Outcome::Stopped(trainer.steps_done())),
    }
}

/// Numbers in all variables.
fn parameters(student: &Detector) -> usize {
    student.variables().values().map(|variable| variable.elem_count()).sum()
}
