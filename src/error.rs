//! The one error type of the library.

use std::fmt;

/// What went wrong, in the classes that a caller may want to treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read or write something.
    Io,
    /// A file is damaged, truncated, or not what its format promises.
    Format,
    /// A file is sound, but asks for something this version does not do.
    Unsupported,
    /// An argument of the caller makes no sense.
    Input,
    /// The conversation no longer fits into the model's context.
    ContextFull,
}

/// An error: a [kind](Error::kind) and one line that names the file, the key or tensor, and what was expected.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// An input or output error on `path`.
    pub(crate) fn io(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{}: {error}", path.display()))
    }

    /// Puts `place` (a file's name, say) in front of the message.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{place}: {}", self.message) }
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

/// What another library says, on one line of a bearable length.
#[cfg(feature = "image")]
pub(crate) fn one_line(message: impl fmt::Display) -> String {
    const LONGEST: usize = 300;
    let line = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
