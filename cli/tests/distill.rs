//! `pupil distill`.
#![cfg(feature = "distill")]

mod common;

use common::{arg, bad, good, place, pupil, run};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder with a language of a few words, and a recipe for it.
fn toy(name: &str, steps: u64) -> (PathBuf, PathBuf) {
    let folder = place(&format!("distill-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("data")).unwrap();
    let words = [("cat", "katze"), ("dog", "hund"), ("red", "rot"), ("big", "groß"), ("sees", "sieht")];
    let mut text = String::new();
    for i in 0..300_usize {
        let picked = [i % 5, i / 5 % 5, i / 25 % 5].map(|at| words[at]);
        let take = 1 + i % 3;
        let side = |pick: fn(&(&'static str, &'static str)) -> &'static str| -> String {
            picked[..take].iter().map(pick).collect::<Vec<_>>().join(" ")
        };
        text += &format!("{}\t{}\n", side(|pair| pair.0), side(|pair| pair.1));
    }
    fs::write(folder.join("data/toy.tsv"), text + "no tab here\n").unwrap();
    let recipe = format!(
        r#"
kind = "translate"
[student]
embedding = 32
layers = 1
decoder_layers = 1
heads = 2
head_dim = 16
feed_forward = 64
[tokenizer]
train = "unigram"
size = 60
[data]
files = ["toy.tsv"]
validation = 10
max_tokens = 16
[train]
steps = {steps}
learning_rate = 5e-3
batch_tokens = 300
eval_every = 50
eval_items = 5
[output]
file = "toy.gguf"
"#
    );
    let path = folder.join("toy.toml");
    fs::write(&path, recipe).unwrap();
    (path, folder.join("data"))
}

#[test]
fn a_recipe_becomes_a_student() {
    let (recipe, data) = toy("whole", 30);
    let ran = run(&["distill", arg(&recipe), "--data-root", arg(&data), "--threads", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("parameters") && ran.out.contains("BLEU"), "{}", ran.out);
    assert!(ran.err.contains("lines left out: 1 (") && ran.err.contains("step 30: loss"), "{}", ran.err);
    let file = recipe.with_file_name("toy.gguf");
    assert!(good(&["inspect", arg(&file)]).contains("t5"));
    assert!(recipe.with_file_name("toy.run").join("loss.svg").exists());
}

#[test]
fn bad_recipes_are_refused_in_a_line() {
    let (recipe, data) = toy("bad", 30);
    let text = fs::read_to_string(&recipe).unwrap();
    for (from, to, expected) in [
        ("size = 60", "sise = 60", "unknown field `sise`"),
        ("toy.tsv", "toy.csv", "toy.csv is not there"),
        ("learning_rate = 5e-3", "learning_rate = -1.0", "train.learning_rate is -1, expected a number above 0"),
        ("embedding = 32", "embeding = 32", "toy.toml: [student]: unknown field `embeding`"),
        ("\"toy.gguf\"", "\".\"", "toy.toml: output.file: "),
    ] {
        fs::write(&recipe, text.replace(from, to)).unwrap();
        let ran = run(&["distill", arg(&recipe), "--data-root", arg(&data)]);
        let last = ran.err.lines().last().unwrap_or_default();
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        assert!(last.starts_with("pupil: ") && last.contains(expected), "{last}");
    }
    let error = bad(&["distill", "no/such.toml"]);
    assert!(error.contains("no/such.toml"), "{error}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_a_checkpoint_and_the_next_run_goes_on() {
    let (recipe, data) = toy("stop", 1_000_000);
    let args = ["distill", arg(&recipe), "--data-root", arg(&data), "--threads", "1"];
    let child = pupil(&args).spawn().unwrap();
    let metrics = recipe.with_file_name("toy.run").join("metrics.jsonl");
    let measured = |path: &Path| fs::read_to_string(path).is_ok_and(|text| !text.is_empty());
    while !measured(&metrics) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    let stopped = err.lines().last().unwrap();
    assert!(stopped.starts_with("pupil: stopped after step "), "{err}");
    let step: u64 = stopped.split_whitespace().nth(4).unwrap().trim_end_matches(';').parse().unwrap();

    let steps = (step + 5).to_string();
    let ran = run(&[&args[..], &["--steps", &steps]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains(&format!("going on after step {step}")), "{}", ran.err);
}
