//! The metadata of a file: named values in file order, and typed access to them.

use super::{
    directory::{Directory, Named},
    values::{Array, Strings, Value, ValueType, shown},
};
use crate::{
    bytes::Bytes,
    error::{Error, Result},
};
use std::{ops::Range, sync::Arc};

/// A key, and where its value is.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Stored,
}

impl Named for Entry {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A value, or the range of the file that holds it. Ranges were checked when the file was read.
pub(super) enum Stored {
    Scalar(Value<'static>),
    Str(Range<usize>),
    Array { element: ValueType, len: usize, range: Range<usize> },
}

/// The metadata of a file.
///
/// The typed methods come in pairs: `u32` asks for a key that must be there, `opt_u32` for one that may be missing.
/// Both refuse a value of another type, with a message that names the file, the key, what was found and what was
/// expected. Integers may be stored in any integer type that they fit into, and floats in either float type.
pub struct Keys {
    pub(super) file: Arc<str>,
    pub(super) bytes: Arc<Bytes>,
    pub(super) entries: Directory<Entry>,
}

/// Defines a pair of typed methods: one for a key that must be there and one for a key that may be missing.
macro_rules! typed {
    ($($(#[$doc:meta])* $get:ident, $opt:ident -> $type:ty, $expected:expr, $from:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// `Format` if the key is missing or holds something else.
        pub fn $get(&self, key: &str) -> Result<$type> {
            self.$opt(key)?.ok_or_else(|| self.missing(key, $expected))
        }

        $(#[$doc])*
        /// Or `None`, if the key is missing.
        ///
        /// # Errors
        /// `Format` if the key holds something else.
        pub fn $opt(&self, key: &str) -> Result<Option<$type>> {
            let Some(value) = self.get(key) else { return Ok(None) };
            match $from(value) {
                Some(value) => Ok(Some(value)),
                None => Err(self.wrong(key, value, $expected)),
            }
        }
    )*};
}

impl Keys {
    /// The keys and their values, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.items().iter().map(|entry| (entry.name.as_str(), self.value(entry)))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.items().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.entries.find(key).map(|entry| self.value(entry))
    }

    fn value(&self, entry: &Entry) -> Value<'_> {
        match &entry.value {
            Stored::Scalar(value) => *value,
            // This was UTF-8 when the file was opened; text of a mapped file that was overwritten since may read as "".
            Stored::Str(range) => Value::Str(std::str::from_utf8(self.slice(range)).unwrap_or_default()),
            Stored::Array { element, len, range } => {
                Value::Array(Array { element: *element, len: *len, bytes: self.slice(range) })
            }
        }
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        Error::format(format!("{}: key `{}` is missing, expected {expected}", self.file, shown(key.as_bytes(), 80)))
    }

    fn wrong(&self, key: &str, found: Value<'_>, expected: &str) -> Error {
        let ty = match found {
            Value::Array(array) => format!("array of {}", array.element()),
            _ => found.ty().to_string(),
        };
        let key = shown(key.as_bytes(), 80);
        Error::format(format!("{}: key `{key}` is the {ty} {found}, expected {expected}", self.file))
    }

    typed! {
        /// An integer from 0 to 2³² − 1.
        u32, opt_u32 -> u32, "an integer from 0 to 4294967295", Value::integer;
        /// An integer that is not negative.
        usize, opt_usize -> usize, "an integer that is not negative", Value::integer;
        /// A finite number in an `f32` or `f64`.
        f32, opt_f32 -> f32, "a finite f32", |v: Value<'_>| v.float().filter(|x| x.is_finite());
        /// A bool.
        bool, opt_bool -> bool, "a bool", |v| if let Value::Bool(b) = v { Some(b) } else { None };
        /// A string.
        str, opt_str -> &str, "a string", |v| if let Value::Str(s) = v { Some(s) } else { None };
        /// An array of strings.
        strings, opt_strings -> Strings<'_>, "an array of strings", |v| array(v)?.strings();
        /// An array of numbers in `f32` or `f64`.
        f32s, opt_f32s -> Vec<f32>, "an array of f32", |v| array(v)?.f32s();
        /// An array of integers that all fit into an `i32`.
        i32s, opt_i32s -> Vec<i32>, "an array of integers from -2147483648 to 2147483647", |v| array(v)?.i32s();
        /// An array of integers that all fit into a `u32`.
        u32s, opt_u32s -> Vec<u32>, "an array of integers from 0 to 4294967295", |v| array(v)?.u32s();
    }
}

fn array(value: Value<'_>) -> Option<Array<'_>> {
    if let Value::Array(array) = value { Some(array) } else { None }
}
