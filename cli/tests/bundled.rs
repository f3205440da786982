//! The students in the program answer as they did when they were put there.

#![cfg(feature = "bundled")]

mod common;

use common::{good, place};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// What a student made of what: lines with a tab between both.
fn golden(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(models().join(name)).unwrap();
    let pairs: Vec<_> = text.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert!(pairs.len() >= 20, "{name} has {} lines", pairs.len());
    pairs.into_iter().map(|(said, answer)| (said.into(), answer.into())).collect()
}

#[test]
fn the_translator_translates_as_it_did() {
    for (sentence, translation) in golden("en-de.golden.tsv") {
        assert_eq!(good(&["translate", &sentence]).trim_end(), translation, "{sentence}");
    }
}

#[test]
fn the_chat_student_answers_as_it_did() {
    for (opening, answer) in golden("chat.golden.tsv") {
        assert_eq!(good(&["chat", "--temp", "0", "--max-tokens", "60", &opening]).trim_end(), answer, "{opening}");
    }
}

#[test]
fn the_detector_finds_what_it_found() {
    let found = |line: &str| -> Vec<(String, Vec<f64>)> {
        let line: Value = serde_json::from_str(line).unwrap();
        let objects = line["objects"].as_array().unwrap().iter();
        let numbers = |object: &Value| object["box"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        objects.map(|object| (object["name"].as_str().unwrap().to_owned(), numbers(object))).collect()
    };
    let kept = fs::read_to_string(models().join("vehicles.golden.json")).unwrap();
    let (kept, now) = (found(&kept), found(&good(&["detect", "--demo", "--json"])));
    let names = |objects: &[(String, Vec<f64>)]| objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert!(names(&kept).contains(&"Bus".into()) && names(&kept).contains(&"Car".into()), "{kept:?}");
    assert_eq!(names(&now), names(&kept));
    // Convolutions in f32 add in another order on another processor.
    for (now, kept) in now.iter().zip(&kept).flat_map(|((_, now), (_, kept))| now.iter().zip(kept)) {
        assert!((now - kept).abs() < 2.0, "{now}, expected {kept}");
    }
}

#[test]
fn the_drawing_comes_back_with_boxes() {
    let copy = place("street-boxes.png");
    good(&["detect", "--demo", "-o", copy.to_str().unwrap()]);
    let [drawn, plain] = [copy, models().join("street.jpg")].map(|path| pupil::Picture::open(path).unwrap());
    assert_eq!((drawn.width(), drawn.height()), (plain.width(), plain.height()));
    assert_ne!(drawn.rgb(), plain.rgb());
}
