//! `convert` of a language model's folder, `shortlist`, and `eval translate`.
#![cfg(all(feature = "onnx", feature = "distill"))]

mod common;

use common::{arg, bad, file, good, place};
use pupil::gguf::{Gguf, Value};
use std::path::{Path, PathBuf};

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/checkpoints").join(name)
}

/// The T5 among the checkpoints, converted for the test called `test`.
fn t5(test: &str) -> PathBuf {
    let out = place(&format!("{test}-t5.gguf"));
    good(&["convert", arg(&checkpoint("t5")), "-o", arg(&out)]);
    out
}

#[test]
fn a_folder_becomes_a_file_that_runs() {
    let out = place("checkpoint-llama.gguf");
    let said = good(&["convert", arg(&checkpoint("llama")), "-o", arg(&out), "--type", "f32"]);
    assert!(said.contains("model       llama\ntokenizer   byte-level BPE, 288 tokens\n"), "{said}");
    good(&["chat", "-m", arg(&out), "--raw", "--temp", "0", "-n", "2", "the cat"]);
    let said = good(&["convert", arg(&checkpoint("t5")), "-o", arg(&out)]);
    assert!(said.contains("f16, as rows of 16 are no whole blocks of q8_0"), "{said}");
}

#[test]
fn what_is_wrong_with_a_folder_is_one_line() {
    let out = place("checkpoint-bad.gguf");
    let empty = place("checkpoint-empty");
    std::fs::create_dir_all(&empty).unwrap();
    let llama = checkpoint("llama");
    for (args, expected) in [
        (vec![arg(&empty)], "config.json: No such file"),
        (vec![arg(&llama), "--type", "q9"], "--type of a language model: expected f32, f16, q8_0, q4_0, q4_k_m"),
        (vec![arg(&llama), "--head", "yolox"], "--head does nothing here: the model is a language model"),
        (vec!["no-such.onnx", "--type", "q8_0"], "--type of a detector: expected f32 or f16"),
    ] {
        let args: Vec<&str> = ["convert"].into_iter().chain(args).chain(["-o", arg(&out)]).collect();
        let line = bad(&args);
        assert!(line.contains(expected), "{args:?}: {line}");
        assert!(!out.exists());
    }
}

#[test]
fn a_shortlist_is_learned_and_used() {
    let model = t5("shortlist");
    let lines = "the cat sat\twhere is the mat\nthe mat\tthe station\n".repeat(20);
    let pairs = file("shortlist.tsv", lines.as_bytes());
    let out = place("shortlist-out.gguf");
    let said =
        good(&["shortlist", "-m", arg(&model), "-d", arg(&pairs), "-o", arg(&out), "--best", "3", "--frequent", "2"]);
    assert!(said.contains("learned     from") && said.contains("2 always"), "{said}");
    let written = Gguf::open(&out).unwrap();
    let len = |key: &str| match written.keys().get(&format!("pupil.shortlist.{key}")) {
        Some(Value::Array(array)) => array.len(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((len("frequent"), len("offsets")), (2, 65));
    assert_eq!(written.tensors().len(), Gguf::open(&model).unwrap().tensors().len());
    good(&["eval", "translate", "--to", "de", "-m", arg(&out), "-d", arg(&pairs), "--limit", "3", "-t", "1", "--json"]);
    // Again, in place of the one that is there.
    good(&["shortlist", "-m", arg(&out), "-d", arg(&pairs), "-o", arg(&out), "--best", "3"]);
    let line = bad(&["shortlist", "-m", arg(&out), "-d", arg(&file("no-tab.tsv", b"one\n")), "-o", arg(&out)]);
    assert!(line.contains("line 1 has no tab, expected SOURCE<tab>TARGET"), "{line}");
}

#[test]
fn languages_are_those_of_the_models_pieces() {
    let model = t5("languages");
    let m = ["translate", "-m", arg(&model), "--json", "the cat"];
    let line = |more: &[&str]| -> serde_json::Value {
        serde_json::from_str(&common::run(&[&m[..], more].concat()).out).unwrap()
    };
    let to = line(&["--to", "DE"]);
    assert_eq!(to, line(&["--prefix", "<2de> "]));
    assert_ne!(to["source_tokens"], line(&["--prefix", ""])["source_tokens"]);
    assert!(bad(&[&m[..], &["--to", "fr"]].concat()).contains("does not translate to fr; expected one of: de"));
    assert!(bad(&m).contains("which language to translate to? expected one of: de"));
}

#[test]
fn translators_are_compared_in_a_table() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/t5-gelu.gguf");
    // Two references of the first sentence, one of the second.
    let pairs = file("compare.tsv", b"An apple.\tEin Apfel.\nAn apple.\tApfel.\nA face.\tEin Gesicht.\n");
    let args = ["eval", "compare", arg(&model), arg(&model), "--data", arg(&pairs), "-t", "1"];
    let table = good(&args);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains("BLEU") && lines[0].contains("chrF++"), "{table}");
    assert!(lines[1].starts_with(arg(&model)), "{table}");
    let json = good(&[&args[..], &["--json"]].concat());
    let row: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let size = std::fs::metadata(&model).unwrap().len() as f64;
    assert_eq!((row["sentences"].as_u64(), row["megabytes"].as_f64()), (Some(2), Some(size / 1e6)));
    let empty = file("compare-empty.tsv", b"");
    let line = bad(&["eval", "compare", arg(&model), arg(&model), "--data", arg(&empty)]);
    assert!(line.contains("no sentences, expected some"), "{line}");
}

#[test]
fn translations_that_were_cut_are_counted() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/t5-gelu.gguf");
    let sentences = ["An apple.", "A face.", "Bread, deaf", "a cab"];
    let translated = common::run_with(&["translate", "-m", arg(&model), "--json"], sentences.join("\n").as_bytes()).out;
    let [length, repeats] =
        ["length", "repeats"].map(|why| translated.matches(&format!("\"finish\":\"{why}\"")).count());
    assert!(length > 0, "{translated}");
    let pairs = file("cut.tsv", sentences.map(|sentence| format!("{sentence}\tx\n")).concat().as_bytes());
    let args = ["eval", "translate", "-m", arg(&model), "-d", arg(&pairs)];
    let said = good(&args);
    assert!(said.contains(&format!("\ncut         {length} for their length, {repeats} for repeating")), "{said}");
    let json = good(&[&args[..], &["--json"]].concat());
    assert!(json.contains(&format!("\"cut_length\":{length},\"cut_repeats\":{repeats},")), "{json}");
}

#[test]
fn translations_are_scored() {
    let (output, reference) =
        (file("score.out", b"The cat sat on a mat.\n"), file("score.ref", b"The cat sat on the mat.\n"));
    let said = good(&["eval", "translate", "--output", arg(&output), "--reference", arg(&reference)]);
    assert!(said.starts_with("BLEU        48.89"), "{said}");
    let json = good(&["eval", "translate", "--output", arg(&output), "--reference", arg(&reference), "--json"]);
    assert!(json.contains("\"sentences\":1"), "{json}");
    for (args, expected) in [
        (vec!["--output", arg(&output)], "--reference"),
        (vec!["--reference", arg(&reference)], "which sentences?"),
        (vec!["--data", arg(&output)], "line 1 has no tab"),
        (vec!["--output", arg(&output), "--reference", arg(&reference), "--beam", "4"], "cannot be used with"),
    ] {
        let line = bad(&[&["eval", "translate"][..], &args].concat());
        assert!(line.contains(expected), "{line}");
    }
}
