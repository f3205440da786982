//! The networks, as straight passes over mapped weights.
//!
//! | file | what |
//! |---|---|
//! | [`decoder`] | the Llama family: `llama`, `qwen2`, `qwen3` |
//! | [`config`] | its dimensions, read from the file's keys and checked |
//! | [`attention`], [`rope`], [`kv`] | attention over the key/value cache, rotary positions, the cache |
//! | [`encdec`] | encoder-decoders of the T5 family: translation |
//! | [`convnet`] | detectors: a flat program of convolutions |
//! | [`linear`] | matrix products shared out over the team |

pub mod attention;
pub mod config;
pub mod convnet;
pub mod decoder;
pub mod encdec;
pub(crate) mod family;
pub mod kv;
pub mod linear;
pub mod rope;
