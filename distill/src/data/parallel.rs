//! Parallel text: sentences and their translations, a pair a line.

use super::text::lines::Lines;
use crate::error::{Error, Result};
use std::path::Path;

/// A sentence and its translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The sentence.
    pub source: String,
    /// What people made of it.
    pub target: String,
}

/// Up to `limit` pairs of a file with a sentence, a tab, and its translation on each line; further columns do not count.
///
/// # Errors
/// `Io` if the file cannot be read; `Format` if a line has no tab, is no UTF-8 or is longer than 1 MiB.
pub fn read_tsv(path: &Path, limit: usize) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    each_line(path, limit, |number, line| {
        let mut columns = line.split('\t');
        let (Some(source), Some(target)) = (columns.next(), columns.next()) else {
            let place = path.display();
            return Err(Error::format(format!("{place}: line {number} has no tab, expected SOURCE<tab>TARGET")));
        };
        pairs.push(Pair { source: source.into(), target: target.into() });
        Ok(())
    })?;
    Ok(pairs)
}

/// Up to `limit` pairs of two files with a sentence on each line.
///
/// # Errors
/// As [`read_lines`]; `Format` if one file has more lines than the other.
pub fn read_files(source: &Path, target: &Path, limit: usize) -> Result<Vec<Pair>> {
    let (sources, targets) = (read_lines(source, limit)?, read_lines(target, limit)?);
    if sources.len() != targets.len() {
        let (a, b) = (source.display(), target.display());
        return Err(Error::format(format!("{a}: {} lines, {b}: {}, expected as many", sources.len(), targets.len())));
    }
    Ok(sources.into_iter().zip(targets).map(|(source, target)| Pair { source, target }).collect())
}

/// Up to `limit` lines of a file.
///
/// # Errors
/// `Io` if it cannot be read; `Format` if a line is no UTF-8 or longer than 1 MiB.
pub fn read_lines(path: &Path, limit: usize) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    each_line(path, limit, |_, line| {
        lines.push(line.into());
        Ok(())
    })?;
    Ok(lines)
}

fn each_line(path: &Path, limit: usize, mut each: impl FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let mut lines = Lines::open(path)?;
    for _ in 0..limit {
        let Some((number, line)) = lines.next()? else { break };
        let refuse =
            |what: String| Error::format(format!("{}: line {number} is {what}, expected text", path.display()));
        each(number, line.map_err(refuse)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pupil-parallel-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn columns_lines_and_what_is_wrong_with_them() {
        let path = file("good", "\u{feff}Hi.\tHallo!\tCC-BY\r\nYes.\tJa.\n\tleer".as_bytes());
        let pairs = read_tsv(&path, 9).unwrap();
        let pair = |source: &str, target: &str| Pair { source: source.into(), target: target.into() };
        assert_eq!(pairs, [pair("Hi.", "Hallo!"), pair("Yes.", "Ja."), pair("", "leer")]);
        assert_eq!(read_tsv(&path, 2).unwrap().len(), 2);
        let other = file("other", b"a\nb\n");
        assert_eq!(read_lines(&other, 9).unwrap(), ["a", "b"]);
        assert!(read_files(&path, &other, 9).unwrap_err().to_string().contains("3 lines"));
        assert_eq!(read_files(&path, &other, 2).unwrap()[1].target, "b");
        assert!(read_tsv(&other, 9).unwrap_err().to_string().contains("line 1 has no tab"));
        let bad = file("bad", b"a\tb\n\xff\tb\n");
        assert!(read_tsv(&bad, 9).unwrap_err().to_string().contains("line 2 is not UTF-8, expected text"));
        let long = file("long", &vec![b'a'; (1 << 20) + 5]);
        assert!(read_lines(&long, 9).unwrap_err().to_string().contains("longer than 1048576 bytes"));
        for path in [path, other, bad, long] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
