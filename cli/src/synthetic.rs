//! Models of random weights in the shapes of well-known ones: the same work without their files.
//!
//! The weights say nothing, but the files are whole: names, types of tensors and tokenizer are such that other programs
//! open them too.

use pupil::{
    Result,
    bytes::Bytes,
    gguf::{OwnedValue, Writer},
    quant::{self, Mix},
    tensor::DType,
};
use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
    path::Path,
    str::FromStr,
};

/// A model's dimensions and constants.
#[derive(Debug)]
struct Shape {
    name: &'static str,
    architecture: &'static str,
    /// How its tokenizer cuts text into words.
    pre: &'static str,
    vocab: usize,
    context: usize,
    embedding: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    feed_forward: usize,
    rope_base: f32,
    epsilon: f32,
    /// Whether the embeddings also compute the logits.
    tied: bool,
}

#[rustfmt::skip]
const SHAPES: [Shape; 6] = [
    Shape { name: "tiny", architecture: "llama", pre: "default", vocab: 512, context: 512, embedding: 256,
            layers: 2, heads: 4, kv_heads: 2, head_dim: 64, feed_forward: 512, rope_base: 1e4, epsilon: 1e-5, tied: true },
    Shape { name: "smollm2-135m", architecture: "llama", pre: "smollm", vocab: 49152, context: 8192, embedding: 576,
            layers: 30, heads: 9, kv_heads: 3, head_dim: 64, feed_forward: 1536, rope_base: 1e5, epsilon: 1e-5, tied: true },
    Shape { name: "qwen2.5-0.5b", architecture: "qwen2", pre: "qwen2", vocab: 151936, context: 32768, embedding: 896,
            layers: 24, heads: 14, kv_heads: 2, head_dim: 64, feed_forward: 4864, rope_base: 1e6, epsilon: 1e-6, tied: true },
    Shape { name: "qwen3-0.6b", architecture: "qwen3", pre: "qwen2", vocab: 151936, context: 40960, embedding: 1024,
            layers: 28, heads: 16, kv_heads: 8, head_dim: 128, feed_forward: 3072, rope_base: 1e6, epsilon: 1e-6, tied: true },
    Shape { name: "tinyllama-1.1b", architecture: "llama", pre: "default", vocab: 32000, context: 2048, embedding: 2048,
            layers: 22, heads: 32, kv_heads: 4, head_dim: 64, feed_forward: 5632, rope_base: 1e4, epsilon: 1e-5, tied: false },
    Shape { name: "llama-3.2-1b", architecture: "llama", pre: "llama-bpe", vocab: 128256, context: 131072, embedding: 2048,
            layers: 16, heads: 32, kv_heads: 8, head_dim: 64, feed_forward: 8192, rope_base: 5e5, epsilon: 1e-5, tied: true },
];

/// A shape and a mix of types.
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    shape: &'static Shape,
    mix: Mix,
}

impl fmt::Display for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shape.name, self.mix)
    }
}

impl FromStr for Synthetic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shape, mix) = text.split_once(':').unwrap_or((text, ""));
        let shape = SHAPES.iter().find(|s| s.name == shape);
        let (Some(shape), Ok(mix)) = (shape, mix.parse()) else {
            let (shapes, mixes) = (SHAPES.map(|s| s.name).join(", "), Mix::ALL.map(Mix::name).join(", "));
            return Err(format!("expected SHAPE:TYPE with a shape of {shapes} and a type of {mixes}"));
        };
        Ok(Self { shape, mix })
    }
}

