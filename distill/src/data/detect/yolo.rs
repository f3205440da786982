//! YOLO folders: a text file of boxes for each picture.

use super::{Dataset, Item, Odd, Splits, Truth, first_file, size_of, yaml::Yaml};
use crate::{
    data::Bad,
    error::{Error, Result},
};
use pupil::image::{EXTENSIONS, list};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// Folders in folders in the folder of pictures, at most: links may go round in circles.
const DEPTH: usize = 8;

/// A data set that a `data.yaml` describes.
pub(super) fn open_yaml(path: &Path, splits: &Splits) -> Result<Dataset> {
    let yaml = Yaml::read(path)?;
    let classes = yaml.names()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    // `path` often is a folder of the author's machine; then everything is beside the file.
    let mut roots = vec![folder.to_path_buf()];
    if let Some(root) = yaml.texts("path")?.as_deref().and_then(<[_]>::first) {
        roots.insert(0, folder.join(root));
    }
    let missing = |name: &str| Error::input(format!("{}: no split `{name}`, expected such a key", path.display()));
    let found = splits.find(|name| yaml.texts(name).transpose(), missing)?;
    let mut places = Vec::new();
    for entry in found {
        for entry in entry? {
            places.push(locate(&roots, &entry).ok_or_else(|| {
                let what = format!("{}: `{entry}` is not there", path.display());
                Error::format(format!("{what}, expected a folder or a list in {}", roots[0].display()))
            })?);
        }
    }
    if places.is_empty() {
        return Err(Error::format(format!("{}: no splits, expected `train`, `val` or `test`", path.display())));
    }
    read(classes, &places, folder)
}

/// Roboflow writes `../train/images` for what is `train/images`.
fn locate(roots: &[PathBuf], entry: &str) -> Option<PathBuf> {
    let entries = [entry, entry.strip_prefix("../").unwrap_or(entry)];
    roots.iter().flat_map(|root| entries.map(|entry| root.join(entry))).find(|path| path.exists())
}

/// A folder without a `data.yaml`.
pub(super) fn open_folder(folder: &Path, splits: &Splits) -> Result<Dataset> {
    let place = |name: &str| {
        let places = [folder.join(name).join("images"), folder.join("images").join(name), folder.join(name)];
        let folder_of_split = places.into_iter().find(|path| path.is_dir());
        folder_of_split.or_else(|| list_of(folder, name))
    };
    let missing = |name: &str| {
        let what = format!("{}: no split `{name}`", folder.display());
        Error::input(format!("{what}, expected {name}/images, images/{name}, {name} or {name}.txt"))
    };
    let mut places = splits.find(place, missing)?;
    if places.is_empty() {
        places.push(Some(folder.join("images")).filter(|path| path.is_dir()).unwrap_or(folder.into()));
    }
    read(class_names(folder)?, &places, folder)
}

/// A split's list, which is not the label file of a picture that happens to have its name.
fn list_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let list = folder.join(format!("{name}.txt"));
    let is_label = EXTENSIONS.iter().any(|extension| list.with_extension(extension).is_file());
    (list.is_file() && !is_label).then_some(list)
}

/// The lines of `classes.txt`.
fn class_names(folder: &Path) -> Result<Vec<String>> {
    listed_classes(folder)?.ok_or_else(|| {
        let expected = "expected data.yaml or classes.txt, or COCO's annotations/instances_<split>.json";
        Error::format(format!("{}: no class names, {expected}", folder.display()))
    })
}

/// The lines of `classes.txt`, if there is one.
pub(super) fn listed_classes(folder: &Path) -> Result<Option<Vec<String>>> {
    let Some(path) = first_file(folder, &["classes.txt", "labels/classes.txt"]) else { return Ok(None) };
    let text = text_of(&path)?;
    let classes: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_string()).collect();
    match classes.iter().position(String::is_empty) {
        Some(line) => Err(Error::format(format!("{} line {}: empty, expected a class name", path.display(), line + 1))),
        None if classes.is_empty() => Err(Error::format(format!("{}: empty, expected class names", path.display()))),
        None => Ok(Some(classes)),
    }
}

