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

use crate::{batch::Batch, fnv::Fnv};
use pupil::text::Tokenizer;

/// Takes up a list, with its length.
fn with_ids(hash: Fnv, ids: &[u32]) -> Fnv {
    let start = hash.bytes(&(ids.len() as u64).to_le_bytes());
    ids.iter().fold(start, |hash, id| hash.bytes(&id.to_le_bytes()))
}

/// What a row of a batch is known by: its source, input and labels.
pub fn row_hash(batch: &Batch, row: usize) -> u64 {
    let (start, length) = (row * batch.input.width, batch.input.lengths[row]);
    let source =
        batch.source.as_ref().map_or(&[][..], |source| &source.ids[row * source.width..][..source.lengths[row]]);
    let read = with_ids(with_ids(Fnv::new(), source), &batch.input.ids[start..][..length]);
    with_ids(read, &batch.labels[start..][..length]).0
}

/// What a vocabulary is known by: its tokens, as it spells them, in order.
pub fn vocabulary_hash(tokenizer: &Tokenizer) -> u64 {
    let tokens = (0..tokenizer.len() as u32).map(|id| tokenizer.token(id));
    tokens.fold(Fnv::new(), |hash, token| hash.bytes(&(token.len() as u64).to_le_bytes()).bytes(token)).0
}

#[cfg(test)]
mod tests;
