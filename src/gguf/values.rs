//! Metadata values: their types, and a borrowed view of one.

use std::{fmt, iter::FusedIterator};

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Every type, in the order of their GGUF numbers.
    pub const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64]
    };

    /// The type with this GGUF number.
    pub fn from_gguf(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.to_gguf() == id)
    }

    /// The type's number in a GGUF file.
    pub fn to_gguf(self) -> u32 {
        self as u32
    }

    /// Bytes of one value, or `None` for strings and arrays, whose length varies.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Str | Self::Array => None,
        }
    }

    /// The name used in messages, as in `u32` or `string`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Str => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64 | Self::Bool | Self::Str | Self::Array)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value; text and arrays are borrowed from the file. `Display` prints it on one line, shortened.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    Str(&'a str),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn ty(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::Bool(_) => ValueType::Bool,
            Self::Str(_) => ValueType::Str,
            Self::Array(_) => ValueType::Array,
        }
    }

    /// The number or bool that `bytes` hold; `None` if they are not exactly one value of type `ty`.
    pub(super) fn scalar(ty: ValueType, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match ty {
            ValueType::U8 => Value::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => match bytes {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return None,
            },
            ValueType::Str | ValueType::Array => return None,
        })
    }

    /// The value as an integer type that it fits into, whichever integer type it is stored as.
    pub(super) fn integer<T: TryFrom<i128>>(self) -> Option<T> {
        let wide = match self {
            Self::U8(n) => i128::from(n),
            Self::I8(n) => i128::from(n),
            Self::U16(n) => i128::from(n),
            Self::I16(n) => i128::from(n),
            Self::U32(n) => i128::from(n),
            Self::I32(n) => i128::from(n),
            Self::U64(n) => i128::from(n),
            Self::I64(n) => i128::from(n),
            _ => return None,
        };
        T::try_from(wide).ok()
    }

    /// The value as `f32`, if it is stored as `f32` or `f64`.
    pub(super) fn float(self) -> Option<f32> {
        match self {
            Self::F32(x) => Some(x),
            Self::F64(x) => Some(x as f32),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(n) => n.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U64(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(x) => write!(f, "{x:?}"),
            Self::F64(x) => write!(f, "{x:?}"),
            Self::Bool(b) => b.fmt(f),
            Self::Str(s) => write!(f, "\"{}\"", shown(s.as_bytes(), 80)),
            Self::Array(a) => a.fmt(f),
        }
    }
}

/// An array of numbers, bools or strings, in place. `Display` prints its first elements and how many there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    pub(super) element: ValueType,
    pub(super) len: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements' type.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as they lie in the file: little-endian numbers, or strings each behind its length in a `u64`.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements of an array of strings. They are usually UTF-8, but a vocabulary may hold pieces of characters.
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.element == ValueType::Str).then_some(Strings { left: self.len, bytes: self.bytes })
    }

    /// The elements of an array of `f32` or `f64`.
    pub fn f32s(&self) -> Option<Vec<f32>> {
        matches!(self.element, ValueType::F32 | ValueType::F64)
            .then(|| self.scalars().map(Value::float).collect())
            .flatten()
    }

    /// The elements of an array of integers of any type, if all of them fit.
    pub fn i32s(&self) -> Option<Vec<i32>> {
        self.integers()
    }

    /// The elements of an array of integers of any type, if all of them fit.
    pub fn u32s(&self) -> Option<Vec<u32>> {
        self.integers()
    }

    fn integers<T: TryFrom<i128>>(&self) -> Option<Vec<T>> {
        self.element.is_integer().then(|| self.scalars().map(Value::integer).collect()).flatten()
    }

    /// The elements of an array of numbers or bools.
    fn scalars(&self) -> impl Iterator<Item = Value<'static>> + use<'a> {
        let element = self.element;
        let bytes = if element.size().is_some() { self.bytes } else { &[] };
        bytes.chunks_exact(element.size().unwrap_or(1)).filter_map(move |bytes| Value::scalar(element, bytes))
    }
}

impl fmt::Display for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        f.write_str("[")?;
        for (i, string) in self.strings().into_iter().flatten().take(SHOWN).enumerate() {
            write!(f, "{}\"{}\"", if i > 0 { ", " } else { "" }, shown(string, 24))?;
        }
        for (i, value) in self.scalars().take(SHOWN).enumerate() {
            write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
        }
        if self.len > SHOWN {
            write!(f, ", … {} in all", self.len)?;
        }
        f.write_str("]")
    }
}

/// The strings of an array, in order, as bytes.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Another pass over the strings that are left.
    pub fn iter(&self) -> Strings<'a> {
        self.clone()
    }

    /// How many strings are left.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes the next string and its length off the front.
    fn split(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.bytes.split_first_chunk()?;
        let (string, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.bytes = rest;
        Some(string)
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        // The lengths were checked when the file was opened. Only a mapped file that was overwritten since can fail
        // here, and then yields empty strings, as many as were promised.
        Some(self.split().unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
impl FusedIterator for Strings<'_> {}

/// Text of a file for a message: on one line, without control characters, at most `max` characters.
pub(super) fn shown(text: &[u8], max: usize) -> String {
    let head = text.get(..max.saturating_mul(4)).unwrap_or(text);
    let head = String::from_utf8_lossy(head);
    let mut chars = head.chars();
    let mut shown: String = chars.by_ref().take(max).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
