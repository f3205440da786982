//! What a recipe's teacher expects of a batch.

use super::AnyStudent;
use crate::{
    batch::Batch,
    error::{Error, Result},
    labels::{store::Labels, vocabulary_hash},
    loss::Soft,
    recipe::Recipe,
    student::Student,
    tokenizer::Vocabulary,
};
use candle_core::Device;
use pupil::{gguf::Gguf, text::Tokenizer};
use std::path::Path;

/// A teacher.
pub enum Teach {
    /// A label store.
    Labels(Labels),
    /// A student that was trained before.
    Student(Box<AnyStudent>),
}

impl Teach {
    /// The teacher of a recipe, if it has one.
    ///
    /// # Errors
    /// `Input` if it has another vocabulary than the student, or labels at another temperature.
    pub fn open(recipe: &Recipe, vocabulary: &Vocabulary) -> Result<Option<Self>> {
        let teacher = &recipe.teacher;
        if let Some(path) = &teacher.labels {
            let labels = Labels::open(path)?;
            labels.check(vocabulary_hash(vocabulary.tokenizer()), recipe.loss.temperature)?;
            return Ok(Some(Self::Labels(labels)));
        }
        let Some(path) = teacher.checkpoint.as_ref().or(teacher.gguf.as_ref()) else { return Ok(None) };
        let file = Gguf::open(path)?;
        same_vocabulary(&Tokenizer::from_gguf(&file)?, vocabulary.tokenizer(), path)?;
        Ok(Some(Self::Student(Box::new(AnyStudent::open(path, recipe.kind, &Device::Cpu)?))))
    }

    /// What it expects at the valid positions of a batch.
    ///
    /// # Errors
    /// `Input` for a batch that it does not know.
    pub fn soft(&self, batch: &Batch) -> Result<Soft> {
        match self {
            Self::Labels(labels) => Ok(Soft::Sparse(labels.sparse(batch)?)),
            Self::Student(student) => {
                let (weight, scale) = student.output()?;
                let (hidden, weight) = (student.hidden(batch, None)?.detach(), weight.detach());
                Ok(Soft::Hidden { hidden, weight, scale })
            }
        }
    }
}

/// Refuses a teacher whose tokens are spelled otherwise.
fn same_vocabulary(teacher: &Tokenizer, student: &Tokenizer, path: &Path) -> Result<()> {
    let differs = (0..student.len().max(teacher.len()) as u32).find(|&id| teacher.token(id) != student.token(id));
    let Some(id) = differs else { return Ok(()) };
    let show = |tokenizer: &Tokenizer| String::from_utf8_lossy(tokenizer.token(id)).into_owned();
    let (theirs, ours) = (show(teacher), show(student));
    let instead = "expected the same vocabulary (tokenizer.file = the teacher's file), or hard labels: pupil label answers";
    Err(Error::input(format!("{}: the teacher's token {id} is {theirs:?}, the student's {ours:?}; {instead}", path.display())))
}
