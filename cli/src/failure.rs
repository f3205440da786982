//! Why the program ends early.

use std::io;

/// What a verb returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a verb ends early.
#[derive(Debug)]
pub enum Failure {
    /// One line that says what was wrong.
    Message(String),
    /// Whoever read our output has closed it, as `head` does. That is no mistake.
    NobodyListens,
    /// Ctrl-C.
    Interrupted,
    /// Some of the work could not be done, and was reported; the rest is done.
    #[cfg(feature = "detect")]
    Partly,
}

impl From<pupil::Error> for Failure {
    fn from(error: pupil::Error) -> Self {
        Self::Message(error.to_string())
    }
}

#[cfg(feature = "eval")]
impl From<pupil_distill::Error> for Failure {
    fn from(error: pupil_distill::Error) -> Self {
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
