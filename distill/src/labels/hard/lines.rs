//! JSONL files that only grow. A line counts when its end is written: what a kill has torn is dropped and done again.

use crate::error::{Error, Result};
use pupil::output;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// A longer line is none of ours.
const MAX_LINE: usize = 1 << 24;

/// The lines of a file. Returns how long those are that have an end, and the one at the end that has none.
fn read<T: DeserializeOwned>(
    path: &Path,
    file: &File,
    each: &mut dyn FnMut(T) -> Result<()>,
) -> Result<(u64, Vec<u8>)> {
    let io = |error: std::io::Error| Error::io(path, &error);
    let mut reader = BufReader::new(file);
    let (mut line, mut whole, mut number) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let len = std::io::Read::take(&mut reader, MAX_LINE as u64).read_until(b'\n', &mut line).map_err(io)?;
        number += 1;
        if !line.ends_with(b"\n") {
            return match len < MAX_LINE {
                true => Ok((whole, line)),
                false => Err(Error::format(format!("{} line {number}: longer than {MAX_LINE} bytes", path.display()))),
            };
        }
        whole += len as u64;
        let value = serde_json::from_slice(&line)
            .map_err(|error| Error::format(format!("{} line {number}: {error}", path.display())))?;
        each(value)?;
    }
}

/// A file that is complete.
pub struct Whole {
    path: PathBuf,
    file: File,
}

impl Whole {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Io`; `Format` for a line that is something else.
    pub fn each<T: DeserializeOwned>(self, each: &mut dyn FnMut(T) -> Result<()>) -> Result<()> {
        let (_, last) = read(&self.path, &self.file, each)?;
        // Files that people made may lack the last end; what a kill has torn is no JSON.
        serde_json::from_slice(&last).map_or(Ok(()), each)
    }
}

/// A file that grows.
pub struct Growing {
    path: PathBuf,
    file: File,
}

impl Growing {
    /// Opens or begins a file whose lines begin with `prefix`; `each` gets what is in it. It is none of `inputs`.
    ///
    /// # Errors
    /// As those of [`Whole`]: a file of something else stays as it is.
    pub fn open<T: DeserializeOwned, P: AsRef<Path>>(
        path: &Path,
        inputs: &[P],
        prefix: &str,
        each: &mut dyn FnMut(T) -> Result<()>,
    ) -> Result<Self> {
        output::check(path, inputs)?;
        let io = |error: std::io::Error| Error::io(path, &error);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let (whole, torn) = read(path, &file, each)?;
        // What has no end may well be somebody's text.
        let prefix = prefix.as_bytes();
        if !torn.starts_with(prefix) && !prefix.starts_with(&torn) {
            return Err(Error::format(format!("{}: no JSONL, expected lines of an earlier run", path.display())));
        }
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// `Io`.
    pub fn push(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|error| Error::input(error.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| Error::io(&self.path, &error))
    }
}
