//! What a checkpoint is good for: the same student, text, teacher and losses, learned in the same way. How long and how it is
//! measured may change, and phases may follow.

use super::{file::file_name, prepare::Prepared};
use crate::{
    error::{Error, Result},
    labels::vocabulary_hash,
    recipe::{Recipe, TrainRecipe},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What must be the same for a training to go on: by its name, and as JSON, which says the same number in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MadeFor(BTreeMap<String, String>);

impl MadeFor {
    /// What the checkpoints of a training are good for.
    pub(super) fn new(recipe: &Recipe, data: &Prepared) -> Self {
        let Recipe { student, tokenizer, init, teacher, loss, .. } = recipe;
        let TrainRecipe { batch_tokens, accumulate, learning_rate, warmup, floor, .. } = &recipe.train;
        let TrainRecipe { weight_decay, clip, dropout, ema, seed, .. } = &recipe.train;
        let examples = data.train.examples();
        let tokens: usize = examples.iter().map(|example| example.source.len() + example.input.len()).sum();
        let named = [
            ("student", json(student)),
            ("tokenizer", json(&(tokenizer.train, tokenizer.size))),
            ("vocabulary", json(&vocabulary_hash(data.vocabulary.tokenizer()))),
            ("examples", json(&examples.len())),
            ("tokens", json(&tokens)),
            // By their names, since folders may move.
            ("init.file", json(&init.as_ref().and_then(|init| file_name(&init.file)))),
            ("init.layers", json(&init.as_ref().and_then(|init| init.layers.as_ref()))),
            ("init.decoder_layers", json(&init.as_ref().and_then(|init| init.decoder_layers.as_ref()))),
            ("teacher", json(&teacher.path().and_then(file_name))),
            ("loss.alpha", json(&loss.alpha())),
            ("loss.divergence", json(&loss.divergence())),
            ("loss.temperature", json(&loss.temperature())),
            ("loss.label_smoothing", json(&loss.label_smoothing)),
            ("train.batch_tokens", json(batch_tokens)),
            ("train.accumulate", json(accumulate)),
            ("train.learning_rate", json(learning_rate)),
            ("train.warmup", json(warmup)),
            ("train.floor", json(floor)),
            ("train.weight_decay", json(weight_decay)),
            ("train.clip", json(clip)),
            ("train.dropout", json(dropout)),
            ("train.ema", json(ema)),
            ("train.seed", json(seed)),
        ];
        Self(named.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }

    /// Refuses to go on from what was made for something else. What the other one does not name was no choice then.
    ///
    /// # Errors
    /// `Input` with the first difference.
    pub(super) fn check(&self, checkpoint: &Self) -> Result<()> {
        let differs = |(name, now): &(&String, &String)| checkpoint.0.get(*name).is_some_and(|then| then != *now);
        match self.0.iter().find(differs) {
            None => Ok(()),
            Some((name, now)) => {
                let then = &checkpoint.0[name];
                let expected = "expected the same, or --fresh to begin anew";
                Err(Error::input(format!(
                    "made by another recipe or of other text, {name} was {then} and is {now}: {expected}"
                )))
            }
        }
    }
}

/// Numbers, texts and lists of them have no way to fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_what_is_new_is_not_asked_for() {
        let made_for = |named: &[(&str, &str)]| {
            MadeFor(named.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
        };
        let now = made_for(&[("loss.alpha", "0.5"), ("train.new", "1"), ("train.seed", "7")]);
        assert!(now.check(&now).is_ok());
        assert!(now.check(&made_for(&[("loss.alpha", "0.5"), ("train.old", "3"), ("train.seed", "7")])).is_ok());
        let error = now.check(&made_for(&[("loss.alpha", "0.5"), ("train.seed", "8")])).unwrap_err().to_string();
        assert!(error.contains("train.seed was 8 and is 7: expected the same, or --fresh"), "{error}");
    }
}
