//! Where a file's bytes live: mapped, owned, or embedded in the program.

use crate::error::{Error, ErrorKind, Result};
use std::{fs::File, ops::Deref, path::Path};

/// A file's bytes, wherever they are. Weights are used in place, so whoever holds tensors holds an `Arc` of this.
pub enum Bytes {
    /// A file mapped into memory, read-only.
    Mapped(memmap2::Mmap),
    /// Bytes in memory, in units of 64 bits so that tensor data is aligned as in a mapped file.
    Owned {
        /// The storage.
        words: Vec<u64>,
        /// How many bytes of it count.
        len: usize,
    },
    /// Bytes embedded in the program (`include_bytes!`).
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps the file at `path` read-only.
    ///
    /// # Errors
    /// `Io` if the path is missing, unreadable or a directory; `Format` if the file is empty.
    pub fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, &e))?;
        if meta.is_dir() {
            return Err(Error::new(ErrorKind::Io, format!("{}: is a directory, expected a GGUF file", path.display())));
        }
        if meta.len() == 0 {
            return Err(Error::format(format!("{}: the file is empty, expected a GGUF file", path.display())));
        }
        // SAFETY: the map is read-only and private to this process's view. As with every program that maps its
        // input, another process that truncates the file meanwhile can make a read fault; a change of its bytes can
        // only change numbers, because everything structural is copied out and checked when the file is opened.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, &e))?;
        Ok(Self::Mapped(map))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        let mut words = Vec::with_capacity(bytes.len().div_ceil(8));
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            words.push(u64::from_ne_bytes(word));
        }
        Self::Owned { words, len: bytes.len() }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned { words, len } => {
                // SAFETY: `u64` has no padding and any byte is a valid `u8`; `len` is at most 8 × `words.len()` by
                // construction in `from`.
                #[allow(unsafe_code)]
                unsafe {
                    std::slice::from_raw_parts(words.as_ptr().cast(), *len)
                }
            }
            Self::Static(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_bytes_are_the_bytes_given() {
        for len in 0..40 {
            let bytes: Vec<u8> = (0..len).collect();
            assert_eq!(&*Bytes::from(&bytes[..]), &bytes[..]);
        }
    }

    #[test]
    fn missing_files_and_directories_are_refused() {
        let missing = Bytes::map(Path::new("no/such/file")).err().unwrap();
        assert_eq!(missing.kind(), ErrorKind::Io);
        assert!(missing.to_string().starts_with("no/such/file: "));
        let dir = Bytes::map(Path::new("src")).err().unwrap();
        assert!(dir.to_string().contains("is a directory"), "{dir}");
    }
}
