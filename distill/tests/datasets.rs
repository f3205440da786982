//! Data sets in every layout, and bad ones.

use pupil_distill::{
    ErrorKind,
    data::{
        Bad,
        detect::{Dataset, Odd, Options},
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    /// A folder with these files; a picture's content is its size, `100x50`.
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let folder =
            Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("datasets-{test}-{}", std::process::id())));
        let _ = fs::remove_dir_all(&folder.0);
        fs::create_dir_all(&folder.0).unwrap();
        files.iter().for_each(|(name, content)| folder.write(name, content));
        folder
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match name.ends_with(".png").then(|| content.split_once('x')).flatten() {
            Some((width, height)) => fs::write(path, png(width.parse().unwrap(), height.parse().unwrap())),
            None => fs::write(path, content),
        }
        .unwrap();
    }

    fn open_at(&self, name: &str, split: &str) -> Result<Dataset, pupil_distill::Error> {
        let split = Some(split.to_string()).filter(|split| !split.is_empty());
        let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
        Dataset::open(path, &Options { split, pictures: None })
    }

    fn open(&self, split: &str) -> Dataset {
        self.open_at("", split).unwrap()
    }

    /// The message, with the folder's own name left out.
    fn refused(&self, name: &str, split: &str) -> (ErrorKind, String) {
        let error = self.open_at(name, split).expect_err(name);
        let message = error.to_string();
        assert!(!message.contains(char::is_control), "{message}");
        let folder = self.0.display().to_string();
        (error.kind(), message.replace(&format!("{folder}/"), "").replace(&folder, "."))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first bytes of a PNG, up to its size.
fn png(width: u32, height: u32) -> Vec<u8> {
    let start: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    [start, &width.to_be_bytes(), &height.to_be_bytes(), b"\x08\x02\0\0\0"].concat()
}

/// The first bytes of a JPEG, up to its size, with an EXIF orientation.
fn jpeg(width: u16, height: u16, orientation: u8) -> Vec<u8> {
    let exif = [&b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], &[0; 6]].concat();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
    let frame = [&b"\xFF\xC0\0\x11\x08"[..], &height, &width, b"\x03\x01\x11\0\x02\x11\0\x03\x11\0"].concat();
    [&b"\xFF\xD8\xFF\xE1"[..], &length, &exif, &frame, b"\xFF\xDA\0\x02"].concat()
}

fn names(dataset: &Dataset) -> Vec<String> {
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
    dataset.pictures.iter().map(|picture| name(&picture.path)).collect()
}

const BOX: &str = "1 0.5 0.5 0.2 0.4\n";

#[test]
fn every_layout_of_folders() {
    let layouts: [(&str, &[(&str, &str)]); 5] = [
        ("split/images", &[("{}/images/{}.png", "{}/labels/{}.txt")]),
        ("images/split", &[("images/{}/{}.png", "labels/{}/{}.txt")]),
        ("split", &[("{}/{}.png", "{}/{}.txt")]),
        ("deeper", &[("{}/images/a/b/{}.png", "{}/labels/a/b/{}.txt")]),
        ("beside in images", &[("images/{}/{}.png", "images/{}/{}.txt")]),
    ];
    for (i, (layout, paths)) in layouts.into_iter().enumerate() {
        let folder = Folder::new(&format!("layout{i}"), &[("classes.txt", "cat\r\ndog\r\n\n")]);
        for split in ["train", "valid"] {
            let path = |pattern: &str| pattern.replacen("{}", split, 1).replace("{}", &format!("of-{split}"));
            folder.write(&path(paths[0].0), "100x50");
            folder.write(&path(paths[0].1), BOX);
        }
        assert_eq!(names(&folder.open("")), ["of-train", "of-valid"], "{layout}");
        assert_eq!(names(&folder.open("val")), ["of-valid"], "{layout}");
        let both = folder.open("val + train");
        assert_eq!(names(&both), ["of-valid", "of-train"], "{layout}");
        assert_eq!((&both.classes[..], &both.class_ids[..]), (&["cat".to_string(), "dog".into()][..], &[0, 1][..]));
        assert_eq!((both.boxes(), both.odd.dropped.count), (2, 0), "{layout}");
        assert_eq!(both.pictures[0].size, (100, 50));
        let truth = both.pictures[0].boxes[0];
        assert_eq!((truth.class, truth.crowd), (1, false));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(truth.rect.iter().zip([40.0, 15.0, 60.0, 35.0]).all(|(a, b)| near(*a, b)) && near(truth.area, 400.0));
    }
}

