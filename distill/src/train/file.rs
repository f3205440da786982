//! A student's file.

use crate::{
    error::{Error, Result},
    recipe::{LossRecipe, Recipe},
    student::Types,
};
use pupil::{gguf::OwnedValue, tensor::DType};
use std::path::Path;

/// A key of a file.
pub type Key = (String, OwnedValue);

/// The types of a file that is called `name`, such as q8_0.
///
/// # Errors
/// `Input` for an unknown name.
pub fn types(name: &str) -> Result<Types> {
    Ok(match name {
        "f32" => Types::all(DType::F32),
        "f16" => Types::all(DType::F16),
        "q8_0" => Types::all(DType::Q8_0),
        // What makes the logits suffers most.
        "q4_0" => Types { matrices: DType::Q4_0, embeddings: DType::Q8_0, output: DType::Q8_0 },
        "q4_k" => Types { matrices: DType::Q4K, embeddings: DType::Q6K, output: DType::Q6K },
        _ => return Err(Error::input(format!("the type is {name}, expected f32, f16, q8_0, q4_0 or q4_k"))),
    })
}

/// Keys of those texts that are there.
pub(super) fn texts(texts: &[(&str, Option<&str>)]) -> Vec<Key> {
    texts.iter().filter_map(|&(key, text)| Some((key.into(), text?.into()))).collect()
}

/// The name of a file without its folder.
pub(super) fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// What a file says about a student: where it comes from, and how good it is.
pub fn card(recipe: &Recipe, validation: f64, score_name: &str, score: Option<f64>) -> Vec<Key> {
    let output = &recipe.output;
    let mut keys = texts(&[
        ("general.name", output.name.as_deref()),
        ("general.license", output.license.as_deref()),
        ("pupil.data", output.data.as_deref()),
        ("pupil.translate.from", output.from.as_deref()),
        ("pupil.translate.to", output.to.as_deref()),
        ("pupil.teacher", recipe.teacher.path().and_then(file_name).as_deref()),
    ]);
    let sampling = output.sampling.unwrap_or_default();
    let real = |name: &str, value: Option<f32>| value.map(|v| (format!("general.sampling.{name}"), v.into()));
    keys.extend(real("temp", sampling.temperature));
    keys.extend(sampling.top_k.map(|k| ("general.sampling.top_k".into(), i32::from(k).into())));
    keys.extend(real("top_p", sampling.top_p));
    keys.extend(real("min_p", sampling.min_p));
    keys.extend(real("penalty_repeat", sampling.repeat_penalty));
    if recipe.teacher.path().is_some() {
        let LossRecipe { alpha, divergence, temperature, .. } = &recipe.loss;
        keys.push(("pupil.loss".into(), format!("alpha {alpha:?}, {divergence:?}, temperature {temperature}").into()));
    }
    keys.push(("pupil.score.cross_entropy".into(), (validation as f32).into()));
    keys.extend(score.map(|score| (format!("pupil.score.{}", score_name.to_lowercase()), (score as f32).into())));
    keys
}