impl Synthetic {
    /// The model as the bytes of a file.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn bytes(self) -> Result<Bytes> {
        let mut words = Words::default();
        self.build(|writer, weights| {
            words.words.reserve_exact((weights + (32 << 20)) / 8); // and the vocabulary, roughly
            writer.write(&mut words)
        })?;
        Ok(Bytes::Owned { words: words.words, len: words.len })
    }

    /// Writes the model to a file.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub fn save(self, path: &Path) -> Result<()> {
        self.build(|writer, _| writer.write_file(path))
    }

    /// Puts the model together and hands it to `write`, with the number of bytes that all weights take.
    fn build(self, write: impl FnOnce(&Writer<'_>, usize) -> Result<()>) -> Result<()> {
        let tensors = self.tensors();
        let pools = Pools::new(&tensors)?;
        let mut writer = Writer::new();
        self.write_keys(&mut writer);
        for (i, tensor) in tensors.iter().enumerate() {
            match &tensor.values {
                Values::Random => writer.tensor(&tensor.name, tensor.dtype, &tensor.dims, pools.slice(i, tensor)),
                Values::Given(values) => {
                    writer.tensor(&tensor.name, tensor.dtype, &tensor.dims, quant::quantize(tensor.dtype, values)?)
                }
            };
        }
        write(&writer, tensors.iter().map(Planned::bytes).sum())
    }

    fn write_keys(self, writer: &mut Writer<'_>) {
        let Shape { name, architecture, pre, context, rope_base, epsilon, .. } = *self.shape;
        writer
            .key("general.architecture", architecture)
            .key("general.name", format!("{name}, random weights"))
            .key("general.quantization_version", 2_u32)
            .key("general.file_type", self.mix.to_gguf());
        for (key, value) in [
            ("block_count", self.shape.layers),
            ("context_length", context),
            ("embedding_length", self.shape.embedding),
            ("feed_forward_length", self.shape.feed_forward),
            ("attention.head_count", self.shape.heads),
            ("attention.head_count_kv", self.shape.kv_heads),
            ("attention.key_length", self.shape.head_dim),
            ("attention.value_length", self.shape.head_dim),
            ("rope.dimension_count", self.shape.head_dim),
            ("vocab_size", self.shape.vocab),
        ] {
            writer.key(format!("{architecture}.{key}"), value as u32);
        }
        writer
            .key(format!("{architecture}.attention.layer_norm_rms_epsilon"), epsilon)
            .key(format!("{architecture}.rope.freq_base"), rope_base);

        let (tokens, merges) = vocabulary(self.shape.vocab);
        let types: Vec<i32> = (0..tokens.len()).map(|i| if i < CONTROL.len() { 3 } else { 1 }).collect();
        writer
            .key("tokenizer.ggml.model", "gpt2")
            .key("tokenizer.ggml.pre", pre)
            .key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens))
            .key("tokenizer.ggml.token_type", types)
            .key("tokenizer.ggml.merges", OwnedValue::strings(&merges))
            .key("tokenizer.ggml.bos_token_id", 0_u32)
            .key("tokenizer.ggml.eos_token_id", 2_u32)
            .key("tokenizer.ggml.add_bos_token", false)
            .key("tokenizer.chat_template", CHATML);
    }

    fn tensors(self) -> Vec<Planned> {
        let Shape { architecture, vocab, embedding, layers, heads, kv_heads, head_dim, feed_forward, .. } = *self.shape;
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let matrix = |name: String, part: &str, layer: usize, cols: usize, rows: usize| Planned {
            name,
            dtype: self.mix.dtype(part, layer, layers, cols).0,
            dims: vec![cols, rows],
            values: Values::Random,
        };
        let vector = |name: String, values: Vec<f32>| Planned {
            name,
            dtype: DType::F32,
            dims: vec![values.len()],
            values: Values::Given(values),
        };

        let tied = if self.shape.tied { "output" } else { "token_embd" };
        let mut tensors = vec![
            matrix("token_embd.weight".into(), tied, 0, embedding, vocab),
            vector("output_norm.weight".into(), vec![1.0; embedding]),
        ];
        if !self.shape.tied {
            tensors.push(matrix("output.weight".into(), "output", 0, embedding, vocab));
        }
        if self.shape.name == "llama-3.2-1b" {
            tensors.push(vector("rope_freqs.weight".into(), llama3_rope(head_dim, self.shape.rope_base)));
        }
        for layer in 0..layers {
            let name = |part: &str, kind: &str| format!("blk.{layer}.{part}.{kind}");
            for (part, cols, rows) in [
                ("attn_q", embedding, q),
                ("attn_k", embedding, kv),
                ("attn_v", embedding, kv),
                ("attn_output", q, embedding),
                ("ffn_gate", embedding, feed_forward),
                ("ffn_up", embedding, feed_forward),
                ("ffn_down", feed_forward, embedding),
            ] {
                tensors.push(matrix(name(part, "weight"), part, layer, cols, rows));
            }
            for part in ["attn_norm", "ffn_norm"] {
                tensors.push(vector(name(part, "weight"), vec![1.0; embedding]));
            }
            match architecture {
                "qwen2" => {
                    for (part, len) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                        tensors.push(vector(name(part, "bias"), Random(layer as u64).take(len).collect()));
                    }
                }
                "qwen3" => {
                    for part in ["attn_q_norm", "attn_k_norm"] {
                        tensors.push(vector(name(part, "weight"), vec![1.0; head_dim]));
                    }
                }
                _ => {}
            }
        }
        tensors
    }
}

/// A tensor of the file to be.
struct Planned {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    values: Values,
}

enum Values {
    Random,
    Given(Vec<f32>),
}

impl Planned {
    fn bytes(&self) -> usize {
        let rows: usize = self.dims[1..].iter().product();
        self.dtype.row_bytes(self.dims[0]).expect("rows of whole blocks") * rows
    }
}

/// A stock of random weights for each type: a few megabytes, drawn and quantized once and then repeated, as far as the
/// largest tensor reaches.
struct Pools(HashMap<DType, (Vec<u8>, usize)>);

impl Pools {
    /// Weights that are drawn for each type.
    const DRAWN: usize = 1 << 20;

    fn new(tensors: &[Planned]) -> Result<Self> {
        let mut largest = HashMap::new();
        for tensor in tensors.iter().filter(|t| matches!(t.values, Values::Random)) {
            let bytes = largest.entry(tensor.dtype).or_insert(0);
            *bytes = tensor.bytes().max(*bytes);
        }
        let weights: Vec<f32> = Random(0).take(Self::DRAWN).collect();
        let pool = |(dtype, largest): (DType, usize)| {
            let drawn = quant::quantize(dtype, &weights)?;
            Ok((dtype, (drawn.repeat(largest.div_ceil(drawn.len()) + 1), drawn.len())))
        };
        largest.into_iter().map(pool).collect::<Result<_>>().map(Self)
    }

