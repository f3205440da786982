//! Decoder-only language models of the Llama family (Touvron et al. 2023), with Qwen's biases and query/key norms.
//!
//! [`Decoder::forward`] is the whole network and reads from top to bottom.

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::nets::attention::{Place, Queries, Sight, Span, attend};
use crate::nets::config::{Config, matrix, vector};
use crate::nets::kv::{CacheType, KvCache};
use crate::nets::linear::{Activations, Compute, Gate, Then, multiply, multiply_gated};
use crate::quant;
use crate::tensor::Tensor;
use std::time::Duration;

/// Tokens that go through the network together. More would spread the cost of unpacking weights thinner, but their
/// activations would outgrow the second-level cache.
pub const BATCH: usize = 128;

/// A decoder's weights, in place in the file.
pub struct Decoder {
    /// Its dimensions.
    pub config: Config,
    embeddings: Tensor,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// The embeddings again where the file ties them.
    output: Tensor,
    output_bias: Option<Vec<f32>>,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    /// Of queries, keys and values, side by side; zeros where only some have one.
    bias: Option<Vec<f32>>,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    attention_output: Tensor,
    attention_output_bias: Option<Vec<f32>>,
    feed_forward_norm: Vec<f32>,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// One conversation's state: its cache, threads and buffers.
pub struct Session {
    /// What attention has seen.
    pub cache: KvCache,
    compute: Compute,
    x: Activations,
    /// `[tokens][embedding]`: the hidden state.
    hidden: Vec<f32>,
    /// `[tokens][(heads + 2 × kv_heads) × head_dim]`
    qkv: Vec<f32>,
    /// `[tokens][heads × head_dim]`
    attended: Vec<f32>,
    /// `[tokens][feed_forward]`
    gated: Vec<f32>,
    logits: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Session {
    /// Sets how long threads that wait for each other spin before they sleep, from [`Duration::ZERO`], never, to
    /// [`Duration::MAX`], always. For measurements: the default suits idle and busy machines.
    pub fn set_spin(&mut self, spin: Duration) {
        self.compute.team.set_spin(spin);
    }
}

/// Which positions' logits [`Decoder::forward`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// Only the last token's.
    Last,
    /// Every token's.
    All,
}

impl Decoder {
    /// Finds and checks all weights of the file; reads nothing but norms and biases.
    ///
    /// # Errors
    /// As [`Config::read`]; `Format` for tensors that are missing or of the wrong shape.
    pub fn load(file: &Gguf) -> Result<Self> {
        let config = Config::read(file)?;
        let Config { vocab, embedding, heads, kv_heads, head_dim, feed_forward, .. } = config;
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let numbers = |name: &str, len| vector(file, &file.tensor(name)?, name, len);
        let optional = |name: &str, len| file.find_tensor(name).map(|t| vector(file, &t, name, len)).transpose();
        let layer = |i: usize| {
            let name = |part: &str| format!("blk.{i}.{part}");
            let weights = |part: &str, cols, rows| matrix(file, &name(&format!("{part}.weight")), cols, rows);
            let biases = [("attn_q", q), ("attn_k", kv), ("attn_v", kv)]
                .map(|(part, len)| Ok((optional(&name(&format!("{part}.bias")), len)?, len)));
            let [bq, bk, bv] = biases;
            let biases = [bq?, bk?, bv?];
            let bias = biases.iter().any(|(bias, _)| bias.is_some()).then(|| {
                biases.iter().flat_map(|(bias, len)| bias.clone().unwrap_or_else(|| vec![0.0; *len])).collect()
            });
            let head_norm = |part: &str| match config.architecture.as_str() {
                "qwen3" => numbers(&name(part), head_dim).map(Some),
                _ => Ok(None),
            };
            Ok(Layer {
                attention_norm: numbers(&name("attn_norm.weight"), embedding)?,
                query: weights("attn_q", embedding, q)?,
                key: weights("attn_k", embedding, kv)?,
                value: weights("attn_v", embedding, kv)?,
                bias,
                query_norm: head_norm("attn_q_norm.weight")?,
                key_norm: head_norm("attn_k_norm.weight")?,
                attention_output: weights("attn_output", q, embedding)?,
                attention_output_bias: optional(&name("attn_output.bias"), embedding)?,
                feed_forward_norm: numbers(&name("ffn_norm.weight"), embedding)?,
                gate: weights("ffn_gate", embedding, feed_forward)?,
                up: weights("ffn_up", embedding, feed_forward)?,
                down: weights("ffn_down", feed_forward, embedding)?,
            })
        };
        let embeddings = matrix(file, "token_embd.weight", embedding, vocab)?;
        let output = match file.find_tensor("output.weight") {
            Some(_) => matrix(file, "output.weight", embedding, vocab)?,
            None => embeddings.clone(),
        };
        Ok(Self {
            embeddings,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            output_norm: numbers("output_norm.weight", embedding)?,
            output,
            output_bias: optional("output.bias", vocab)?,
            config,
        })
    }