/// A text file, without the mark that Windows puts in front.
pub(super) fn text_of(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// Reads the pictures of the places, which are folders or lists. A picture that is in two of them is read once.
fn read(classes: Vec<String>, places: &[PathBuf], root: &Path) -> Result<Dataset> {
    let class_ids = (0..).take(classes.len()).collect();
    let mut dataset = Dataset { classes, class_ids, pictures: Vec::new(), odd: Odd::default() };
    let (mut seen, mut folders) = (HashSet::new(), BTreeSet::new());
    for place in places {
        let pictures = pictures(place, root)?;
        match place.is_dir() {
            true => _ = folders.insert(place.clone()),
            false => folders.extend(pictures.iter().filter_map(|path| Some(path.parent()?.to_path_buf()))),
        }
        for path in pictures {
            if seen.insert(path.clone()) {
                add(&mut dataset, path)?;
            }
        }
    }
    let mut stray = BTreeSet::new();
    for folder in folders {
        stray.extend(stray_labels(&folder)?);
    }
    stray.iter().for_each(|path| dataset.odd.stray.add(|| path.display().to_string()));
    match dataset.pictures.first() {
        // Single pictures may have no boxes; if none has a file, they are elsewhere.
        Some(first) if dataset.odd.unlabelled.count == dataset.pictures.len() => {
            let [label, _] = label_paths(&first.path);
            Err(Error::format(format!("no picture has a label file, expected files like {}", label.display())))
        }
        _ => Ok(dataset),
    }
}

/// The paths of a folder's or a list's pictures; there must be some.
fn pictures(place: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    if place.is_dir() {
        return Ok(list(place, DEPTH)?);
    }
    let (mut paths, mut missing) = (Vec::new(), Bad::default());
    let folders = [place.parent().unwrap_or(root), root];
    for (i, line) in text_of(place)?.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let name = line.strip_prefix("./").unwrap_or(line);
        match folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()) {
            Some(path) => paths.push(path),
            None => missing.add(|| format!("line {} `{line}`", i + 1)),
        }
    }
    let wrong = |what: String| Error::format(format!("{}: {what}, expected a path on each line", place.display()));
    match (missing.count, paths.is_empty()) {
        (0, false) => Ok(paths),
        (0, true) => Err(wrong("no pictures".into())),
        _ => Err(wrong(missing.told("pictures that are not there"))),
    }
}

/// Adds a picture.
fn add(dataset: &mut Dataset, path: PathBuf) -> Result<()> {
    let size = size_of(&path)?;
    let boxes = match label_paths(&path).into_iter().find(|path| path.is_file()) {
        Some(label) => read_label(&label, size, dataset.classes.len(), &mut dataset.odd)?,
        None => {
            dataset.odd.unlabelled.add(|| path.display().to_string());
            Vec::new()
        }
    };
    dataset.pictures.push(Item { path, size, boxes });
    Ok(())
}

/// The label files for pictures of a folder, in `labels` and beside them, that have no picture.
fn stray_labels(folder: &Path) -> Result<Vec<PathBuf>> {
    let stem = |path: &Path, root: &Path| path.strip_prefix(root).map(|path| path.with_extension("")).ok();
    let pictures: HashSet<_> = list(folder, DEPTH)?.iter().filter_map(|path| stem(path, folder)).collect();
    let mut stray = Vec::new();
    for place in BTreeSet::from([in_labels(folder), folder.to_path_buf()]).into_iter().filter(|place| place.is_dir()) {
        let mut labels = text_files(&place, DEPTH)?;
        labels.retain(|path| !is_other(path) && stem(path, &place).is_some_and(|stem| !pictures.contains(&stem)));
        stray.extend(labels);
    }
    Ok(stray)
}

