//! The tensors of a checkpoint, in place: one safetensors file, or several with an index.

use super::{MAX_CONFIG, read_text};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::tensor::DType;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    path::Path,
    sync::Arc,
};

/// The largest number of tensors; as in GGUF.
const MAX_TENSORS: usize = 1 << 16;

/// All tensors of a folder.
pub(super) struct Checkpoint {
    folder: String,
    tensors: HashMap<String, Stored>,
    /// Those that nobody has asked for yet.
    unused: BTreeSet<String>,
}

/// A tensor in place.
#[derive(Clone)]
pub(super) struct Stored {
    bytes: Arc<Bytes>,
    range: Range<usize>,
    dtype: Result<DType, Dtype>,
    /// As safetensors has it: the contiguous dimension last.
    shape: Vec<usize>,
}

/// `model.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Maps the files in `folder` and checks their headers.
    ///
    /// # Errors
    /// `Io` if there are none; `Format` if one is damaged.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let mut checkpoint =
            Self { folder: folder.display().to_string(), tensors: HashMap::new(), unused: BTreeSet::new() };
        let index = folder.join("model.safetensors.index.json");
        let single = folder.join("model.safetensors");
        if !single.exists() && index.exists() {
            checkpoint.open_shards(folder, &index)?;
        } else if single.exists() {
            checkpoint.add(&single)?;
        } else {
            let place = folder.display();
            return Err(Error::format(format!(
                "{place}: no model.safetensors, nor model.safetensors.index.json, expected one of them"
            )));
        }
        checkpoint.unused = checkpoint.tensors.keys().cloned().collect();
        Ok(checkpoint)
    }

    fn open_shards(&mut self, folder: &Path, index: &Path) -> Result<()> {
        let text = read_text(index, MAX_CONFIG)?;
        let Index { weight_map } = serde_json::from_str(&text)
            .map_err(|e| Error::format(format!("{}: no index of shards: {e}", index.display())))?;
        let files: BTreeSet<&String> = weight_map.values().collect();
        for file in files {
            if file.contains(['/', '\\']) || file.starts_with('.') {
                let place = index.display();
                return Err(Error::format(format!("{place}: names {file:?}, expected a file of the folder")));
            }
            self.add(&folder.join(file))?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let refuse = |e: String| Error::format(format!("{}: {e}", path.display()));
        let len = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?.len();
        if len == 0 {
            return Err(refuse("the file is empty, expected safetensors".into()));
        }
        let bytes = Arc::new(Bytes::map(path)?);
        let file = SafeTensors::deserialize(&bytes).map_err(|e| refuse(format!("no safetensors file: {e}")))?;
        for (name, view) in file.iter() {
            let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
            let stored = Stored {
                bytes: bytes.clone(),
                range: start..start + view.data().len(),
                dtype: match view.dtype() {
                    Dtype::F32 => Ok(DType::F32),
                    Dtype::F16 => Ok(DType::F16),
                    Dtype::BF16 => Ok(DType::BF16),
                    other => Err(other),
                },
                shape: view.shape().to_vec(),
            };
            if self.tensors.insert(name.to_owned(), stored).is_some() {
                return Err(refuse(format!("holds tensor `{name}`, as another file does")));
            }
        }
        if self.tensors.len() > MAX_TENSORS {
            return Err(refuse(format!("there are more than {MAX_TENSORS} tensors, expected fewer")));
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name`, which must have this shape (contiguous dimension last).
    ///
    /// # Errors
    /// `Format` if it is missing or has another shape; `Unsupported` if it is not of floats.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Stored> {
        self.unused.remove(name);
        let refuse = |what: String| format!("{}: tensor `{name}` {what}", self.folder);
        let stored = self.tensors.get(name).ok_or_else(|| Error::format(refuse("is missing".into())))?;
        if stored.shape != shape {
            return Err(Error::format(refuse(format!("is {:?}, expected {shape:?}", stored.shape))));
        }
        if let Err(dtype) = stored.dtype {
            return Err(Error::unsupported(refuse(format!("holds {dtype:?}, expected F32, F16 or BF16"))));
        }
        Ok(stored.clone())
    }

    /// Marks what the file has no use for.
    pub(super) fn skip(&mut self, fine: impl Fn(&str) -> bool) {
        self.unused.retain(|name| !fine(name));
    }

    /// Makes sure that nothing was left over, which would mean that the network computes something else.
    ///
    /// # Errors
    /// `Unsupported` if something was.
    pub(super) fn finish(&self) -> Result<()> {
        match self.unused.first() {
            None => Ok(()),
            Some(name) => Err(Error::unsupported(format!(
                "{}: tensor `{name}` is none of this architecture's, and {} more; expected none",
                self.folder,
                self.unused.len() - 1
            ))),
        }
    }
}

impl Stored {
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// The type of the elements, which [`Checkpoint::take`] has checked.
    pub(super) fn dtype(&self) -> DType {
        self.dtype.unwrap_or(DType::F32)
    }
}
