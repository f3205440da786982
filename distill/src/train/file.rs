//! A student's file.

use crate::{
    error::{Error, Result},
    recipe::Recipe,
    student::Types,
};
use pupil::{gguf::OwnedValue, tensor::DType};

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

/// What a file says about a student: where it comes from, and how good it is.
pub fn card(recipe: &Recipe, validation: f64, score_name: &str, score: Option<f64>) -> Vec<Key> {
    let output = &recipe.output;
    let mut keys: Vec<Key> = Vec::new();
    let mut text =
        |key: &str, value: &Option<String>| keys.extend(value.as_ref().map(|v| (key.into(), v.as_str().into())));
    text("general.name", &output.name);
    text("general.license", &output.license);
    text("pupil.data", &output.data);
    text("pupil.translate.from", &output.from);
    text("pupil.translate.to", &output.to);
    let teacher =
        recipe.teacher.path().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    text("pupil.teacher", &teacher);
    let loss = &recipe.loss;
    keys.push((
        "pupil.loss".into(),
        format!("alpha {:?}, {:?}, temperature {}", loss.alpha, loss.divergence, loss.temperature).into(),
    ));
    keys.push(("pupil.score.cross_entropy".into(), (validation as f32).into()));
    keys.extend(score.map(|score| (format!("pupil.score.{}", score_name.to_lowercase()), (score as f32).into())));
    keys
}
