//! Hostile and broken *model* files: a sound container whose contents make no sense. Each is refused with its own line,
//! which names the file. (What the container itself refuses is tested next to it, in `src/gguf/tests`.)

use pupil::bytes::Bytes;
use pupil::gguf::{Gguf, OwnedValue, Writer};
use pupil::nets::decoder::{Decoder, Logits};
use pupil::nets::kv::CacheType;
use pupil::tensor::DType;
use std::collections::BTreeMap;

/// A small model that can be taken apart.
#[derive(Clone)]
struct Parts {
    keys: BTreeMap<String, OwnedValue>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// Vocabulary, hidden size, query heads, key/value heads, head size, feed-forward size.
const V: usize = 11;
const E: usize = 8;
const F: usize = 12;

impl Parts {
    /// A `llama` with one layer, two query heads and one key/value head of 4.
    fn new() -> Self {
        let mut parts = Self { keys: BTreeMap::new(), tensors: BTreeMap::new() };
        parts.key("general.architecture", "llama");
        for (key, value) in [
            ("context_length", 32),
            ("embedding_length", E as u32),
            ("block_count", 1),
            ("feed_forward_length", F as u32),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            parts.key(&format!("llama.{key}"), value);
        }
        parts.key("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
        for (name, dims) in [
            ("token_embd.weight", vec![E, V]),
            ("output_norm.weight", vec![E]),
            ("blk.0.attn_norm.weight", vec![E]),
            ("blk.0.attn_q.weight", vec![E, E]),
            ("blk.0.attn_k.weight", vec![E, 4]),
            ("blk.0.attn_v.weight", vec![E, 4]),
            ("blk.0.attn_output.weight", vec![E, E]),
            ("blk.0.ffn_norm.weight", vec![E]),
            ("blk.0.ffn_gate.weight", vec![E, F]),
            ("blk.0.ffn_up.weight", vec![E, F]),
            ("blk.0.ffn_down.weight", vec![F, E]),
        ] {
            parts.tensor(name, &dims);
        }
        parts
    }

    fn key(&mut self, key: &str, value: impl Into<OwnedValue>) -> &mut Self {
        self.keys.insert(key.into(), value.into());
        self
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) -> &mut Self {
        let n: usize = dims.iter().product();
        let values = (0..n).map(|i| ((i * 37 + name.len()) % 23) as f32 / 23.0 - 0.4).collect();
        self.tensors.insert(name.into(), (dims.to_vec(), values));
        self
    }

    fn without(&mut self, key: &str) -> &mut Self {
        self.keys.remove(key);
        self
    }

    fn numbers(&mut self, name: &str, values: &[f32]) -> &mut Self {
        self.tensors.insert(name.into(), (vec![values.len()], values.to_vec()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        for (key, value) in &self.keys {
            writer.key(key.clone(), value.clone());
        }
        for (name, (dims, values)) in &self.tensors {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.tensor(name.clone(), DType::F32, dims, bytes);
        }
        let mut out = Vec::new();
        writer.write(&mut out).unwrap();
        out
    }
}

fn load(bytes: &[u8]) -> pupil::Result<Decoder> {
    Decoder::load(&Gguf::from_bytes(Bytes::from(bytes), "student.gguf")?)
}

#[test]
fn the_whole_model_runs() {
    let decoder = load(&Parts::new().bytes()).unwrap();
    let mut session = decoder.session(8, CacheType::F16, 1).unwrap();
    let logits = decoder.forward(&mut session, &[1, 2, 3], Logits::All).unwrap();
    assert_eq!(logits.len(), 3 * V);
    assert!(logits.iter().all(|x| x.is_finite()));
}

#[test]
fn rejects_files_that_make_no_sense() {
    type Change = for<'a> fn(&'a mut Parts) -> &'a mut Parts;
    let table: &[(&str, Change)] = &[
        ("key `general.architecture` is missing", |p| p.without("general.architecture")),
        ("the architecture is 'bert', expected llama, qwen2, qwen3", |p| p.key("general.architecture", "bert")),
        ("llama.context_length", |p| p.without("llama.context_length")),
        ("llama.embedding_length", |p| p.without("llama.embedding_length")),
        ("llama.block_count", |p| p.without("llama.block_count")),
        ("llama.feed_forward_length", |p| p.without("llama.feed_forward_length")),
        ("llama.attention.head_count", |p| p.without("llama.attention.head_count")),
        ("llama.attention.layer_norm_rms_epsilon", |p| p.without("llama.attention.layer_norm_rms_epsilon")),
        ("key `llama.block_count`", |p| p.key("llama.block_count", "one")),
        ("key `llama.block_count` is 0, expected 1 to 4096", |p| p.key("llama.block_count", 0_u32)),
        ("key `llama.block_count` is 1000000000, expected", |p| p.key("llama.block_count", 1_000_000_000_u32)),
        ("tensor `blk.1.", |p| p.key("llama.block_count", 4096_u32)),
        ("key `llama.context_length` is 0", |p| p.key("llama.context_length", 0_u32)),
        ("key `llama.embedding_length` is 4294967295", |p| p.key("llama.embedding_length", u32::MAX)),
        ("key `llama.attention.head_count` is 0", |p| p.key("llama.attention.head_count", 0_u32)),
        ("key `llama.attention.key_length` is 0", |p| p.key("llama.attention.head_count", 9_u32)),
        ("2 query heads, 3 key/value heads", |p| p.key("llama.attention.head_count_kv", 3_u32)),
        ("keys of 4 and values of 8", |p| p.key("llama.attention.value_length", 8_u32)),
        ("mixture of experts", |p| p.key("llama.expert_count", 4_u32)),
        ("layer_norm_rms_epsilon` is 2, expected 0 to 1", |p| p.key("llama.attention.layer_norm_rms_epsilon", 2.0_f32)),
        ("layer_norm_rms_epsilon", |p| p.key("llama.attention.layer_norm_rms_epsilon", f32::NAN)),
        ("key `llama.rope.dimension_count` is 3, expected an even number up to 4", |p| {
            p.key("llama.rope.dimension_count", 3_u32)
        }),
        ("key `llama.rope.dimension_count` is 6", |p| p.key("llama.rope.dimension_count", 6_u32)),
        ("key `llama.rope.freq_base` is -1", |p| p.key("llama.rope.freq_base", -1.0_f32)),
        ("key `llama.rope.scaling.factor` is -2", |p| p.key("llama.rope.scaling.factor", -2.0_f32)),
        ("key `llama.rope.scaling.type` is 'longrope', expected none, linear or yarn", |p| {
            p.key("llama.rope.scaling.type", "longrope")
        }),
        ("tensor `rope_freqs.weight` is [3], expected [2]", |p| p.tensor("rope_freqs.weight", &[3])),
        ("tensor `rope_freqs.weight` holds 0, expected positive numbers", |p| {
            p.numbers("rope_freqs.weight", &[1.0, 0.0])
        }),
        ("tensor `rope_freqs.weight` holds NaN", |p| p.numbers("rope_freqs.weight", &[1.0, f32::NAN])),
        ("tensor `token_embd.weight` is [8, 11], expected [8, 12]", |p| {
            p.key("tokenizer.ggml.tokens", OwnedValue::strings((0..12).map(|i| format!("t{i}"))))
        }),
        ("tensor `output.weight` is [8, 10], expected [8, 11]", |p| p.tensor("output.weight", &[8, 10])),
        ("tensor `blk.0.attn_q.bias` is [4], expected [8]", |p| p.tensor("blk.0.attn_q.bias", &[4])),
    ];
    for (message, change) in table {
        let mut parts = Parts::new();
        change(&mut parts);
        let error = load(&parts.bytes()).err().unwrap_or_else(|| panic!("accepted: {message}")).to_string();
        assert!(error.starts_with("student.gguf: ") && error.contains(message), "{error}\nexpected: {message}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn rejects_every_tensor_that_is_missing_or_of_another_shape() {
    let whole = Parts::new();
    for (name, (dims, _)) in &whole.tensors {
        let mut parts = whole.clone();
        parts.tensors.remove(name);
        let error = load(&parts.bytes()).err().expect("refused").to_string();
        assert!(error.starts_with("student.gguf: ") && error.contains(name), "{error}");
        for i in 0..dims.len() {
            if name == "token_embd.weight" && i == 1 {
                continue; // Without a tokenizer, its rows are the vocabulary.
            }
            let mut parts = whole.clone();
            let mut other = dims.clone();
            other[i] += 4;
            parts.tensor(name, &other);
            let error = load(&parts.bytes()).err().expect("refused").to_string();
            assert!(error.contains(&format!("tensor `{name}` is {other:?}, expected {dims:?}")), "{error}");
        }
    }
}

#[test]
fn what_is_optional_may_be_there_or_not() {
    let mut parts = Parts::new();
    parts.tensor("output.weight", &[E, V]).tensor("output.bias", &[V]).numbers("rope_freqs.weight", &[1.0, 8.0]);
    parts.tensor("blk.0.attn_k.bias", &[4]).tensor("blk.0.attn_output.bias", &[E]).tensor("something.else", &[3]);
    parts.key("llama.rope.scaling.type", "yarn").key("llama.rope.scaling.factor", 4.0_f32);
    let decoder = load(&parts.bytes()).unwrap();
    let mut session = decoder.session(8, CacheType::Q8_0, 2).unwrap();
    assert!(decoder.forward(&mut session, &[1, 2], Logits::Last).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn damaged_models_are_refused_or_run_but_never_panic() {
    let bytes = Parts::new().bytes();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut accepted = 0;
    for _ in 0..5000 {
        let mut damaged = bytes.clone();
        for _ in 0..=random(3) {
            let at = random(damaged.len());
            damaged[at] = random(256) as u8;
        }
        let Ok(decoder) = load(&damaged) else { continue };
        accepted += 1;
        let Ok(mut session) = decoder.session(8, CacheType::F32, 1) else { continue };
        let _ = decoder.forward(&mut session, &[1, 2, 3, 0, 4], Logits::Last);
    }
    println!("{accepted} of 5000 damaged files still were models");
    assert!(accepted > 100);
}
