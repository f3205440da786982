//! Python's exceptions for the library's errors.

use pupil::ErrorKind;
use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};

create_exception!(pupil, Error, PyException, "What went wrong, in one line that names the file and the fault.");
create_exception!(pupil, FormatError, Error, "A file is damaged, truncated, or not what its format promises.");
create_exception!(pupil, UnsupportedError, Error, "A file is sound, but asks for something this version does not do.");
create_exception!(pupil, ContextFullError, Error, "The conversation no longer fits into the model's context.");

/// The exception for `error`.
pub fn raise(error: pupil::Error) -> PyErr {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Io => PyOSError::new_err(message),
        ErrorKind::Input => PyValueError::new_err(message),
        ErrorKind::Format => FormatError::new_err(message),
        ErrorKind::Unsupported => UnsupportedError::new_err(message),
        ErrorKind::ContextFull => ContextFullError::new_err(message),
        _ => Error::new_err(message),
    }
}