    /// The weights of tensor `i`, which start at another place for each.
    fn slice(&self, i: usize, tensor: &Planned) -> &[u8] {
        let (pool, drawn) = &self.0[&tensor.dtype];
        let start = (i * 997 * tensor.dtype.block_bytes()) % drawn;
        &pool[start..][..tensor.bytes()]
    }
}

/// Normal numbers with a deviation of 0.02, as models start their training with; the number given is the seed.
struct Random(u64);

impl Random {
    /// Uniform in (0, 1] (SplitMix64, Steele et al. 2014).
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 40) + 1) as f32 / (1 << 24) as f32
    }
}

impl Iterator for Random {
    type Item = f32;

    /// Box & Muller 1958.
    fn next(&mut self) -> Option<f32> {
        let (radius, turn) = (self.uniform(), self.uniform());
        Some(0.02 * (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * turn).cos())
    }
}

/// Tokens that are no text.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// How a chat is written down.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + \
                      '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A byte-pair vocabulary of `len` tokens and its merges. After the control tokens and all bytes come all pairs of
/// bytes, all triples, and so on: each one the merge of the token without its last byte and that byte.
fn vocabulary(len: usize) -> (Vec<String>, Vec<String>) {
    let bytes = byte_characters();
    let mut tokens: Vec<String> = CONTROL.map(String::from).into();
    tokens.extend(bytes.iter().map(char::to_string));
    let mut merges = Vec::new();
    let mut first = CONTROL.len(); // the token to lengthen
    while tokens.len() < len {
        for byte in bytes.iter().take(len - tokens.len()) {
            merges.push(format!("{} {byte}", tokens[first]));
            tokens.push(format!("{}{byte}", tokens[first]));
        }
        first += 1;
    }
    (tokens, merges)
}

/// The character that stands for each byte in a byte-pair vocabulary: itself, or for what does not print one from
/// U+0100 on (GPT-2).
fn byte_characters() -> Vec<char> {
    let mut others = '\u{100}'..;
    let character = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().expect("far fewer bytes than characters"),
    };
    (0..=255).map(character).collect()
}

/// What Llama 3.2 divides the rotary frequencies by: 32 for long waves, 1 for short ones, and in between for waves that
/// fit 1 to 4 times into 8192 positions.
fn llama3_rope(head_dim: usize, base: f32) -> Vec<f32> {
    let factor = |i: usize| {
        let wave = std::f32::consts::TAU * base.powf(2.0 * i as f32 / head_dim as f32);
        let smooth = ((8192.0 / wave - 1.0) / 3.0).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / 32.0 + smooth)
    };
    (0..head_dim / 2).map(factor).collect()
}

/// Collects what is written as [`Bytes`] keep it.
#[derive(Default)]
struct Words {
    words: Vec<u64>,
    len: usize,
}

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.len % 8;
        let (head, body) = bytes.split_at(bytes.len().min(self.len.next_multiple_of(8) - self.len));
        if let Some(last) = self.words.last_mut().filter(|_| !head.is_empty()) {
            let mut word = last.to_ne_bytes();
            word[at..][..head.len()].copy_from_slice(head);
            *last = u64::from_ne_bytes(word);
        }
        self.words.extend(body.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        }));
        self.len += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pupil::Model;
    use std::collections::HashSet;

    #[test]
    fn written_bytes_are_the_bytes_given() {
        let bytes: Vec<u8> = (0..200).collect();
        for step in 1..30 {
            let mut words = Words::default();
            bytes.chunks(step).for_each(|chunk| words.write_all(chunk).unwrap());
            assert_eq!(&*Bytes::Owned { words: words.words, len: words.len }, &bytes[..]);
        }
    }

    #[test]
    fn tokens_are_unique_and_merges_lead_to_them() {
        let (tokens, merges) = vocabulary(70_000);
        let set: HashSet<_> = tokens.iter().collect();
        assert_eq!((tokens.len(), set.len(), merges.len()), (70_000, 70_000, 70_000 - 256 - CONTROL.len()));
        for merge in merges {
            let (a, b) = merge.split_once(' ').unwrap();
            assert!([a, b, &format!("{a}{b}")].iter().all(|token| set.contains(&(*token).to_owned())));
        }
    }

    #[test]
    fn a_model_is_a_sound_file() {
        let model: Synthetic = "smollm2-135m:q4_k_m".parse().unwrap();
        assert_eq!(model.to_string(), "smollm2-135m:q4_k_m");
        let model = Model::from_bytes(model.bytes().unwrap(), "synthetic").unwrap();
        let config = &model.decoder().config;
        assert_eq!((config.vocab, config.layers, config.embedding), (49152, 30, 576));
    }
}
