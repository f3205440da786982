//! Measuring tiny chat models.

#![cfg(feature = "distill")]

mod common;

use common::{arg, bad, file, good, tiny};
use serde_json::Value;
use std::path::PathBuf;

fn dialogues(name: &str) -> PathBuf {
    let lines = "\
        {\"turns\": [{\"role\": \"user\", \"text\": \"Hi\"}, {\"role\": \"assistant\", \"text\": \"Hello there!\"}]}\n\
        {\"turns\": [{\"role\": \"user\", \"text\": \"a\"}, {\"role\": \"assistant\", \"text\": \"b\"}, {\"role\": \
        \"user\", \"text\": \"c\"}, {\"role\": \"assistant\", \"text\": \"d e f\"}]}\n";
    file(name, lines.as_bytes())
}

#[test]
fn a_model_is_scored_on_dialogues() {
    let (model, data) = (tiny("scored", "f32"), dialogues("scored.jsonl"));
    let args = ["eval", "chat", "-m", arg(&model), "--data", arg(&data), "-n", "8", "-t", "1"];
    let text = good(&args);
    assert!(text.starts_with("perplexity") && text.ends_with("answers        3, dialogues 2\n"), "{text}");
    let json: Value = serde_json::from_str(&good(&[&args[..], &["--json"]].concat())).unwrap();
    assert_eq!(
        (json["turns"].as_u64(), json["dialogues"].as_u64(), json["bytes"].as_u64()),
        (Some(3), Some(2), Some(18))
    );
    // Random weights find every token about as likely as any other.
    let perplexity = json["perplexity"].as_f64().unwrap();
    assert!((300.0..900.0).contains(&perplexity), "{perplexity}");
    let (tokens, bytes) = (json["tokens"].as_f64().unwrap(), json["bytes"].as_f64().unwrap());
    let per_byte = json["byte_perplexity"].as_f64().unwrap();
    assert!((perplexity.ln() * tokens - per_byte.ln() * bytes).abs() < 1e-6);
    for key in ["rouge_l", "distinct_1", "distinct_2", "repetition"] {
        assert!((0.0..=1.0).contains(&json[key].as_f64().unwrap()), "{json}");
    }
    let json: Value = serde_json::from_str(&good(&[&args[..], &["--json", "--limit", "1"]].concat())).unwrap();
    assert_eq!(json["turns"], 1);
}

#[test]
fn models_are_compared_in_a_table() {
    let (a, b, data) = (tiny("compared", "f32"), tiny("compared", "q4_0"), dialogues("compared.jsonl"));
    let args = ["eval", "compare", arg(&a), arg(&b), "--data", arg(&data), "-n", "4", "-t", "1"];
    let table = good(&args);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains("perplexity") && lines[0].contains("ROUGE-L"), "{table}");
    assert!(lines[1].starts_with(arg(&a)) && lines[2].starts_with(arg(&b)), "{table}");
    assert!(lines.iter().all(|line| line.split_whitespace().count() >= 8), "{table}");
    let json = good(&[&args[..], &["--json"]].concat());
    let models: Vec<Value> =
        json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["model"].clone()).collect();
    assert_eq!(models, [arg(&a), arg(&b)]);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let (model, data) = (tiny("senseless", "q8_0"), dialogues("senseless.jsonl"));
    let text = file("senseless.txt", b"one\ntwo\n");
    let empty = file("senseless-empty.jsonl", b"");
    for (args, expected) in [
        (&["eval", "chat", "-m", arg(&model)][..], "--data"),
        (&["eval", "chat", "-m", "nothing.gguf", "--data", arg(&data)], "nothing.gguf"),
        (&["eval", "chat", "-m", arg(&model), "--data", "nothing.jsonl"], "nothing.jsonl"),
        (&["eval", "chat", "-m", arg(&model), "--data", arg(&text)], "no dialogues, expected some in .jsonl"),
        (&["eval", "chat", "-m", arg(&model), "--data", arg(&empty)], "no line of use, expected dialogues"),
        (&["eval", "chat", "-m", arg(&model), "--data", arg(&data), "-c", "4"], "no turn of the assistant fits"),
        (&["eval", "chat", "-m", arg(&data), "--data", arg(&data)], "not a GGUF file"),
        (&["eval", "compare", arg(&model), "--data", arg(&data)], "2 values required"),
    ] {
        let line = bad(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}
