//! The students in the program answer as they did when they were put there.

#![cfg(feature = "bundled")]

mod common;

use common::{arg, good, place};
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

/// What the detector found, as a line of JSON says it: names, scores and boxes.
fn objects(line: &str) -> Vec<(String, f64, Vec<f64>)> {
    let line: Value = serde_json::from_str(line).unwrap();
    let object = |object: &Value| {
        let edges = object["box"].as_array().unwrap().iter().map(|edge| edge.as_f64().unwrap());
        (object["name"].as_str().unwrap().to_owned(), object["score"].as_f64().unwrap(), edges.collect())
    };
    line["objects"].as_array().unwrap().iter().map(object).collect()
}

#[test]
fn the_detector_finds_what_it_found() {
    let kept = objects(&fs::read_to_string(models().join("vehicles.golden.json")).unwrap());
    let now = objects(&good(&["detect", "--demo", "--json"]));
    let names = |objects: &[(String, f64, Vec<f64>)]| objects.iter().map(|(name, ..)| name.clone()).collect::<Vec<_>>();
    assert!(names(&kept).contains(&"Bus".into()) && names(&kept).contains(&"Car".into()), "{kept:?}");
    assert_eq!(names(&now), names(&kept));
    // Convolutions in f32 add in another order on another processor.
    for ((_, now, edges), (_, kept, kept_edges)) in now.iter().zip(&kept) {
        assert!((now - kept).abs() < 0.02, "a score of {now}, expected {kept}");
        let near = edges.iter().zip(kept_edges).all(|(now, kept)| (now - kept).abs() < 2.0);
        assert!(near && edges.len() == 4, "{edges:?}, expected {kept_edges:?}");
    }
}

#[test]
fn a_picture_needs_no_model() {
    let street = models().join("street.jpg");
    let found = objects(&good(&["detect", arg(&street), "--json"]));
    assert_eq!(found, objects(&good(&["detect", "--demo", "--json"])));
    assert!(!found.is_empty());
}

/// On the photographs that it was measured on, which are not part of the repository, the detector is as good as its file says.
#[cfg(feature = "eval")]
#[test]
fn the_detector_is_as_good_as_it_says() {
    let data = models().join("../../shared/data/detect/vehicles_openimages");
    if !data.exists() {
        println!("skipped: {} not found", data.display());
        return;
    }
    let line = good(&["eval", "detect", "--data", arg(&data), "--split", "val,test", "--json"]);
    let scores: Value = serde_json::from_str(&line).unwrap();
    let file = pupil::gguf::Gguf::open(&models().join("vehicles.gguf")).unwrap();
    let (now, said) = (scores["total"]["ap"].as_f64().unwrap(), f64::from(file.keys().f32("pupil.score.map").unwrap()));
    assert!((now - said).abs() < 0.005 && said > 0.4, "mAP of {now:.4}, expected {said:.4}");
}

#[test]
fn the_drawing_comes_back_with_boxes() {
    let copy = place("street-boxes.png");
    good(&["detect", "--demo", "-o", copy.to_str().unwrap()]);
    let [drawn, plain] = [copy, models().join("street.jpg")].map(|path| pupil::Picture::open(path).unwrap());
    assert_eq!((drawn.width(), drawn.height()), (plain.width(), plain.height()));
    assert_ne!(drawn.rgb(), plain.rgb());
}