    /// A new conversation of up to `context` tokens on `threads` threads.
    ///
    /// # Errors
    /// `Input` if the context is too large to address or `PUPIL_ISA` names kernels that this CPU cannot run.
    pub fn session(&self, context: usize, cache: CacheType, threads: usize) -> Result<Session> {
        let config = &self.config;
        Ok(Session {
            cache: KvCache::new(cache, config.layers, config.kv_heads, config.head_dim, context)?,
            compute: Compute::new(threads)?,
            x: Activations::default(),
            hidden: Vec::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            gated: Vec::new(),
            logits: Vec::new(),
            cos: Vec::new(),
            sin: Vec::new(),
        })
    }

    /// Runs `tokens`, which follow what the session's cache holds, and returns logits `[1 or tokens][vocab]`.
    ///
    /// # Errors
    /// `ContextFull` if the cache has no room for them; `Input` for no tokens or a token outside of the vocabulary.
    /// The session is then as it was.
    pub fn forward<'s>(&self, session: &'s mut Session, tokens: &[u32], wanted: Logits) -> Result<&'s [f32]> {
        self.check(session, tokens)?;
        session.logits.clear();
        let batches = tokens.chunks(BATCH);
        let last = batches.len() - 1;
        for (i, batch) in batches.enumerate() {
            self.blocks(session, batch);
            match wanted {
                Logits::All => self.logits(session, 0..batch.len()),
                Logits::Last if i == last => self.logits(session, batch.len() - 1..batch.len()),
                Logits::Last => {}
            }
        }
        Ok(&session.logits)
    }

    fn check(&self, session: &Session, tokens: &[u32]) -> Result<()> {
        let (used, capacity) = (session.cache.len(), session.cache.capacity());
        if tokens.is_empty() {
            return Err(Error::input("no tokens to run"));
        }
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= self.config.vocab) {
            return Err(Error::input(format!("token {token} is outside of the vocabulary of {}", self.config.vocab)));
        }
        if tokens.len() > capacity - used {
            let message = format!(
                "the context is full: {used} of {capacity} tokens are in use and {} more do not fit",
                tokens.len()
            );
            return Err(Error::new(ErrorKind::ContextFull, message));
        }
        Ok(())
    }

    /// Embeds a batch and takes it through all layers; the result is `session.hidden`.
    fn blocks(&self, session: &mut Session, tokens: &[u32]) {
        let Config { embedding, heads, kv_heads, head_dim, feed_forward, epsilon, ref rope, .. } = self.config;
        let Session { cache, compute, x, hidden, qkv, attended, gated, cos, sin, .. } = session;
        let (n, position) = (tokens.len(), cache.len());
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let stride = q + 2 * kv;
        hidden.resize(n * embedding, 0.0);
        qkv.resize(n * stride, 0.0);
        attended.resize(n * q, 0.0);
        gated.resize(n * feed_forward, 0.0);

        for (row, &token) in hidden.chunks_exact_mut(embedding).zip(tokens) {
            let token = token as usize;
            quant::dequantize(self.embeddings.dtype(), self.embeddings.row_data(token..token + 1), row);
        }
        rope.angles(position, n, cos, sin);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let span = Span { rows: 0..n, place: Place::From(0), position, sight: Sight::Past };
        let spans: Vec<Span> = span.parts(heads / kv_heads).collect();

        for (i, layer) in self.layers.iter().enumerate() {
            let normed = |norm: &'_ [f32], x: &mut Activations, compute: &mut Compute, h: &[f32], w: &[&Tensor]| {
                x.set(compute, (n, embedding), w, |shared, t, out| {
                    shared.kernels.rms_norm(&h[t * embedding..][..embedding], norm, epsilon, out);
                });
            };

            // Attention: x += Wo · attend(rope(W · norm(x)))
            let weights = [&layer.query, &layer.key, &layer.value];
            normed(&layer.attention_norm, x, compute, hidden, &weights);
            multiply(compute, &weights, x, qkv, stride, Then::Store);
            self.position(compute, layer, qkv, cos, sin);
            let (team, _) = compute.split();
            let rows = &*qkv;
            let write = |head: usize, cache: &mut super::kv::HeadCache| {
                for (t, row) in rows.chunks_exact(stride).enumerate() {
                    let (k, v) = (q + head * head_dim, q + kv + head * head_dim);
                    cache.write(position + t, &row[k..][..head_dim], &row[v..][..head_dim]);
                }
            };
            if n == 1 {
                cache.layer_mut(i).iter_mut().enumerate().for_each(|(head, cache)| write(head, cache));
            } else {
                team.each(cache.layer_mut(i), |_, head, cache| write(head, cache));
            }
            let queries = Queries { rows: qkv, stride, heads, dims: head_dim, scale };
            attend(compute, cache.layer(i), queries, &spans, None, attended);
            x.set(compute, (n, q), &[&layer.attention_output], |_, t, out| {
                out.copy_from_slice(&attended[t * q..][..q]);
            });
            multiply(compute, &[&layer.attention_output], x, hidden, embedding, Then::Add);
            if let Some(bias) = &layer.attention_output_bias {
                hidden.chunks_exact_mut(embedding).for_each(|row| compute.kernels.add(row, bias));
            }

            // Feed-forward: x += Wdown · (silu(Wgate · norm(x)) × Wup · norm(x))
            normed(&layer.feed_forward_norm, x, compute, hidden, &[&layer.gate, &layer.up]);
            multiply_gated(compute, Gate::Silu, &layer.gate, &layer.up, x, gated);
            x.set(compute, (n, feed_forward), &[&layer.down], |_, t, out| {
                out.copy_from_slice(&gated[t * feed_forward..][..feed_forward]);
            });
            multiply(compute, &[&layer.down], x, hidden, embedding, Then::Add);
        }
        cache.advance(n);
    }

    /// Adds biases to queries, keys and values, norms queries and keys where the model does, and rotates them.
    fn position(&self, compute: &mut Compute, layer: &Layer, qkv: &mut [f32], cos: &[f32], sin: &[f32]) {
        let Config { heads, kv_heads, head_dim, epsilon, ref rope, .. } = self.config;
        let stride = (heads + 2 * kv_heads) * head_dim;
        let pairs = rope.pairs();
        let (team, shared) = compute.split();
        let cuts: Vec<usize> = (0..=qkv.len() / stride).collect();
        team.blocks(qkv, stride, &cuts, &[0, stride], |worker, t, _, mut block| {
            let row = block.row(t);
            if let Some(bias) = &layer.bias {
                shared.kernels.add(row, bias);
            }
            let (cos, sin) = (&cos[t * pairs..][..pairs], &sin[t * pairs..][..pairs]);
            for (i, head) in row.chunks_exact_mut(head_dim).take(heads + kv_heads).enumerate() {
                let norm = if i < heads { &layer.query_norm } else { &layer.key_norm };
                if let Some(norm) = norm {
                    let before = &mut shared.scratch(worker).row;
                    before.clear();
                    before.extend_from_slice(head);
                    shared.kernels.rms_norm(before, norm, epsilon, head);
                }
                shared.kernels.rope(head, cos, sin, rope.halves);
            }
        });
    }

    /// Appends the logits of some of the batch's tokens to `session.logits`.
    fn logits(&self, session: &mut Session, tokens: std::ops::Range<usize>) {
        let Config { vocab, embedding, epsilon, .. } = self.config;
        let Session { compute, x, hidden, logits, .. } = session;
        x.set(compute, (tokens.len(), embedding), &[&self.output], |shared, t, out| {
            let row = &hidden[(tokens.start + t) * embedding..][..embedding];
            shared.kernels.rms_norm(row, &self.output_norm, epsilon, out);
        });
        let first = logits.len();
        logits.resize(first + tokens.len() * vocab, 0.0);
        multiply(compute, &[&self.output], x, &mut logits[first..], vocab, Then::Store);
        if let Some(bias) = &self.output_bias {
            logits[first..].chunks_exact_mut(vocab).for_each(|row| compute.kernels.add(row, bias));
        }
    }
}
