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
    let mut teacher: Box<dyn Teacher> = match &recipe.teacher {
        TeacherRecipe { labels: Some(path), .. } => {
            Box::new(Kept::new(Labels::open(path)?, vocabulary_hash(tokenizer), recipe.loss.temperature())?)
        }
        TeacherRecipe { checkpoint: Some(path), .. } => {
            let same =
                |theirs: &Tokenizer| same_vocabulary(theirs, tokenizer).map_err(|error| error.at(path.display()));
            let student = if path.extension().is_some_and(|extension| extension == "safetensors") {
                let (student, vocabulary) = make::trained(path, recipe.kind, device)?;
                same(vocabulary.tokenizer())?;
                student
            } else {
                let file = Gguf::open(path)?;
                same(&Tokenizer::from_gguf(&file)?)?;
                make::read(&file, recipe.kind, device)?
            };
            Box::new(Twin { student, vocab: tokenizer.len() })
        }
        TeacherRecipe { gguf: Some(path), .. } => Box::new(Runtime::open(path, threads)?.for_student(tokenizer)?),
        TeacherRecipe { gguf: None, checkpoint: None, labels: None } => return Ok(None),
    };
    // Text that a teacher cannot read would only be found when its batch comes. Networks tell by the longest.
    let batches = data.train.sorted();
    let tried = if recipe.teacher.labels.is_some() { &batches[..] } else { &batches[batches.len() - 1..] };
    for indices in tried {
        teacher.expect(&data.train.batch(indices)).map_err(|error| error.at("[teacher]"))?;
    }
    Ok(Some(teacher))
}
