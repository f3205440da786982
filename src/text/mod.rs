//! Text in and out: tokenizers, chat templates, sampling.
//!
//! - [`Tokenizer`] turns text into ids and back, with the vocabulary of a GGUF file; [`StreamDecoder`] turns the bytes
//!   of one token after the other into whole characters.
//! - [`ChatTemplate`] writes a conversation as the text that a model was trained on.
//! - [`sentences`] cuts paragraphs into what a translation model takes.
//! - [`Sampler`] chooses the next token; [`StopMatcher`] ends an answer at a stop string.

mod abbreviations;
mod bpe;
mod charsmap;
#[cfg(feature = "hf-tokenizer")]
mod hf;
mod merge;
mod pretokenize;
mod python;
mod sampler;
pub mod sentences;
mod specials;
mod spm;
mod stop;
mod stream;
mod strftime;
mod template;
mod tokenizer;
mod trie;
mod unigram;
mod vocab;

pub use sampler::{Sampler, SamplerOptions};
pub use stop::StopMatcher;
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, Message, RenderOptions};
pub use tokenizer::{Specials, Tokenizer};
