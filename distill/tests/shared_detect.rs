//! Real data sets, which are not part of the repository: they are read from `../shared/data/detect`, and what is not
//! there is skipped.

use pupil_distill::{
    data::detect::{Dataset, Options},
    eval::detect::{Evaluation, Found},
};
use std::path::{Path, PathBuf};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/detect").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} not found", path.display());
    None
}

fn open(path: &Path, split: Option<&str>) -> Dataset {
    Dataset::open(path, &Options { split: split.map(str::to_string), pictures: None }).unwrap()
}

/// Pictures by split, boxes in all, side lengths.
fn check(name: &str, classes: &[&str], splits: &[(&str, usize)], boxes: usize, size: (usize, usize)) {
    let Some(path) = shared(name) else { return };
    let start = std::time::Instant::now();
    let all = open(&path, None);
    println!("{name}: {} pictures, {} boxes in {:?}", all.pictures.len(), all.boxes(), start.elapsed());
    assert_eq!(all.classes, classes);
    assert_eq!(all.pictures.len(), splits.iter().map(|(_, pictures)| pictures).sum::<usize>());
    assert_eq!((all.boxes(), all.odd.dropped.count), (boxes, 0));
    assert!(all.pictures.iter().all(|picture| picture.size == size));
    for (split, pictures) in splits {
        assert_eq!(open(&path, Some(split)).pictures.len(), *pictures, "{split}");
    }
}

#[test]
fn vehicles() {
    let classes = ["Ambulance", "Bus", "Car", "Motorcycle", "Truck"];
    check("vehicles_openimages", &classes, &[("train", 439), ("val", 125), ("test", 63)], 1194, (416, 416));
    let Some(path) = shared("vehicles_openimages") else { return };
    let both = open(&path, Some("val+test"));
    assert_eq!((both.pictures.len(), both.boxes()), (188, 227 + 129));
}

#[test]
fn bccd() {
    let classes = ["RBC", "WBC", "Platelets"];
    check("bccd", &classes, &[("train", 205), ("val", 87), ("test", 72)], 4886, (640, 480));
}

#[test]
fn deeppcb() {
    let classes = ["open", "short", "mousebite", "spur", "copper", "pin-hole"];
    check("deeppcb", &classes, &[("train", 1000), ("test", 500)], 10_013, (640, 640));
}

#[test]
fn the_truth_scores_1() {
    let Some(path) = shared("bccd") else { return };
    let dataset = open(&path, Some("test"));
    let mut evaluation = Evaluation::new(&dataset.classes);
    for (index, picture) in dataset.pictures.iter().enumerate() {
        let found = picture.boxes.iter().map(|truth| Found {
            class: truth.class,
            score: 1.0,
            rect: truth.rect.map(|edge| edge as f32),
        });
        evaluation.add(index, &picture.boxes, &found.collect::<Vec<_>>()).unwrap();
    }
    let scores = evaluation.finish();
    println!("{scores}");
    assert!(scores.total.ap.unwrap() > 0.999_999);
}
