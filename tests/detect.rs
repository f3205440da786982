//! A detector made by hand, from the file to boxes in a drawn picture; and files that make no sense.
#![cfg(feature = "image")]

#[path = "../cli/tests/common/lights.rs"]
mod lights;

use lights::{file, picture, spec};
use pupil::{
    DetectOptions, Detector, ErrorKind, Model,
    bytes::Bytes,
    detect::{Head, Spec},
    gguf::{Gguf, OwnedValue, Writer},
    image::Picture,
};
use std::path::Path;

const WHITE: [u8; 3] = [255; 3];
const RED: [u8; 3] = [255, 0, 0];

fn open(bytes: Vec<u8>) -> pupil::Result<Detector> {
    Detector::from_bytes(Bytes::from(&bytes[..]), "lights.gguf")
}

#[test]
fn lights_are_where_they_were_drawn() {
    let mut detector = open(file(&spec())).unwrap().with_threads(1).unwrap();
    // 128 × 64: half as large in the input, with 16 black rows above and below.
    let picture = picture(128, 64, 16, &[(1, 2, WHITE), (5, 0, RED)]);
    let mut found = detector.detect(&picture).unwrap();
    found.sort_by_key(|found| found.class);
    let boxes: Vec<_> = found.iter().map(|f| (f.class, [f.rect.x0, f.rect.y0, f.rect.x1, f.rect.y1])).collect();
    assert_eq!(boxes, [(0, [16.0, 32.0, 32.0, 48.0]), (1, [80.0, 0.0, 96.0, 16.0])]);
    assert!(found.iter().all(|found| found.score > 0.9));
    assert!(detector.times().total() > std::time::Duration::ZERO);
}

/// But for the list of what was found. The network of this file computes in bytes, and its input has another size than the
/// picture.
#[test]
fn frames_allocate_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut detector = Detector::open_with_threads(folder.join("vehicles.gguf"), 1).unwrap();
    let street = Picture::open(folder.join("street.jpg")).unwrap();
    assert!(!detector.detect(&street).unwrap().is_empty());
    detector.configure(&DetectOptions { confidence: Some(1.0), ..Default::default() }).unwrap();
    assert_eq!(allocation_counter::measure(|| drop(detector.detect(&street).unwrap())).count_total, 0);
}

#[test]
fn options_choose() {
    let mut detector = open(file(&spec())).unwrap();
    let picture = picture(64, 64, 8, &[(1, 2, WHITE), (5, 0, RED), (6, 6, RED)]);
    let mut count = |options: DetectOptions| {
        detector.configure(&options).unwrap();
        detector.detect(&picture).unwrap().len()
    };
    assert_eq!(count(DetectOptions::default()), 3);
    assert_eq!(count(DetectOptions { classes: vec![1], ..Default::default() }), 2);
    assert_eq!(count(DetectOptions { max: Some(1), ..Default::default() }), 1);
    assert_eq!(count(DetectOptions { confidence: Some(1.0), ..Default::default() }), 0);
    for (options, expected) in [
        (
            DetectOptions { confidence: Some(f32::NAN), ..Default::default() },
            "confidence: NaN is no number from 0 to 1",
        ),
        (DetectOptions { iou: Some(-1.0), ..Default::default() }, "IoU: -1 is no number from 0 to 1"),
        (DetectOptions { max: Some(0), ..Default::default() }, "at most: 0 objects, expected 1 to 1000"),
        (DetectOptions { classes: vec![2], ..Default::default() }, "class 2, expected less than 2"),
    ] {
        let error = detector.configure(&options).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Input, expected));
    }
    assert_eq!(detector.class("RED light").unwrap(), 1);
}

#[test]
fn a_spec_survives_the_file() {
    let gguf = Gguf::from_bytes(Bytes::from(&file(&spec())[..]), "lights.gguf").unwrap();
    assert_eq!(Spec::read(&gguf).unwrap(), spec());
}

/// The file with one key changed.
fn changed(key: &str, value: OwnedValue) -> Vec<u8> {
    let bytes = file(&spec());
    let gguf = Gguf::from_bytes(Bytes::from(&bytes[..]), "lights.gguf").unwrap();
    let tensors: Vec<_> = gguf.tensors().iter().map(|t| (t, gguf.tensor(&t.name).unwrap().data().to_vec())).collect();
    let mut writer = Writer::new();
    for (name, old) in gguf.keys().iter().filter(|(name, _)| *name != "general.alignment") {
        writer.key(name, if name == key { value.clone() } else { old.into() });
    }
    for (info, data) in &tensors {
        writer.tensor(&info.name, info.dtype, &info.dims, &data[..]);
    }
    let mut out = Vec::new();
    writer.write(&mut out).unwrap();
    out
}

