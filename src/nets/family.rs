//! What kinds of networks there are, for whoever opens the wrong one.

use crate::error::Error;
use crate::gguf::Gguf;
use crate::nets::{config, encdec};

/// The error for a file of architecture `arch` where `wanted` was needed, such as "a translator", of an architecture
/// in `expected`. Names the verb that runs the file, if there is one.
pub(crate) fn refusal(file: &Gguf, arch: &str, wanted: &str, expected: &str) -> Error {
    let (holds, verb) = match arch {
        "convnet" => ("a detector", "detect"),
        encdec::ARCHITECTURE => ("a translator", "translate"),
        _ if config::ARCHITECTURES.contains(&arch) => ("a language model", "chat"),
        _ => {
            return Error::unsupported(format!("{}: the architecture is '{arch}', expected {expected}", file.name()));
        }
    };
    Error::unsupported(format!(
        "{}: holds {holds} (the architecture is '{arch}'), not {wanted}; pupil {verb} runs it",
        file.name()
    ))
}
