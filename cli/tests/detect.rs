//! `pupil detect` and `pupil eval detect` with a detector made by hand.

mod common;
#[cfg(feature = "onnx")]
#[path = "../../tests/vectors/graphs.rs"]
#[allow(dead_code, reason = "the library's tests compare the outputs, too")]
mod graphs;
#[path = "common/lights.rs"]
mod lights;

use common::{arg, bad, bad_with, file, good, good_with, place, run, run_with, tiny};
use lights::{picture, spec};
use pupil::{detect::Head, image::Picture};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

const WHITE: [u8; 3] = [255; 3];
const RED: [u8; 3] = [255, 0, 0];

/// A file with the detector, for the test called `test`.
fn model(test: &str) -> PathBuf {
    file(&format!("{test}-lights.gguf"), &lights::file(&spec()))
}

/// An empty folder for the test called `test`.
fn folder(test: &str) -> PathBuf {
    let folder = place(&format!("{test}-pictures"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn scene() -> Picture {
    picture(64, 64, 8, &[(1, 2, WHITE), (5, 0, RED)])
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_picture() {
    let (model, folder) = (model("one"), folder("one"));
    let path = folder.join("scene.png");
    scene().save(&path).unwrap();
    let args = ["detect", "-m", arg(&model), arg(&path), "-t", "1"];
    let text = good(&args);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort();
    assert!(lines[0].starts_with("red light    ") && lines[0].ends_with(" %  40,0 to 48,8"), "{text}");
    assert!(lines[1].starts_with("white light  ") && lines[1].ends_with(" %  8,16 to 16,24"), "{text}");
    let only = good(&[&args[..], &["--classes", "Red Light"]].concat());
    assert_eq!(only.lines().count(), 1);
    assert_eq!(good(&[&args[..], &["--conf", "1"]].concat()), "nothing found\n");
    assert_eq!(good(&[&args[..], &["--max", "1"]].concat()).lines().count(), 1);
    let ran = run(&[&args[..], &["--verbose"]].concat());
    assert!(ran.code == Some(0) && ran.err.contains("place ") && ran.err.contains(" net "), "{}", ran.err);
}

/// Every light is seen twice, in the same place.
#[test]
fn options_choose() {
    let mut twice = spec();
    let Head::Distances(head) = &mut twice.head else { unreachable!() };
    head.levels.extend_from_within(..);
    let model = file("options-lights.gguf", &lights::file(&twice));
    let path = folder("options").join("scene.png");
    scene().save(&path).unwrap();
    let found = |options: &[&str]| {
        let out = good(&[&["detect", "-m", arg(&model), arg(&path), "--json"], options].concat());
        let line = &lines(&out)[0];
        let classes = line["objects"].as_array().unwrap().iter().map(|object| object["class"].as_u64().unwrap());
        let mut classes: Vec<_> = classes.collect();
        classes.sort();
        classes
    };
    assert_eq!(found(&[]), [0, 1]);
    assert_eq!(found(&["--iou", "1"]), [0, 0, 1, 1]);
    assert_eq!(found(&["--iou", "0.9"]), [0, 1]);
    assert_eq!(found(&["--classes", "red light"]), [1]);
    assert_eq!(found(&["--classes", "red light,White Light"]), [0, 1]);
}

#[test]
fn json_and_a_drawn_copy() {
    let (model, folder) = (model("json"), folder("json"));
    let (path, copy) = (folder.join("scene.png"), folder.join("out.png"));
    scene().save(&path).unwrap();
    let out = good(&["detect", "-m", arg(&model), arg(&path), "--json", "-o", arg(&copy)]);
    let line = &lines(&out)[0];
    assert_eq!((&line["file"], &line["width"], &line["height"]), (&arg(&path).into(), &64.into(), &64.into()));
    assert!(line["ms"].as_f64().unwrap() > 0.0);
    let objects = line["objects"].as_array().unwrap();
    let white = objects.iter().find(|object| object["class"] == 0).unwrap();
    assert_eq!(white["name"], "white light");
    assert_eq!(white["box"], serde_json::json!([8.0, 16.0, 16.0, 24.0]));
    assert!((0.9..1.0).contains(&white["score"].as_f64().unwrap()));
    assert_eq!(objects.len(), 2);
    assert_ne!(Picture::open(&copy).unwrap().rgb(), scene().rgb());
    let line = bad(&["detect", "-m", arg(&model), arg(&path), "-o", arg(&path)]);
    assert!(line.contains("would replace a file that is read"), "{line}");
}

#[test]
fn a_folder_with_a_bad_picture() {
    let (model, folder) = (model("folder"), folder("folder"));
    let out = folder.join("boxes").join("drawn");
    scene().save(folder.join("a.png")).unwrap();
    fs::write(folder.join("b.jpg"), "just text").unwrap();
    scene().save(folder.join("c.jpg")).unwrap();
    fs::write(folder.join("notes.txt"), "no picture").unwrap();
    let ran = run(&["detect", "-m", arg(&model), arg(&folder), "-o", arg(&out)]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.starts_with("pupil: ") && ran.err.contains("b.jpg"), "{}", ran.err);
    let headers: Vec<_> = ran.out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(headers.len() == 2 && headers[0].ends_with("a.png") && headers[1].ends_with("c.jpg"), "{}", ran.out);
    assert!(out.join("a.png").is_file() && out.join("c.jpg").is_file() && !out.join("b.jpg").exists());
}

#[test]
fn what_makes_no_sense() {
    let (model, folder) = (model("senseless"), folder("senseless"));
    let (empty, text, twin) = (folder.join("empty"), folder.join("text.jpg"), folder.join("twin"));
    fs::create_dir_all(&empty).unwrap();
    fs::create_dir_all(&twin).unwrap();
    fs::write(&text, "just text").unwrap();
    let scene_path = folder.join("scene.png");
    scene().save(&scene_path).unwrap();
    scene().save(twin.join("scene.png")).unwrap();
    let twin = twin.join("scene.png");
    let chat = tiny("detect-chat", "q8_0");
    let (m, e, t, s, w) = (arg(&model), arg(&empty), arg(&text), arg(&scene_path), arg(&twin));
    for (args, expected) in [
        (&["detect", "-m", m][..], "<PICTURE|FOLDER|->"),
        (&["detect", "-m", m, s, "--colour"], "unexpected argument '--colour'"),
        (&["detect", "-m", m, "none.jpg"], "none.jpg"),
        (&["detect", "-m", "none.gguf", s], "none.gguf"),
        (&["detect", "-m", m, t], "text.jpg: "),
        (&["detect", "-m", m, e], "empty: no pictures, expected files that end with .jpg, .jpeg, .png"),
        (&["detect", "-m", m, s, "--classes", "car"], "there is no class 'car'; there are white light, red light"),
        (&["detect", "-m", m, s, "--classes", "light"], "did you mean white light, red light?"),
        (&["detect", "-m", m, s, "--conf", "2"], "expected a number from 0 to 1"),
        (&["detect", "-m", m, s, "--conf", "-0.1"], "expected a number from 0 to 1"),
        (&["detect", "-m", m, s, "--iou", "nan"], "expected a number from 0 to 1"),
        (&["detect", "-m", m, s, "--max", "0"], "expected a whole number from 1 to 1000"),
        (&["detect", "-m", m, "-", "--size", "640"], "expected WIDTHxHEIGHT in pixels"),
        (&["detect", "-m", m, "-", "--size", "0x9"], "frames of 0 x 9"),
        (&["detect", "-m", m, s, "--size", "6x9"], "expected - instead of files"),
        (&["detect", "-m", m, "-", s], "stands alone"),
        (&["detect", "-m", m, "-"], "stdin is empty"),
        (&["detect", "-m", m, s, w, "-o", "x.png"], "one file for 2 pictures, expected a folder"),
        (&["detect", "-m", m, s, w, "-o", e], "another picture of that name"),
        (&["detect", "-m", arg(&chat), s], "not a detector; pupil chat runs it"),
        (&["chat", "-m", m, "hello"], "holds a detector (the architecture is 'convnet'), not a language model"),
        (
            &["detect", "-m", m, s, "-o", "x.gif"],
            "x.gif: no picture ends so, expected .jpg, .jpeg, .png, .bmp, .webp, or",
        ),
        (&["bench", "-m", m, "--beam", "2"], "--beam does nothing here: the model is a detector"),
    ] {
        let line = bad(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
    let line = bad_with(&["detect", "-m", m, "-"], b"this is no picture at all");
    assert!(
        line.contains("stdin: no JPEG in the 25 bytes of the stream: expected a JPEG, PNG, BMP or WebP picture"),
        "{line}"
    );
}

#[test]
fn pictures_on_stdin() {
    let model = model("stdin");
    let png = scene().encode_png();
    let line = &lines(&good_with(&["detect", "-m", arg(&model), "-", "--json"], &png))[0];
    assert_eq!(line["objects"].as_array().unwrap().len(), 2);
    let path = folder("stdin").join("scene.jpg");
    scene().save(&path).unwrap();
    let jpeg = fs::read(&path).unwrap();
    let text = good_with(&["detect", "-m", arg(&model), "-"], &jpeg);
    assert!(text.lines().count() >= 1 && !text.contains("frame"), "{text}");
}

#[test]
fn frames_on_stdin() {
    let model = model("frames");
    let path = folder("frames").join("scene.jpg");
    scene().save(&path).unwrap();
    let stream = fs::read(&path).unwrap().repeat(5);
    let ran = run_with(&["detect", "-m", arg(&model), "-", "--json", "--every-frame"], &stream);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let frames: Vec<_> = lines(&ran.out).iter().map(|line| line["frame"].as_u64().unwrap()).collect();
    assert_eq!(frames, [1, 2, 3, 4, 5]);
    assert!(ran.err.starts_with("5 frames, 0 dropped, ") && ran.err.ends_with(" fps\n"), "{}", ran.err);
    // Without the option frames may be dropped, but none goes missing.
    let ran = run_with(&["detect", "-m", arg(&model), "-", "--json"], &stream);
    let words: Vec<u64> = ran.err.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    assert_eq!(words[0] + words[1], 5, "{}", ran.err);
    assert_eq!(ran.out.lines().count() as u64, words[0]);
}

#[test]
fn raw_frames_on_stdin() {
    let model = model("raw");
    let out = folder("raw");
    let raw = scene().rgb().repeat(3);
    let args = ["detect", "-m", arg(&model), "-", "--size", "64x64", "--every-frame", "-o", arg(&out)];
    let ran = run_with(&args, &raw);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("frame 1 at ") && ran.out.contains("  white light  "), "{}", ran.out);
    assert!(out.join("frame-000003.jpg").is_file());
    // The last frame is cut off.
    let ran = run_with(&args, &raw[..raw.len() - 5]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("frame 3") && ran.err.contains("2 frames, 0 dropped, 1 broken"), "{}", ran.err);
}

#[cfg(feature = "eval")]
#[test]
fn what_makes_no_sense_in_an_evaluation() {
    let (model, empty) = (model("no-evaluation"), folder("no-data"));
    let (m, e) = (arg(&model), arg(&empty));
    for (args, expected) in [
        (&["eval"][..], "no command was given; pupil eval --help lists them"),
        (&["eval", "detect", "-m", m, "-d", e], "no-data"),
        (&["eval", "detect", "-m", m, "-d", e, "--map-classes", "a"], "expected DATA=MODEL"),
    ] {
        let line = bad(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

#[cfg(feature = "eval")]
#[test]
fn evaluation() {
    let (model, data) = (model("eval"), folder("eval"));
    for part in ["images/val", "labels/val"] {
        fs::create_dir_all(data.join(part)).unwrap();
    }
    fs::write(data.join("data.yaml"), "path: .\nval: images/val\nnames: [White Light, lamp, cat]\n").unwrap();
    scene().save(data.join("images/val/a.png")).unwrap();
    // The white cell, the red one, and a cat.
    let labels = "0 0.1875 0.3125 0.125 0.125\n1 0.6875 0.0625 0.125 0.125\n2 0.5 0.5 0.2 0.2\n";
    fs::write(data.join("labels/val/a.txt"), labels).unwrap();
    let args = ["eval", "detect", "-m", arg(&model), "-d", arg(&data), "--split", "val"];
    let text = good(&args);
    assert!(text.contains("White Light") && text.contains("1.000") && text.contains(": lamp, cat\n"), "{text}");
    let json = good(&[&args[..], &["--map-classes", "lamp=red light", "--json"]].concat());
    let scores = &lines(&json)[0];
    assert_eq!(scores["total"]["ap50"], 1.0, "{json}");
    assert_eq!(scores["left_out"], serde_json::json!(["cat"]));
    assert_eq!(scores["classes"].as_array().unwrap().len(), 2);
    let line = bad(&[&args[..], &["--map-classes", "lamp=white light"]].concat());
    assert!(line.contains("'White Light' and 'lamp' are one class of the detector"), "{line}");
    assert!(good(&[&args[..], &["--map-classes", "lamp=white light", "--classes", "lamp"]].concat()).contains("lamp"));
    let line = bad(&[&args[..], &["--map-classes", "lamp=green light"]].concat());
    assert!(line.contains("there is no class 'green light'; did you mean"), "{line}");
    let line = bad(&[&args[..], &["--classes", "dog"]].concat());
    assert!(line.contains("no class 'dog', expected one of White Light, lamp, cat"), "{line}");
    let line = bad(&[&args[..], &["--classes", "cat"]].concat());
    assert!(line.contains("have no class in common"), "{line}");
}

#[test]
fn bench_and_inspect() {
    let model = model("bench");
    let out = good(&["bench", "-m", arg(&model), "-t", "1,2", "--reps", "2", "--json"]);
    let rows = lines(&out);
    assert_eq!(rows.len(), 2);
    for key in ["open_ms", "frame_ms", "net_ms", "place_ms", "decode_ms"] {
        assert!(rows[0][key].as_f64().unwrap() >= 0.0, "{out}");
    }
    assert_eq!((&rows[0]["threads"], &rows[1]["threads"]), (&1.into(), &2.into()));
    assert!(good(&["bench", "-m", arg(&model), "--reps", "1"]).starts_with("threads  open ms"));
    let text = good(&["inspect", arg(&model)]);
    for part in [
        "input       64 x 64, RGB, pictures are letterboxed in the middle",
        "head        distances from each cell",
        "classes     2: white light, red light",
        "operations  2 conv, 1 pool",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let json: Value = serde_json::from_str(&good(&["inspect", "--json", arg(&model)])).unwrap();
    assert_eq!(json["detector"]["operations"]["conv"], 2);
}

#[cfg(feature = "onnx")]
#[test]
fn conversion_to_bytes() {
    let folder = folder("convert");
    let (pictures, empty, other) = (folder.join("pictures"), folder.join("empty"), folder.join("other"));
    [&pictures, &empty, &other].into_iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    scene().save(pictures.join("a.png")).unwrap();
    scene().save(pictures.join("b.png")).unwrap();
    fs::write(pictures.join("c.jpg"), "just text").unwrap();
    fs::write(other.join("notes.txt"), "no picture").unwrap();
    let onnx = |name: &str| file(&format!("{}.onnx", name.trim_matches('!')), &graphs::case(name).graph);
    let (boxes, open) = (onnx("nms"), onnx("!dynamic_size"));
    let cut = file("cut.onnx", &graphs::case("nms").graph[..300]);
    let made = folder.join("made.gguf");
    let (b, m, text) = (arg(&boxes), arg(&made), pictures.join("c.jpg"));
    let args = ["convert", b, "-o", m, "--head", "boxes", "--classes", "a,b,c,d,e"];
    let to_bytes = |folder: &Path| [&args[..], &["--int8", "--calibrate", arg(folder)]].concat().join("\n");
    for (args, expected) in [
        (to_bytes(&empty), "empty: no pictures, expected files that end with .jpg"),
        (to_bytes(&other), "other: no pictures, expected files that end with .jpg"),
        (to_bytes(&folder.join("gone")), "gone: no folder, expected one of pictures"),
        (to_bytes(&text), "c.jpg: no folder, expected one of pictures"),
        (["convert", b, "-o", m, "--int8"].join("\n"), "--calibrate <DIR>"),
        (["convert", b, "-o", m, "--budget", "0.1"].join("\n"), "--int8"),
        (["convert", b, "-o", m, "--conf", "2"].join("\n"), "expected a number from 0 to 1"),
        (["convert", b, "-o", m, "--classes", "no/such.txt"].join("\n"), "no/such.txt: No such file"),
        (["convert", b, "-o", b].join("\n"), "would replace a file that is read"),
        (["convert", arg(&cut), "-o", m].join("\n"), "cut.onnx: not an ONNX file"),
        (["convert", arg(&open), "-o", m].join("\n"), "--size 640x640"),
    ] {
        let line = bad(&args.split('\n').collect::<Vec<_>>());
        assert!(line.contains(expected) && !made.exists(), "{args}: {line}");
    }
    let ran = run(&to_bytes(&pictures).split('\n').collect::<Vec<_>>());
    assert_eq!((ran.code, ran.err.lines().count()), (Some(0), 1), "{}", ran.err);
    assert!(ran.err.contains("c.jpg: ") && ran.err.ends_with("; left out\n"), "{}", ran.err);
    assert!(ran.out.contains("in bytes, ") && ran.out.contains("reads the picture"), "{}", ran.out);
    good(&["detect", "-m", m, arg(&pictures.join("a.png"))]);
}

/// What tract runs is said, but not where the objects are.
#[cfg(feature = "onnx")]
#[test]
fn graphs_that_tract_runs() {
    let (onnx, model) = (file("boxes.onnx", &graphs::case("!boxes").graph), place("boxes.gguf"));
    let picture = place("boxes.png");
    scene().save(&picture).unwrap();
    let out = good(&["convert", arg(&onnx), "-o", arg(&model), "--head", "boxes", "--boxes", "yxyx"]);
    assert!(out.contains("\nboxes       yxyx\n") && out.contains("\nengine      tract, because "), "{out}");
    let ran = run(&["detect", "-m", arg(&model), arg(&picture), "--json"]);
    assert_eq!((ran.code, lines(&ran.out).len()), (Some(0), 1), "{}", ran.err);
    assert!(ran.err.ends_with("boxes.gguf: tract runs this network, which takes longer; pupil convert says why\n"));
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    let out = good(&["convert", arg(&onnx), "-o", arg(&model), "--head", "boxes"]);
    assert!(out.contains("\nboxes       xyxy, as is usual; see --boxes\n"), "{out}");
}

/// The figures that were measured with other programs on these photos. Slow:
/// `cargo test --release -p pupil-cli --test detect -- --ignored --nocapture`
#[test]
#[ignore = "looks at 188 photos twice"]
fn real_detectors_find_what_they_found_elsewhere() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let data = shared.join("data/detect/vehicles_openimages");
    for (name, ap50, ap) in [("nanodet_plus_m_416", 0.590, 0.422), ("yolox_nano", 0.558, 0.377)] {
        let onnx = shared.join(format!("models/onnx/{name}.onnx"));
        if !onnx.is_file() || !data.is_dir() {
            println!("skipped: {} or {} not found", onnx.display(), data.display());
            continue;
        }
        let model = place(&format!("{name}.gguf"));
        good(&["convert", arg(&onnx), "-o", arg(&model)]);
        let ran = run(&["eval", "detect", "-m", arg(&model), "-d", arg(&data), "--split", "val,test", "--json"]);
        let total = &lines(&ran.out)[0]["total"];
        println!("{name}: AP50 {}, mAP {}", total["ap50"], total["ap"]);
        let near = |key: &str, expected: f64| (total[key].as_f64().unwrap() - expected).abs() < 0.01;
        assert!(near("ap50", ap50) && near("ap", ap), "{name}: {total}");
    }
}

/// What may lie in a folder of pictures, or be given as one.
#[test]
fn hostile_pictures() {
    let (model, folder) = (model("hostile"), folder("hostile"));
    let bmp = |width: u32, height: u32| {
        let head = [&b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0"[..], &width.to_le_bytes(), &height.to_le_bytes()];
        [&head.concat()[..], b"\x01\0\x18\0", &[0; 24], &[0; 64]].concat()
    };
    fs::write(folder.join("empty.jpg"), "").unwrap();
    fs::write(folder.join("flat.bmp"), bmp(0, 4)).unwrap();
    fs::write(folder.join("wide.bmp"), bmp(100_000, 4)).unwrap();
    // 2 GiB that take no room.
    fs::File::create(folder.join("huge.jpg")).unwrap().set_len(2 << 30).unwrap();
    for (name, expected) in [
        ("empty.jpg", "is empty: expected a JPEG, PNG, BMP or WebP picture"),
        ("flat.bmp", "flat.bmp: "),
        ("wide.bmp", "wide.bmp: "),
        ("huge.jpg", "a file of 2048 MiB: expected a picture of at most 256 MiB"),
    ] {
        let line = bad(&["detect", "-m", arg(&model), arg(&folder.join(name))]);
        assert!(line.contains(expected), "{name}: {line}");
    }
    let ran = run(&["detect", "-m", arg(&model), arg(&folder)]);
    assert_eq!((ran.code, ran.err.lines().count(), ran.out.as_str()), (Some(2), 4, ""), "{}", ran.err);
}