#[test]
fn rejects_what_makes_no_sense() {
    let head = |from: &str, to: &str| {
        let json = serde_json::to_string(&spec().head).unwrap();
        assert!(json.contains(from), "{json}");
        OwnedValue::from(json.replace(from, to))
    };
    for (key, value, expected) in [
        (
            "general.architecture",
            "llama".into(),
            "holds a language model (the architecture is 'llama'), not a detector",
        ),
        ("detect.width", 0_u32.into(), "an input of 0 x 64"),
        ("detect.width", 32_u32.into(), "the network's input is 64x64x3, expected 64x32x3"),
        ("detect.fit", "crop".into(), "key `detect.fit` is \"crop\", expected stretch or letterbox"),
        ("detect.fill", 256_u32.into(), "key `detect.fill` is 256, expected 0 to 255"),
        ("detect.colours", "cmyk".into(), "key `detect.colours` is \"cmyk\", expected rgb or bgr"),
        ("detect.mean", vec![0.0_f32; 2].into(), "key `detect.mean` is 2 numbers, expected three"),
        ("detect.mean", vec![f32::NAN; 3].into(), "expected finite numbers"),
        ("detect.std", vec![0.0_f32; 3].into(), "expected numbers above 0"),
        ("detect.confidence", 2.0_f32.into(), "key `detect.confidence`: 2 is no number from 0 to 1"),
        ("detect.confidence", f32::NAN.into(), "expected a finite f32"),
        ("detect.iou", (-0.5_f32).into(), "key `detect.iou`: -0.5 is no number from 0 to 1"),
        ("detect.max", 0_u32.into(), "key `detect.max`: 0 objects, expected 1 to 1000"),
        ("detect.max", u32::MAX.into(), "key `detect.max`: 4294967295 objects, expected 1 to 1000"),
        ("detect.classes", vec!["light"].into(), "there are 1 class names, but the head has scores of 2"),
        ("detect.classes", Vec::<String>::new().into(), "the number of names is not from 1 to 65536"),
        ("detect.classes", vec!["a", "\u{1b}[2J"].into(), "name 1 is \"\\u{1b}[2J\", expected 1 to 256 printable"),
        ("detect.classes", vec![&b"\xff"[..], b"b"].into(), "name 0 is not UTF-8"),
        ("detect.head", "{".into(), "key `detect.head`: "),
        ("detect.head", "{\"kind\":\"magic\"}".into(), "unknown variant `magic`"),
        ("detect.head", head("\"bins\":1", "\"bins\":1,\"tins\":2"), "unknown field `tins`"),
        ("detect.head", head("\"bins\":1", "\"bins\":0"), "the head has 0 bins, expected 1 to 256"),
        ("detect.head", head("\"bins\":1", "\"bins\":9"), "of output 1, which has 64 places of 4 channels"),
        ("detect.head", head("\"stride\":8", "\"stride\":0"), "the head has cells of 0 pixels"),
        ("detect.head", head("\"stride\":8", "\"stride\":4"), "the head reads 256 places from 0"),
        ("detect.head", head("\"output\":1", "\"output\":7"), "the head reads output 7, expected one of 2"),
        ("detect.head", head("\"output\":1", &format!("\"output\":1,\"channel\":{}", usize::MAX)), "the head reads"),
        ("detect.head", head("\"centre\":0.5", "\"centre\":1e30"), "the head's centre is"),
        ("detect.head", "{\"kind\":\"grid\",\"levels\":[]}".into(), "the head has 0 levels, expected 1 to 16"),
    ] {
        let error = open(changed(key, value)).unwrap_err().to_string();
        assert!(error.starts_with("lights.gguf: ") && error.contains(expected), "{key}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn other_models_say_what_they_are() {
    let error = Model::from_bytes(Bytes::from(&file(&spec())[..]), "lights.gguf").err().unwrap().to_string();
    assert!(error.contains("lights.gguf: holds a detector") && error.contains("pupil detect runs it"), "{error}");
}

/// Whatever byte is wrong, the file is refused or finds something, and does not panic.
#[test]
fn flipped_bytes() {
    let whole = file(&spec());
    let picture = picture(64, 64, 8, &[(1, 2, WHITE)]);
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x91;
        if let Ok(mut detector) = open(bytes).and_then(|detector| detector.with_threads(1)) {
            let found = detector.detect(&picture).unwrap();
            assert!(found.iter().all(|found| found.score.is_finite() && found.class < detector.spec().classes.len()));
        }
    }
}

#[test]
fn heads_are_json_for_people() {
    assert_eq!(
        serde_json::to_string(&spec().head).unwrap(),
        "{\"kind\":\"distances\",\"levels\":[{\"classes\":{\"output\":0},\"distances\":{\"output\":1},\"stride\":8}],\
         \"bins\":1,\"centre\":0.5,\"scores\":\"probability\",\"every\":true}"
    );
    let head: Head = serde_json::from_str(
        "{\"kind\":\"boxes\",\"boxes\":{\"output\":0},\"classes\":{\"output\":1},\"form\":\"corners\"}",
    )
    .unwrap();
    assert!(matches!(head, Head::Boxes(_)));
}
