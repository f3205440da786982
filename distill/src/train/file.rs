//! A student's file.

use crate::recipe::Recipe;
use pupil::gguf::OwnedValue;
use std::path::Path;

/// A key of a file.
pub type Key = (String, OwnedValue);

/// Keys of those texts that are there.
pub(super) fn texts(texts: &[(&str, Option<&str>)]) -> Vec<Key> {
    texts.iter().filter_map(|&(key, text)| Some((key.into(), text?.into()))).collect()
}

/// The name of a file without its folder.
pub(super) fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// How good a student is.
pub(super) struct Scores {
    /// Cross-entropy a token of the validation part, by which it may have been chosen.
    pub(super) validation: f64,
    /// What the score is called.
    pub(super) name: &'static str,
    /// Of the file, if there was anything to measure it on.
    pub(super) score: Option<f64>,
    /// The part of the text that this is of.
    pub(super) on: &'static str,
}

/// What a file says about a student: where it comes from, and how good it is.
pub(super) fn card(recipe: &Recipe, scores: &Scores) -> Vec<Key> {
    let output = &recipe.output;
    let mut keys = texts(&[
        ("general.name", output.name.as_deref()),
        ("general.license", output.license.as_deref()),
        ("pupil.data", output.data.as_deref()),
        ("pupil.translate.from", output.from.as_deref()),
        ("pupil.translate.to", output.to.as_deref()),
        ("pupil.teacher", recipe.teacher.path().and_then(file_name).as_deref()),
        ("pupil.score.on", scores.score.map(|_| scores.on)),
    ]);
    let sampling = output.sampling.unwrap_or_default();
    let real = |name: &str, value: Option<f32>| value.map(|v| (format!("general.sampling.{name}"), v.into()));
    keys.extend(real("temp", sampling.temperature));
    keys.extend(sampling.top_k.map(|k| ("general.sampling.top_k".into(), i32::from(k).into())));
    keys.extend(real("top_p", sampling.top_p));
    keys.extend(real("min_p", sampling.min_p));
    keys.extend(real("penalty_repeat", sampling.repeat_penalty));
    if recipe.teacher.path().is_some() {
        let (alpha, divergence, temperature) =
            (recipe.loss.alpha(), recipe.loss.divergence(), recipe.loss.temperature());
        keys.push(("pupil.loss".into(), format!("alpha {alpha:?}, {divergence:?}, temperature {temperature}").into()));
    }
    let Scores { validation, name, score, .. } = scores;
    keys.push(("pupil.validation.cross_entropy".into(), (*validation as f32).into()));
    keys.extend(score.map(|score| (format!("pupil.score.{}", name.to_lowercase()), (score as f32).into())));
    keys
}
