//! Soft labels in a file that is mapped: a header, a table of rows, and a record of the same size for each token.
//!
//! ```text
//! 0        "pupillab"
//! 8        u32      version: 1
//! 12       u32      H: bytes of the header, at most 65,536
//! 16       [u8; H]  the header: JSON, spaces at its end
//! 16 + H   rows ×   u64  what the row is known by (see `row_hash`)
//!                   u32  positions that count, which are its records
//! …        a record for each position, row after row (see `Layout`)
//! ```
//!
//! 16 + H is a multiple of 64; everything is little-endian. The file ends with the last record.
//! Files are untrusted: whatever is in one, it is refused with a line, or gives probabilities.

use super::{
    record::{self, Layout},
    row_hash,
};
use crate::{
    batch::Batch,
    error::{Error, Result},
    loss::Sparse,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

pub(super) const MAGIC: &[u8; 8] = b"pupillab";
const VERSION: u32 = 1;
/// Bytes before the header.
const START: usize = 16;
const MAX_HEADER: usize = 1 << 16;
/// Bytes of a row in the table.
pub(super) const ROW: usize = 12;

/// What a store holds, and for whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Who taught.
    pub teacher: String,
    /// [`vocabulary_hash`](super::vocabulary_hash) of the tokenizer.
    pub tokenizer: u64,
    /// What all rows of all shards are known by.
    pub data: u64,
    /// Rows of all shards.
    pub rows: usize,
    /// Of the probabilities.
    pub temperature: f64,
    /// How records are laid out.
    #[serde(flatten)]
    pub layout: Layout,
    /// Decides what was drawn.
    pub seed: u64,
    /// Which part of how many this is, from 1.
    pub shard: [usize; 2],
}

impl Header {
    fn check(&self) -> Result<()> {
        self.layout.check()?;
        let Self { temperature, rows, shard: [shard, of], .. } = *self;
        if !(0.01..=100.0).contains(&temperature) {
            return Err(Error::input(format!("the temperature is {temperature}, expected 0.01 to 100")));
        }
        if shard == 0 || shard > of || of > 1 << 20 || rows > u32::MAX as usize {
            return Err(Error::input(format!("shard {shard} of {of} of {rows} rows, expected 1/1 or one of more")));
        }
        Ok(())
    }

    /// The rows of this shard.
    pub fn range(&self) -> std::ops::Range<usize> {
        let [shard, of] = self.shard;
        // A check has bounded the numbers: this does not overflow 64 bits.
        let cut = |shard: usize| (self.rows as u64 * shard as u64 / of as u64) as usize;
        cut(shard - 1)..cut(shard)
    }

    /// What a file begins with.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        self.check()?;
        let mut json = serde_json::to_vec(self).map_err(|error| Error::input(error.to_string()))?;
        json.resize((START + json.len()).next_multiple_of(64) - START, b' ');
        if json.len() > MAX_HEADER {
            return Err(Error::input(format!("the header is {} bytes, expected at most {MAX_HEADER}", json.len())));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend(json);
        Ok(bytes)
    }

    /// Reads the beginning of a file; returns also where the table begins.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize)> {
        let not = |what: &str| Error::format(format!("{what}, expected a label store"));
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes.get(..8) != Some(MAGIC) {
            let found = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]);
            return Err(not(&format!("begins with {found:?}")));
        }
        let (version, len) = (number(8).ok_or_else(|| not("too short"))?, number(12).ok_or_else(|| not("too short"))?);
        if version != VERSION {
            return Err(not(&format!("version {version} of the format, {VERSION} is known")));
        }
        let end = START + len as usize;
        if len as usize > MAX_HEADER || !end.is_multiple_of(64) {
            return Err(not(&format!("a header of {len} bytes")));
        }
        let json = bytes.get(START..end).ok_or_else(|| not("too short for its header"))?;
        let header: Self =
            serde_json::from_slice(json).map_err(|error| Error::format(format!("the header: {error}")))?;
        header.check().map_err(|error| error.at("the header"))?;
        Ok((header, end))
    }

    /// Refuses another store than `wanted`, but for the shard.
    ///
    /// # Errors
    /// `Input` with the first difference.
    pub fn same(&self, wanted: &Self) -> Result<()> {
        let fields = |header: &Self| {
            [
                ("teacher", header.teacher.clone()),
                ("tokenizer", format!("{:016x} of {} tokens", header.tokenizer, header.layout.vocab)),
                ("data", format!("{:016x} of {} rows", header.data, header.rows)),
                ("temperature", header.temperature.to_string()),
                ("number of likeliest tokens", header.layout.k.to_string()),
                ("number of samples", header.layout.samples.to_string()),
                ("seed", header.seed.to_string()),
            ]
        };
        match fields(self).iter().zip(fields(wanted)).find(|(a, b)| **a != *b) {
            None => Ok(()),
            Some(((what, found), (_, expected))) => {
                Err(Error::input(format!("the {what} is {found}, expected {expected}")))
            }
        }
    }
}

/// A label store, mapped.
pub struct Labels {
    path: PathBuf,
    bytes: memmap2::Mmap,
    header: Header,
    table: usize,
    /// Where the records of each row begin, counted in records; one more than rows.
    starts: Vec<u64>,
    /// Rows by what they are known by.
    rows: HashMap<u64, u32>,
}

