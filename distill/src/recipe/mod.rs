//! A student's whole training in one TOML file.
//!
//! | file | what |
//! |---|---|
//! | [`language`] | students that read and write, as below |
//! | [`detect`](mod@detect) | students that look at pictures |
//! | `weight.rs` | weights that change during the training |
//!
//! ```toml
//! kind = "translate"            # or "chat"; "detect" is another world
//!
//! [student]                     # the network's shape, as its module says
//! embedding = 192
//!
//! [tokenizer]
//! train = "unigram"             # or "bpe"; or instead of both keys: file = "teacher.gguf"
//! size = 6000
//!
//! [data]
//! files = ["deu.tsv"]           # relative to this file, or to --data-root
//! test = 2000                   # distinct sources that are held out, see `data::text::split`
//!
//! [init]                        # none: the student begins with random weights
//! file = "bigger.gguf"
//! layers = [0, 2, 4]            # those of its layers that the student begins with; none: all
//!
//! [teacher]                     # none: the student learns from the text alone
//! gguf = "en-de-teacher.gguf"   # or checkpoint, or labels
//!
//! [loss]
//! alpha = 0.5                   # the part of the text; or { from = 0.9, to = 0.1 }
//! temperature = 2.0
//!
//! [train]
//! steps = 20000
//! learning_rate = 1e-3
//!
//! [output]
//! file = "en-de.gguf"
//! type = "q8_0"
//! ```
//!
//! Everything else has a default. All of it is checked before anything is trained.

use crate::error::{Error, Result};
use pupil::output;
use serde::{Deserialize, de::DeserializeOwned};
use std::{fs, path::Path};

pub mod detect;
pub mod language;
mod weight;

pub use language::{
    DataRecipe, InitRecipe, Learner, LossRecipe, OnPolicyRecipe, OutputRecipe, QuantizeRecipe, Recipe, TeacherRecipe,
    TokenizerRecipe, TrainRecipe,
};
pub use weight::Weight;

/// A recipe of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyRecipe {
    /// A student that reads and writes.
    Language(Box<Recipe>),
    /// A student that looks at pictures.
    Detect(Box<detect::Recipe>),
}

/// The kinds, as recipes spell them.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Chat,
    Translate,
    Detect,
}

/// What is read before all else.
#[derive(Deserialize)]
struct Head {
    kind: Kind,
}

impl AnyRecipe {
    /// Reads a recipe, whatever kind of student it is of.
    ///
    /// # Errors
    /// As [`Recipe::open`].
    pub fn open(path: &Path, data_root: Option<&Path>) -> Result<Self> {
        let text = read(path)?;
        let recipe = || {
            Ok(match parse::<Head>(&text)?.kind {
                Kind::Chat | Kind::Translate => Self::Language(Box::new(of(&text, path, data_root)?)),
                Kind::Detect => Self::Detect(Box::new(of(&text, path, data_root)?)),
            })
        };
        recipe().map_err(|error: Error| error.at(path.display()))
    }
}

/// What recipes of all kinds have in common.
trait Rules: DeserializeOwned {
    /// Makes the paths of the recipe in `file` relative to where we are.
    fn place(&mut self, file: &Path, data_root: Option<&Path>);

    /// Refuses what makes no sense, whatever the files hold.
    fn check(&self) -> Result<()>;

    /// Refuses files that are not there.
    fn check_files(&self) -> Result<()>;
}

/// The recipe that is the text of the file at `path`.
fn of<R: Rules>(text: &str, path: &Path, data_root: Option<&Path>) -> Result<R> {
    let mut recipe: R = parse(text)?;
    recipe.place(path, data_root);
    recipe.check()?;
    recipe.check_files()?;
    Ok(recipe)
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// Checks what all sections `[train]` have.
macro_rules! check_train {
    ($train:expr) => {
        match ($train.steps, $train.epochs) {
            (Some(steps), None) => within("train.steps", steps as f64, 1.0, 1e9)?,
            (None, Some(epochs)) => above_zero("train.epochs", epochs)?,
            _ => return Err(Error::input("[train] takes steps or epochs, expected one of both")),
        }
        above_zero("train.learning_rate", $train.learning_rate)?;
        within("train.floor", $train.floor, 0.0, 1.0)?;
        within("train.weight_decay", $train.weight_decay, 0.0, 1.0)?;
        within("train.clip", $train.clip, 0.0, f64::INFINITY)?;
        within("train.ema", $train.ema, 0.0, 0.999_999)?;
    };
}
use check_train;

/// Functions for serde, by the names of what they are the default of.
macro_rules! defaults {
    ($($name:ident: $type:ty = $value:expr;)*) => {$(
        pub fn $name() -> $type {
            $value
        }
    )*};
}
use defaults;

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

/// Reads TOML; what is wrong with it is said with its line.
fn parse<R: DeserializeOwned>(text: &str) -> Result<R> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| span.start.min(text.len()));
        let place = at.map_or(String::new(), |at| {
            let line = text.get(..at).unwrap_or(text).matches('\n').count();
            let source = text.lines().nth(line).unwrap_or_default().trim();
            format!("line {} `{source}`: ", line + 1)
        });
        Error::format(format!("{place}{}", error.message().replace('\n', ", ")))
    })
}

/// Refuses an input that is not there.
fn check_there(key: &str, file: &Path) -> Result<()> {
    match file.exists() {
        true => Ok(()),
        false => Err(Error::input(format!("{key}: {} is not there, expected a file or a folder", file.display()))),
    }
}

/// Refuses an output that could not be written in the end, or would replace what the student learns from.
fn check_output<'a>(file: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    output::check(file, inputs).map_err(|error| Error::from(error).at("output.file"))
}

fn above_zero(key: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::input(format!("{key} is {value}, expected a number above 0"))),
    }
}
