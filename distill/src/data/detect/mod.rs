//! Pictures with boxes: YOLO folders, COCO JSON and Pascal VOC.
//!
//! - YOLO: a label file for each picture, with a line `class x y width height` for each box; the numbers are fractions of
//!   the picture, and x, y the box's centre. A line of a class and a polygon (`class x y x y x y …`) gives the polygon's
//!   box. A picture without a label file has no boxes; those, and label files without a picture, are counted.
//!   Label files are in `labels` where pictures are in `images`, or beside the pictures.
//!   `data.yaml` names the classes and the splits (folders, or files that list pictures), or else `classes.txt` the
//!   classes, and the splits are `<split>/images`, `images/<split>`, `<split>` or `<split>.txt`.
//! - COCO: a JSON file, or a folder with `annotations/instances_<split>.json` or `<split>/_annotations.coco.json`.
//! - VOC: an XML file for each picture, in `Annotations` with splits in `ImageSets/Main/<split>.txt`, or in `<split>` beside
//!   the pictures. `classes.txt` says the order of the classes; without it they are in that of the alphabet. What is
//!   `difficult` need not be found.
//!
//! `val`, `valid` and `validation` are the same split, and `val2017` will do for `val`.

#[cfg(feature = "train")]
pub mod album;
#[cfg(feature = "train")]
pub mod augment;
#[cfg(feature = "train")]
pub mod batches;
pub mod classes;
mod coco;
#[cfg(feature = "train")]
pub mod queue;
mod voc;
mod yaml;
mod yolo;

use super::Bad;
use crate::error::{Error, Result};
use pupil::Picture;
use std::{
    collections::HashSet,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

/// A box that is to be found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    /// The index of its class.
    pub class: usize,
    /// Left, top, right, bottom in pixels.
    pub rect: [f64; 4],
    /// The area in pixels by which boxes are small, medium or large. COCO counts the pixels of the object's outline.
    pub area: f64,
    /// A crowd of objects in one box: it may be found any number of times, and need not be found.
    pub crowd: bool,
    /// A box that need not be found: what is difficult in VOC. COCO's `ignore` has no meaning for pycocotools either.
    pub ignore: bool,
}

impl Truth {
    /// An ordinary box, whose area is the rectangle's.
    pub fn new(class: usize, rect: [f64; 4]) -> Self {
        let [x0, y0, x1, y1] = rect;
        Self { class, rect, area: (x1 - x0) * (y1 - y0), crowd: false, ignore: false }
    }

    pub(crate) fn check(&self, classes: usize) -> Result<()> {
        let [x0, y0, x1, y1] = self.rect;
        if self.class >= classes {
            return Err(Error::input(format!("the class is {}, expected less than {classes}", self.class)));
        }
        if !self.rect.iter().all(|edge| edge.is_finite()) || x0 > x1 || y0 > y1 {
            let found = self.rect;
            return Err(Error::input(format!(
                "the rectangle is {found:?}, expected finite [left, top, right, bottom]"
            )));
        }
        if self.area.is_nan() {
            return Err(Error::input("the area is NaN, expected a number"));
        }
        Ok(())
    }

    /// What is left of the box within the picture, if anything.
    fn clipped(self, (width, height): (usize, usize)) -> Option<Self> {
        let [x0, y0, x1, y1] = self.rect;
        let x = |edge: f64| edge.clamp(0.0, width as f64);
        let y = |edge: f64| edge.clamp(0.0, height as f64);
        let rect = [x(x0), y(y0), x(x1), y(y1)];
        (rect[0] < rect[2] && rect[1] < rect[3]).then_some(Self { rect, ..self })
    }
}

/// A picture and its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where it is.
    pub path: PathBuf,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Its boxes, clipped to the picture.
    pub boxes: Vec<Truth>,
}

impl Item {
    /// Decodes the picture.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Format` if it is no picture, or one of another size than its boxes are for.
    pub fn open(&self) -> Result<Picture> {
        open(&self.path, Some(self.size))
    }
}

/// Decodes a picture, which has to be of `size` if its boxes are for that.
fn open(path: &Path, size: Option<(usize, usize)>) -> Result<Picture> {
    let picture = Picture::open(path)?;
    let (width, height) = (picture.width(), picture.height());
    match size.filter(|size| *size != (width, height)) {
        None => Ok(picture),
        Some((w, h)) => {
            let path = path.display();
            Err(Error::format(format!("{path}: a picture of {width}x{height}, but its boxes are for {w}x{h}")))
        }
    }
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A split, or several (`val+test`); by default those of `train`, `val` and `test` that are there.
    pub split: Option<String>,
    /// The folder of COCO's pictures, if they are not in a usual place beside the JSON file.
    pub pictures: Option<PathBuf>,
}

/// A data set for detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// COCO's ids of the classes, ascending; otherwise 0, 1, ….
    pub class_ids: Vec<i64>,
    /// The pictures: split by split, COCO's by id, others by name or as listed.
    pub pictures: Vec<Item>,
    /// What may well be a mistake.
    pub odd: Odd,
}

/// What may well be a mistake, but is no reason to refuse a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Odd {
    /// Boxes that have no area within their pictures. They were left out.
    pub dropped: Bad,
    /// Boxes of which the picture's edge cut off more than a pixel, which rounding may well do.
    pub clipped: Bad,
    /// Pictures without a label file, which have no boxes, as those with an empty one.
    pub unlabelled: Bad,
    /// Label files without a picture.
    pub stray: Bad,
}

impl Odd {
    /// Adds those of another data set.
    fn extend(&mut self, other: Self) {
        self.dropped.extend(other.dropped);
        self.clipped.extend(other.clipped);
        self.unlabelled.extend(other.unlabelled);
        self.stray.extend(other.stray);
    }

