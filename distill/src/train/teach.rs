//! The teacher that a recipe names.

use super::{make, prepare::Prepared};
use crate::{
    error::Result,
    labels::{store::Labels, vocabulary_hash},
    recipe::{Recipe, TeacherRecipe},
    teacher::{Kept, Runtime, Teacher, Twin, same_vocabulary},
};
use candle_core::Device;
use pupil::{gguf::Gguf, text::Tokenizer};

/// Opens the teacher of a recipe, if it has one. A checkpoint runs on `device`, the runtime on the CPU.
///
/// # Errors
/// `Input` if it has another vocabulary than the student, or labels of other text or at another temperature.
pub fn open(recipe: &Recipe, data: &Prepared, threads: usize, device: &Device) -> Result<Option<Box<dyn Teacher>>> {
    let tokenizer = data.vocabulary.tokenizer();
    Ok(match &recipe.teacher {
        TeacherRecipe { labels: Some(path), .. } => {
            let labels = Labels::open(path)?;
            let mut kept = Kept::new(labels, vocabulary_hash(tokenizer), recipe.loss.temperature)?;
            // Labels of other text would only be missed when their batch comes.
            for indices in data.train.sorted() {
                kept.expect(&data.train.batch(&indices))?;
            }
            Some(Box::new(kept))
        }
        TeacherRecipe { checkpoint: Some(path), .. } => {
            let file = Gguf::open(path)?;
            same_vocabulary(&Tokenizer::from_gguf(&file)?, tokenizer).map_err(|error| error.at(path.display()))?;
            Some(Box::new(Twin { student: make::read(&file, recipe.kind, device)? }))
        }
        TeacherRecipe { gguf: Some(path), .. } => Some(Box::new(Runtime::open(path, threads)?.for_student(tokenizer)?)),
        TeacherRecipe { gguf: None, checkpoint: None, labels: None } => None,
    })
}
