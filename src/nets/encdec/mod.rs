//! Encoder-decoders of the T5 family (Raffel et al. 2020): Flan-T5, MADLAD-400, and small translators of our own.
//!
//! | file | what |
//! |---|---|
//! | `config` | dimensions, read from the file's keys and checked |
//! | `encode`, `decode` | both halves as straight passes: [`EncDec::encode`], [`EncDec::step`] |
//! | `work` | the steps of a layer |
//! | `relative` | relative positions |
//! | `slots` | which blocks of the cache hypotheses have, and share |
//! | `search` | greedy and beam search over the decoder: [`EncDec::search`] |
//! | `shortlist` | the few words that a text's translation may need |
//!
//! Sentences of a batch lie one after the other, without padding. Their keys and values for cross-attention are
//! computed once, when they are encoded, and shared by all beams.

mod config;
mod decode;
mod encode;
mod relative;
mod search;
mod shortlist;
mod slots;
mod work;

pub use config::{ARCHITECTURE, Config};
pub use decode::Row;
pub use search::{EarlyStop, Finish, Found, Request, SearchOptions};
pub use shortlist::{Chosen, Shortlist};

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::nets::config::{matrix, vector};
use crate::nets::kv::{CacheType, KvCache};
use crate::quant;
use crate::tensor::Tensor;
use relative::{Relative, Table};
use slots::Slots;
use std::ops::Range;
use work::Work;

/// An encoder-decoder's weights, in place in the file.
pub struct EncDec {
    /// Its dimensions.
    pub config: Config,
    embeddings: Tensor,
    encoder: Vec<EncoderLayer>,
    encoder_norm: Vec<f32>,
    /// One for each layer, or one that all layers share.
    encoder_relative: Vec<Relative>,
    decoder: Vec<DecoderLayer>,
    /// With the factor that the logits of tied embeddings have, `embedding^-½`.
    decoder_norm: Vec<f32>,
    decoder_relative: Vec<Relative>,
    /// The embeddings again where the file ties them.
    output: Tensor,
}

struct EncoderLayer {
    attention: Attention,
    feed_forward: FeedForward,
}

struct DecoderLayer {
    attention: Attention,
    cross: Attention,
    feed_forward: FeedForward,
}

struct Attention {
    norm: Vec<f32>,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
}

struct FeedForward {
    norm: Vec<f32>,
    gate: Option<Tensor>,
    up: Tensor,
    down: Tensor,
}

/// The state of one batch of sentences: threads, buffers, and what attention looks at.
pub struct Session {
    work: Work,
    kind: CacheType,
    /// Where each sentence's keys are in `cross`.
    sentences: Vec<Source>,
    /// `[tokens][embedding]`: what the encoder made of all sentences, one after the other.
    states: Vec<f32>,
    /// The encoder's own keys and values, of one layer at a time.
    encoder: KvCache,
    /// Of all sentences, for the decoder.
    cross: KvCache,
    /// Of all hypotheses, in the blocks that `slots` tells.
    own: KvCache,
    slots: Slots,
    /// Positions that each slot may have.
    reserved: usize,
    encoder_tables: Vec<Table>,
    decoder_tables: Vec<Table>,
    logits: Vec<f32>,
}

/// A sentence that was encoded.
#[derive(Debug, Clone)]
struct Source {
    /// Its rows in `Session::states`.
    rows: Range<usize>,
    /// The block of the cross-attention's cache that its keys begin in.
    block: usize,
}

