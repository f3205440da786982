//! Labelling with a tiny teacher: three stages of text, and label stores.

#![cfg(feature = "distill")]

mod common;

use common::{arg, bad, file, good, place, pupil, run, tiny};
use serde_json::Value;
use std::{fs, path::PathBuf, thread, time::Duration};

/// A new file's place.
fn fresh(name: &str) -> PathBuf {
    let path = place(name);
    let _ = fs::remove_file(&path);
    path
}

fn dialogues(name: &str) -> PathBuf {
    let line = |i: usize| {
        format!(
            "{{\"id\": {i}, \"turns\": [{{\"role\": \"user\", \"text\": \"question {i}\"}}, {{\"role\": \"assistant\", \
             \"text\": \"answer {}\"}}, {{\"role\": \"user\", \"text\": \"why?\"}}, {{\"role\": \"assistant\", \"text\": \
             \"because {i}\"}}]}}\n",
            i * i
        )
    };
    file(name, (1..=20).map(line).collect::<String>().as_bytes())
}

#[test]
fn three_stages_make_a_data_set() {
    let model = tiny("stages", "q8_0");
    let data = dialogues("stages.jsonl");
    let [prompts, answers, dataset] = ["stage-1.jsonl", "stage-2.jsonl", "stage-3.jsonl"].map(fresh);

    let collect = ["label", "prompts", arg(&data), "-o", arg(&prompts), "--limit", "12"];
    assert_eq!(good(&collect), "12 prompts, 12 of them new\n");
    assert!(good(&collect).starts_with("12 prompts, 0 of them new"));
    assert_eq!(fs::read_to_string(&prompts).unwrap().lines().next(), Some("{\"prompt\":\"question 1\"}"));

    let ask = ["label", "answers", "-m", arg(&model), arg(&prompts), "-o", arg(&answers), "-n", "6", "-t", "1"];
    assert_eq!(good(&ask), "12 answers, 12 of them new\n");
    let whole = fs::read_to_string(&answers).unwrap();
    for line in whole.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["score"].as_f64().unwrap() < 0.0 && line["answer"].is_string(), "{line}");
    }
    // Whatever was torn is dropped and done again, the same.
    fs::write(&answers, &whole[..whole.len() / 2]).unwrap();
    assert!(good(&ask).starts_with("12 answers, "));
    assert!(fs::read_to_string(&answers).unwrap() == whole);

    let form = ["label", "dataset", arg(&answers), "-o", arg(&dataset), "--unfinished", "--max-repetition", "1"];
    assert!(good(&form).contains(" of them new"));
    let formed = fs::read_to_string(&dataset).unwrap();
    assert!(formed.lines().count() > 6, "{formed}");
    assert!(
        formed.starts_with("{\"turns\":[{\"role\":\"user\",\"text\":\"question 1\"},{\"role\":\"assistant\""),
        "{formed}"
    );
    good(&form);
    assert!(fs::read_to_string(&dataset).unwrap() == formed);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let model = tiny("killed", "q8_0");
    let lines: String = (0..60).map(|i| format!("{{\"prompt\":\"number {i}\"}}\n")).collect();
    let prompts = file("killed-prompts.jsonl", lines.as_bytes());
    let ask = |out: &PathBuf| {
        let args = ["label", "answers", "-m", arg(&model), arg(&prompts), "-o", arg(out), "-n", "20", "-t", "1"];
        args.map(str::to_owned)
    };
    let strs = |args: &[String; 11]| args.each_ref().map(|arg| String::leak(arg.clone()) as &str);
    let (whole, killed) = (fresh("killed-whole.jsonl"), fresh("killed-answers.jsonl"));
    good(&strs(&ask(&whole)));
    for wait in [30, 90, 200] {
        let mut child = pupil(&strs(&ask(&killed))).spawn().unwrap();
        thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    good(&strs(&ask(&killed)));
    assert!(fs::read(&killed).unwrap() == fs::read(&whole).unwrap());
}