/// As pictures are shown to a detector: those of orientation 5 to 8 are turned by a quarter.
#[test]
fn upright_pictures() {
    let folder = Folder::new("upright", &[("classes.txt", "cat\ndog")]);
    for orientation in 0..=9 {
        fs::write(folder.0.join("a.jpg"), jpeg(100, 50, orientation)).unwrap();
        folder.write("a.txt", BOX);
        let picture = &folder.open("").pictures[0];
        let turned = (5..=8).contains(&orientation);
        assert_eq!(picture.size, if turned { (50, 100) } else { (100, 50) }, "{orientation}");
        assert_eq!(picture.boxes[0].rect[0].round(), if turned { 20.0 } else { 40.0 }, "{orientation}");
    }
}

#[test]
fn a_flat_folder_and_one_with_images() {
    let files = [("classes.txt", "cat\ndog"), ("b.png", "10x10"), ("test.png", "10x10"), ("test.txt", BOX)];
    let flat = Folder::new("flat", &files);
    assert_eq!(names(&flat.open("")), ["b", "test"]);
    let files = [("labels/classes.txt", "cat\ndog"), ("images/b.png", "10x10"), ("labels/b.txt", BOX)];
    assert_eq!(names(&Folder::new("plain", &files).open("")), ["b"]);
}

#[test]
fn lists_of_pictures() {
    let files = [
        ("classes.txt", "cat\ndog"),
        ("train.txt", "./images/a.png\n\nimages/b.png\nimages/a.png\n"),
        ("images/a.png", "10x10"),
        ("images/b.png", "10x10"),
        ("labels/a.txt", BOX),
    ];
    let folder = Folder::new("lists", &files);
    assert_eq!(names(&folder.open("train")), ["a", "b"]);
    folder.write("train.txt", "images/a.png\nimages/gone.png\n");
    let expected = "train.txt: pictures that are not there: 1 (line 2 `images/gone.png`), expected a path on each line";
    assert_eq!(folder.refused("", "train"), (ErrorKind::Format, expected.into()));
    folder.write("train.txt", "1\n\n2\n3\n4");
    assert!(
        folder.refused("", "train").1.starts_with("train.txt: pictures that are not there: 4 (line 1 `1`; line 3 `2`;")
    );
}

#[test]
fn labels_and_pictures_without_each_other_are_counted() {
    let files = [
        ("classes.txt", "cat\ndog"),
        ("train/images/a.png", "10x10"),
        ("train/images/b.png", "10x10"),
        ("train/images/c.PNG", ""),
        ("train/images/deep/a.png", "10x10"),
        ("train/labels/a.txt", BOX),
        ("train/labels/b.txt", ""),
        ("train/labels/c.txt", BOX),
        ("train/labels/gone.txt", BOX),
        ("train/labels/deep/b.txt", BOX),
        ("train/labels/classes.txt", "cat\ndog"),
        ("train/images/beside.txt", BOX),
        ("train/images/notes.md", ""),
    ];
    let folder = Folder::new("strays", &files);
    fs::write(folder.0.join("train/images/c.PNG"), png(10, 10)).unwrap();
    let names = |bad: &Bad| -> Vec<String> {
        bad.first.iter().map(|path| path.replace(&format!("{}/train/", folder.0.display()), "")).collect()
    };
    let check = |odd: &Odd| {
        // An empty file says that nothing is there; none says nothing.
        assert_eq!((odd.unlabelled.count, names(&odd.unlabelled)), (1, vec!["images/deep/a.png".to_string()]));
        let strays = ["images/beside.txt", "labels/deep/b.txt", "labels/gone.txt"];
        assert_eq!((odd.stray.count, names(&odd.stray)), (3, strays.map(String::from).to_vec()));
        let lines: Vec<String> = odd.lines().collect();
        assert!(lines[0].starts_with("pictures without a label file, which count as empty: 1 ("), "{lines:?}");
        assert!(lines[1].starts_with("label files without a picture: 3 (") && lines.len() == 2, "{lines:?}");
    };
    let dataset = folder.open("train");
    check(&dataset.odd);
    assert_eq!((dataset.pictures.len(), dataset.boxes()), (4, 2));
    // Of a list, what lies beside its pictures; labels of other lists have pictures of their own.
    folder.write("data.yaml", "names: [cat, dog]\ntrain: list.txt");
    folder.write("list.txt", "train/images/a.png\ntrain/images/deep/a.png");
    check(&folder.open("train").odd);
}

