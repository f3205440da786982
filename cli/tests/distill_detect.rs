//! `pupil distill` of detectors.
#![cfg(feature = "distill")]

mod common;

use common::{arg, bad, good, place, run};
#[cfg(feature = "onnx")]
use pupil::gguf::Gguf;
use pupil::image::Picture;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// White squares on black, and a recipe of a detector that finds them.
fn squares(name: &str, steps: u64) -> (PathBuf, PathBuf) {
    let folder = place(&format!("distill-detect-{name}"));
    let _ = fs::remove_dir_all(&folder);
    let data = folder.join("data");
    for split in ["train", "val"] {
        fs::create_dir_all(data.join(split)).unwrap();
        for i in 0..6_usize {
            let (left, top) = (4 + 5 * i, 30 - 5 * i);
            let white = |at: usize| (left..left + 24).contains(&(at % 64)) && (top..top + 24).contains(&(at / 64));
            let rgb = (0..64 * 64).flat_map(|at| [if white(at) { 255 } else { 0 }; 3]).collect();
            let path = data.join(split).join(format!("{i}.png"));
            Picture::from_rgb(64, 64, rgb).unwrap().save(&path).unwrap();
            let middle = |start: usize| (start + 12) as f64 / 64.0;
            let label = format!("0 {} {} 0.375 0.375\n", middle(left), middle(top));
            fs::write(path.with_extension("txt"), label).unwrap();
        }
    }
    fs::write(data.join("classes.txt"), "square\n").unwrap();
    fs::write(data.join("train/0.txt"), "0 0.5 0.5 0.0 0.2\n").unwrap();
    let recipe = format!(
        r#"
kind = "detect"
[student]
size = [64, 64]
channels = 4
head_units = 1
[data]
folder = "."
train = "train"
validation = "val"
[train]
steps = {steps}
learning_rate = 1e-3
batch = 2
eval_every = 4
[quantize]
pictures = 4
[output]
file = "squares.gguf"
"#
    );
    let path = folder.join("squares.toml");
    fs::write(&path, recipe).unwrap();
    (path, data)
}

fn distill<'a>(recipe: &'a Path, data: &'a Path) -> [&'a str; 6] {
    ["distill", arg(recipe), "--data-root", arg(data), "--threads", "1"]
}

