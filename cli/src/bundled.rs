//! The students that are part of the program, for those who name no file, and a picture to try one on.

use crate::failure::{Failure, Outcome};
#[cfg(feature = "chat")]
use pupil::Model;
use pupil::bytes::Bytes;
#[cfg(feature = "detect")]
use pupil::{Detector, Picture};
#[cfg(feature = "translate")]
use pupil::{TranslateOptions, Translator};
use std::path::Path;

/// This file of the folder `models`.
macro_rules! carried {
    ($name:literal, $instead:literal) => {{
        #[cfg(feature = "bundled")]
        static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!("../../models/", $name)));
        Carried {
            name: $name,
            instead: $instead,
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

/// The detector at `path`, or the bundled one of vehicles.
#[cfg(feature = "detect")]
pub fn detector(path: Option<&Path>, threads: usize) -> Outcome<Detector> {
    match path {
        Some(path) => Ok(Detector::open_with_threads(path, threads)?),
        None => Ok(Detector::from_bytes_with_threads(DETECTOR.bytes()?, DETECTOR.name, threads)?),
    }
}

/// A drawing of a street with vehicles, and its name.
#[cfg(feature = "detect")]
pub fn street() -> Outcome<(&'static str, Picture)> {
    Ok((STREET.name, Picture::decode(&STREET.bytes()?)?))
}

#[cfg(feature = "chat")]
const CHAT: Carried = carried!("chat.gguf", "-m FILE");
#[cfg(feature = "translate")]
const TRANSLATOR: Carried = carried!("en-de.gguf", "-m FILE");
#[cfg(feature = "detect")]
const DETECTOR: Carried = carried!("vehicles.gguf", "-m FILE");
#[cfg(feature = "detect")]
const STREET: Carried = carried!("street.jpg", "a picture");

struct Carried {
    name: &'static str,
    /// What those name who have a build without it.
    instead: &'static str,
    /// The file, used where the system maps the program; none in builds without the feature `bundled`.
    file: Option<&'static [u8]>,
}

impl Carried {
    fn bytes(&self) -> Outcome<Bytes> {
        let Self { name, instead, .. } = self;
        let none = || Failure::Message(format!("this build of pupil carries no {name}, expected {instead}"));
        Ok(Bytes::Static(self.file.ok_or_else(none)?))
    }
}

/// Bytes that start where a mapped file would: vectors are loaded from them in place.
#[cfg(feature = "bundled")]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);