    /// What is left of a box within its picture, if anything. `place` says where the box was read.
    fn clip(&mut self, truth: Truth, size: (usize, usize), place: impl Fn() -> String) -> Option<Truth> {
        let Some(clipped) = truth.clipped(size) else {
            self.dropped.add(|| format!("{}: the box has no area within the picture", place()));
            return None;
        };
        if truth.rect.iter().zip(clipped.rect).any(|(before, after)| (before - after).abs() > 1.0) {
            self.clipped.add(|| format!("{}: the box goes beyond the picture", place()));
        }
        Some(clipped)
    }

    /// For people: a line for each kind of which there are some.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let all = [
            (&self.dropped, "boxes left out"),
            (&self.clipped, "boxes cut off at the edge of the picture"),
            (&self.unlabelled, "pictures without a label file, which count as empty"),
            (&self.stray, "label files without a picture"),
        ];
        all.into_iter().filter(|(odd, _)| odd.count > 0).map(|(odd, what)| odd.told(what))
    }
}

impl Dataset {
    /// Opens a folder, a `data.yaml` or a COCO JSON file. Of pictures, only the size is read.
    ///
    /// # Errors
    /// `Io` if a file cannot be read, `Format` if one is not what it should be, with the file, the line or entry, and
    /// what was expected; `Input` if there is no such split.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let splits = Splits::new(options.split.as_deref())?;
        let metadata = path.metadata().map_err(|error| Error::io(path, &error))?;
        let dataset = match path.extension().and_then(|extension| extension.to_str()) {
            _ if metadata.is_dir() => open_folder(path, &splits, options)?,
            Some("json") if splits.asked => {
                return Err(Error::input(format!(
                    "{}: a JSON file is one split, expected none to be named",
                    path.display()
                )));
            }
            Some("json") => coco::open(&[path.to_path_buf()], options)?,
            Some("yaml" | "yml") => yolo::open_yaml(path, &splits)?,
            _ => {
                let expected = "expected a folder, a data.yaml or a COCO .json";
                return Err(Error::input(format!("{}: not a data set, {expected}", path.display())));
            }
        };
        if dataset.pictures.is_empty() {
            return Err(Error::format(format!("{}: no pictures, expected at least one", path.display())));
        }
        Ok(dataset)
    }

    /// How many boxes there are.
    pub fn boxes(&self) -> usize {
        self.pictures.iter().map(|picture| picture.boxes.len()).sum()
    }
}

fn open_folder(folder: &Path, splits: &Splits, options: &Options) -> Result<Dataset> {
    if let Some(yaml) = first_file(folder, &["data.yaml", "data.yml", "dataset.yaml", "dataset.yml"]) {
        return yolo::open_yaml(&yaml, splits);
    }
    match coco::files(folder, splits)? {
        Some(files) => coco::open(&files, options),
        None => match voc::files(folder, splits)? {
            Some(files) => voc::open(folder, &files),
            None => yolo::open_folder(folder, splits),
        },
    }
}

fn first_file(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// The splits that are wanted.
struct Splits {
    names: Vec<String>,
    /// Whether the user named them. If not, those that are there will do.
    asked: bool,
}

impl Splits {
    fn new(asked: Option<&str>) -> Result<Self> {
        let names: Vec<String> = asked.unwrap_or("train+val+test").split('+').map(|name| name.trim().into()).collect();
        let mut seen = HashSet::new();
        for name in &names {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) || !seen.insert(name) {
                let asked = asked.unwrap_or_default();
                return Err(Error::input(format!("the split is `{asked}`, expected different names like `val+test`")));
            }
        }
        Ok(Self { names, asked: asked.is_some() })
    }

    /// What `find` finds for each split, given the names that it may have. A split that was asked for must be there.
    fn find<T>(&self, find: impl Fn(&str) -> Option<T>, missing: impl Fn(&str) -> Error) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for name in &self.names {
            match synonyms(name).iter().find_map(|name| find(name)) {
                Some(found) => all.push(found),
                None if self.asked => return Err(missing(name)),
                None => {}
            }
        }
        Ok(all)
    }
}

fn synonyms(split: &str) -> Vec<String> {
    let mut names = vec![split.to_string()];
    let validation = ["val", "valid", "validation"];
    if validation.contains(&split) {
        names.extend(validation.iter().filter(|name| **name != split).map(|name| name.to_string()));
    }
    let years: Vec<String> = names.iter().map(|name| format!("{name}2017")).collect();
    names.extend(years);
    names
}

/// The size of a picture as it is shown, from the first bytes of its file: a camera that was held upright may say in the
/// EXIF data that height and width change places.
fn size_of(path: &Path) -> Result<(usize, usize)> {
    let unreadable = |what: String| Error::format(format!("{}: {what}, expected a picture", path.display()));
    match imagesize::size(path) {
        Ok(size) if size.width > 0 && size.height > 0 => {
            let turned = is_turned(path).map_err(|error| Error::io(path, &error))?;
            Ok(if turned { (size.height, size.width) } else { (size.width, size.height) })
        }
        Ok(size) => Err(unreadable(format!("the size is {}x{}", size.width, size.height))),
        Err(imagesize::ImageError::IoError(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Error::io(path, &error))
        }
        Err(_) => Err(unreadable("the size cannot be read".into())),
    }
}

/// Whether the EXIF orientation is one of the four that turn a picture by a quarter. Without EXIF data it is not.
fn is_turned(path: &Path) -> std::io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let Ok(exif) = exif::Reader::new().read_from_container(&mut file) else { return Ok(false) };
    let orientation = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY);
    Ok(orientation.and_then(|field| field.value.get_uint(0)).is_some_and(|value| (5..=8).contains(&value)))
}