#[test]
fn a_recipe_becomes_a_detector() {
    let (recipe, data) = squares("whole", 8);
    let ran = run(&distill(&recipe, &data));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for part in ["parameters", "f32 of validation\n", "int8 of validation\n", "AP50", "ms a picture"] {
        assert!(ran.out.contains(part), "{}", ran.out);
    }
    assert!(ran.err.contains("training: boxes left out: 1 (") && ran.err.contains("0.txt line 1: "), "{}", ran.err);
    assert!(ran.err.contains("step 8: loss ") && ran.err.contains(" pictures/s"), "{}", ran.err);
    let file = recipe.with_file_name("squares.gguf");
    assert!(good(&["inspect", arg(&file)]).contains("square"));
    assert!(good(&["eval", "detect", "-m", arg(&file), "-d", arg(&data), "--split", "val"]).contains("AP50"));
    let sheet = Picture::open(recipe.with_file_name("squares.run").join("sheet-000008.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (1292, 644));

    // The same command goes on from where it was.
    let ran = run(&[&distill(&recipe, &data)[..], &["--steps", "10"]].concat());
    assert!(ran.code == Some(0) && ran.err.contains("going on after step 8"), "{}", ran.err);
}

/// The first student teaches a smaller one, which also learns its features, and goes on with their projectors.
#[test]
fn a_student_teaches_its_features() {
    let (recipe, data) = squares("features", 4);
    assert_eq!(run(&distill(&recipe, &data)).code, Some(0));
    fs::rename(recipe.with_file_name("squares.gguf"), recipe.with_file_name("teacher.gguf")).unwrap();
    fs::remove_dir_all(recipe.with_file_name("squares.run")).unwrap();
    let taught = "channels = 3\nhead_units = 1\n[teacher]\nfile = \"teacher.gguf\"\n[loss]\nkd_features = 1.0\n";
    let text = fs::read_to_string(&recipe).unwrap().replace("channels = 4\nhead_units = 1\n", taught);
    fs::write(&recipe, &text).unwrap();
    let ran = run(&distill(&recipe, &data));
    assert!(ran.code == Some(0) && ran.err.contains("classes and bins of each cell, features"), "{}", ran.err);
    let ran = run(&[&distill(&recipe, &data)[..], &["--steps", "8"]].concat());
    assert!(ran.code == Some(0) && ran.err.contains("going on after step 4"), "{}", ran.err);
    let metrics = fs::read_to_string(recipe.with_file_name("squares.run").join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() == 2 && metrics.lines().all(|line| line.contains("kd_features")), "{metrics}");

    // Cells of 64 pixels are not the teacher's.
    fs::write(&recipe, text.replace("head_units = 1", "head_units = 1\nlevels = 4")).unwrap();
    let ran = run(&[&distill(&recipe, &data)[..], &["--fresh"]].concat());
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(ran.code == Some(1) && last.contains("expected loss.kd_features of 0"), "{}", ran.err);
}

#[test]
fn bad_recipes_are_refused_in_a_line() {
    let (recipe, data) = squares("bad", 8);
    let text = fs::read_to_string(&recipe).unwrap();
    for (from, to, expected) in [
        ("channels = 4", "chanels = 4", "line 5 `chanels = 4`: unknown field `chanels`"),
        ("\"val\"", "\"vol\"", "validation: "),
        ("\"detect\"", "\"detekt\"", "unknown variant `detekt`, expected one of `chat`, `translate`, `detect`"),
        ("[quantize]", "[teacher]\nfile = \"squares.toml\"\n[quantize]", "squares.toml"),
    ] {
        fs::write(&recipe, text.replace(from, to)).unwrap();
        let ran = run(&distill(&recipe, &data));
        let last = ran.err.lines().last().unwrap_or_default();
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
        assert!(last.starts_with("pupil: ") && last.contains(expected), "{last}");
    }
    fs::write(&recipe, text).unwrap();
    let ran = run(&[&distill(&recipe, &data)[..], &["--init-from", arg(&recipe)]].concat());
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(ran.code == Some(1) && last.contains("squares.toml: ") && last.contains("expected a checkpoint"), "{last}");
    let error = bad(&[&distill(&recipe, &data)[..], &["--init-from", "none.safetensors"]].concat());
    assert!(error.contains("init.file: none.safetensors is not there"), "{error}");
}

#[test]
fn a_student_begins_with_another() {
    let (recipe, data) = squares("init", 4);
    assert_eq!(run(&distill(&recipe, &data)).code, Some(0));
    let run_folder = recipe.with_file_name("squares.run");
    let first = recipe.with_file_name("first.safetensors");
    fs::copy(run_folder.join("best.safetensors"), &first).unwrap();
    let begin = [&distill(&recipe, &data)[..], &["--fresh", "--init-from", arg(&first)]].concat();
    let ran = run(&begin);
    assert!(ran.code == Some(0) && ran.err.contains("init: ") && ran.err.contains("first.safetensors"), "{}", ran.err);
    // It goes on with the same beginning only.
    let ran = run(&[&distill(&recipe, &data)[..], &["--steps", "6"]].concat());
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(ran.code == Some(1) && last.contains("expected the same, or --fresh"), "{last}");
}

/// An ONNX graph of one class, whose cells the student sees, teaches its bins and features.
#[cfg(feature = "onnx")]
#[test]
fn a_graph_teaches() {
    let (recipe, data) = squares("graph", 4);
    let graph = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/nanodet.onnx");
    let taught = format!(
        "channels = 4\n[teacher]\nfile = \"{}\"\nclasses = {{ square = \"class 0\" }}\n[loss]\nkd_features = 1.0\n",
        graph.display()
    );
    let text = fs::read_to_string(&recipe).unwrap();
    let write =
        |taught: &str| fs::write(&recipe, text.replace("channels = 4\n", taught).replace("head_units = 1\n", ""));
    write(&taught).unwrap();
    let ran = run(&distill(&recipe, &data));
    assert!(ran.code == Some(0) && ran.err.contains("classes and bins of each cell, features"), "{}", ran.err);
    let metrics = fs::read_to_string(recipe.with_file_name("squares.run").join("metrics.jsonl")).unwrap();
    for part in ["kd_classes", "kd_boxes", "kd_features"] {
        assert!(metrics.contains(part), "{metrics}");
    }
    let file = Gguf::open(&recipe.with_file_name("squares.gguf")).unwrap();
    assert_eq!(file.keys().str("pupil.teacher").unwrap(), "nanodet.onnx");

    let refused = |from: &str, to: &str| {
        write(&taught.replace(from, to)).unwrap();
        let ran = run(&[&distill(&recipe, &data)[..], &["--fresh"]].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        ran.err.lines().last().unwrap_or_default().to_owned()
    };
    let error = refused("class 0", "box");
    assert!(error.contains("squares.toml: teacher.classes: there is no class 'box'"), "{error}");
    let error = refused("[loss]", "[loss]\nkd_classes = { from = 8, too = 1 }");
    assert!(error.contains("expected a number, or { from = a number, to = a number }"), "{error}");
}
