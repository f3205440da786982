//! `config.json`, and other files of settings.

use super::{MAX_CONFIG, read_text};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::{fmt::Display, path::Path};

/// Dimensions above this are refused, so that their products stay far from overflow.
const MAX_NUMBER: u64 = 1 << 30;

/// The settings in a JSON object. Those that are `null` count as missing.
pub(super) struct Config {
    file: String,
    settings: Map<String, Value>,
}

impl Config {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = read_text(path, MAX_CONFIG)?;
        let settings =
            serde_json::from_str(&text).map_err(|e| Error::format(format!("{file}: no JSON object: {e}")))?;
        Ok(Self { file, settings })
    }

    /// The same, or nothing where there is no such file.
    pub(super) fn read_if_there(path: &Path) -> Result<Self> {
        if path.exists() {
            return Self::read(path);
        }
        Ok(Self { file: path.display().to_string(), settings: Map::new() })
    }

    /// The settings that are an object under `name`; none where that is missing.
    pub(super) fn inner(&self, name: &str) -> Result<Self> {
        let file = format!("{}: {name}", self.file);
        match self.get(name) {
            None => Ok(Self { file, settings: Map::new() }),
            Some(Value::Object(settings)) => Ok(Self { file, settings: settings.clone() }),
            Some(other) => Err(self.wrong(name, other, "an object")),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.settings.get(name).filter(|value| !value.is_null())
    }

    /// The class of the model.
    pub(super) fn architecture(&self) -> Result<String> {
        match self.get("architectures").and_then(|list| list.get(0)) {
            Some(Value::String(name)) => Ok(name.clone()),
            _ => Err(Error::format(format!("{}: no `architectures`, expected a list of one name", self.file))),
        }
    }

    /// A whole number of at most 2^30.
    pub(super) fn number(&self, name: &str) -> Result<usize> {
        self.opt_number(name)?.ok_or_else(|| self.missing(name, "a whole number"))
    }

    pub(super) fn opt_number(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64() {
            Some(n) if n <= MAX_NUMBER => Ok(Some(n as usize)),
            _ => Err(self.wrong(name, value, "a whole number up to 2^30")),
        }
    }

    pub(super) fn opt_float(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.wrong(name, value, "a number"))
    }

    pub(super) fn float(&self, name: &str) -> Result<f64> {
        self.opt_float(name)?.ok_or_else(|| self.missing(name, "a number"))
    }

    pub(super) fn opt_bool(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(name, value, "true or false"))
    }

    /// The text of a setting that is one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// An id of a token, or the first of several.
    pub(super) fn id(&self, name: &str) -> Option<u32> {
        self.ids(name).first().copied()
    }

    /// One id of a token or several.
    pub(super) fn ids(&self, name: &str) -> Vec<u32> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.get(name) {
            Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => vec![],
        }
    }

    /// Refuses a setting that changes what the network computes, unless it is missing or `fine`.
    pub(super) fn only(&self, name: &str, expected: Option<&str>, fine: impl Fn(&Value) -> bool) -> Result<()> {
        match self.get(name) {
            Some(value) if !fine(value) => {
                let expected = expected.unwrap_or("none");
                Err(self.unsupported(name, short(value), expected))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, name: &str, value: impl Display, expected: &str) -> Error {
        Error::unsupported(format!("{}: `{name}` is {value}, expected {expected}", self.file))
    }

    fn wrong(&self, name: &str, value: &Value, expected: &str) -> Error {
        Error::format(format!("{}: `{name}` is {}, expected {expected}", self.file, short(value)))
    }

    fn missing(&self, name: &str, expected: &str) -> Error {
        Error::format(format!("{}: no `{name}`, expected {expected}", self.file))
    }
}

/// A value as it stands, or the start of it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
