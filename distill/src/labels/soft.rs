//! From a teacher and examples to a label store.

use super::{
    record::Layout,
    store::Header,
    vocabulary_hash,
    write::{Row, Writer, data_hash},
};
use crate::{batch::Batch, data::text::examples::Example, error::Result, teacher::Runtime};
use std::{ops::ControlFlow, path::Path};

/// Examples that go through the teacher together: always the same ones, so that a store does not depend on where a run
/// began.
const GROUP: usize = 16;

/// What a store is to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The teacher's name.
    pub teacher: String,
    /// How records are laid out.
    pub layout: Layout,
    /// Of the probabilities.
    pub temperature: f64,
    /// Decides what is drawn.
    pub seed: u64,
    /// Which part of how many to write, from 1.
    pub shard: [usize; 2],
}

/// Writes the store of examples, or goes on with it. `each` is told how many of how many are done and may break off;
/// returns whether the store is complete.
///
/// # Errors
/// What [`Writer`] and the teacher refuse.
pub fn write(
    teacher: &mut Runtime,
    examples: &[Example],
    pad: u32,
    settings: Settings,
    path: &Path,
    each: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<bool> {
    let rows: Vec<Row> = examples.iter().map(|example| Row::of(&Batch::of(&[example], pad), 0)).collect();
    let Settings { teacher: name, layout, temperature, seed, shard } = settings;
    let header = Header {
        teacher: name,
        tokenizer: vocabulary_hash(teacher.tokenizer()),
        data: data_hash(&rows),
        rows: rows.len(),
        temperature,
        layout,
        seed,
        shard,
    };
    let mut writer = Writer::open(path, &header, &rows)?;
    let (start, end) = (header.range().start, header.range().end);
    loop {
        let (done, all) = writer.progress();
        if each(done, all).is_break() && done < all {
            return Ok(false);
        }
        if done == all {
            writer.finish()?;
            return Ok(true);
        }
        let first = (start + done) / GROUP * GROUP;
        let group = &examples[first..examples.len().min(first + GROUP)];
        let batch = Batch::of(&group.iter().collect::<Vec<_>>(), pad);
        let mut logits = &teacher.logits(&batch)?[..];
        for (index, row) in (first..).zip(&rows[first..first + group.len()]) {
            let (of_row, others) = logits.split_at(row.positions as usize * layout.vocab);
            if index >= start + done && index < end {
                writer.append(of_row)?;
            }
            logits = others;
        }
    }
}