impl Labels {
    /// Maps a store and checks everything in it that is structure.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Format` with a line that says what is wrong.
    pub fn open(path: &Path) -> Result<Self> {
        Self::map(path).map_err(|error| match error.kind() {
            crate::ErrorKind::Io => error,
            _ => error.at(path.display()),
        })
    }

    #[allow(unsafe_code)]
    fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        let meta = file.metadata().map_err(|error| Error::io(path, &error))?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(Error::format("empty or no file, expected a label store"));
        }
        // SAFETY: the map is read-only. As with every program that maps its input, another process that truncates the
        // file meanwhile can make a read fault; a change of its bytes can only change numbers, because everything
        // structural is copied out and checked here, and ids whenever they are read.
        let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| Error::io(path, &error))?;
        let (header, table) = Header::read(&bytes)?;
        let count = header.range().len();
        let cut = || Error::format("shorter than its table of rows; pupil label soft goes on with it");
        let rows = bytes[table..].get(..count.checked_mul(ROW).ok_or_else(cut)?).ok_or_else(cut)?;
        let mut starts = Vec::with_capacity(count + 1);
        let mut known = HashMap::with_capacity(count);
        let mut next = 0_u64;
        for (index, row) in (0..).zip(rows.as_chunks::<ROW>().0) {
            let &[a, b, c, d, e, f, g, h, i, j, k, l] = row;
            starts.push(next);
            known.entry(u64::from_le_bytes([a, b, c, d, e, f, g, h])).or_insert(index);
            // At most 2³² rows of 2³² positions of a few kilobytes each: checked below.
            next = next.checked_add(u32::from_le_bytes([i, j, k, l]).into()).ok_or_else(cut)?;
        }
        starts.push(next);
        let records = next.checked_mul(header.layout.bytes() as u64);
        let expected = records.and_then(|records| records.checked_add((table + rows.len()) as u64));
        if expected != Some(bytes.len() as u64) {
            let expected = expected.map_or("far more".into(), |expected| expected.to_string());
            let hint = "pupil label soft goes on with what is not complete";
            return Err(Error::format(format!("{} bytes, expected {expected}; {hint}", bytes.len())));
        }
        Ok(Self { path: path.to_path_buf(), header, table, starts, rows: known, bytes })
    }

    /// What the store holds, and for whom.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table and the records as they are in the file.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes[self.table..].split_at(ROW * (self.starts.len() - 1))
    }

    /// Records of all rows.
    pub fn records(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// Refuses a store of another vocabulary or temperature.
    ///
    /// # Errors
    /// `Input` with the difference.
    pub fn check(&self, tokenizer: u64, temperature: f64) -> Result<()> {
        let refused = |message: String| Err(Error::input(message).at(self.path.display()));
        if self.header.tokenizer != tokenizer {
            let instead = "expected the student's; across vocabularies, pupil label answers writes text to learn from";
            return refused(format!("labels of another vocabulary, {instead}"));
        }
        if self.header.temperature != temperature {
            let found = self.header.temperature;
            return refused(format!("labels at temperature {found}, expected {temperature}, the loss's"));
        }
        Ok(())
    }

    fn record(&self, index: u64, out: &mut Sparse) -> Result<f64> {
        let bytes = self.header.layout.bytes();
        let record = &self.parts().1[index as usize * bytes..][..bytes];
        record::read(self.header.layout, record, out)
            .map_err(|error| error.at(format!("{}: record {index}", self.path.display())))
    }

    /// What the teacher expects at the valid positions of a batch.
    ///
    /// # Errors
    /// `Input` for a row that the store does not have; `Format` for records that are damaged.
    pub fn sparse(&self, batch: &Batch) -> Result<Sparse> {
        let mut sparse = Sparse { k: self.header.layout.tokens(), ..Sparse::default() };
        for row in 0..batch.input.rows() {
            let Some(&index) = self.rows.get(&row_hash(batch, row)) else {
                let expected = "expected the data and the longest example that it was written for";
                return Err(Error::input(format!("an example is not in the store, {expected}")).at(self.path.display()));
            };
            for record in self.starts[index as usize]..self.starts[index as usize + 1] {
                self.record(record, &mut sparse)?;
            }
        }
        // Rows that differ and are known by the same number are not to be expected, but would not be noticed below.
        match sparse.ids.len() == sparse.k * batch.valid().len() {
            true => Ok(sparse),
            false => Err(Error::format("rows of other lengths, expected those of the data").at(self.path.display())),
        }
    }

    /// The mean part of the likeliest tokens, over at most `records` of the records, evenly spread.
    ///
    /// # Errors
    /// `Format` for records that are damaged.
    pub fn kept(&self, records: u64) -> Result<Option<f64>> {
        let step = self.records().div_ceil(records.max(1)).max(1);
        let (mut sum, mut count, mut sparse) = (0.0, 0_u64, Sparse::default());
        for record in (0..self.records()).step_by(step as usize) {
            sum += self.record(record, &mut sparse)?;
            count += 1;
            sparse.ids.clear();
            sparse.probabilities.clear();
        }
        Ok((count > 0).then(|| sum / count as f64))
    }
}
