//! The checked parser: one pass that validates the structure of a file and keeps where everything is.
//!
//! Nothing here indexes with a number from the file, adds or multiplies one unchecked, or allocates by a count that
//! the bytes left in the file cannot back.

use super::{
    TensorInfo,
    directory::Directory,
    keys::{Entry, Stored},
    limits,
    values::{Value, ValueType, shown},
};
use crate::{
    error::{Error, Result},
    tensor::DType,
};
use std::ops::Range;

/// The least bytes of a key: its name's length, one letter, its type, and a value of one byte.
const MIN_KEY: u64 = 8 + 1 + 4 + 1;
/// The least bytes of a tensor's entry: its name's length, one letter, one dimension, its type and its offset.
const MIN_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// What a file says, with every range inside the file.
pub(super) struct Parsed {
    pub(super) version: u32,
    pub(super) alignment: usize,
    pub(super) keys: Directory<Entry>,
    pub(super) tensors: Directory<TensorInfo>,
}

/// Reads a whole file. Messages do not name the file: the caller does.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut at = Cursor { bytes, at: 0 };
    let (version, n_tensors, n_keys) = header(&mut at)?;
    let mut keys = Vec::new();
    for i in 1..=n_keys {
        keys.push(key(&mut at).map_err(|(name, e)| e.at(place("key", name, i, n_keys)))?);
    }
    let keys = Directory::new(keys).map_err(|name| twice("key", &name))?;
    let alignment = alignment(&keys)?;
    let mut entries = Vec::new();
    for i in 1..=n_tensors {
        entries.push(tensor(&mut at).map_err(|(name, e)| e.at(place("tensor", name, i, n_tensors)))?);
    }
    let start = at.at.checked_next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, dtype, dims, offset) in entries {
        match data(&dims, dtype, offset, alignment, start, bytes.len()) {
            Ok(range) => tensors.push(TensorInfo { name, dtype, dims, range }),
            Err(e) => return Err(Error::format(e).at(format!("tensor `{}`", shown(name.as_bytes(), 80)))),
        }
    }
    let tensors = Directory::new(tensors).map_err(|name| twice("tensor", &name))?;
    overlap(tensors.items())?;
    Ok(Parsed { version, alignment, keys, tensors })
}

/// Which key or tensor a message is about: its name, or its number as long as the name is not known.
fn place(kind: &str, name: Option<String>, i: u64, n: u64) -> String {
    match name {
        Some(name) => format!("{kind} `{}`", shown(name.as_bytes(), 80)),
        None => format!("{kind} {i} of {n}"),
    }
}

fn twice(kind: &str, name: &str) -> Error {
    Error::format(format!("{kind} `{}` appears twice", shown(name.as_bytes(), 80)))
}

/// The version, the number of tensors and the number of keys.
fn header(at: &mut Cursor<'_>) -> Result<(u32, u64, u64)> {
    let magic = at.take(4, "the magic number")?;
    if magic == b"FUGG" {
        return Err(Error::unsupported("the file is big-endian, expected little-endian GGUF"));
    }
    if magic != b"GGUF" {
        return Err(Error::format(format!(
            "not a GGUF file: it starts with \"{}\", expected \"GGUF\"",
            magic.escape_ascii()
        )));
    }
    let version = at.u32("the version")?;
    match version {
        2 | 3 => {}
        0 => return Err(Error::format("the GGUF version is 0, expected 2 or 3")),
        v if v & 0xffff == 0 => {
            return Err(Error::unsupported(format!(
                "the file is big-endian (GGUF version {}), expected little-endian GGUF",
                v.swap_bytes()
            )));
        }
        v => return Err(Error::unsupported(format!("GGUF version {v} is not supported, expected 2 or 3"))),
    }
    let n_tensors = at.u64("the number of tensors")?;
    let n_keys = at.u64("the number of keys")?;
    for (n, what, max, least) in
        [(n_tensors, "tensors", limits::MAX_TENSORS, MIN_TENSOR), (n_keys, "keys", limits::MAX_KEYS, MIN_KEY)]
    {
        if n > max {
            return Err(Error::format(format!("the header promises {n} {what}, expected at most {max}")));
        }
        if n > at.left() / least {
            let left = at.left();
            return Err(Error::format(format!(
                "the header promises {n} {what}, too many for the {left} bytes after it"
            )));
        }
    }
    Ok((version, n_tensors, n_keys))
}

