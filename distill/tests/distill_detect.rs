//! Whole trainings of tiny detectors on pictures drawn here: what they learn, and that they go on as if never stopped.
#![cfg(feature = "train")]

mod common;

use common::{Ears, done, options};
use pupil::{Picture, gguf::Gguf};
use pupil_distill::{
    device::DeviceKind,
    recipe::detect::Recipe,
    train::{
        Options, Outcome,
        detect::{Report, distill},
    },
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether something was said with these words.
fn heard(ears: &Ears, what: &str) -> bool {
    ears.said.iter().any(|line| line.contains(what))
}

/// Squares that are bright in red or in blue, on grey noise, with their labels.
fn draw(folder: &Path, split: &str, count: usize) {
    let mut random = ChaCha8Rng::seed_from_u64(split.len() as u64);
    for name in ["images", "labels"] {
        fs::create_dir_all(folder.join(split).join(name)).unwrap();
    }
    for i in 0..count {
        let mut rgb: Vec<u8> = (0..64 * 64 * 3).map(|_| random.random_range(90..130)).collect();
        let (class, side) = (random.random_range(0..2_usize), random.random_range(16..32_usize));
        let (left, top) = (random.random_range(0..64 - side), random.random_range(0..64 - side));
        for y in top..top + side {
            for x in left..left + side {
                rgb[3 * (64 * y + x) + 2 * class] = 250;
            }
        }
        let images = folder.join(split).join("images");
        Picture::from_rgb(64, 64, rgb).unwrap().save(images.join(format!("{i:02}.png"))).unwrap();
        let part = |pixels: f64| pixels / 64.0;
        let middle = |start: usize| part(start as f64 + side as f64 / 2.0);
        let (x, y, size) = (middle(left), middle(top), part(side as f64));
        let label = folder.join(split).join("labels").join(format!("{i:02}.txt"));
        fs::write(label, format!("{class} {x} {y} {size} {size}\n")).unwrap();
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("distill-detect-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::write(folder.join("data/classes.txt"), "red\nblue\n").unwrap();
    draw(&folder.join("data"), "train", 24);
    draw(&folder.join("data"), "val", 8);
    folder
}

fn recipe(folder: &Path, name: &str, train: &str, rest: &str) -> PathBuf {
    let text = format!(
        r#"
kind = "detect"
[student]
size = [64, 64]
channels = 8
stages = [{{ channels = 8, units = 0 }}, {{ channels = 16, units = 0 }}, {{ channels = 16, units = 0 }},
          {{ channels = 16, units = 0 }}]
neck = 16
head_units = 1
[data]
folder = "data"
train = "train"
validation = "val"
{rest}
[augment]
mosaic = 0.2
scale = [0.8, 1.2]
[train]
learning_rate = 5e-3
warmup = 10
ema = 0.95
batch = 6
{train}
[output]
file = "{name}.gguf"
name = "Squares"
"#
    );
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

fn run(path: &Path, options: &Options, ears: &mut Ears) -> Outcome<Report> {
    distill(&Recipe::open(path, None).unwrap(), options, ears).unwrap()
}

fn ap50(report: &Report, file: usize) -> f64 {
    report.files[file].scores.total.ap50.unwrap()
}

#[test]
fn a_student_learns_from_labels_and_teaches_another_without_any() {
    let folder = folder("path");
    let path = recipe(&folder, "teacher", "steps = 400\neval_every = 200", "[quantize]\npictures = 8");
    let mut ears = Ears::default();
    let report = done(run(&path, &options(&folder, "teacher"), &mut ears));
    assert!(ap50(&report, 0) > 0.9 && ap50(&report, 1) > 0.8, "{:#?}", ears.said);
    assert_eq!(report.files.iter().map(|file| file.arithmetic).collect::<Vec<_>>(), ["f32", "int8"]);
    let run_folder = folder.join("teacher-run");
    for name in ["checkpoint.safetensors", "best.safetensors", "loss.svg", "score.svg", "sheet-000400.png", "f32.gguf"]
    {
        assert!(run_folder.join(name).exists(), "{name}");
    }
    let metrics = fs::read_to_string(run_folder.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() == 2 && metrics.contains("\"bins\":"), "{metrics}");
    let file = Gguf::open(&folder.join("teacher.gguf")).unwrap();
    let score = file.keys().f32("pupil.score.map").unwrap();
    assert!((f64::from(score) - report.files[1].scores.total.ap.unwrap()).abs() < 1e-6);
    assert_eq!(file.keys().str("general.name").unwrap(), "Squares");

    let rest = "labelled = 0.0\n[teacher]\nfile = \"teacher-run/f32.gguf\"";
    let path = recipe(&folder, "student", "steps = 400\neval_every = 200", rest);
    let mut ears = Ears::default();
    let report = done(run(&path, &options(&folder, "student"), &mut ears));
    assert!(heard(&ears, "classes and bins of each cell") && heard(&ears, "0 pictures with labels, 24 without"));
    assert!(ap50(&report, 0) > 0.8, "{:#?}", ears.said);
    assert_eq!(Gguf::open(&folder.join("student.gguf")).unwrap().keys().str("pupil.teacher").unwrap(), "f32.gguf");
}

#[test]
fn a_training_that_goes_on_ends_as_one_that_was_not_stopped() {
    let folder = folder("resume");
    let train = "steps = 17\neval_every = 6\nworkers = 2";
    done(run(&recipe(&folder, "whole", train, ""), &options(&folder, "whole"), &mut Ears::default()));
    let path = recipe(&folder, "parts", train, "");
    for stop_after in [1, 8, 12] {
        let mut ears = Ears { stop_after: Some(stop_after), ..Ears::default() };
        assert_eq!(run(&path, &options(&folder, "parts"), &mut ears), Outcome::Stopped(stop_after));
    }
    done(run(&path, &options(&folder, "parts"), &mut Ears::default()));
    let weights = |name: &str| {
        let bytes = fs::read(folder.join(format!("{name}-run/checkpoint.safetensors"))).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        all.sort();
        all
    };
    let whole = weights("whole");
    assert!(whole.iter().any(|(name, _)| name == "mean_running.stem.norm.variance"));
    assert!(whole == weights("parts"));
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(read("whole.gguf") == read("parts.gguf"));
}

#[test]
fn composed_operations_learn_as_fused_ones_do() {
    let folder = folder("composed");
    let train = "steps = 20\neval_every = 10";
    let [fused, composed] = [("fused", DeviceKind::Cpu), ("composed", DeviceKind::Composed)].map(|(name, device)| {
        let path = recipe(&folder, name, train, "");
        let mut ears = Ears { stop_after: Some(12), ..Ears::default() };
        let options = Options { device, ..options(&folder, name) };
        assert_eq!(run(&path, &options, &mut ears), Outcome::Stopped(12));
        // A checkpoint of one device is one of the other.
        let other = if device == DeviceKind::Cpu { DeviceKind::Composed } else { DeviceKind::Cpu };
        ears.stop_after = None;
        done(run(&path, &Options { device: other, ..options }, &mut ears));
        ears.losses
    });
    assert_eq!((fused.len(), composed.len()), (20, 20));
    for (step, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        assert!((fused - composed).abs() < 0.01 * fused, "step {}: {fused} and {composed}", step + 1);
    }
}

#[test]
fn what_is_bad_is_counted_or_refused_before_training() {
    let folder = folder("bad");
    let images = folder.join("data/train/images");
    fs::write(images.join("broken.png"), &fs::read(images.join("00.png")).unwrap()[..60]).unwrap();
    fs::write(folder.join("data/train/labels/01.txt"), "0 0.5 0.5 0 0.2\n1 0.5 0.5 0.5 0.5\n").unwrap();
    fs::write(folder.join("data/train/labels/02.txt"), "").unwrap();
    let path = recipe(&folder, "counted", "steps = 2", "");
    let mut ears = Ears::default();
    done(run(&path, &options(&folder, "counted"), &mut ears));
    assert!(heard(&ears, "training: boxes left out: 1 (") && heard(&ears, "01.txt line 1: "), "{:#?}", ears.said);
    assert!(heard(&ears, "pictures left out: 1 (") && heard(&ears, "broken.png: "), "{:#?}", ears.said);
    assert!(heard(&ears, "25 pictures, 2 of them empty, 23 boxes"), "{:#?}", ears.said);

    let refused = |name: &str, rest: &str| {
        let path = recipe(&folder, name, "steps = 2", rest);
        let mut ears = Ears::default();
        let error = distill(&Recipe::open(&path, None).unwrap(), &options(&folder, name), &mut ears).unwrap_err();
        assert!(ears.losses.is_empty() && !error.to_string().contains('\n'), "{error}");
        error.to_string()
    };
    let error = refused("teacher", "[teacher]\nfile = \"counted.gguf\"\nclasses = { green = \"red\" }");
    assert!(error.contains("teacher.classes: no class 'green', expected one of red, blue"), "{error}");
    let error = refused("other", "[teacher]\nfile = \"counted.gguf\"\nclasses = { red = \"rad\" }");
    assert!(error.contains("teacher.classes: "), "{error}");
    let error = refused("counted", "[loss]\nboxes = 1.0");
    assert!(error.contains("expected the same, or --fresh"), "{error}");
    fs::write(folder.join("data/train/labels/03.txt"), "0 .5 .5 .1 .1\n2 0.5 0.5 0.1 0.1\n").unwrap();
    let error = refused("class", "");
    assert!(error.contains("03.txt line 2: the class is `2`, expected 0 to 1"), "{error}");
}
