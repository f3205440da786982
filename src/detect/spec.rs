//! What a detector's file says besides its network.
//!
//! | key | |
//! |---|---|
//! | `detect.width`, `detect.height` | the size of the network's input |
//! | `detect.fit` | `stretch`, `letterbox` (in the middle) or `letterbox_top_left` |
//! | `detect.fill` | the grey around a letterboxed picture, 0 to 255 |
//! | `detect.colours` | `rgb` or `bgr` |
//! | `detect.mean`, `detect.std` | three numbers each, in the order of the colours |
//! | `detect.head` | the [`Head`], as JSON |
//! | `detect.classes` | the names of the classes |
//! | `detect.confidence`, `detect.iou`, `detect.max` | the least score, how much boxes may overlap, the most objects |

use super::head::Head;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Keys, Writer};
use crate::image::{Fit, Geometry};
use crate::nets::convnet::program::Shape;
use std::fmt::Display;

/// The most classes.
const MAX_CLASSES: usize = 1 << 16;
/// The longest name of a class, in bytes.
const MAX_NAME: usize = 256;
/// The most objects in a picture; bounds the time of the NMS.
pub(super) const MAX_OBJECTS: usize = 1000;

/// The names of the fits, in a file.
const FITS: [(&str, Fit); 3] = [
    ("stretch", Fit::Stretch),
    ("letterbox", Fit::Letterbox { centre: true }),
    ("letterbox_top_left", Fit::Letterbox { centre: false }),
];

/// What a detector's file says besides its network: how a picture becomes its input, and its outputs become objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// From a picture to the input.
    pub geometry: Geometry,
    /// From the outputs to boxes.
    pub head: Head,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The least score of an object, from 0 to 1.
    pub confidence: f32,
    /// By how much two boxes of a class may overlap, from 0 to 1.
    pub iou: f32,
    /// The most objects in a picture.
    pub max: usize,
}

impl Spec {
    /// Reads and checks a file's keys. The head is to be [checked](Self::check) against the network's outputs.
    ///
    /// # Errors
    /// `Format` with a message that names the file and the key.
    pub fn read(file: &Gguf) -> Result<Self> {
        let keys = file.keys();
        let head = serde_json::from_str(keys.str("detect.head")?);
        let spec = Self {
            geometry: read_geometry(keys, file.name())?,
            head: head.map_err(|e| in_key(file, "detect.head", e))?,
            classes: read_classes(file)?,
            confidence: keys.f32("detect.confidence")?,
            iou: keys.f32("detect.iou")?,
            max: keys.usize("detect.max")?,
        };
        spec.check_numbers().map_err(|e| e.at(file.name()))?;
        Ok(spec)
    }

    /// Adds the keys to a file.
    pub fn write(&self, writer: &mut Writer) {
        let Geometry { width, height, fit, fill, bgr, mean, std } = &self.geometry;
        let fit = FITS.iter().find(|(_, other)| other == fit).map_or("stretch", |(name, _)| name);
        writer
            .key("detect.width", *width as u32)
            .key("detect.height", *height as u32)
            .key("detect.fit", fit)
            .key("detect.fill", u32::from(*fill))
            .key("detect.colours", if *bgr { "bgr" } else { "rgb" })
            .key("detect.mean", &mean[..])
            .key("detect.std", &std[..])
            .key("detect.head", serde_json::to_string(&self.head).expect("heads are plain data"))
            .key("detect.classes", self.classes.clone())
            .key("detect.confidence", self.confidence)
            .key("detect.iou", self.iou)
            .key("detect.max", self.max as u32);
    }

    /// Checks everything, as [`read`](Self::read) does, and the head against the network.
    ///
    /// # Errors
    /// `Format` if something makes no sense.
    pub fn check(&self, input: Shape, outputs: &[Shape]) -> Result<()> {
        self.check_numbers()?;
        check_names(&self.classes)?;
        let expected = Shape::new(self.geometry.height, self.geometry.width, 3);
        if input != expected {
            return Err(Error::format(format!(
                "the network's input is {input}, expected {expected} as for the pictures"
            )));
        }
        self.head.check(outputs, input, self.classes.len())
    }

    fn check_numbers(&self) -> Result<()> {
        self.geometry.check()?;
        for (key, x) in [("confidence", self.confidence), ("iou", self.iou)] {
            check_fraction(x).map_err(|e| e.at(format_args!("key `detect.{key}`")))?;
        }
        check_max(self.max).map_err(|e| e.at("key `detect.max`"))
    }
}

/// Checks a threshold.
pub(super) fn check_fraction(x: f32) -> Result<()> {
    match x {
        0.0..=1.0 => Ok(()),
        _ => Err(Error::format(format!("{x} is no number from 0 to 1"))),
    }
}

/// Checks a limit of objects.
pub(super) fn check_max(max: usize) -> Result<()> {
    match max {
        1..=MAX_OBJECTS => Ok(()),
        _ => Err(Error::format(format!("{max} objects, expected 1 to {MAX_OBJECTS}"))),
    }
}

fn in_key(file: &Gguf, key: &str, message: impl Display) -> Error {
    Error::format(format!("{}: key `{key}`: {message}", file.name()))
}

fn read_geometry(keys: &Keys, file: &str) -> Result<Geometry> {
    let wrong = |key: &str, expected: &str, found: &dyn Display| {
        Error::format(format!("{file}: key `{key}` is {found}, expected {expected}"))
    };
    let three = |key: &str| {
        let list = keys.f32s(key)?;
        list[..].try_into().map_err(|_| wrong(key, "three", &format_args!("{} numbers", list.len())))
    };
    let fit = keys.str("detect.fit")?;
    let fits = FITS.map(|(name, _)| name).join(" or ");
    let fit = FITS.iter().find(|(name, _)| *name == fit).ok_or_else(|| wrong("detect.fit", &fits, &shown(fit)))?.1;
    let fill = keys.u32("detect.fill")?;
    let fill = u8::try_from(fill).map_err(|_| wrong("detect.fill", "0 to 255", &fill))?;
    let bgr = match keys.str("detect.colours")? {
        "bgr" => true,
        "rgb" => false,
        other => return Err(wrong("detect.colours", "rgb or bgr", &shown(other))),
    };
    let (width, height) = (keys.usize("detect.width")?, keys.usize("detect.height")?);
    Ok(Geometry { width, height, fit, fill, bgr, mean: three("detect.mean")?, std: three("detect.std")? })
}

/// A file's text, for messages.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("{short:?}")
}

fn read_classes(file: &Gguf) -> Result<Vec<String>> {
    const KEY: &str = "detect.classes";
    let mut names = Vec::new();
    for (i, name) in file.keys().strings(KEY)?.enumerate().take(MAX_CLASSES + 1) {
        let name = std::str::from_utf8(name).map_err(|_| in_key(file, KEY, format_args!("name {i} is not UTF-8")))?;
        names.push(name.to_owned());
    }
    check_names(&names).map_err(|e| e.at(format_args!("{}: key `{KEY}`", file.name())))?;
    Ok(names)
}

fn check_names(names: &[String]) -> Result<()> {
    if !(1..=MAX_CLASSES).contains(&names.len()) {
        return Err(Error::format(format!("the number of names is not from 1 to {MAX_CLASSES}")));
    }
    let sound = |name: &String| !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
    match names.iter().position(|name| !sound(name)) {
        None => Ok(()),
        Some(i) => {
            let message = format!("name {i} is {}, expected 1 to {MAX_NAME} printable bytes", shown(&names[i]));
            Err(Error::format(message))
        }
    }
}
