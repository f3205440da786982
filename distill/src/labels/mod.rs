//! What teachers said, kept in files.
//!
//! - [`hard`]: text that a teacher wrote, in three stages.
//! - [`soft`]: from a teacher and text to a store.
//! - [`store`]: soft labels, a few probabilities for each token that a student should say.
//! - [`mod@write`]: how a store is written, in shards if need be, and goes on after whatever stopped it.
//! - [`record`]: which probabilities stand for all of them.

pub mod hard;
pub mod record;
pub mod soft;
pub mod store;
pub mod write;

use crate::batch::Batch;
use pupil::text::Tokenizer;

/// FNV-1a over 64 bits (Fowler, Noll & Vo).
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self
    }

    /// A list, with its length.
    fn ids(self, ids: &[u32]) -> Self {
        let start = self.bytes(&(ids.len() as u64).to_le_bytes());
        ids.iter().fold(start, |hash, id| hash.bytes(&id.to_le_bytes()))
    }
}

/// What a row of a batch is known by: its source, input and labels.
pub fn row_hash(batch: &Batch, row: usize) -> u64 {
    let (start, length) = (row * batch.input.width, batch.input.lengths[row]);
    let source =
        batch.source.as_ref().map_or(&[][..], |source| &source.ids[row * source.width..][..source.lengths[row]]);
    Hash::new().ids(source).ids(&batch.input.ids[start..][..length]).ids(&batch.labels[start..][..length]).0
}

/// What a vocabulary is known by: its tokens, as it spells them, in order.
pub fn vocabulary_hash(tokenizer: &Tokenizer) -> u64 {
    let tokens = (0..tokenizer.len() as u32).map(|id| tokenizer.token(id));
    tokens.fold(Hash::new(), |hash, token| hash.bytes(&(token.len() as u64).to_le_bytes()).bytes(token)).0
}

#[cfg(test)]
mod tests;
