//! Writing a label store row by row. A writer that is opened on what an earlier one left, whole or cut at any byte, goes
//! on with the first row that is not complete, and the file in the end is the same.

use super::{
    record::Recorder,
    row_hash,
    store::{Header, Labels},
};
use crate::{
    batch::{Batch, IGNORE},
    error::{Error, Result},
    fnv::Fnv,
};
use pupil::output::{self, Output};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A row to come: what it is known by, and how many of its positions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// See [`row_hash`].
    pub hash: u64,
    /// Positions whose label counts.
    pub positions: u32,
}

impl Row {
    /// A row of a batch.
    pub fn of(batch: &Batch, row: usize) -> Self {
        let labels = &batch.labels[row * batch.input.width..][..batch.input.width];
        let positions = labels.iter().filter(|&&label| label != IGNORE).count() as u32;
        Self { hash: row_hash(batch, row), positions }
    }
}

/// What rows are known by together.
pub fn data_hash(rows: &[Row]) -> u64 {
    rows.iter().fold(Fnv::new(), |hash, row| hash.bytes(&row.hash.to_le_bytes())).0
}

/// Writes a store.
pub struct Writer {
    path: PathBuf,
    file: File,
    recorder: Recorder,
    /// The rows of this shard.
    rows: Vec<Row>,
    next: usize,
    record: usize,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a store, or goes on with it. `rows` are those of all shards, of which this one takes its part.
    ///
    /// # Errors
    /// `Io` if it cannot be read or written; `Input` if something else is at `path`, or a store of something else.
    pub fn open(path: &Path, header: &Header, rows: &[Row]) -> Result<Self> {
        let at = |error: Error| error.at(path.display());
        let io = |error: std::io::Error| Error::io(path, &error);
        if header.rows != rows.len() || header.data != data_hash(rows) {
            return Err(Error::input("the header is not that of the rows")); // a mistake of the caller
        }
        let mut start = header.bytes()?;
        let rows = rows[header.range()].to_vec();
        for row in &rows {
            start.extend(row.hash.to_le_bytes());
            start.extend(row.positions.to_le_bytes());
        }

        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut found = Vec::new();
        (&mut file).take(start.len() as u64).read_to_end(&mut found).map_err(io)?;
        if !start.starts_with(&found) {
            let (other, _) = Header::read(&found).map_err(at)?;
            other.same(header).map_err(at)?;
            let ([a, b], [c, d]) = (other.shard, header.shard);
            return Err(at(Error::input(format!("shard {a}/{b}, or other rows, expected shard {c}/{d}"))));
        }
        let record = header.layout.bytes();
        let (mut len, mut next) = (start.len() as u64, 0);
        if found.len() == start.len() {
            let end = file.metadata().map_err(io)?.len();
            for row in &rows {
                let row_end = len + u64::from(row.positions) * record as u64;
                if row_end > end {
                    break;
                }
                (len, next) = (row_end, next + 1);
            }
        } else {
            file.rewind().and_then(|()| file.write_all(&start)).map_err(io)?;
        }
        file.set_len(len).and_then(|()| file.seek(SeekFrom::Start(len))).map_err(io)?;
        let recorder = Recorder::new(header.layout, header.temperature, header.seed);
        Ok(Self { path: path.to_path_buf(), file, recorder, rows, next, record, buffer: Vec::new() })
    }

    /// The row of this shard that is to be written next, and how many there are.
    pub fn progress(&self) -> (usize, usize) {
        (self.next, self.rows.len())
    }

    /// Writes the next row: logits `[positions][vocab]`.
    ///
    /// # Errors
    /// `Io` if it cannot be written; `Input` for logits that do not fit. Nothing is written then, or a part that the
    /// next writer drops.
    pub fn append(&mut self, logits: &[f32]) -> Result<()> {
        let row = self.rows.get(self.next).ok_or_else(|| Error::input("a row more than there are"))?;
        self.buffer.clear();
        let positions = row.positions as usize;
        let vocab = logits.len() / positions.max(1);
        for position in 0..positions {
            let logits = &logits[position * vocab..][..vocab];
            self.recorder.append(logits, row.hash, position, &mut self.buffer)?;
        }
        debug_assert_eq!(self.buffer.len(), positions * self.record);
        self.file.write_all(&self.buffer).map_err(|error| Error::io(&self.path, &error))?;
        self.next += 1;
        Ok(())
    }

    /// Makes sure that everything is on the disk.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io(&self.path, &error))
    }
}

/// Puts the shards of a store together; the file is the same as one that was written without shards.
///
/// # Errors
/// `Input` if the shards are not all of one store, or `out` is one of them; what [`Labels::open`] refuses; `Io`.
pub fn merge(shards: &[PathBuf], out: &Path) -> Result<()> {
    output::check(out, shards)?;
    let mut parts = shards.iter().map(|path| Ok((path, Labels::open(path)?))).collect::<Result<Vec<_>>>()?;
    parts.sort_by_key(|(_, labels)| labels.header().shard);
    let Some((_, first)) = parts.first() else { return Err(Error::input("no shards, expected some")) };
    let of = first.header().shard[1];
    for (i, (path, labels)) in parts.iter().enumerate() {
        labels.header().same(first.header()).map_err(|error| error.at(path.display()))?;
        let shard = labels.header().shard;
        if shard != [i + 1, of] {
            let message = format!("shard {}/{}, expected shard {}/{of}: each once", shard[0], shard[1], i + 1);
            return Err(Error::input(message).at(path.display()));
        }
    }
    if parts.len() != of {
        return Err(Error::input(format!("shards: {} of them, expected all {of}", parts.len())));
    }
    let header = Header { shard: [1, 1], ..first.header().clone() };
    let start = header.bytes()?;
    let io = |error: std::io::Error| Error::io(out, &error);
    let mut file = Output::create(out)?;
    let tables = parts.iter().map(|(_, labels)| labels.parts().0);
    let records = parts.iter().map(|(_, labels)| labels.parts().1);
    let mut all = [&start[..]].into_iter().chain(tables).chain(records);
    all.try_for_each(|bytes| file.write_all(bytes)).map_err(io)?;
    Ok(file.finish()?)
}
