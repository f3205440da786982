//! The students that are part of the program, for those who name no file.

use crate::failure::{Failure, Outcome};
#[cfg(feature = "chat")]
use pupil::Model;
use pupil::bytes::Bytes;
#[cfg(feature = "translate")]
use pupil::{TranslateOptions, Translator};
use std::path::Path;

/// The student in this file of the folder `models`.
macro_rules! student {
    ($name:literal) => {{
        #[cfg(feature = "bundled")]
        static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!("../../models/", $name)));
        Student {
            name: $name,
            #[cfg(feature = "bundled")]
            file: Some(&FILE.0),
            #[cfg(not(feature = "bundled"))]
            file: None,
        }
    }};
}

/// The chat model at `path`, or the bundled one.
#[cfg(feature = "chat")]
pub fn model(path: Option<&Path>) -> Outcome<Model> {
    match path {
        Some(path) => Ok(Model::open(path)?),
        None => Ok(Model::from_bytes(CHAT.bytes()?, CHAT.name)?),
    }
}

/// The translator at `path`, or the bundled one from English to German.
#[cfg(feature = "translate")]
pub fn translator(path: Option<&Path>, options: TranslateOptions) -> Outcome<Translator> {
    match path {
        Some(path) => Ok(Translator::open(path, options)?),
        None => Ok(Translator::from_bytes(TRANSLATOR.bytes()?, TRANSLATOR.name, options)?),
    }
}

#[cfg(feature = "chat")]
const CHAT: Student = student!("chat.gguf");
#[cfg(feature = "translate")]
const TRANSLATOR: Student = student!("en-de.gguf");

struct Student {
    name: &'static str,
    /// The file, used where the system maps the program; none in builds without the feature `bundled`.
    file: Option<&'static [u8]>,
}

impl Student {
    fn bytes(&self) -> Outcome<Bytes> {
        let none = || Failure::Message("this build of pupil carries no students, expected -m FILE".into());
        Ok(Bytes::Static(self.file.ok_or_else(none)?))
    }
}

/// Bytes that start where a mapped file would: vectors are loaded from them in place.
#[cfg(feature = "bundled")]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
