//! Why the program ends early.

use std::{fmt, io};

/// What a verb returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a verb ends early.
#[derive(Debug)]
pub enum Failure {
    /// One line that says what was wrong.
    Message(String),
    /// Whoever read our output has closed it, as `head` does. That is no mistake.
    NobodyListens,
}

impl Failure {
    /// One line: `place`, which may be a file's name, and what was wrong there.
    pub fn at(place: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Message(format!("{place}: {error}"))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<pupil::Error> for Failure {
    fn from(error: pupil::Error) -> Self {
        Self::Message(error.to_string())
    }
}

/// An error in writing to stdout or stderr; reading and files are reported where they happen.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyListens,
            _ => Self::Message(format!("cannot write: {error}")),
        }
    }
}
