//! The one error type of the crate.

use std::{fmt, path::Path};

/// What went wrong, in the classes that a caller may want to treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write something.
    Io,
    /// A file is damaged, or not what its format promises.
    Format,
    /// An argument of the caller makes no sense.
    Input,
}

/// An error: a [kind](Error::kind) and one line that says what is wrong, where, and what was expected.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whatever a file brought into the message, it stays one line.
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self { kind, message: message.replace(char::is_control, " ") }
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// An input or output error on `path`.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{}: {error}", path.display()))
    }

    /// Puts `place` (a file's name, say) in front of the message.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{place}: {}", self.message))
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}

impl From<pupil::Error> for Error {
    fn from(error: pupil::Error) -> Self {
        let kind = match error.kind() {
            pupil::ErrorKind::Io => ErrorKind::Io,
            pupil::ErrorKind::Input | pupil::ErrorKind::ContextFull => ErrorKind::Input,
            _ => ErrorKind::Format,
        };
        Self::new(kind, error.to_string())
    }
}

/// Tensors that do not fit each other, or no memory for one.
#[cfg(feature = "train")]
impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::input(error.to_string())
    }
}

/// Refuses a number that is not from `min` to `max`, by its name.
#[cfg(feature = "train")]
pub(crate) fn within(name: &str, value: f64, min: f64, max: f64) -> Result<()> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false if max == f64::INFINITY => Err(Error::input(format!("{name} is {value}, expected at least {min}"))),
        false => Err(Error::input(format!("{name} is {value}, expected {min} to {max}"))),
    }
}