/// An error, with the name of the key or tensor once that is known.
type Unplaced = (Option<String>, Error);

fn key(at: &mut Cursor<'_>) -> Result<Entry, Unplaced> {
    let name = at.name(limits::MAX_KEY_NAME).map_err(|e| (None, e))?;
    match value(at) {
        Ok(value) => Ok(Entry { name, value }),
        Err(e) => Err((Some(name), e)),
    }
}

fn value(at: &mut Cursor<'_>) -> Result<Stored> {
    let ty = at.value_type("the type of its value")?;
    match ty {
        ValueType::Str => {
            let range = at.string("its string")?;
            let text = at.bytes.get(range.clone()).unwrap_or_default();
            if let Err(e) = std::str::from_utf8(text) {
                return Err(Error::format(format!(
                    "its string is not UTF-8 at byte {} of {}",
                    e.valid_up_to(),
                    text.len()
                )));
            }
            Ok(Stored::Str(range))
        }
        ValueType::Array => array(at),
        _ => {
            let bytes = at.take(ty.size().unwrap_or_default() as u64, "its value")?;
            Value::scalar(ty, bytes).map(Stored::Scalar).ok_or_else(|| not_bool(bytes))
        }
    }
}

fn array(at: &mut Cursor<'_>) -> Result<Stored> {
    let element = at.value_type("the type of its elements")?;
    if element == ValueType::Array {
        return Err(Error::unsupported("it is an array of arrays, expected an array of numbers, bools or strings"));
    }
    let n = at.u64("the length of its array")?;
    let left = at.left();
    if n > left / element.size().unwrap_or(8) as u64 {
        return Err(Error::format(format!(
            "its array has {n} elements of type {element}, too many for the {left} bytes after it"
        )));
    }
    let start = at.at;
    match element.size() {
        Some(size) => {
            let bytes = at.take(n.saturating_mul(size as u64), "its array")?;
            if element == ValueType::Bool
                && let Some(wrong) = bytes.iter().find(|&&b| b > 1)
            {
                return Err(not_bool(&[*wrong]));
            }
        }
        None => {
            for i in 0..n {
                if let Err(e) = at.string("the string") {
                    return Err(e.at(format!("element {i} of its {n} strings")));
                }
            }
        }
    }
    // `n` is at most the number of bytes left, so it is a `usize`.
    Ok(Stored::Array { element, len: n as usize, range: start..at.at })
}

fn not_bool(bytes: &[u8]) -> Error {
    Error::format(format!("its bool is {}, expected 0 or 1", bytes.first().copied().unwrap_or_default()))
}

fn alignment(keys: &Directory<Entry>) -> Result<usize> {
    let Some(entry) = keys.find(limits::ALIGNMENT_KEY) else {
        return Ok(limits::DEFAULT_ALIGNMENT);
    };
    let alignment = match &entry.value {
        Stored::Scalar(Value::U32(n)) => limits::alignment(*n as usize),
        Stored::Scalar(other) => Err(format!("its type is {}, expected u32", other.ty())),
        Stored::Str(_) => Err("its type is string, expected u32".into()),
        Stored::Array { .. } => Err("its type is array, expected u32".into()),
    };
    alignment.map_err(|e| Error::format(e).at(format!("key `{}`", limits::ALIGNMENT_KEY)))
}

/// A tensor's name, type, dimensions, and offset into the data.
type Unlocated = (String, DType, Vec<usize>, u64);

fn tensor(at: &mut Cursor<'_>) -> Result<Unlocated, Unplaced> {
    let name = at.name(limits::MAX_TENSOR_NAME).map_err(|e| (None, e))?;
    match shape(at) {
        Ok((dtype, dims, offset)) => Ok((name, dtype, dims, offset)),
        Err(e) => Err((Some(name), e)),
    }
}

