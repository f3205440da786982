//! Students, made as a recipe says or read from a file.

use super::{checkpoint, files, standing::Kept, weights::set};
use crate::{
    data::text::Kind,
    error::{Error, Result},
    recipe::{InitRecipe, Recipe},
    student::{Decoder, EncoderDecoder, Student, decoder, encdec},
    teacher::same_vocabulary,
    tokenizer::Vocabulary,
};
use candle_core::Device;
use pupil::{gguf::Gguf, text::Tokenizer};
use std::path::Path;

/// The student of a recipe for a vocabulary, with random weights or those of the file that the recipe names.
///
/// # Errors
/// `Input` for a shape that makes no network, or a file that holds another one or has another vocabulary.
pub fn student(recipe: &Recipe, tokenizer: &Tokenizer, device: &Device) -> Result<Box<dyn Student>> {
    let (tokens, seed) = (tokenizer.len(), recipe.train.seed);
    let in_shape = |error: Error| error.at("[student]");
    let init = recipe.init.as_ref().map(|init| Ok::<_, Error>((init, initial(init, tokenizer)?))).transpose()?;
    let (student, vocab): (Box<dyn Student>, usize) = match recipe.kind {
        Kind::Chat => {
            let config: decoder::Config = recipe.shape(tokens)?;
            let vocab = config.vocab;
            let student = Decoder::new(config, seed, device).map_err(in_shape)?;
            if let Some((init, file)) = init {
                student.init_from(&file, init.layers.as_deref())?;
            }
            (Box::new(student), vocab)
        }
        Kind::Translate => {
            let config: encdec::Config = recipe.shape(tokens)?;
            let vocab = config.vocab;
            let student = EncoderDecoder::new(config, seed, device).map_err(in_shape)?;
            if let Some((init, file)) = init {
                student.init_from(&file, init.layers.as_deref(), init.decoder_layers.as_deref())?;
            }
            (Box::new(student), vocab)
        }
    };
    match vocab == tokens {
        true => Ok(student),
        false => Err(Error::input(format!("[student]: `vocab` is {vocab}, expected the tokenizer's {tokens}"))),
    }
}

/// The file that a student begins with: its embeddings must be of the same tokens.
fn initial(init: &InitRecipe, tokenizer: &Tokenizer) -> Result<Gguf> {
    let file = Gguf::open(&init.file)?;
    same_vocabulary(&Tokenizer::from_gguf(&file)?, tokenizer).map_err(|error| error.at(init.file.display()))?;
    Ok(file)
}

/// The best student of a training, in its `best.safetensors`, and its vocabulary, which is beside it.
///
/// # Errors
/// `Format` if it is none, or one of another kind.
pub fn trained(path: &Path, kind: Kind, device: &Device) -> Result<(Box<dyn Student>, Vocabulary)> {
    let (tensors, kept): (_, Kept) = checkpoint::load(path)?;
    let other = |error: toml::de::Error| Error::format(format!("{}: {}", path.display(), error.message()));
    let student: Box<dyn Student> = match kind {
        Kind::Chat => Box::new(Decoder::new(kept.student.try_into().map_err(other)?, 0, device)?),
        Kind::Translate => Box::new(EncoderDecoder::new(kept.student.try_into().map_err(other)?, 0, device)?),
    };
    set(student.variables(), &tensors, "student.").map_err(|error| error.at(path.display()))?;
    Ok((student, Vocabulary::open(&path.with_file_name(files::TOKENIZER))?))
}

/// The student in a GGUF file.
///
/// # Errors
/// `Input` if it holds another network.
pub fn read(file: &Gguf, kind: Kind, device: &Device) -> Result<Box<dyn Student>> {
    Ok(match kind {
        Kind::Chat => {
            let student = Decoder::new(decoder::Config::of(file)?, 0, device)?;
            student.init_from(file, None)?;
            Box::new(student)
        }
        Kind::Translate => {
            let student = EncoderDecoder::new(encdec::Config::of(file)?, 0, device)?;
            student.init_from(file, None, None)?;
            Box::new(student)
        }
    })
}
