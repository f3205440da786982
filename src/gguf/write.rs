//! The writer: collects keys and tensors, checks them, and writes a version 3 file.

use super::{
    limits,
    values::{Value, ValueType, shown},
};
use crate::{
    error::{Error, ErrorKind, Result},
    output::Output,
    tensor::DType,
};
use std::{
    borrow::Cow,
    collections::HashSet,
    io::{self, Read, Write},
    path::Path,
};

/// A metadata value to be written: made with `From` out of a number, a bool, text, or a list of one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedValue {
    ty: ValueType,
    /// The value as it lies in the file.
    bytes: Vec<u8>,
}

impl OwnedValue {
    /// An array of strings, which need not be UTF-8.
    pub fn strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Self {
        let (mut n, mut body) = (0_usize, Vec::new());
        for string in strings {
            n += 1;
            put_string(&mut body, string.as_ref());
        }
        Self::array(ValueType::Str, n, &body)
    }

    fn array(element: ValueType, len: usize, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(12 + body.len());
        bytes.extend(element.to_gguf().to_le_bytes());
        bytes.extend((len as u64).to_le_bytes());
        bytes.extend(body);
        Self { ty: ValueType::Array, bytes }
    }
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string);
}

macro_rules! from_numbers {
    ($($number:ty, $ty:ident;)*) => {$(
        impl From<$number> for OwnedValue {
            fn from(n: $number) -> Self {
                Self { ty: ValueType::$ty, bytes: n.to_le_bytes().to_vec() }
            }
        }

        impl From<&[$number]> for OwnedValue {
            fn from(list: &[$number]) -> Self {
                let body: Vec<u8> = list.iter().flat_map(|n| n.to_le_bytes()).collect();
                Self::array(ValueType::$ty, list.len(), &body)
            }
        }

        impl From<Vec<$number>> for OwnedValue {
            fn from(list: Vec<$number>) -> Self {
                list.as_slice().into()
            }
        }
    )*};
}

from_numbers! {
    u8, U8; i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; u64, U64; i64, I64; f32, F32; f64, F64;
}

impl From<bool> for OwnedValue {
    fn from(b: bool) -> Self {
        Self { ty: ValueType::Bool, bytes: vec![b.into()] }
    }
}

impl From<&[bool]> for OwnedValue {
    fn from(list: &[bool]) -> Self {
        let body: Vec<u8> = list.iter().map(|&b| b.into()).collect();
        Self::array(ValueType::Bool, list.len(), &body)
    }
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> Self {
        let mut bytes = Vec::new();
        put_string(&mut bytes, text.as_bytes());
        Self { ty: ValueType::Str, bytes }
    }
}

impl From<String> for OwnedValue {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

macro_rules! from_strings {
    ($($string:ty),*) => {$(
        impl From<&[$string]> for OwnedValue {
            fn from(list: &[$string]) -> Self {
                Self::strings(list)
            }
        }

        impl From<Vec<$string>> for OwnedValue {
            fn from(list: Vec<$string>) -> Self {
                Self::strings(list)
            }
        }
    )*};
}

from_strings!(&str, String, &[u8], Vec<u8>);

/// A value that was read, to be written to another file.
impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            Value::F32(x) => x.into(),
            Value::F64(x) => x.into(),
            Value::Bool(b) => b.into(),
            Value::Str(text) => text.into(),
            Value::Array(array) => Self::array(array.element(), array.len(), array.bytes()),
        }
    }
}

/// A tensor to be written.
struct Source<'a> {
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    data: Data<'a>,
}

/// Where a tensor's bytes come from.
enum Data<'a> {
    Given(Cow<'a, [u8]>),
    /// How many pieces there are, and what makes each.
    Made(usize, Box<MakePiece<'a>>),
}

type MakePiece<'a> = dyn Fn(usize) -> Result<Vec<u8>> + 'a;

/// Collects keys and tensors and writes them, in the order given, as a GGUF file.
///
/// What makes no sense — a name twice, data that do not fit the shape — is refused when it is written.
pub struct Writer<'a> {
    alignment: usize,
    keys: Vec<(String, OwnedValue)>,
    tensors: Vec<Source<'a>>,
}

impl Default for Writer<'_> {
    fn default() -> Self {
        Self { alignment: 64, keys: Vec::new(), tensors: Vec::new() }
    }
}

impl<'a> Writer<'a> {
    /// A writer without keys and tensors, that aligns tensors to 64 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the alignment of the tensors' data: a power of two, at least 8. It is written as `general.alignment`.
    pub fn alignment(&mut self, alignment: usize) -> &mut Self {
        self.alignment = alignment;
        self
    }

    /// Adds a key. `general.alignment` is the writer's own and is not to be added.
    pub fn key(&mut self, name: impl Into<String>, value: impl Into<OwnedValue>) -> &mut Self {
        self.keys.push((name.into(), value.into()));
        self
    }