#[test]
fn a_store_is_written_in_parts_and_inspected() {
    let model = tiny("store", "q8_0");
    let data = dialogues("store.jsonl");
    let whole = fresh("store-whole.labels");
    let soft = |out: &PathBuf, more: &[&str]| {
        let mut args = vec!["label", "soft", "-m", arg(&model), "-d", arg(&data), "-o"];
        args.push(arg(out));
        args.extend(["-t", "1"]);
        args.extend(more);
        run(&args)
    };
    let ran = soft(&whole, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for part in ["512 tokens", "20 examples", "the 8 likeliest and 8 drawn (seed 0), 50 bytes", "kept mass"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let bytes = fs::read(&whole).unwrap();
    let shown: Value = serde_json::from_str(&good(&["label", "inspect", "--json", arg(&whole)])).unwrap();
    assert_eq!((shown["bytes_per_token"].as_u64(), shown["examples"].as_u64()), (Some(50), Some(20)));
    let kept = shown["kept"].as_f64().unwrap();
    assert!(kept > 0.0 && kept < 1.0, "{kept}");

    let shards: Vec<PathBuf> = (1..=3).map(|i| fresh(&format!("store-{i}.labels"))).collect();
    for (i, shard) in shards.iter().enumerate() {
        assert_eq!(soft(shard, &["--shard", &format!("{}/3", i + 1)]).code, Some(0));
    }
    let merged = fresh("store-merged.labels");
    good(&["label", "merge", arg(&shards[2]), arg(&shards[0]), arg(&shards[1]), "-o", arg(&merged)]);
    assert!(fs::read(&merged).unwrap() == bytes);
    let line = bad(&["label", "merge", arg(&shards[2]), arg(&shards[0]), "-o", arg(&shards[0])]);
    assert!(line.contains("would replace a file that is read"), "{line}");
    let line = bad(&["label", "merge", arg(&shards[2]), arg(&shards[0]), "-o", arg(&merged)]);
    assert!(line.contains("expected shard 2/3"), "{line}");

    for len in [0, 10, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&merged, &bytes[..len]).unwrap();
        assert!(bad(&["label", "inspect", arg(&merged)]).contains("store-merged.labels"));
        assert_eq!(soft(&merged, &[]).code, Some(0));
        assert!(fs::read(&merged).unwrap() == bytes, "cut at byte {len}");
    }
    let ran = soft(&whole, &["--temperature", "1"]);
    assert!(ran.code == Some(1) && ran.err.contains("the temperature is 2, expected 1"), "{}", ran.err);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let model = tiny("refused", "q8_0");
    let (data, other) = (dialogues("refused.jsonl"), file("refused.txt", b"a letter"));
    let out = fresh("refused.out");
    for (args, expected) in [
        (&["label"][..], "no command was given; pupil label --help lists them"),
        (&["label", "prompts", "nothing.txt", "-o", arg(&out)], "nothing.txt"),
        (&["label", "prompts", arg(&model), "-o", arg(&out)], "expected .txt, .tsv or .jsonl"),
        (&["label", "prompts", arg(&data), "-o", arg(&other)], "refused.txt"),
        (
            &["label", "prompts", arg(&data), "-o", arg(&out), "--min-chars", "9", "--max-chars", "3"],
            "--min-chars is 9",
        ),
        (&["label", "answers", "-m", "nothing.gguf", arg(&data), "-o", arg(&out)], "nothing.gguf"),
        (&["label", "answers", "-m", arg(&model), arg(&data), "-o", arg(&out)], "refused.jsonl line 1: missing field"),
        (
            &["label", "answers", "-m", arg(&model), arg(&data), "-o", arg(&out), "--temp", "-1"],
            "'--temp <T>': expected",
        ),
        (
            &["label", "answers", "-m", arg(&model), arg(&data), "-o", arg(&out), "--beam", "2"],
            "--beam does nothing here",
        ),
        (&["label", "dataset", arg(&data), "-o", arg(&out)], "refused.jsonl line 1: missing field"),
        (&["label", "dataset", arg(&data), "-o", arg(&out), "--max-repetition", "2"], "expected a number from 0 to 1"),
        (&["label", "soft", "-m", arg(&model), "-d", arg(&other), "-o", arg(&other)], "expected a label store"),
        (
            &["label", "soft", "-m", arg(&model), "-d", arg(&data), "-o", arg(&out), "-k", "0"],
            "'-k <N>': expected a whole number from 1 to",
        ),
        (&["label", "soft", "-m", arg(&model), "-d", arg(&data), "-o", arg(&out), "--shard", "3/2"], "expected I/N"),
        (
            &["label", "soft", "-m", arg(&model), "-d", arg(&data), "-o", arg(&out), "--temperature", "nan"],
            "expected a number from 0.01 to 100",
        ),
        (&["label", "inspect", arg(&other)], "refused.txt: begins with \"a letter\", expected a label store"),
        (&["label", "merge", arg(&other), "-o", arg(&out)], "refused.txt: begins with"),
    ] {
        let line = bad(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
    assert_eq!(fs::read(&other).unwrap(), b"a letter");
    for args in [["label", "prompts", "no.txt", "-o"], ["label", "dataset", "no.jsonl", "-o"]] {
        let out = fresh("refused-new.out");
        bad(&[&args[..], &[arg(&out)]].concat());
        assert!(!out.exists(), "{args:?}");
    }
}
