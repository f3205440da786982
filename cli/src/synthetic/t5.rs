//! Encoder-decoders of the T5 family: their keys and tensors.

use super::{Mix, Planned, Random, Shape, Values};
use pupil::{
    gguf::{OwnedValue, Writer},
    tensor::DType,
};

/// Buckets of relative positions, as all of the family have.
const BUCKETS: usize = 32;

/// The keys that only they have, and the tokenizer.
pub fn write_keys(shape: &Shape, writer: &mut Writer<'_>) {
    let tokens = vocabulary(shape.vocab);
    let scores: Vec<f32> = (0..tokens.len()).map(|i| -(i as f32) / 1000.0).collect();
    let types: Vec<i32> = (0..tokens.len()).map(|i| if i < 2 { 3 } else { 1 + i32::from(i == 2) }).collect();
    writer
        .key("t5.decoder_block_count", shape.decoder_layers as u32)
        .key("t5.attention.relative_buckets_count", BUCKETS as u32)
        .key("t5.decoder_start_token_id", 0_u32)
        .key("tokenizer.ggml.model", "t5")
        .key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens))
        .key("tokenizer.ggml.scores", scores)
        .key("tokenizer.ggml.token_type", types)
        .key("tokenizer.ggml.padding_token_id", 0_u32)
        .key("tokenizer.ggml.eos_token_id", 1_u32)
        .key("tokenizer.ggml.unknown_token_id", 2_u32);
}

/// Pad, end and unknown, then all words of letters by their length, each with and without a space before it.
fn vocabulary(len: usize) -> Vec<String> {
    let mut tokens: Vec<String> = ["<pad>", "</s>", "<unk>", "▁"].map(String::from).into();
    let mut words = vec![String::new()];
    while tokens.len() < len {
        words = words.iter().flat_map(|word| ('a'..='z').map(move |letter| format!("{word}{letter}"))).collect();
        tokens.extend(words.iter().flat_map(|word| [word.clone(), format!("▁{word}")]).take(len - tokens.len()));
    }
    tokens
}

/// The tensors, with ReLU and tied embeddings.
pub fn tensors(shape: &Shape, mix: Mix) -> Vec<Planned> {
    let Shape { vocab, embedding, layers, decoder_layers, heads, head_dim, feed_forward, .. } = *shape;
    let inner = heads * head_dim;
    let ones = |name: String| Planned {
        name,
        dtype: DType::F32,
        dims: vec![embedding],
        values: Values::Given(vec![1.0; embedding]),
    };
    let mut tensors = Vec::new();
    for (half, layers, attentions) in [("enc", layers, &["attn"][..]), ("dec", decoder_layers, &["attn", "cross_attn"])]
    {
        tensors.push(ones(format!("{half}.output_norm.weight")));
        tensors.push(Planned {
            name: format!("{half}.blk.0.attn_rel_b.weight"),
            dtype: DType::F32,
            dims: vec![heads, BUCKETS],
            values: Values::Given(Random(7).take(heads * BUCKETS).collect()),
        });
        for layer in 0..layers {
            let mut matrix = |part: String, kind: &str, cols: usize, rows: usize| {
                let (name, dtype) = (format!("{half}.blk.{layer}.{part}.weight"), mix.dtype(kind, layer, layers, cols));
                tensors.push(Planned { name, dtype, dims: vec![cols, rows], values: Values::Random });
            };
            for attention in attentions {
                for (part, cols, rows) in
                    [("q", embedding, inner), ("k", embedding, inner), ("v", embedding, inner), ("o", inner, embedding)]
                {
                    matrix(format!("{attention}_{part}"), &format!("attn_{part}"), cols, rows);
                }
            }
            matrix("ffn_up".into(), "ffn_up", embedding, feed_forward);
            matrix("ffn_down".into(), "ffn_down", feed_forward, embedding);
            for part in attentions.iter().copied().chain(["ffn"]) {
                tensors.push(ones(format!("{half}.blk.{layer}.{part}_norm.weight")));
            }
        }
    }
    let dtype = mix.dtype("output", 0, layers, embedding);
    let dims = vec![embedding, vocab];
    tensors.push(Planned { name: "token_embd.weight".into(), dtype, dims, values: Values::Random });
    tensors
}