    /// Adds a tensor: `dims` with the contiguous dimension first, `data` as it shall lie in the file.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        dims: &[usize],
        data: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.tensors.push(Source { name: name.into(), dtype, dims: dims.to_vec(), data: Data::Given(data.into()) });
        self
    }

    /// Adds a tensor whose data are made while the file is written, by `make(0)` to `make(pieces - 1)`: of a file that
    /// is larger than memory, only one piece is there at a time.
    pub fn tensor_in_pieces(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        dims: &[usize],
        pieces: usize,
        make: impl Fn(usize) -> Result<Vec<u8>> + 'a,
    ) -> &mut Self {
        let data = Data::Made(pieces, Box::new(make));
        self.tensors.push(Source { name: name.into(), dtype, dims: dims.to_vec(), data });
        self
    }

    /// Writes the file to `out`.
    ///
    /// # Errors
    /// `Input` if the keys and tensors do not make a file; `Io` if `out` fails; whatever a maker of pieces returns.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> Result<()> {
        let sizes = self.check()?;
        self.put(out, &sizes).map_err(|e| match e {
            Failed::Writing(e) => Error::new(ErrorKind::Io, format!("cannot write: {e}")),
            Failed::Making(e) => e,
        })
    }

    /// Writes the file to `path`, as an [`Output`], so that a failure leaves what was at `path` before.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_file(&self, path: &Path) -> Result<()> {
        let sizes = self.check().map_err(|e| e.at(path.display()))?;
        let mut out = Output::create(path)?;
        self.put(&mut out, &sizes).map_err(|e| match e {
            Failed::Writing(e) => Error::io(path, &e),
            Failed::Making(e) => e,
        })?;
        out.finish()
    }

    /// Refuses what the reader would, and what llama.cpp would. Returns the bytes of each tensor.
    fn check(&self) -> Result<Vec<usize>> {
        limits::alignment(self.alignment).map_err(Error::input)?;
        if u32::try_from(self.alignment).is_err() {
            return Err(Error::input(format!("the alignment is {}, expected less than 2^32", self.alignment)));
        }
        let keys = self.keys.len() as u64 + 1; // the alignment's
        for (n, what, max) in
            [(keys, "keys", limits::MAX_KEYS), (self.tensors.len() as u64, "tensors", limits::MAX_TENSORS)]
        {
            if n > max {
                return Err(Error::input(format!("there are {n} {what}, expected at most {max}")));
            }
        }
        let mut names = HashSet::from([limits::ALIGNMENT_KEY]);
        for (name, _) in &self.keys {
            let refuse = |e: String| Error::input(e).at(format!("key `{}`", shown(name.as_bytes(), 80)));
            limits::name(name.as_bytes(), limits::MAX_KEY_NAME).map_err(refuse)?;
            if !names.insert(name) {
                return Err(refuse("it was added twice, or is the writer's own".into()));
            }
        }
        let mut names = HashSet::new();
        let mut sizes = Vec::with_capacity(self.tensors.len());
        for Source { name, dtype, dims, data } in &self.tensors {
            let refuse = |e: String| Error::input(e).at(format!("tensor `{}`", shown(name.as_bytes(), 80)));
            limits::name(name.as_bytes(), limits::MAX_TENSOR_NAME - 1).map_err(refuse)?;
            if !names.insert(name) {
                return Err(refuse("it was added twice".into()));
            }
            let bytes = limits::tensor_bytes(*dtype, dims).map_err(refuse)?;
            if let Data::Given(data) = data
                && data.len() != bytes
            {
                let len = data.len();
                return Err(refuse(format!("it has {len} bytes of data, expected {bytes} for {dtype} {dims:?}")));
            }
            sizes.push(bytes);
        }
        Ok(sizes)
    }

    fn put(&self, out: &mut (impl Write + ?Sized), sizes: &[usize]) -> Result<(), Failed> {
        let mut head = Vec::from(*b"GGUF");
        head.extend(3_u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.keys.len() as u64 + 1).to_le_bytes());
        let alignment = OwnedValue::from(self.alignment as u32);
        let keys = self.keys.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in keys.chain([(limits::ALIGNMENT_KEY, &alignment)]) {
            put_string(&mut head, name.as_bytes());
            head.extend(value.ty.to_gguf().to_le_bytes());
            head.extend(&value.bytes);
        }
        let mut offset = 0;
        for (tensor, size) in self.tensors.iter().zip(sizes) {
            put_string(&mut head, tensor.name.as_bytes());
            head.extend((tensor.dims.len() as u32).to_le_bytes());
            head.extend(tensor.dims.iter().flat_map(|&d| (d as u64).to_le_bytes()));
            head.extend(tensor.dtype.to_gguf().to_le_bytes());
            head.extend(u64::to_le_bytes(offset));
            offset += size.next_multiple_of(self.alignment) as u64;
        }
        out.write_all(&head)?;
        self.pad(out, head.len())?;
        for (tensor, &size) in self.tensors.iter().zip(sizes) {
            match &tensor.data {
                Data::Given(data) => out.write_all(data)?,
                Data::Made(pieces, make) => put_pieces(out, &tensor.name, size, *pieces, make)?,
            }
            self.pad(out, size)?;
        }
        Ok(())
    }

    /// Writes zeros from `len` up to the alignment.
    fn pad(&self, out: &mut (impl Write + ?Sized), len: usize) -> io::Result<()> {
        let padding = len.next_multiple_of(self.alignment) - len;
        io::copy(&mut io::repeat(0).take(padding as u64), out)?;
        Ok(())
    }
}

fn put_pieces(
    out: &mut (impl Write + ?Sized),
    name: &str,
    size: usize,
    pieces: usize,
    make: &MakePiece<'_>,
) -> Result<(), Failed> {
    let mut written = 0;
    for i in 0..pieces {
        let piece = make(i).map_err(|e| Failed::Making(e.at(format!("tensor `{name}`"))))?;
        written += piece.len();
        out.write_all(&piece)?;
    }
    if written == size {
        return Ok(());
    }
    let message = format!("tensor `{name}`: {written} bytes of data were made, expected {size}");
    Err(Failed::Making(Error::input(message)))
}

/// Why a file could not be written.
enum Failed {
    Writing(io::Error),
    /// A piece of a tensor could not be made.
    Making(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Writing(error)
    }
}
