//! Pascal VOC: an XML file of boxes for each picture.

use super::{Dataset, Item, Odd, Splits, Truth, size_of, yolo};
use crate::{
    data::Bad,
    error::{Error, Result},
};
use pupil::image::EXTENSIONS;
use roxmltree::{Document, Node};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// The annotation files of a folder, split by split, if it has any.
pub(super) fn files(folder: &Path, splits: &Splits) -> Result<Option<Vec<PathBuf>>> {
    let has_splits = !Splits::new(None)?.find(|split| place_of(folder, split), |_| Error::input(""))?.is_empty();
    if !has_splits && !has_xml(&whole(folder)) {
        return Ok(None);
    }
    listed(folder, splits).map(Some)
}

/// Where all annotation files are, if there are no splits.
fn whole(folder: &Path) -> PathBuf {
    let annotations = folder.join("Annotations");
    if annotations.is_dir() { annotations } else { folder.into() }
}

/// The list of a split, or its folder.
fn place_of(folder: &Path, split: &str) -> Option<PathBuf> {
    match folder.join("Annotations").is_dir() {
        true => Some(folder.join("ImageSets/Main").join(format!("{split}.txt"))).filter(|list| list.is_file()),
        false => {
            let places = [folder.join(split).join("Annotations"), folder.join(split)];
            places.into_iter().find(|place| has_xml(place))
        }
    }
}

/// The files of these splits; without splits, all that there are.
fn listed(folder: &Path, splits: &Splits) -> Result<Vec<PathBuf>> {
    let missing = |split: &str| {
        let expected = format!("expected ImageSets/Main/{split}.txt, or {split} with .xml files");
        Error::input(format!("{}: no split `{split}`, {expected}", folder.display()))
    };
    let mut all = Vec::new();
    for place in splits.find(|split| place_of(folder, split), missing)? {
        all.extend(if place.is_dir() { xml_in(&place)? } else { in_list(&place, &folder.join("Annotations"))? });
    }
    if all.is_empty() {
        all = xml_in(&whole(folder))?;
    }
    let mut seen = HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    Ok(all)
}

/// The files that a list names, all of which must be there.
fn in_list(list: &Path, annotations: &Path) -> Result<Vec<PathBuf>> {
    let (names, mut files, mut missing) = (yolo::text_of(list)?, Vec::new(), Bad::default());
    for (i, line) in names.lines().enumerate() {
        // Lists of a class have a second column.
        let Some(name) = line.split_whitespace().next() else { continue };
        let path = annotations.join(format!("{name}.xml"));
        match path.is_file() {
            true => files.push(path),
            false => missing.add(|| format!("line {} `{name}`", i + 1)),
        }
    }
    match missing.count {
        0 => Ok(files),
        _ => {
            let what = missing.told("names without a file in Annotations");
            Err(Error::format(format!("{}: {what}, expected one for each", list.display())))
        }
    }
}

fn is_xml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
}

fn has_xml(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| is_xml(&entry.path()))
}

fn xml_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Error::io(folder, &error);
    let entries = fs::read_dir(folder).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(|path| is_xml(path)).collect();
    paths.sort();
    Ok(paths)
}

/// Opens annotation files. Where no `classes.txt` names the classes, all splits do, so that each has the same.
pub(super) fn open(folder: &Path, files: &[PathBuf]) -> Result<Dataset> {
    let classes = match yolo::listed_classes(folder)? {
        Some(classes) => classes,
        None => {
            let all = listed(folder, &Splits::new(None)?)?;
            let mut names = BTreeSet::new();
            for path in all.iter().chain(files).collect::<BTreeSet<_>>() {
                let text = yolo::text_of(path)?;
                names.extend(boxes(path, &parse(path, &text)?)?.into_iter().map(|found| found.name));
            }
            names.into_iter().collect()
        }
    };
    let class_ids = (0..).take(classes.len()).collect();
    let mut dataset = Dataset { classes, class_ids, pictures: Vec::new(), odd: Odd::default() };
    for path in files {
        let item = read(folder, path, &mut dataset)?;
        dataset.pictures.push(item);
    }
    Ok(dataset)
}

fn parse<'a>(path: &Path, text: &'a str) -> Result<Document<'a>> {
    // Without a DTD there are no entities that grow.
    let document = Document::parse(text).map_err(|error| {
        let line = error.pos().row;
        Error::format(format!("{} line {line}: {error}, expected XML", path.display()))
    })?;
    match document.root_element().has_tag_name("annotation") {
        true => Ok(document),
        false => Err(wrong(path, document.root_element(), "the root is no `annotation`")),
    }
}

