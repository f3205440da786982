//! The lexical shortlist: which words a translation may need, given the words of the source (Schwenk 2007; Junczys-Dowmunt
//! et al. 2018). It spares most of the product with the output matrix, the largest part of decoding small models.

use super::EncDec;
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::gguf::{Array, Gguf, Value, ValueType};
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

const FREQUENT: &str = "pupil.shortlist.frequent";
const OFFSETS: &str = "pupil.shortlist.offsets";
const TARGETS: &str = "pupil.shortlist.targets";

/// A file's shortlist, in place: for source token s, `targets[offsets[s]..offsets[s + 1]]`, and for all of them
/// `frequent`.
pub struct Shortlist {
    frequent: Numbers,
    offsets: Numbers,
    targets: Numbers,
}

/// The tokens that a batch's translations choose from, and their rows of the output matrix.
pub struct Chosen {
    /// Ascending.
    pub tokens: Vec<u32>,
    pub(super) output: Tensor,
}

/// An array of `u32` in a file.
struct Numbers {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl Numbers {
    fn of(file: &Gguf, array: Array<'_>) -> Self {
        let start = array.bytes().as_ptr() as usize - file.bytes().as_ptr() as usize;
        Self { bytes: file.bytes().clone(), range: start..start + array.bytes().len() }
    }

    fn all(&self) -> &[[u8; 4]] {
        self.bytes[self.range.clone()].as_chunks().0
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        self.all().iter().copied().map(u32::from_le_bytes)
    }
}

impl Shortlist {
    /// The shortlist of `file`, if it has one, for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// `Format` if a part of it is missing or holds what makes no sense.
    pub fn read(file: &Gguf, vocab: usize) -> Result<Option<Self>> {
        if file.keys().get(TARGETS).is_none() {
            return Ok(None);
        }
        let wrong =
            |key: &str, expected: String| Error::format(format!("{}: key `{key}`: expected {expected}", file.name()));
        let numbers = |key: &str| match file.keys().get(key) {
            Some(Value::Array(array)) if array.element() == ValueType::U32 => Ok(Numbers::of(file, array)),
            _ => Err(wrong(key, "an array of u32".into())),
        };
        let list = Self { frequent: numbers(FREQUENT)?, offsets: numbers(OFFSETS)?, targets: numbers(TARGETS)? };
        for (key, tokens) in [(FREQUENT, &list.frequent), (TARGETS, &list.targets)] {
            if let Some(token) = tokens.iter().find(|&token| token as usize >= vocab) {
                return Err(wrong(key, format!("tokens below {vocab}, found {token}")));
            }
        }
        let (offsets, targets) = (list.offsets.all().len(), list.targets.all().len());
        if offsets != vocab + 1 || list.offsets.iter().next() != Some(0) || !list.offsets.iter().is_sorted() {
            return Err(wrong(OFFSETS, format!("{} numbers that ascend from 0, found {offsets}", vocab + 1)));
        }
        if list.offsets.iter().last() != Some(targets as u32) {
            return Err(wrong(OFFSETS, format!("the last one to be {targets}, the number of targets")));
        }
        Ok(Some(list))
    }

    /// What translations of `sources` may be made of, and `end`, which ends each.
    pub fn choose<'a>(&self, net: &EncDec, sources: impl Iterator<Item = &'a u32>, end: u32) -> Chosen {
        let mut marked = vec![false; net.config.vocab];
        let mut mark = |token: u32| {
            // Checked when the file was opened; a mapped file may have changed since.
            if let Some(mark) = marked.get_mut(token as usize) {
                *mark = true;
            }
        };
        mark(end);
        self.frequent.iter().for_each(&mut mark);
        let (offsets, targets) = (self.offsets.all(), self.targets.all());
        for &source in sources {
            let offset = |i: usize| offsets.get(i).map_or(0, |offset| u32::from_le_bytes(*offset) as usize);
            let range = offset(source as usize)..offset(source as usize + 1);
            targets.get(range).unwrap_or_default().iter().for_each(|&target| mark(u32::from_le_bytes(target)));
        }
        let tokens: Vec<u32> = (0..).zip(&marked).filter(|(_, marked)| **marked).map(|(token, _)| token).collect();
        let mut rows = Vec::with_capacity(tokens.len() * net.output.row_bytes());
        for &token in &tokens {
            rows.extend_from_slice(net.output.row_data(token as usize..token as usize + 1));
        }
        let dims = vec![net.output.cols(), tokens.len()];
        let output = Tensor::new(Arc::new(Bytes::from(&rows[..])), 0..rows.len(), net.output.dtype(), dims);
        Chosen { tokens, output }
    }
}
