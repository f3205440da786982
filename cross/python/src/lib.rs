//! The Python module: each class wraps the type of the library that has its name. `pupil.pyi` holds the types.

mod chat;
mod detect;
mod error;
mod translate;

/// Small language models, translators and object detectors on the CPU you have, from one mapped GGUF file.
///
/// Model and Chat answer, Translator translates, Detector finds objects in pictures. Python's lock is released while
/// they compute. A file that cannot be read raises OSError, an argument that makes no sense ValueError, and everything
/// else pupil.Error, each with one line that names the file and the fault.
#[pyo3::pymodule(name = "pupil")]
mod module {
    #[pymodule_export]
    use crate::chat::{Answer, Chat, Model, Stream};
    #[pymodule_export]
    use crate::detect::{Detection, Detector};
    #[pymodule_export]
    use crate::error::{ContextFullError, Error, FormatError, UnsupportedError};
    #[pymodule_export]
    use crate::translate::{Translation, Translator};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