fn read(folder: &Path, path: &Path, dataset: &mut Dataset) -> Result<Item> {
    let text = yolo::text_of(path)?;
    let document = parse(path, &text)?;
    let root = document.root_element();
    let picture = picture(folder, path, root)?;
    let size = size_of(&picture)?;
    check_size(path, root, size)?;
    let mut kept = Vec::new();
    for Found { name, line, rect, difficult } in boxes(path, &document)? {
        let place = || format!("{} line {line}", path.display());
        let Some(class) = dataset.classes.iter().position(|known| *known == name) else {
            let expected = dataset.classes.join(", ");
            return Err(Error::format(format!("{}: the class is `{name}`, expected one of {expected}", place())));
        };
        let clipped = dataset.odd.clip(Truth::new(class, rect), size, place);
        kept.extend(clipped.map(|Truth { rect, .. }| Truth { ignore: difficult, ..Truth::new(class, rect) }));
    }
    Ok(Item { path: picture, size, boxes: kept })
}

/// A box as the file has it.
struct Found {
    name: String,
    line: u32,
    rect: [f64; 4],
    difficult: bool,
}

fn boxes(path: &Path, document: &Document) -> Result<Vec<Found>> {
    let objects = document.root_element().children().filter(|node| node.has_tag_name("object"));
    let read = |object: Node| {
        let name = text(path, object, "name")?.to_string();
        let bounds = child(object, "bndbox").ok_or_else(|| wrong(path, object, "an object without a `bndbox`"))?;
        let side = |key: &str| -> Result<f64> {
            let number = text(path, bounds, key)?;
            number.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| {
                wrong(path, child(bounds, key).unwrap_or(bounds), &format!("`{key}` is `{number}`, expected a number"))
            })
        };
        // The first pixel is 1, and the last one belongs to the box.
        let rect = [side("xmin")? - 1.0, side("ymin")? - 1.0, side("xmax")?, side("ymax")?];
        let difficult = child(object, "difficult").and_then(|node| node.text()).is_some_and(|text| text.trim() == "1");
        Ok(Found { name, line: line(object), rect, difficult })
    };
    objects.map(read).collect()
}

/// The picture of an annotation file: as it says, or of the same name.
fn picture(folder: &Path, path: &Path, root: Node) -> Result<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new(""));
    let above = beside.parent().unwrap_or(Path::new(""));
    let places = [folder.join("JPEGImages"), above.join("JPEGImages"), folder.join("images"), beside.to_path_buf()];
    let named = child(root, "filename").and_then(|node| node.text()).map(|name| name.trim().to_string());
    // Some programs write the whole path of their author's machine.
    let named = named.and_then(|name| Some(Path::new(&name.replace('\\', "/")).file_name()?.to_os_string()));
    let stem = path.with_extension("");
    let same =
        EXTENSIONS.iter().filter_map(|extension| Some(stem.with_extension(extension).file_name()?.to_os_string()));
    let names: Vec<_> = named.into_iter().chain(same).collect();
    let all = names.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    all.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let expected = "expected it in JPEGImages, in images or beside the file";
        let name = names.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Error::format(format!("{}: the picture `{name}` is not found, {expected}", path.display()))
    })
}

/// Boxes for a picture of another size would be anywhere. Some programs write 0 where they do not know it.
fn check_size(path: &Path, root: Node, (width, height): (usize, usize)) -> Result<()> {
    let Some(node) = child(root, "size") else { return Ok(()) };
    let side = |key: &str| child(node, key).and_then(|node| node.text()?.trim().parse::<usize>().ok()).unwrap_or(0);
    let says = (side("width"), side("height"));
    match says == (width, height) || says.0 == 0 || says.1 == 0 {
        true => Ok(()),
        false => {
            Err(wrong(path, node, &format!("the size is {}x{}, but the picture's is {width}x{height}", says.0, says.1)))
        }
    }
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The text in a node of this name.
fn text<'a>(path: &Path, node: Node<'a, '_>, name: &str) -> Result<&'a str> {
    let found = child(node, name).and_then(|child| child.text()).map(str::trim).filter(|text| !text.is_empty());
    found.ok_or_else(|| wrong(path, node, &format!("`{}` without `{name}`", node.tag_name().name())))
}

fn line(node: Node) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

fn wrong(path: &Path, node: Node, what: &str) -> Error {
    Error::format(format!("{} line {}: {what}", path.display(), line(node)))
}
