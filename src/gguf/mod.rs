//! The container: one file format for all students, read in place.
//!
//! A GGUF file is a header, a list of named values (the *keys*), a directory of tensors, and their data:
//!
//! ```text
//! ┌───────────────────────────────────────────────────────────────────────────────┐
//! │ "GGUF"   version: u32   number of tensors: u64   number of keys: u64          │ header
//! ├───────────────────────────────────────────────────────────────────────────────┤
//! │ name: string   type: u32   value                                              │ one for each key
//! ├───────────────────────────────────────────────────────────────────────────────┤
//! │ name: string   n: u32   n dimensions: u64   element type: u32   offset: u64   │ one for each tensor
//! ├─────────────────────────── zeros up to the alignment ─────────────────────────┤
//! │ data of a tensor, at its offset from here   zeros up to the alignment         │ one for each tensor
//! └───────────────────────────────────────────────────────────────────────────────┘
//! string = length: u64, bytes          array = element type: u32, length: u64, elements
//! ```
//!
//! Numbers are little-endian. The first dimension of a tensor is the contiguous one. The key `general.alignment` holds
//! the alignment, which is 32 where the key is missing.
//!
//! # Limits
//!
//! A file is untrusted. Opening it walks over all of it but the tensors' data, once, and refuses what is not as follows:
//!
//! - version 2 or 3, little-endian;
//! - at most 65,536 keys and 65,536 tensors, and not more than fit into the file;
//! - names unique, not empty, in UTF-8 without control characters; a key's of at most 65,535 bytes, a tensor's of at most 64;
//! - keys of the 13 known types; bools 0 or 1; strings in UTF-8 (but not those in arrays, as vocabularies hold pieces of
//!   characters); no arrays of arrays;
//! - the alignment a `u32` and a power of two, at least 8;
//! - tensors of a known [`DType`], with 1 to 4 dimensions, none of them 0, and rows of whole blocks;
//! - each tensor's data at a multiple of the alignment, inside the file, and not overlapping another's.
//!
//! Gaps between tensors, tensors in another order than their data, and bytes after the last one are fine.
//! What was accepted is kept as offsets: strings, arrays and tensors stay where they are in the file.
//!
//! ```
//! use pupil::{bytes::Bytes, gguf::{Gguf, Writer}, tensor::DType};
//!
//! let mut file = Vec::new();
//! Writer::new()
//!     .key("general.architecture", "llama")
//!     .key("llama.block_count", 2_u32)
//!     .tensor("output_norm.weight", DType::F32, &[2], &[0; 8][..])
//!     .write(&mut file)?;
//!
//! let gguf = Gguf::from_bytes(Bytes::from(&file[..]), "tiny.gguf")?;
//! assert_eq!(gguf.keys().u32("llama.block_count")?, 2);
//! assert_eq!(gguf.tensor("output_norm.weight")?.dims(), [2]);
//! assert_eq!(
//!     gguf.keys().u32("general.architecture").unwrap_err().to_string(),
//!     "tiny.gguf: key `general.architecture` is the string \"llama\", expected an integer from 0 to 4294967295",
//! );
//! # Ok::<(), pupil::Error>(())
//! ```
//!
//! `read.rs` is the parser, `keys.rs` the typed access to metadata, `values.rs` its values, `write.rs` the writer, and
//! `limits.rs` what reader and writer both check.

mod directory;
mod keys;
mod limits;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use keys::Keys;
pub use values::{Array, Strings, Value, ValueType};
pub use write::{OwnedValue, Writer};

use crate::{
    bytes::Bytes,
    error::{Error, Result},
    tensor::{DType, Tensor},
};
use directory::{Directory, Named};
use read::Parsed;
use std::{fmt, ops::Range, path::Path, sync::Arc};
use values::shown;

/// An open file: its metadata and its tensors, in place.
pub struct Gguf {
    version: u32,
    alignment: usize,
    keys: Keys,
    tensors: Directory<TensorInfo>,
}

/// What the directory of a file says about a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The dimensions, contiguous one first; 1 to 4, none of them 0.
    pub dims: Vec<usize>,
    /// The bytes of the file that are its data.
    pub range: Range<usize>,
}

impl Named for TensorInfo {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Gguf {
    /// Maps the file at `path` and checks it. Messages name the file by its path.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Format` if it is not a sound GGUF file, `Unsupported` if it needs something that
    /// this version cannot do.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(Bytes::map(path)?, &path.display().to_string())
    }

    /// Checks a file that is already in memory. Messages call it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Arc<Bytes>>, name: &str) -> Result<Self> {
        let bytes = bytes.into();
        let Parsed { version, alignment, keys: entries, tensors } = read::parse(&bytes).map_err(|e| e.at(name))?;
        let keys = Keys { file: name.into(), bytes, entries };
        Ok(Self { version, alignment, keys, tensors })
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.keys.file
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of the tensors' data in the file, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The file's length, in bytes.
    pub fn file_len(&self) -> usize {
        self.keys.bytes.len()
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &Arc<Bytes> {
        &self.keys.bytes
    }

    /// The metadata.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The directory of tensors, in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.tensors.items()
    }

    /// The tensor called `name`, in place.
    ///
    /// # Errors
    /// `Format` if there is none.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.find_tensor(name).ok_or_else(|| {
            Error::format(format!("{}: tensor `{}` is missing", self.name(), shown(name.as_bytes(), 80)))
        })
    }

    /// The tensor called `name`, in place, if there is one.
    pub fn find_tensor(&self, name: &str) -> Option<Tensor> {
        let info = self.tensors.find(name)?;
        Some(Tensor::new(self.keys.bytes.clone(), info.range.clone(), info.dtype, info.dims.clone()))
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, tensors) = (self.keys.len(), self.tensors().len());
        write!(f, "Gguf({}: version {}, {keys} keys, {tensors} tensors)", self.name(), self.version)
    }
}
