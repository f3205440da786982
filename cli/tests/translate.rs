//! `pupil translate`, end to end.

mod common;

use common::{arg, bad, bad_with, file, good, good_with, run_with};
use std::path::{Path, PathBuf};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/t5-gelu.gguf")
}

#[test]
fn texts_files_and_lines_give_the_same() {
    let model = model();
    let m = arg(&model);
    let lines = "An apple.\n\n- face; deaf\n";
    let from_stdin = run_with(&["translate", "-m", m], lines.as_bytes()).out;
    assert_eq!(from_stdin.matches('\n').count(), 3);
    assert!(from_stdin.contains("\n\n- "), "{from_stdin:?}");
    let input = file("translate-input.txt", lines.as_bytes());
    let output = common::place("translate-output.txt");
    run_with(&["translate", "-m", m, "-i", arg(&input), "-o", arg(&output), "--batch", "1"], b"");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), from_stdin);
    let one = run_with(&["translate", "-m", m, "An apple."], b"").out;
    assert_eq!(Some(one.as_str()), from_stdin.split_inclusive('\n').next());
}

#[test]
fn nothing_gives_nothing() {
    let model = model();
    assert_eq!(good_with(&["translate", "-m", arg(&model)], b""), "");
    assert_eq!(good(&["translate", "-m", arg(&model), ""]), "\n");
}

#[test]
fn json_has_scores() {
    let model = model();
    let out = run_with(&["translate", "-m", arg(&model), "--json", "--beam", "3", "An apple."], b"").out;
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(line["score"].as_f64().unwrap() < 0.0);
    assert_eq!(line["source"], "An apple.");
    assert_eq!(line["sentences"], 1);
}

#[test]
fn bad_input_is_one_line() {
    let model = model();
    let m = arg(&model);
    let mut text = b"abc\nde".to_vec();
    text.push(0xff);
    let ran = run_with(&["translate", "-m", m, "--batch", "1"], &text);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("stdin: byte 6 is not UTF-8"), "{}", ran.err);
    assert!(bad(&["translate", "-m", m, "-i", "no/such/file"]).contains("no/such/file"));
    assert!(bad(&["translate", "-m", m, "--to", "de", "a"]).contains("does not translate to de"));
    let llama = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/llama.gguf");
    assert!(bad(&["translate", "-m", arg(&llama), "a"]).contains("pupil chat runs it"));
    assert!(bad_with(&["chat", "-m", m, "a"], b"").contains("pupil translate runs it"));
}

#[test]
fn inspect_and_bench_know_translators() {
    let model = model();
    let m = arg(&model);
    assert!(good(&["inspect", m]).contains("2 encoder and 2 decoder layers of 24"));
    let out =
        good(&["bench", "-m", m, "--prompt", "5", "--decode", "4", "--reps", "1", "--batch", "2", "--json", "-t", "1"]);
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(line["sentences_per_second"].as_f64().unwrap() > 0.0);
}
