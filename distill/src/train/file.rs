//! A student's file.

use super::AnyStudent;
use crate::{
    error::{Error, Result},
    recipe::Recipe,
    student::{StoreAs, Student, decoder, encdec},
    tokenizer::Vocabulary,
};
use candle_core::Tensor;
use pupil::{
    gguf::{OwnedValue, Writer},
    quant,
    tensor::DType,
};

/// A key of a file.
pub type Key = (String, OwnedValue);

/// How tensors of a file are stored: matrices as `name` says, those whose rows are no whole blocks as q8_0 or f16, and
/// all that are small in f32.
///
/// # Errors
/// `Input` for an unknown name.
pub fn types(name: &str) -> Result<StoreAs> {
    let wanted = match name {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "q8_0" => DType::Q8_0,
        "q4_0" => DType::Q4_0,
        "q4_k" => DType::Q4K,
        _ => return Err(Error::input(format!("the type is {name}, expected f32, f16, q8_0, q4_0 or q4_k"))),
    };
    Ok(Box::new(move |name, tensor: &Tensor| {
        let row = tensor.dims().last().copied().unwrap_or(1);
        let fits = |dtype: DType| row.is_multiple_of(dtype.block_len());
        match tensor.rank() {
            2 if !name.ends_with("attn_rel_b.weight") => {
                [wanted, DType::Q8_0].into_iter().find(|&dtype| fits(dtype)).unwrap_or(DType::F16)
            }
            _ => DType::F32,
        }
    }))
}

/// What a file says about a student: where it comes from, and how good it is.
pub fn card(recipe: &Recipe, validation: f64, score_name: &str, score: Option<f64>) -> Vec<Key> {
    let output = &recipe.output;
    let mut keys: Vec<Key> = Vec::new();
    let mut text = |key: &str, value: &Option<String>| keys.extend(value.as_ref().map(|v| (key.into(), v.as_str().into())));
    text("general.name", &output.name);
    text("general.license", &output.license);
    text("pupil.data", &output.data);
    text("pupil.translate.from", &output.from);
    text("pupil.translate.to", &output.to);
    let teacher = recipe.teacher.path().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    text("pupil.teacher", &teacher);
    let loss = &recipe.loss;
    keys.push(("pupil.loss".into(), format!("alpha {:?}, {:?}, temperature {}", loss.alpha, loss.divergence, loss.temperature).into()));
    keys.push(("pupil.score.cross_entropy".into(), (validation as f32).into()));
    keys.extend(score.map(|score| (format!("pupil.score.{}", score_name.to_lowercase()), (score as f32).into())));
    keys
}

/// The file: the vocabulary's keys, the network's and `card`, and the variables stored as the type called `dtype`.
///
/// # Errors
/// `Input` if a number cannot be stored so.
pub fn bytes(student: &AnyStudent, vocabulary: &Vocabulary, dtype: &str, card: &[Key]) -> Result<Vec<u8>> {
    let types = types(dtype)?;
    let mut writer = Writer::new();
    for (name, value) in shape(student).into_iter().chain(card.iter().cloned()).chain(vocabulary.keys().iter().cloned()) {
        writer.key(name, value);
    }
    for (name, variable) in student.variables() {
        let dtype = types(name, variable);
        let numbers = variable.flatten_all()?.to_vec1::<f32>()?;
        let stored = quant::quantize(dtype, &numbers).map_err(|error| Error::from(error).at(name))?;
        let dims: Vec<usize> = variable.dims().iter().rev().copied().collect();
        writer.tensor(name.clone(), dtype, &dims, stored);
    }
    let mut file = Vec::new();
    writer.write(&mut file)?;
    Ok(file)
}

/// The network's keys, as llama.cpp names them.
fn shape(student: &AnyStudent) -> Vec<Key> {
    let (architecture, numbers, epsilon): (&str, Vec<(&str, usize)>, f32) = match student {
        AnyStudent::Chat(student) => {
            let decoder::Config { context, embedding, layers, heads, kv_heads, feed_forward, epsilon, .. } = *student.config();
            let numbers = vec![
                ("context_length", context),
                ("embedding_length", embedding),
                ("block_count", layers),
                ("attention.head_count", heads),
                ("attention.head_count_kv", kv_heads),
                ("feed_forward_length", feed_forward),
                ("rope.dimension_count", embedding / heads),
            ];
            ("llama", numbers, epsilon)
        }
        AnyStudent::Translate(student) => {
            let encdec::Config { context, embedding, layers, decoder_layers, heads, head_dim, feed_forward, .. } = *student.config();
            let encdec::Config { epsilon, buckets, start, .. } = *student.config();
            let numbers = vec![
                ("context_length", context),
                ("embedding_length", embedding),
                ("block_count", layers),
                ("decoder_block_count", decoder_layers),
                ("attention.head_count", heads),
                ("attention.key_length", head_dim),
                ("attention.value_length", head_dim),
                ("feed_forward_length", feed_forward),
                ("attention.relative_buckets_count", buckets),
                ("decoder_start_token_id", start as usize),
            ];
            ("t5", numbers, epsilon)
        }
    };
    let mut keys: Vec<Key> = vec![("general.architecture".into(), architecture.into())];
    keys.extend(numbers.into_iter().map(|(name, number)| (format!("{architecture}.{name}"), (number as u32).into())));
    keys.push((format!("{architecture}.attention.layer_norm_rms_epsilon"), epsilon.into()));
    if let AnyStudent::Chat(student) = student {
        keys.push(("llama.rope.freq_base".into(), student.config().rope_base.into()));
    } else {
        keys.push(("t5.attention.layer_norm_epsilon".into(), epsilon.into()));
    }
    keys
}