impl EncDec {
    /// Finds and checks all weights of the file; reads nothing but norms and position biases.
    ///
    /// # Errors
    /// As [`Config::read`]; `Format` for tensors that are missing or of the wrong shape.
    pub fn load(file: &Gguf) -> Result<Self> {
        let config = Config::read(file)?;
        let Config { vocab, embedding, heads, head_dim, feed_forward, buckets, .. } = config;
        let inner = heads * head_dim;
        let numbers = |name: &str, len| vector(file, &file.tensor(name)?, name, len);
        let attention = |prefix: &str| {
            let weights = |part: &str, cols, rows| matrix(file, &format!("{prefix}_{part}.weight"), cols, rows);
            Ok::<_, Error>(Attention {
                norm: numbers(&format!("{prefix}_norm.weight"), embedding)?,
                query: weights("q", embedding, inner)?,
                key: weights("k", embedding, inner)?,
                value: weights("v", embedding, inner)?,
                output: weights("o", inner, embedding)?,
            })
        };
        let forward = |layer: &str| {
            let gate = format!("{layer}.ffn_gate.weight");
            let gate = file.find_tensor(&gate).map(|_| matrix(file, &gate, embedding, feed_forward));
            Ok::<_, Error>(FeedForward {
                norm: numbers(&format!("{layer}.ffn_norm.weight"), embedding)?,
                gate: gate.transpose()?,
                up: matrix(file, &format!("{layer}.ffn_up.weight"), embedding, feed_forward)?,
                down: matrix(file, &format!("{layer}.ffn_down.weight"), feed_forward, embedding)?,
            })
        };
        let relative = |half: &str, layers: usize, both: bool| {
            let name = |i: usize| format!("{half}.blk.{i}.attn_rel_b.weight");
            // Either every layer has its own (UMT5), or all share the first one's (T5).
            let own = layers > 1 && file.find_tensor(&name(1)).is_some();
            (0..if own { layers } else { 1 })
                .map(|i| {
                    let tensor = matrix(file, &name(i), heads, buckets)?;
                    let mut weights = vec![0.0; heads * buckets];
                    quant::dequantize(tensor.dtype(), tensor.data(), &mut weights);
                    Ok(Relative { weights, heads, buckets, both })
                })
                .collect::<Result<Vec<_>>>()
        };

        let embeddings = matrix(file, "token_embd.weight", embedding, vocab)?;
        let mut decoder_norm = numbers("dec.output_norm.weight", embedding)?;
        let output = match file.find_tensor("output.weight") {
            Some(_) => matrix(file, "output.weight", embedding, vocab)?,
            None => {
                let factor = (embedding as f32).sqrt().recip();
                decoder_norm.iter_mut().for_each(|weight| *weight *= factor);
                embeddings.clone()
            }
        };
        let encoder_layer = |i: usize| {
            let layer = format!("enc.blk.{i}");
            Ok(EncoderLayer { attention: attention(&format!("{layer}.attn"))?, feed_forward: forward(&layer)? })
        };
        let decoder_layer = |i: usize| {
            let layer = format!("dec.blk.{i}");
            Ok(DecoderLayer {
                attention: attention(&format!("{layer}.attn"))?,
                cross: attention(&format!("{layer}.cross_attn"))?,
                feed_forward: forward(&layer)?,
            })
        };
        Ok(Self {
            embeddings,
            encoder: (0..config.encoder_layers).map(encoder_layer).collect::<Result<_>>()?,
            encoder_norm: numbers("enc.output_norm.weight", embedding)?,
            encoder_relative: relative("enc", config.encoder_layers, true)?,
            decoder: (0..config.decoder_layers).map(decoder_layer).collect::<Result<_>>()?,
            decoder_norm,
            decoder_relative: relative("dec", config.decoder_layers, false)?,
            output,
            config,
        })
    }

    /// A new session on `threads` threads, with keys and values stored as `kind`.
    ///
    /// # Errors
    /// `Input` if `PUPIL_ISA` names kernels that this CPU cannot run.
    pub fn session(&self, kind: CacheType, threads: usize) -> Result<Session> {
        let empty = || KvCache::new(kind, 0, 0, 0, 0);
        let tables = |relative: &[Relative]| relative.iter().map(|_| Table::default()).collect();
        Ok(Session {
            work: Work::new(threads)?,
            kind,
            sentences: Vec::new(),
            states: Vec::new(),
            encoder: empty()?,
            cross: empty()?,
            own: empty()?,
            slots: Slots::default(),
            reserved: 0,
            encoder_tables: tables(&self.encoder_relative),
            decoder_tables: tables(&self.decoder_relative),
            logits: Vec::new(),
        })
    }

    /// Makes room for `positions` positions of `layers` layers in `cache`, whose contents are lost if it has to grow.
    fn make_room(&self, cache: &mut KvCache, kind: CacheType, layers: usize, positions: usize) -> Result<()> {
        if cache.capacity() < positions {
            // The old one goes first, so that there are never two.
            *cache = KvCache::new(kind, 0, 0, 0, 0)?;
            *cache = KvCache::new(kind, layers, self.config.heads, self.config.head_dim, positions)?;
        }
        Ok(())
    }

    fn embed<'a>(&self, tokens: impl Iterator<Item = &'a u32>, hidden: &mut [f32]) {
        for (row, &token) in hidden.chunks_exact_mut(self.config.embedding).zip(tokens) {
            let token = token as usize;
            quant::dequantize(self.embeddings.dtype(), self.embeddings.row_data(token..token + 1), row);
        }
    }

    fn check<'a>(&self, mut tokens: impl Iterator<Item = &'a u32>) -> Result<()> {
        match tokens.find(|&&token| token as usize >= self.config.vocab) {
            Some(token) => {
                Err(Error::input(format!("token {token} is outside of the vocabulary of {}", self.config.vocab)))
            }
            None => Ok(()),
        }
    }
}

/// Layer `i`'s of `all`, of which there is one for each layer or one for all.
fn of_layer<T>(all: &[T], i: usize) -> &T {
    &all[i.min(all.len() - 1)]
}