fn shape(at: &mut Cursor<'_>) -> Result<(DType, Vec<usize>, u64)> {
    let n = at.u32("the number of its dimensions")?;
    if n == 0 || n as usize > limits::MAX_DIMS {
        return Err(Error::format(format!("it has {n} dimensions, expected 1 to {}", limits::MAX_DIMS)));
    }
    let mut dims = Vec::new();
    for _ in 0..n {
        let dim = at.u64("its dimensions")?;
        dims.push(
            usize::try_from(dim)
                .map_err(|_| Error::format(format!("its dimension {dim} is larger than this machine can address")))?,
        );
    }
    let id = at.u32("its element type")?;
    let dtype = DType::from_gguf(id).ok_or_else(|| unknown_dtype(id))?;
    let offset = at.u64("its offset")?;
    Ok((dtype, dims, offset))
}

fn unknown_dtype(id: u32) -> Error {
    let found = match dtype_name(id) {
        Some(name) => format!("{name} ({id}), which is not supported"),
        None => format!("number {id}, which is unknown"),
    };
    let known: Vec<&str> = DType::ALL.iter().map(|t| t.name()).collect();
    Error::unsupported(format!("its element type is {found}; expected one of {}", known.join(", ")))
}

/// The name of an element type that GGUF knows and we do not.
fn dtype_name(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return None,
    })
}

/// Where in the file a tensor's data is. `start` is where the data of all tensors begins, if that can be addressed.
fn data(
    dims: &[usize],
    dtype: DType,
    offset: u64,
    alignment: usize,
    start: Option<usize>,
    file_len: usize,
) -> Result<Range<usize>, String> {
    let size = limits::tensor_bytes(dtype, dims)?;
    if !offset.is_multiple_of(alignment as u64) {
        return Err(format!("its offset {offset} is not a multiple of the alignment {alignment}"));
    }
    let first = usize::try_from(offset).ok().and_then(|offset| start?.checked_add(offset));
    let first = match first {
        Some(first) if first < file_len => first,
        _ => return Err(format!("its offset {offset} is past the end of the file, which has {file_len} bytes")),
    };
    match first.checked_add(size) {
        Some(end) if end <= file_len => Ok(first..end),
        _ => {
            Err(format!("the file ends in its data: {size} bytes expected at byte {first}, {} left", file_len - first))
        }
    }
}

fn overlap(tensors: &[TensorInfo]) -> Result<()> {
    let mut sorted: Vec<&TensorInfo> = tensors.iter().collect();
    sorted.sort_unstable_by_key(|t| t.range.start);
    for (a, b) in sorted.iter().zip(sorted.iter().skip(1)) {
        if b.range.start < a.range.end {
            let [a_name, b_name] = [a, b].map(|t| shown(t.name.as_bytes(), 80));
            return Err(Error::format(format!(
                "tensors `{a_name}` (bytes {:?}) and `{b_name}` (bytes {:?}) overlap",
                a.range, b.range
            )));
        }
    }
    Ok(())
}

/// A place in the file that only moves forward over bytes that are there.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Bytes from here to the end of the file.
    fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    /// The next `n` bytes. `what` they are is for the message.
    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.at += taken.len(); // at most `bytes.len()`
                Ok(taken)
            }
            None => Err(self.ended(n, what)),
        }
    }

    #[cold]
    fn ended(&self, n: u64, what: &str) -> Error {
        let (at, left) = (self.at, self.left());
        Error::format(format!("the file ends in {what}: {n} bytes expected at byte {at}, {left} left"))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?.try_into();
        bytes.map(u32::from_le_bytes).map_err(|_| self.ended(4, what))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        let bytes = self.take(8, what)?.try_into();
        bytes.map(u64::from_le_bytes).map_err(|_| self.ended(8, what))
    }

    /// Where the text of a string is.
    fn string(&mut self, what: &str) -> Result<Range<usize>> {
        let n = self.u64(what)?;
        let start = self.at;
        self.take(n, what)?;
        Ok(start..self.at)
    }

    fn name(&mut self, max: usize) -> Result<String> {
        let range = self.string("its name")?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        limits::name(bytes, max).map(str::to_owned).map_err(Error::format)
    }

    fn value_type(&mut self, what: &str) -> Result<ValueType> {
        let id = self.u32(what)?;
        ValueType::from_gguf(id).ok_or_else(|| Error::format(format!("{what} is {id}, expected 0 to 12")))
    }
}
