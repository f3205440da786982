//! COCO's annotation files.

use super::{Dataset, Item, Odd, Options, Splits, Truth, size_of};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    width: Option<usize>,
    height: Option<usize>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    id: i64,
    image_id: i64,
    category_id: i64,
    /// Left, top, width, height.
    bbox: [f64; 4],
    area: Option<f64>,
    #[serde(default)]
    iscrowd: Flag,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

/// Files have 0 and 1, or false and true.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Flag {
    #[default]
    Missing,
    Number(u8),
    Bool(bool),
}

impl Flag {
    fn is_set(&self) -> bool {
        matches!(self, Self::Number(1..) | Self::Bool(true))
    }
}

/// The annotation files of a folder, if it has any.
pub(super) fn files(folder: &Path, splits: &Splits) -> Result<Option<Vec<PathBuf>>> {
    let file = |split: &str| {
        let files = [
            format!("annotations/instances_{split}.json"),
            format!("annotations/{split}.json"),
            format!("{split}/_annotations.coco.json"),
        ];
        files.into_iter().map(|file| folder.join(file)).find(|path| path.is_file())
    };
    let any = Splits::new(None)?.find(file, |_| Error::input(""))?;
    if any.is_empty() && !folder.join("annotations").is_dir() {
        return Ok(None);
    }
    let missing = |split: &str| {
        let expected = format!("expected annotations/instances_{split}.json or {split}/_annotations.coco.json");
        Error::input(format!("{}: no split `{split}`, {expected}", folder.display()))
    };
    Ok(Some(splits.find(file, missing)?).filter(|files| !files.is_empty()))
}

/// Opens annotation files, one after the other, which must have the same classes.
pub(super) fn open(files: &[PathBuf], options: &Options) -> Result<Dataset> {
    let mut all: Option<Dataset> = None;
    for path in files {
        let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
        let dataset = read(path, &bytes, options).map_err(|error| error.at(path.display()))?;
        match &mut all {
            None => all = Some(dataset),
            Some(all) if (&all.classes, &all.class_ids) != (&dataset.classes, &dataset.class_ids) => {
                let what = format!("{}: the categories differ", path.display());
                return Err(Error::format(format!("{what}, expected those of {}", files[0].display())));
            }
            Some(all) => {
                all.odd.extend(dataset.odd);
                all.pictures.extend(dataset.pictures);
            }
        }
    }
    all.ok_or_else(|| Error::input("no COCO files, expected at least one"))
}

fn read(path: &Path, bytes: &[u8], options: &Options) -> Result<Dataset> {
    let mut file: File = serde_json::from_slice(bytes)
        .map_err(|error| Error::format(format!("{error}, expected COCO's images, annotations and categories")))?;
    file.categories.sort_by_key(|category| category.id);
    file.images.sort_by_key(|image| image.id);
    let class_ids: Vec<i64> = file.categories.iter().map(|category| category.id).collect();
    let classes_by_id = positions("category", &class_ids)?;
    let image_ids: Vec<i64> = file.images.iter().map(|image| image.id).collect();
    let pictures_by_id = positions("image", &image_ids)?;
    let classes = file.categories.into_iter().map(|category| category.name).collect();
    let pictures = pictures(path, file.images, options)?;
    let mut dataset = Dataset { classes, class_ids, pictures, odd: Odd::default() };
    for annotation in &file.annotations {
        let at = |error: Error| error.at(format!("annotation {}", annotation.id));
        let picture = position("image_id", annotation.image_id, &pictures_by_id).map_err(at)?;
        let class = position("category_id", annotation.category_id, &classes_by_id).map_err(at)?;
        let picture = &mut dataset.pictures[picture];
        let truth = truth(annotation, class).map_err(at)?;
        let place = || format!("{}: annotation {}", path.display(), annotation.id);
        picture.boxes.extend(dataset.odd.clip(truth, picture.size, place));
    }
    Ok(dataset)
}

/// Where each id is. None may be there twice.
fn positions(what: &str, ids: &[i64]) -> Result<HashMap<i64, usize>> {
    let mut positions = HashMap::new();
    for (i, id) in ids.iter().enumerate() {
        if positions.insert(*id, i).is_some() {
            return Err(Error::format(format!("{what} {id} is there twice, expected different ids")));
        }
    }
    Ok(positions)
}

fn position(key: &str, id: i64, positions: &HashMap<i64, usize>) -> Result<usize> {
    let unknown = || Error::format(format!("`{key}` is {id}, expected one that the file describes"));
    positions.get(&id).copied().ok_or_else(unknown)
}

fn truth(annotation: &Annotation, class: usize) -> Result<Truth> {
    let [x, y, width, height] = annotation.bbox;
    let rect = [x, y, x + width, y + height];
    if width < 0.0 || height < 0.0 || !rect.iter().all(|edge| edge.is_finite()) {
        let expected = "expected [left, top, width, height]";
        return Err(Error::format(format!("`bbox` is {:?}, {expected}", annotation.bbox)));
    }
    let area = annotation.area.unwrap_or(width * height);
    Ok(Truth { area, crowd: annotation.iscrowd.is_set(), ..Truth::new(class, rect) })
}

fn pictures(path: &Path, images: Vec<Image>, options: &Options) -> Result<Vec<Item>> {
    let Some(first) = images.first() else { return Err(Error::format("no images, expected at least one")) };
    let folder = match &options.pictures {
        Some(folder) => folder.clone(),
        None => folder_of(path, &first.file_name)?,
    };
    let item = |image: Image| {
        let path = folder.join(&image.file_name);
        let size = match (image.width, image.height) {
            (Some(0), _) | (_, Some(0)) => {
                return Err(Error::format(format!("image {} has no pixels, expected a width and a height", image.id)));
            }
            (Some(width), Some(height)) => (width, height),
            _ => size_of(&path)?,
        };
        Ok(Item { path, size, boxes: Vec::new() })
    };
    images.into_iter().map(item).collect()
}

/// The folder of the pictures: the first of the usual places that has the first picture.
fn folder_of(path: &Path, file_name: &str) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let split = stem.strip_prefix("instances_").unwrap_or(stem);
    let mut places = Vec::new();
    for root in [folder.to_path_buf(), folder.join("..")] {
        let inside =
            [String::new(), "images".into(), split.into(), format!("images/{split}"), format!("{split}/images")];
        places.extend(inside.map(|inside| root.join(inside)));
    }
    let missing = || {
        let expected = "expected it beside the file, in images, or in a folder named like the split";
        Error::format(format!("the picture `{file_name}` is not found, {expected}"))
    };
    places.into_iter().find(|place| place.join(file_name).is_file()).ok_or_else(missing)
}