/// Whether a text file is no label file: the classes, a split's list, what is hidden.
fn is_other(path: &Path) -> bool {
    const OTHERS: [&str; 6] = ["classes", "train", "val", "valid", "validation", "test"];
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with('.') || OTHERS.contains(&name)
}

/// The text files in a folder.
fn text_files(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io(folder, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.is_dir() {
            true if depth > 0 => files.extend(text_files(&path, depth - 1)?),
            false if path.extension().is_some_and(|end| end == "txt") => files.push(path),
            _ => {}
        }
    }
    Ok(files)
}

/// Where a picture's label file may be: in `labels` instead of `images`, or beside the picture.
fn label_paths(picture: &Path) -> [PathBuf; 2] {
    let beside = picture.with_extension("txt");
    [in_labels(&beside), beside]
}

/// A path with `labels` instead of the last `images`, if that is in it.
fn in_labels(path: &Path) -> PathBuf {
    let mut parts: Vec<Component> = path.components().collect();
    if let Some(images) = parts.iter().rposition(|part| part.as_os_str() == "images") {
        parts[images] = Component::Normal("labels".as_ref());
    }
    parts.iter().collect()
}

/// The boxes in a label file, as much of them as is within the picture.
fn read_label(path: &Path, size: (usize, usize), classes: usize, odd: &mut Odd) -> Result<Vec<Truth>> {
    let mut boxes = Vec::new();
    for (i, line) in text_of(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{} line {}", path.display(), i + 1);
        let truth = read_line(line, size, classes).map_err(|error| error.at(place()))?;
        // What is left is all that can be seen of it.
        boxes.extend(odd.clip(truth, size, place).map(|Truth { class, rect, .. }| Truth::new(class, rect)));
    }
    Ok(boxes)
}

/// `class x y width height`, or `class` and at least three points of an outline; all in fractions of the picture.
fn read_line(line: &str, size: (usize, usize), classes: usize) -> Result<Truth> {
    let mut fields = line.split_whitespace();
    let class = class_of(fields.next().unwrap_or_default(), classes)?;
    let numbers = fields.map(fraction).collect::<Result<Vec<f64>>>()?;
    let [x0, y0, x1, y1] = match numbers[..] {
        [x, y, width, height] if width >= 0.0 && height >= 0.0 => {
            [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
        }
        [_, _, width, height] => {
            return Err(Error::format(format!("the box is {width} by {height}, expected at least 0")));
        }
        _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => around(&numbers),
        _ => {
            let count = numbers.len();
            let expected = "expected 4 (x, y, width, height), or the points of an outline";
            return Err(Error::format(format!("{count} numbers after the class, {expected}")));
        }
    };
    let (width, height) = (size.0 as f64, size.1 as f64);
    Ok(Truth::new(class, [x0 * width, y0 * height, x1 * width, y1 * height]))
}

/// Some programs write classes as `3.0`.
fn class_of(field: &str, classes: usize) -> Result<usize> {
    match field.parse::<f64>() {
        Ok(class) if class.fract() == 0.0 && (0.0..classes as f64).contains(&class) => Ok(class as usize),
        _ => Err(Error::format(format!("the class is `{field}`, expected 0 to {}", classes.saturating_sub(1)))),
    }
}

/// Boxes may stick out a little. What is far from 0 to 1 is in pixels.
fn fraction(field: &str) -> Result<f64> {
    match field.parse::<f64>() {
        Ok(number) if (-1.0..=2.0).contains(&number) => Ok(number),
        _ => Err(Error::format(format!("`{field}`, expected a fraction of the picture (0 to 1)"))),
    }
}

/// The rectangle around points `x y x y …`.
fn around(points: &[f64]) -> [f64; 4] {
    let mut rect = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for point in points.chunks_exact(2) {
        rect = [rect[0].min(point[0]), rect[1].min(point[1]), rect[2].max(point[0]), rect[3].max(point[1])];
    }
    rect
}
