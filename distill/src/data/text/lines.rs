//! Files line by line, in bounded memory.

use crate::error::{Error, Result};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Longer lines are bad ones.
const MAX_LINE: usize = 1 << 20;

/// Reads a file line by line.
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: usize,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self { path: path.to_path_buf(), reader: BufReader::new(file), line: Vec::new(), number: 0 })
    }

    /// The next line without its end, and its number from 1; or why it cannot be used.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Result<&str, String>)>> {
        self.line.clear();
        self.number += 1;
        let mut part = self.reader.by_ref().take(MAX_LINE as u64 + 1);
        if part.read_until(b'\n', &mut self.line).map_err(|error| Error::io(&self.path, &error))? == 0 {
            return Ok(None);
        }
        let complete = self.line.ends_with(b"\n");
        if self.line.len() > MAX_LINE && !complete {
            self.skip_line()?;
            return Ok(Some((self.number, Err(format!("longer than {MAX_LINE} bytes")))));
        }
        let line = std::str::from_utf8(&self.line).map_err(|_| "not UTF-8".to_string());
        // Some editors begin files with a byte order mark.
        Ok(Some((self.number, line.map(|line| line.trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}')))))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let buffer = self.reader.fill_buf().map_err(|error| Error::io(&self.path, &error))?;
            let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.reader.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}
