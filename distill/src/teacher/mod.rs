//! Who teaches: one trait, and three kinds of teacher.
//!
//! - [`Runtime`]: a GGUF file of a network that the runtime has: `llama`, `qwen2`, `qwen3`, or `t5`.
//! - [`Twin`]: a student or a checkpoint in candle, such as one that was trained before.
//! - [`Kept`]: a label store.
//!
//! All of them read the student's token ids, so that they need its vocabulary: [`same_vocabulary`] compares token by
//! token. A teacher with another one writes text instead (`pupil label answers`).

mod runtime;
#[cfg(test)]
mod tests;

pub use runtime::Runtime;

use crate::{
    batch::Batch,
    error::{Error, Result},
    labels::store::Labels,
    loss::Soft,
    student::Student,
};
use pupil::text::Tokenizer;

/// Says what should follow each position.
pub trait Teacher {
    /// What is expected at the [valid](Batch::valid) positions of a batch, in their order.
    ///
    /// # Errors
    /// `Input` for a batch that the teacher cannot read or does not know.
    fn expect(&mut self, batch: &Batch) -> Result<Soft>;
}

/// A student or a checkpoint, which does not learn itself.
pub struct Twin<S> {
    /// The network.
    pub student: S,
    /// The vocabulary of the student that it teaches; what it has beyond it is padding.
    pub vocab: usize,
}

impl<S: std::ops::Deref<Target: Student>> Teacher for Twin<S> {
    fn expect(&mut self, batch: &Batch) -> Result<Soft> {
        let hidden = self.student.hidden(batch, None)?.detach();
        let (weight, scale) = self.student.output()?;
        let weight = weight.detach().narrow(0, 0, self.vocab)?;
        Ok(Soft::Hidden { hidden, weight, scale })
    }
}

/// What a teacher said some time ago.
pub struct Kept {
    labels: Labels,
}

impl Kept {
    /// The labels of a store, for a student with a vocabulary that is known by `tokenizer` and a loss at `temperature`.
    ///
    /// # Errors
    /// `Input` if the store's are others.
    pub fn new(labels: Labels, tokenizer: u64, temperature: f64) -> Result<Self> {
        labels.check(tokenizer, temperature)?;
        Ok(Self { labels })
    }
}

impl Teacher for Kept {
    fn expect(&mut self, batch: &Batch) -> Result<Soft> {
        Ok(Soft::Sparse(self.labels.sparse(batch)?))
    }
}

/// Refuses a teacher whose token ids mean something else to the student. What the teacher has beyond the student's
/// vocabulary must be padding, and is cut off its logits.
///
/// # Errors
/// `Input` with the first token that differs.
pub fn same_vocabulary(teacher: &Tokenizer, student: &Tokenizer) -> Result<()> {
    const INSTEAD: &str = "pupil label answers has it write text, from which any student can learn";
    let text = |tokenizer: &Tokenizer, id: u32| String::from_utf8_lossy(tokenizer.token(id)).into_owned();
    if teacher.len() < student.len() {
        let (theirs, ours) = (teacher.len(), student.len());
        return Err(Error::input(format!(
            "{theirs} tokens, the student has {ours}: different vocabularies; {INSTEAD}"
        )));
    }
    for id in 0..student.len() as u32 {
        if teacher.token(id) != student.token(id) {
            let (theirs, ours) = (text(teacher, id), text(student, id));
            let message =
                format!("token {id} is {theirs:?}, the student's is {ours:?}: different vocabularies; {INSTEAD}");
            return Err(Error::input(message));
        }
    }
    match (student.len() as u32..teacher.len() as u32).find(|&id| !is_padding(&text(teacher, id))) {
        None => Ok(()),
        Some(id) => {
            let theirs = text(teacher, id);
            Err(Error::input(format!(
                "token {id} is {theirs:?}, the student has none: different vocabularies; {INSTEAD}"
            )))
        }
    }
}

/// Whether a token only fills a vocabulary up, by the names that converters give such.
fn is_padding(token: &str) -> bool {
    let name = token.to_lowercase();
    let marked = name.starts_with(['<', '[']) && name.ends_with(['>', ']']);
    name.is_empty() || marked && ["pad", "unused", "reserved", "dummy", "extra"].iter().any(|word| name.contains(word))
}
