//! What a student begins with: random weights, or those of another one.

use crate::{
    detector::{Config, Detector},
    error::{Error, Result},
    fnv::Fnv,
    recipe::detect::Recipe,
    train::{Watch, checkpoint},
};
use candle_core::Device;
use serde::de::IgnoredAny;
use std::fs;

/// The student of a recipe.
///
/// # Errors
/// `Input` if the file that it is to begin with holds one of another shape.
pub(super) fn student(recipe: &Recipe, config: Config, device: &Device, watch: &mut dyn Watch) -> Result<Detector> {
    let mut student = Detector::new(config, recipe.train.seed, device)?;
    if let Some(init) = &recipe.init {
        let (tensors, IgnoredAny) = checkpoint::load(&init.file)?;
        let all = student.init_from(&tensors).map_err(|error| error.at(init.file.display()))?;
        let but = if all { "" } else { " but for its last layers, which are for other classes" };
        watch.say(&format!("init: {}{but}", init.file.display()));
    }
    Ok(student)
}

/// What tells one file to begin with from another; folders may move, and all are called alike.
///
/// # Errors
/// `Io` if it cannot be read.
pub(super) fn hash(recipe: &Recipe) -> Result<Option<u64>> {
    let Some(init) = &recipe.init else { return Ok(None) };
    let bytes = fs::read(&init.file).map_err(|error| Error::io(&init.file, &error))?;
    Ok(Some(Fnv::new().bytes(&bytes).0))
}
