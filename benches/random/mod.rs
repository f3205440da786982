//! Models with random weights in the shapes of real ones. Time depends on shapes and types, not on what weights say.

#![allow(dead_code)] // each bench uses a part

use pupil::bytes::Bytes;
use pupil::gguf::{Gguf, Writer};
use pupil::quant;
use pupil::tensor::DType;

/// A small generator (xorshift), so that measurements repeat.
pub struct Random(pub u64);

impl Random {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `n` numbers, uniform in -1..1.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }
}

/// A decoder's dimensions.
pub struct Shape {
    pub vocab: usize,
    pub embedding: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub feed_forward: usize,
}

/// SmolLM2-135M's.
pub const SMOL: Shape = Shape { vocab: 49152, embedding: 576, layers: 30, heads: 9, kv_heads: 3, feed_forward: 1536 };

/// Qwen2.5-0.5B's, without its biases.
pub const QWEN: Shape =
    Shape { vocab: 151_936, embedding: 896, layers: 24, heads: 14, kv_heads: 2, feed_forward: 4864 };

/// `rows × cols` random weights. Quantizing takes time, so the rows repeat after a while.
pub fn weights(dtype: DType, cols: usize, rows: usize) -> Vec<u8> {
    let distinct = rows.min(64);
    let mut random = Random((cols * rows) as u64 | 1);
    let scale = (3.0 / cols as f32).sqrt();
    let floats: Vec<f32> = random.floats(distinct * cols).into_iter().map(|x| x * scale).collect();
    let block = quant::quantize(dtype, &floats).unwrap();
    let bytes = block.len() / distinct * rows;
    block.into_iter().cycle().take(bytes).collect()
}

/// A `llama` model of this shape, in memory. Its embeddings serve as output weights and are `q8_0` if the others are
/// quantized, as llama.cpp would have it.
pub fn model(shape: &Shape, dtype: DType) -> Gguf {
    let Shape { vocab, embedding, layers, heads, kv_heads, feed_forward } = *shape;
    let kv = embedding / heads * kv_heads;
    let mut writer = Writer::new();
    writer
        .key("general.architecture", "llama")
        .key("llama.context_length", 8192_u32)
        .key("llama.embedding_length", embedding as u32)
        .key("llama.block_count", layers as u32)
        .key("llama.attention.head_count", heads as u32)
        .key("llama.attention.head_count_kv", kv_heads as u32)
        .key("llama.feed_forward_length", feed_forward as u32)
        .key("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    let norm = quant::quantize(DType::F32, &vec![1.0; embedding]).unwrap();
    let embeddings_dtype = if dtype.block_len() == 1 { dtype } else { DType::Q8_0 };
    writer
        .tensor("token_embd.weight", embeddings_dtype, &[embedding, vocab], weights(embeddings_dtype, embedding, vocab))
        .tensor("output_norm.weight", DType::F32, &[embedding], norm.clone());
    for i in 0..layers {
        for (name, cols, rows) in [
            ("attn_q", embedding, embedding),
            ("attn_k", embedding, kv),
            ("attn_v", embedding, kv),
            ("attn_output", embedding, embedding),
            ("ffn_gate", embedding, feed_forward),
            ("ffn_up", embedding, feed_forward),
            ("ffn_down", feed_forward, embedding),
        ] {
            writer.tensor(format!("blk.{i}.{name}.weight"), dtype, &[cols, rows], weights(dtype, cols, rows));
        }
        for name in ["attn_norm", "ffn_norm"] {
            writer.tensor(format!("blk.{i}.{name}.weight"), DType::F32, &[embedding], norm.clone());
        }
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    Gguf::from_bytes(Bytes::from(&file[..]), "random.gguf").unwrap()
}
