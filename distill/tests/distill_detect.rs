//! Whole trainings of tiny detectors on pictures drawn here: what they learn, and that they go on as if never stopped.
#![cfg(feature = "train")]

mod common;

use common::{Ears, done, options};
use pupil::{Picture, gguf::Gguf};
use pupil_distill::{
    device::DeviceKind,
    recipe::detect::{Recipe, TrainRecipe},
    train::{
        Options, Outcome, Progress, Watch,
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
fn a_student_begins_with_what_another_has_learnt() {
    let folder = folder("init");
    let path = recipe(&folder, "first", "steps = 300\neval_every = 300", "");
    let first = done(run(&path, &options(&folder, "first"), &mut Ears::default()));
    let short = "steps = 2\neval_every = 1\nseed = 7";
    let init = "[init]\nfile = \"first-run/best.safetensors\"";
    let after = |name: &str, rest: &str| {
        let mut ears = Ears::default();
        let report = done(run(&recipe(&folder, name, short, rest), &options(&folder, name), &mut ears));
        (ap50(&report, 0), ears)
    };
    let (untaught, ears) = after("untaught", "");
    assert!(!heard(&ears, "init: "));
    let (taught, ears) = after("taught", init);
    assert!(heard(&ears, "init: ") && !heard(&ears, "but for its last layers"), "{:#?}", ears.said);
    assert!(untaught < 0.2 && taught > ap50(&first, 0) - 0.2 && taught > 0.6, "{untaught}, {taught}");

    let refused = |name: &str, rest: &str| {
        let recipe = Recipe::open(&recipe(&folder, name, short, rest), None);
        let options = options(&folder, name);
        let outcome = recipe.and_then(|recipe| distill(&recipe, &options, &mut Ears::default()));
        let error = outcome.unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    // A training goes on with what it began with only, whatever its name.
    fs::copy(folder.join("untaught-run/best.safetensors"), folder.join("first-run/other.safetensors")).unwrap();
    let error = refused("taught", &init.replace("best", "other"));
    assert!(error.contains("expected the same, or --fresh"), "{error}");
    let error = refused("taught", &init.replace("first-run", "taught-run"));
    assert!(error.contains("taught-run/best.safetensors: would replace a file that is read"), "{error}");
    let error =
        refused("bins", &format!("{init}\n[loss]\nbins = 0.5").replace("best.safetensors", "checkpoint.safetensors"));
    assert!(error.contains("expected best.safetensors of a student of this shape"), "{error}");
    let error = refused("folded", &init.replace("first-run/best.safetensors", "first.gguf"));
    assert!(error.contains("folded.toml: init.file: ") && error.contains("expected best.safetensors"), "{error}");
    let error = refused("text", &init.replace("first-run/best.safetensors", "data/classes.txt"));
    assert!(error.contains("classes.txt: ") && error.contains("expected a checkpoint"), "{error}");

    fs::write(folder.join("data/classes.txt"), "red\nblue\ngreen\n").unwrap();
    let (_, ears) = after("classes", init);
    assert!(heard(&ears, "but for its last layers, which are for other classes"), "{:#?}", ears.said);
}

/// A teacher, made by a short training, of the students of other tests.
fn teacher(folder: &Path) {
    done(run(
        &recipe(folder, "teacher", "steps = 60\neval_every = 60", ""),
        &options(folder, "teacher"),
        &mut Ears::default(),
    ));
}

/// The parts of the loss in the records of a training, one after the other.
fn parts(folder: &Path, name: &str) -> Vec<serde_json::Value> {
    let metrics = fs::read_to_string(folder.join(format!("{name}-run/metrics.jsonl"))).unwrap();
    metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["parts"].clone()).collect()
}

#[test]
fn pictures_with_labels_and_without_are_mixed() {
    let folder = folder("mixed");
    draw(&folder.join("data"), "more", 6);
    fs::remove_dir_all(folder.join("data/more/labels")).unwrap();
    teacher(&folder);
    let half = "labelled = 0.5\nrepeat = 2";
    let rest = format!("{half}\nunlabelled = [\"data/more/images\"]\n[teacher]\nfile = \"teacher.gguf\"\nuntil = 0.5");
    // 12 pictures with labels twice, and 18 without: an epoch is 7 steps of 6.
    let path = recipe(&folder, "mixed", "epochs = 2\neval_every = 7", &rest);
    let mut ears = Ears::default();
    done(run(&path, &options(&folder, "mixed"), &mut ears));
    assert!(heard(&ears, "/data/more/images: 6 pictures without labels"), "{:#?}", ears.said);
    assert!(heard(&ears, "training: 12 pictures with labels, 18 without"), "{:#?}", ears.said);
    let parts = parts(&folder, "mixed");
    assert!(ears.losses.len() == 14 && parts.len() == 2, "{parts:?}");
    // Both teach in the first epoch, and the labels alone in the second: there, pictures without any are left out, and more
    // of the cells see an object.
    let [first, second] = [0, 1].map(|epoch: usize| parts[epoch]["objects"].as_f64().unwrap());
    assert!(first > 0.0 && second > 1.3 * first, "{first}, {second}");
    assert!(parts[0]["kd_classes"].as_f64().unwrap() > 0.0 && parts[1].get("kd_classes").is_none(), "{parts:?}");

    // Without a teacher, nothing is learnt from the others.
    let mut ears = Ears::default();
    done(run(&recipe(&folder, "alone", "epochs = 1", half), &options(&folder, "alone"), &mut ears));
    assert!(heard(&ears, "training: 12 pictures with labels, 0 without") && ears.losses.len() == 4, "{:#?}", ears.said);
}

#[test]
fn a_teacher_of_features_ends_before_the_training() {
    let folder = folder("until");
    teacher(&folder);
    let rest = "[teacher]\nfile = \"teacher.gguf\"\nuntil = 0.5\n[loss]\nkd_features = { from = 4, to = 1 }";
    let path = recipe(&folder, "until", "steps = 8\neval_every = 4", rest);
    let mut ears = Ears { stop_after: Some(6), ..Ears::default() };
    assert_eq!(run(&path, &options(&folder, "until"), &mut ears), Outcome::Stopped(6));
    assert!(heard(&ears, "classes and bins of each cell, features"), "{:#?}", ears.said);
    // Projectors are kept, and have no gradient any more.
    done(run(&path, &options(&folder, "until"), &mut Ears::default()));
    let parts = parts(&folder, "until");
    let taught =
        |parts: &serde_json::Value| ["kd_classes", "kd_boxes", "kd_features"].map(|part| parts.get(part).is_some());
    assert_eq!((taught(&parts[0]), taught(&parts[1])), ([true; 3], [false; 3]), "{parts:?}");
    let file = Gguf::open(&folder.join("until.gguf")).unwrap();
    assert!(file.keys().str("pupil.loss").unwrap().ends_with("kd_classes 8, kd_boxes 0.5, kd_features 4 to 1"));
}

/// Weights that fall to 0 are 0 in the end, and those that stay do not.
#[test]
fn the_teachers_weights_change() {
    let folder = folder("weights");
    teacher(&folder);
    let losses = |name: &str, weight: &str| {
        let rest = format!(
            "[teacher]\nfile = \"teacher.gguf\"\nuntil = 1.0\n[loss]\nclasses = 0.0\nboxes = 0.0\nbins = 0.0\n\
             kd_boxes = 0.0\nkd_classes = {weight}"
        );
        let mut ears = Ears::default();
        done(run(&recipe(&folder, name, "steps = 6\neval_every = 3", &rest), &options(&folder, name), &mut ears));
        ears.losses
    };
    let (fixed, falling) = (losses("fixed", "8.0"), losses("falling", "{ from = 8.0, to = 0.0 }"));
    assert_eq!(fixed[0], falling[0]);
    let ratio = falling[5] / fixed[5];
    // Of six steps, the last one comes after five: (1 + cos 150°) / 2 = .067.
    assert!((0.05..0.09).contains(&ratio), "{ratio}");
}

#[test]
fn patience_ends_a_training_where_it_is() {
    let folder = folder("patience");
    // At this rate nothing is ever found.
    let train = "steps = 40\neval_every = 2\npatience = 2\nseed = 3".to_string();
    let still = |train: &str| {
        let path = recipe(&folder, "still", train, "");
        let text = fs::read_to_string(&path).unwrap().replace("learning_rate = 5e-3", "learning_rate = 1e-9");
        fs::write(&path, text).unwrap();
        path
    };
    let mut ears = Ears::default();
    done(run(&still(&train), &options(&folder, "still"), &mut ears));
    assert!(heard(&ears, "no better measurement in 2: the training ends here"), "{:#?}", ears.said);
    let ended = ears.losses.len();
    assert!(ended < 40);
    // The same once more does nothing; with more patience, it goes on with the step after its last one.
    let mut ears = Ears::default();
    done(run(&still(&train), &options(&folder, "still"), &mut ears));
    assert!(ears.losses.is_empty() && heard(&ears, &format!("going on after step {ended}")), "{:#?}", ears.said);
    let more = train.replace("steps = 40", &format!("steps = {}", ended + 3)).replace("patience = 2", "patience = 9");
    let mut ears = Ears::default();
    done(run(&still(&more), &options(&folder, "still"), &mut ears));
    assert_eq!((ears.losses.len(), ears.step), (3, ended as u64 + 3));

    // Whoever begins anew finds no sheets of what was there before.
    let sheets = || {
        let files = fs::read_dir(folder.join("still-run")).unwrap().map(|entry| entry.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("sheet-")).count()
    };
    assert!(sheets() > 1);
    let fresh = Options { fresh: true, ..options(&folder, "still") };
    done(run(&still("steps = 2\neval_every = 2"), &fresh, &mut Ears::default()));
    assert_eq!(sheets(), 1);
}

/// Of COCO, only the first picture is looked for when the file is read.
#[test]
fn a_picture_that_is_missing_is_left_out_or_refused() {
    let folder = folder("coco");
    let coco = |split: &str| {
        let images: Vec<String> =
            (0..8).map(|i| format!(r#"{{"id":{i},"file_name":"{i:02}.png","width":64,"height":64}}"#)).collect();
        let boxes: Vec<String> =
            (0..8).map(|i| format!(r#"{{"id":{i},"image_id":{i},"category_id":1,"bbox":[8,8,20,20]}}"#)).collect();
        let (images, boxes) = (images.join(","), boxes.join(","));
        let categories = r#"[{"id":1,"name":"red"},{"id":2,"name":"blue"}]"#;
        let json = format!(r#"{{"images":[{images}],"annotations":[{boxes}],"categories":{categories}}}"#);
        fs::write(folder.join(format!("data/{split}/images/_annotations.coco.json")), json).unwrap();
    };
    ["train", "val"].into_iter().for_each(coco);
    let path = recipe(&folder, "coco", "steps = 4\neval_every = 2", "");
    let of_coco = |split: &str| format!("{{ folder = \"data/{split}/images/_annotations.coco.json\" }}");
    let mut text = fs::read_to_string(&path).unwrap();
    for (key, split) in [("train", "train"), ("validation", "val")] {
        text = text.replace(&format!("{key} = \"{split}\""), &format!("{key} = {}", of_coco(split)));
    }
    let open = |cache: usize| {
        fs::write(&path, text.replace("[augment]", &format!("cache = {cache}\n[augment]"))).unwrap();
        Recipe::open(&path, None).unwrap()
    };
    fs::remove_file(folder.join("data/train/images/03.png")).unwrap();
    fs::remove_file(folder.join("data/val/images/05.png")).unwrap();
    let mut ears = Ears::default();
    done(distill(&open(64), &options(&folder, "coco"), &mut ears).unwrap());
    assert!(heard(&ears, "pictures left out: 1 (") && heard(&ears, "train/images/03.png: "), "{:#?}", ears.said);
    assert!(heard(&ears, "val/images/05.png: "), "{:#?}", ears.said);

    // What goes while it is trained on ends the training in a line.
    struct Thief(PathBuf, u64);
    impl Watch for Thief {
        fn say(&mut self, _: &str) {}
        fn step(&mut self, progress: &Progress) {
            self.1 = progress.step;
            let _ = fs::remove_dir_all(&self.0);
        }
        fn stop(&self) -> bool {
            false
        }
    }
    let mut thief = Thief(folder.join("data/train/images"), 0);
    let long = Recipe { train: TrainRecipe { steps: Some(50), ..open(0).train }, ..open(0) };
    let error = distill(&long, &options(&folder, "stolen"), &mut thief).unwrap_err().to_string();
    assert!((1..50).contains(&thief.1) && error.contains("data/train/images/") && !error.contains('\n'), "{error}");
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
    fs::write(folder.join("data/train/labels/gone.txt"), "0 0.5 0.5 0.5 0.5\n").unwrap();
    let path = recipe(&folder, "counted", "steps = 2", "");
    let mut ears = Ears::default();
    done(run(&path, &options(&folder, "counted"), &mut ears));
    assert!(heard(&ears, "training: boxes left out: 1 (") && heard(&ears, "01.txt line 1: "), "{:#?}", ears.said);
    assert!(heard(&ears, "pictures left out: 1 (") && heard(&ears, "broken.png: "), "{:#?}", ears.said);
    assert!(heard(&ears, "25 pictures, 1 of them empty, 23 boxes"), "{:#?}", ears.said);
    assert!(heard(&ears, "training: pictures without a label file, which count as empty: 1 ("), "{:#?}", ears.said);
    assert!(
        heard(&ears, "training: label files without a picture: 1 (") && heard(&ears, "gone.txt"),
        "{:#?}",
        ears.said
    );

    let refused = |name: &str, rest: &str| {
        let path = recipe(&folder, name, "steps = 2", rest);
        let mut ears = Ears::default();
        let error = distill(&Recipe::open(&path, None).unwrap(), &options(&folder, name), &mut ears).unwrap_err();
        assert!(ears.losses.is_empty() && !error.to_string().contains('\n'), "{error}");
        error.to_string()
    };
    let error = refused("teacher", "[teacher]\nfile = \"counted.gguf\"\nclasses = { green = \"red\" }");
    assert!(error.contains("/teacher.toml: teacher.classes: no class 'green', expected one of red, blue"), "{error}");
    let error = refused("other", "[teacher]\nfile = \"counted.gguf\"\nclasses = { red = \"rad\" }");
    assert!(error.contains("/other.toml: teacher.classes: "), "{error}");
    let error = refused("counted", "[loss]\nboxes = 1.0");
    assert!(error.contains("expected the same, or --fresh"), "{error}");
    fs::write(folder.join("data/train/labels/03.txt"), "0 .5 .5 .1 .1\n2 0.5 0.5 0.1 0.1\n").unwrap();
    let error = refused("class", "");
    assert!(error.contains("03.txt line 2: the class is `2`, expected 0 to 1"), "{error}");
}