#[test]
fn boxes_without_a_size_are_left_out() {
    let left_out = |folder: &Folder| {
        let dataset = folder.open("");
        let first =
            dataset.odd.dropped.first.iter().map(|place| place.replace(&format!("{}/", folder.0.display()), ""));
        (dataset.boxes(), dataset.odd.dropped.count, first.collect::<Vec<_>>())
    };
    let folder = Folder::new("coco-size", &[("a.png", "30x20"), ("b.png", "100x50")]);
    let boxes = [[1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 3, 4]].into_iter().enumerate();
    let annotation =
        |(i, bbox): (usize, [u8; 4])| format!(r#"{{"id":{i},"image_id":4,"category_id":7,"bbox":{bbox:?},"area":5}}"#);
    folder.write("annotations/instances_train.json", &coco(&boxes.map(annotation).collect::<Vec<_>>().join(",")));
    let place =
        |i: usize| format!("annotations/instances_train.json: annotation {i}: the box has no area within the picture");
    assert_eq!(left_out(&folder), (1, 2, vec![place(0), place(1)]));

    // The last pixel belongs to the box.
    let sides = [["5", "5", "4", "9"], ["5", "5", "9", "4"], ["5", "5", "5", "5"]];
    let objects: String = sides.map(|sides| object("cat", sides, "")).concat();
    let folder = Folder::new("voc-size", &[("a.png", "100x50"), ("a.xml", &voc("a.png", &objects))]);
    let place = |line: usize| format!("a.xml line {line}: the box has no area within the picture");
    assert_eq!(left_out(&folder), (1, 2, vec![place(4), place(5)]));
}

#[test]
fn data_yaml() {
    let files = [
        (
            "data.yaml",
            "path: /of/the/author\ntrain: ../train/images\nval: [x/val, more.txt]\ntest:\nnames: {0: cat, 1: dog}",
        ),
        ("train/images/a.png", "10x10"),
        ("train/labels/a.txt", BOX),
        ("x/val/b.png", "10x10"),
        ("more.txt", "train/images/a.png\nx/val/b.png"),
    ];
    let folder = Folder::new("yaml", &files);
    assert_eq!(names(&folder.open("")), ["a", "b"]);
    assert_eq!(names(&folder.open("valid")), ["b", "a"]);
    assert_eq!(names(&folder.open_at("data.yaml", "train").unwrap()), ["a"]);
    let expected = "data.yaml: no split `test`, expected such a key";
    assert_eq!(folder.refused("", "test"), (ErrorKind::Input, expected.into()));
    folder.write("data.yaml", "names: [cat, dog]\ntrain: nowhere");
    let expected = "data.yaml: `nowhere` is not there, expected a folder or a list in .";
    assert_eq!(folder.refused("", ""), (ErrorKind::Format, expected.into()));
    folder.write("data.yaml", "names: [cat, dog]");
    let expected = "data.yaml: no splits, expected `train`, `val` or `test`";
    assert_eq!(folder.refused("", ""), (ErrorKind::Format, expected.into()));
}

#[test]
fn labels() {
    let files = [("classes.txt", "cat\ndog"), ("a.png", "100x50"), ("b.png", "100x50")];
    let folder = Folder::new("labels", &files);
    let lines = "\u{feff}0 0.0 0.5 0.2 0.4\r\n\n  1.0\t0.5 0.5 3e-1 0.4  \n1 1.5 0.5 0.1 0.1\n0 .5 .5 0 .2\n\
                 1 0.1 0.2 0.3 0.2 0.3 0.8\n";
    folder.write("a.txt", lines);
    let dataset = folder.open("");
    // The third box is outside of the picture and the fourth has no width; the first sticks out, the last is an outline.
    assert_eq!(dataset.odd.dropped.count, 2);
    assert!(dataset.odd.dropped.first[0].ends_with("a.txt line 4: the box has no area within the picture"));
    assert_eq!(dataset.odd.clipped.count, 1);
    assert!(dataset.odd.clipped.first[0].ends_with("a.txt line 1: the box goes beyond the picture"));
    let boxes: Vec<_> = dataset.pictures[0].boxes.iter().map(|truth| (truth.class, truth.rect, truth.area)).collect();
    let expected = [(0, [0.0, 15.0, 10.0, 35.0], 200.0), (1, [35.0, 15.0, 65.0, 35.0], 600.0)];
    assert_eq!(boxes[..2], expected);
    assert_eq!((boxes[2].0, boxes.len()), (1, 3));
    assert!(boxes[2].1.iter().zip([10.0, 10.0, 30.0, 40.0]).all(|(a, b): (&f64, f64)| (a - b).abs() < 1e-9));
    // A picture without a file has no boxes.
    assert!(dataset.pictures[1].boxes.is_empty());
    assert!(dataset.odd.unlabelled.count == 1 && dataset.odd.unlabelled.first[0].ends_with("b.png"));

    for (line, expected) in [
        ("2 0.5 0.5 0.1 0.1", "the class is `2`, expected 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "the class is `-1`, expected 0 to 1"),
        ("0.5 0.5 0.5 0.1 0.1", "the class is `0.5`, expected 0 to 1"),
        ("cat 0.5 0.5 0.1 0.1", "the class is `cat`, expected 0 to 1"),
        ("nan 0.5 0.5 0.1 0.1", "the class is `nan`, expected 0 to 1"),
        ("0 NaN 0.5 0.1 0.1", "`NaN`, expected a fraction of the picture (0 to 1)"),
        ("0 inf 0.5 0.1 0.1", "`inf`, expected a fraction of the picture (0 to 1)"),
        ("0 352 200 10 10", "`352`, expected a fraction of the picture (0 to 1)"),
        ("0 0.5 0,5 0.1 0.1", "`0,5`, expected a fraction of the picture (0 to 1)"),
        ("0 0.5 0.5 0.1 -0.1", "the box is 0.1 by -0.1, expected at least 0"),
        ("0 0.5 0.5 0.1", "3 numbers after the class, expected 4 (x, y, width, height), or the points of an outline"),
        ("0", "0 numbers after the class, expected 4 (x, y, width, height), or the points of an outline"),
        (
            "0 .1 .1 .1 .1 .9",
            "5 numbers after the class, expected 4 (x, y, width, height), or the points of an outline",
        ),
    ] {
        folder.write("a.txt", &format!("{BOX}\n{line}\n{BOX}"));
        assert_eq!(folder.refused("", ""), (ErrorKind::Format, format!("a.txt line 3: {expected}")), "{line}");
    }
    fs::write(folder.0.join("a.txt"), b"\xff\xfe0\0").unwrap();
    assert_eq!(folder.refused("", ""), (ErrorKind::Io, "a.txt: stream did not contain valid UTF-8".into()));
}

#[test]
fn bad_folders() {
    let folder = Folder::new("bad", &[("a.png", "10x10")]);
    let expected = ".: no class names, expected data.yaml or classes.txt, or COCO's annotations/instances_<split>.json";
    assert_eq!(folder.refused("", ""), (ErrorKind::Format, expected.into()));
    folder.write("classes.txt", "cat\n\ndog");
    assert_eq!(folder.refused("", "").1, "classes.txt line 2: empty, expected a class name");
    folder.write("classes.txt", "\n");
    assert_eq!(folder.refused("", "").1, "classes.txt: empty, expected class names");
    folder.write("classes.txt", "cat");
    assert_eq!(folder.refused("", "").1, "no picture has a label file, expected files like a.txt");
    folder.write("a.png", "0x10");
    assert_eq!(folder.refused("", "").1, "a.png: the size is 0x10, expected a picture");
    for bytes in ["", "text", "\u{89}PNG"] {
        fs::write(folder.0.join("a.png"), bytes).unwrap();
        assert_eq!(
            folder.refused("", ""),
            (ErrorKind::Format, "a.png: the size cannot be read, expected a picture".into())
        );
    }
    fs::remove_file(folder.0.join("a.png")).unwrap();
    assert_eq!(folder.refused("", "").1, ".: no pictures, expected files that end with .jpg, .jpeg, .png, .bmp, .webp");
    let expected = ".: no split `val`, expected val/images, images/val, val or val.txt";
    assert_eq!(folder.refused("", "val"), (ErrorKind::Input, expected.into()));
    for split in ["val+", "+", "val+val", "../x", ".", "a/b"] {
        let expected = format!("the split is `{split}`, expected different names like `val+test`");
        assert_eq!(folder.refused("", split), (ErrorKind::Input, expected));
    }
    assert_eq!(folder.refused("nowhere", "").0, ErrorKind::Io);
    let expected = "classes.txt: not a data set, expected a folder, a data.yaml or a COCO .json";
    assert_eq!(folder.refused("classes.txt", ""), (ErrorKind::Input, expected.into()));
}

const CATEGORIES: &str = r#""categories":[{"id":7,"name":"dog"},{"id":-2,"name":"cat"},{"id":3,"name":"cow"}]"#;
const IMAGES: &str = r#""images":[{"id":9,"file_name":"b.png","width":100,"height":50},{"id":4,"file_name":"a.png"}]"#;

fn coco(annotations: &str) -> String {
    format!(r#"{{"info":{{"x":[null]}},{IMAGES},{CATEGORIES},"annotations":[{annotations}]}}"#)
}

#[test]
fn coco_json() {
    let folder = Folder::new("coco", &[("val2017/a.png", "30x20"), ("val2017/b.png", "1x1")]);
    let annotations = r#"{"id":1,"image_id":9,"category_id":3,"bbox":[90,10,20,10],"area":33.5,"iscrowd":1,
            "segmentation":{"counts":[1,2],"size":[3,4]},"ignore":1},
        {"id":2,"image_id":4,"category_id":7,"bbox":[1.5,2,3,4],"iscrowd":0},
        {"id":3,"image_id":4,"category_id":-2,"bbox":[30,2,3,4],"iscrowd":false}"#;
    folder.write("annotations/instances_val2017.json", &coco(annotations));
    let dataset = folder.open("val");
    assert_eq!(dataset, folder.open_at("annotations/instances_val2017.json", "").unwrap());
    assert_eq!(dataset, folder.open(""));
    assert_eq!(dataset.classes, ["cat", "cow", "dog"]);
    assert_eq!(dataset.class_ids, [-2, 3, 7]);
    assert_eq!(dataset.pictures.iter().map(|p| p.size).collect::<Vec<_>>(), [(30, 20), (100, 50)]);
    assert!(dataset.pictures.iter().all(|picture| picture.path.is_file()));
    let [first, second] = [dataset.pictures[0].boxes[0], dataset.pictures[1].boxes[0]];
    assert_eq!((first.class, first.rect, first.area, first.crowd), (2, [1.5, 2.0, 4.5, 6.0], 12.0, false));
    assert_eq!((second.class, second.rect, second.area), (1, [90.0, 10.0, 100.0, 20.0], 33.5));
    assert!(second.crowd && !second.ignore);
    assert_eq!((dataset.boxes(), dataset.odd.dropped.count), (2, 1));

    let expected = ".: no split `train`, expected annotations/instances_train.json or train/_annotations.coco.json";
    assert_eq!(folder.refused("", "train"), (ErrorKind::Input, expected.into()));
    let expected = "annotations/instances_val2017.json: a JSON file is one split, expected none to be named";
    assert_eq!(folder.refused("annotations/instances_val2017.json", "val"), (ErrorKind::Input, expected.into()));
}

#[test]
fn several_coco_files() {
    let folder = Folder::new("cocos", &[]);
    for split in ["train", "valid"] {
        folder.write(&format!("{split}/_annotations.coco.json"), &coco(""));
        folder.write(&format!("{split}/a.png"), "30x20");
    }
    assert_eq!(names(&folder.open("val+train")), ["a", "b", "a", "b"]);
    folder.write("valid/_annotations.coco.json", &coco("").replace("cow", "bee"));
    let expected =
        "valid/_annotations.coco.json: the categories differ, expected those of train/_annotations.coco.json";
    assert_eq!(folder.refused("", ""), (ErrorKind::Format, expected.into()));
}

/// A message without ` at line 1 column 2`.
fn without_place(message: &str) -> String {
    let Some((start, place)) = message.split_once(" at line 1 column ") else { return message.into() };
    format!("{start}{}", place.trim_start_matches(|digit: char| digit.is_ascii_digit()))
}

#[test]
fn bad_coco_json() {
    let folder = Folder::new("badcoco", &[("a.png", "30x20")]);
    let annotation = |rest: &str| coco(&format!(r#"{{"id":5,"image_id":4,"category_id":7{rest}}}"#));
    let wrong = ", expected COCO's images, annotations and categories";
    for (json, expected) in [
        (String::new(), format!("EOF while parsing a value{wrong}")),
        ("{}".into(), format!("missing field `images`{wrong}")),
        ("[1]".into(), format!("invalid type: integer `1`, expected a sequence{wrong}")),
        (annotation(""), format!("missing field `bbox`{wrong}")),
        (annotation(r#","bbox":[1,2,3]"#), format!("invalid length 3, expected an array of length 4{wrong}")),
        (annotation(r#","bbox":[NaN,2,3,4]"#), format!("expected value{wrong}")),
        (annotation(r#","bbox":[1e999,2,3,4]"#), format!("number out of range{wrong}")),
        (
            annotation(r#","bbox":[1,2,-3,4]"#),
            "annotation 5: `bbox` is [1.0, 2.0, -3.0, 4.0], expected [left, top, width, height]".into(),
        ),
        (
            annotation(r#","bbox":[1,2,3,4]"#).replace(":7}", ":8}").replace("category_id\":7", "category_id\":8"),
            "annotation 5: `category_id` is 8, expected one that the file describes".into(),
        ),
        (
            annotation(r#","bbox":[1,2,3,4]"#).replace("image_id\":4", "image_id\":5"),
            "annotation 5: `image_id` is 5, expected one that the file describes".into(),
        ),
        (coco("").replace("\"id\":9", "\"id\":4"), "image 4 is there twice, expected different ids".into()),
        (coco("").replace("\"id\":3", "\"id\":7"), "category 7 is there twice, expected different ids".into()),
        (coco("").replace("\"width\":100", "\"width\":0"), "image 9 has no pixels, expected a width and a height".into()),
        (
            coco("").replace("a.png", "gone.png"),
            "the picture `gone.png` is not found, expected it beside the file, in images, or in a folder named like the split"
                .into(),
        ),
        (
            coco("").replace(IMAGES, "\"images\":[]"),
            "no images, expected at least one".into(),
        ),
    ] {
        folder.write("x.json", &json);
        let (kind, message) = folder.refused("x.json", "");
        let message = without_place(&message);
        assert_eq!((kind, message), (ErrorKind::Format, format!("x.json: {expected}")), "{json}");
    }
}

fn voc(filename: &str, objects: &str) -> String {
    format!(
        "<annotation>\n<filename>{filename}</filename>\n<size><width>100</width><height>50</height></size>\n\
         {objects}</annotation>\n"
    )
}

fn object(name: &str, [x0, y0, x1, y1]: [&str; 4], more: &str) -> String {
    format!(
        "<object><name>{name}</name>{more}<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>\
         <ymax>{y1}</ymax></bndbox></object>\n"
    )
}

#[test]
fn voc_in_both_layouts() {
    let boxes = [
        object("dog", ["11", "6", "20.5", "15"], "<part><name>head</name></part>"),
        object("cat", ["90", "1", "130", "50"], "<difficult>1</difficult>"),
        object("cat", ["120", "1", "130", "50"], ""),
    ];
    let check = |folder: &Folder, name: &str| {
        let dataset = folder.open("train");
        assert_eq!(
            (names(&dataset), &dataset.classes[..]),
            (vec![name.into()], &["cat".to_string(), "dog".into()][..])
        );
        let found: Vec<_> =
            dataset.pictures[0].boxes.iter().map(|truth| (truth.class, truth.rect, truth.ignore)).collect();
        let expected = [(1, [10.0, 5.0, 20.5, 15.0], false), (0, [89.0, 0.0, 100.0, 50.0], true)];
        assert_eq!(found, expected);
        let place = dataset.odd.dropped.first[0].rsplit('/').next().unwrap();
        assert_eq!(place, format!("{name}.xml line 6: the box has no area within the picture"));
        assert_eq!((folder.open("val").boxes(), names(&folder.open("")).len()), (0, 2));
    };
    let files = [
        ("Annotations/a.xml", &*voc("a.png", &boxes.concat())),
        ("Annotations/b.xml", &*voc("C:\\work\\b.png", "")),
        ("ImageSets/Main/train.txt", "a  1\n"),
        ("ImageSets/Main/val.txt", "b -1\n"),
        ("JPEGImages/a.png", "100x50"),
        ("JPEGImages/b.png", "100x50"),
    ];
    let folder = Folder::new("voc", &files);
    check(&folder, "a");
    assert!(folder.refused("", "test").1.contains("no split `test`, expected ImageSets/Main/test.txt"));
    folder.write("ImageSets/Main/train.txt", "a  1\n\ngone  1\n");
    let expected =
        "ImageSets/Main/train.txt: names without a file in Annotations: 1 (line 3 `gone`), expected one for each";
    assert_eq!(folder.refused("", "train"), (ErrorKind::Format, expected.into()));
    let files = [
        ("train/x.xml", &*voc("elsewhere.jpg", &boxes.concat())),
        ("train/x.png", "100x50"),
        ("valid/y.xml", &*voc("y.png", "")),
        ("valid/y.png", "100x50"),
    ];
    check(&Folder::new("voc-beside", &files), "x");
}

#[test]
fn bad_voc() {
    let folder = Folder::new("voc-bad", &[("a.png", "100x50"), ("classes.txt", "cat")]);
    let sides = ["1", "1", "9", "9"];
    for (text, expected) in [
        (voc("a.png", &object("dog", sides, "")), "a.xml line 4: the class is `dog`, expected one of cat"),
        (voc("a.png", &object("cat", ["1", "x", "9", "9"], "")), "a.xml line 4: `ymin` is `x`, expected a number"),
        (voc("a.png", "<object><name>cat</name></object>"), "a.xml line 4: an object without a `bndbox`"),
        (voc("a.png", "\n<object></object>"), "a.xml line 5: `object` without `name`"),
        (voc("a.png", "").replace("100", "90"), "a.xml line 3: the size is 90x50, but the picture's is 100x50"),
        ("<html></html>".into(), "a.xml line 1: the root is no `annotation`"),
    ] {
        folder.write("a.xml", &text);
        assert_eq!(folder.refused("", ""), (ErrorKind::Format, expected.into()));
    }
    folder.write("a.xml", "<annotation>\n<object></annotation>");
    assert!(folder.refused("", "").1.starts_with("a.xml line 2: "));
    folder.write("a.xml", "<!DOCTYPE x [<!ENTITY a \"b\">]><annotation>&a;</annotation>");
    assert!(folder.refused("", "").1.contains("expected XML"));
    folder.write("a.xml", &voc("gone.png", ""));
    fs::remove_file(folder.0.join("a.png")).unwrap();
    assert!(folder.refused("", "").1.starts_with("a.xml: the picture `gone.png` is not found, expected it in"));
}
