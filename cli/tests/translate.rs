//! `pupil translate`, end to end.

mod common;

use common::{arg, bad, bad_with, file, good, good_with, run_with};
use pupil::gguf::{Gguf, Writer};
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::mpsc::channel,
    thread,
    time::Duration,
};

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/t5-gelu.gguf")
}

/// The model with a shortlist of the same tokens for every sentence.
fn choosing(name: &str, tokens: &[u32]) -> PathBuf {
    let file = Gguf::open(&model()).unwrap();
    let mut writer = Writer::new();
    file.keys().iter().for_each(|(key, value)| _ = writer.key(key, value));
    let vocab = file.tensor("token_embd.weight").unwrap().rows();
    writer.key("pupil.shortlist.frequent", tokens);
    writer.key("pupil.shortlist.offsets", vec![0_u32; vocab + 1]);
    writer.key("pupil.shortlist.targets", Vec::<u32>::new());
    for info in file.tensors() {
        writer.tensor(&info.name, info.dtype, &info.dims, file.tensor(&info.name).unwrap().data().to_vec());
    }
    let path = common::place(name);
    writer.write_file(&path).unwrap();
    path
}

/// The line of `--json` for one text.
fn json(args: &[&str]) -> serde_json::Value {
    let ran = run_with(&[&["translate", "--json"], args].concat(), b"");
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

/// Tokens of the small model.
const A: u32 = 6;
const B: u32 = 7;
const C: u32 = 8;

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
fn what_is_not_whole_is_reported() {
    let (free, repeating) = (model(), choosing("translate-repeating.gguf", &[A]));
    let whole = "pupil: the translation of line 2 is not whole: ";
    for (m, finish, why) in [
        (&free, "length", "it grew too long and was cut; see --max-ratio\n"),
        (&repeating, "repeats", "it began to repeat itself and was cut\n"),
    ] {
        let ran = run_with(&["translate", "-m", arg(m), "--max-ratio", "0.01", "--json"], b"\nAn apple.\n");
        assert_eq!((ran.code, ran.err), (Some(0), format!("{whole}{why}")));
        assert!(ran.out.lines().last().unwrap().contains(&format!("\"finish\":\"{finish}\"")), "{}", ran.out);
    }
}

#[test]
fn lines_are_translated_as_they_come() {
    let model = model();
    let mut child = common::pupil(&["translate", "-m", arg(&model)])
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let (sender, lines) = channel();
    thread::spawn(move || stdout.lines().for_each(|line| sender.send(line.unwrap()).unwrap()));
    for text in ["An apple.", "A face."] {
        writeln!(stdin, "{text}").unwrap();
        let line = lines.recv_timeout(Duration::from_secs(60)).expect("a translation while more may come");
        assert_eq!(line, json(&["-m", arg(&model), text])["text"]);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_shortlist_is_used_unless_told_not_to() {
    let (free, short) = (model(), choosing("translate-short.gguf", &[A, B, C]));
    let text = |args: &[&str]| json(&[args, &["An apple."]].concat())["text"].as_str().unwrap().to_owned();
    let listed = text(&["-m", arg(&short)]);
    assert!(listed.chars().all(|c| "abc".contains(c)), "{listed}");
    assert_eq!(text(&["-m", arg(&short), "--no-shortlist"]), text(&["-m", arg(&free)]));
    // Each of them at most once.
    let once = text(&["-m", arg(&short), "--no-repeat-ngram", "1"]);
    assert!("abc".chars().all(|c| once.matches(c).count() <= 1) && once != listed, "{once}");
}

#[test]
fn beam_search_may_stop_early() {
    let model = model();
    let score = |more: &[&str]| {
        let args = ["-m", arg(&model), "--beam", "2", "deaf bread"];
        json(&[&args, more].concat())["score"].as_f64().unwrap()
    };
    let (early, likely) = (score(&["--early-stop"]), score(&[]));
    assert!(early < likely, "{early} and {likely}");
}

#[test]
fn bad_input_is_one_line() {
    let model = model();
    let m = arg(&model);
    let mut text = b"abc\nde".to_vec();
    text.push(0xff);
    let ran = run_with(&["translate", "-m", m, "--batch", "1"], &text);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("stdin: byte 6, in line 2, is not UTF-8"), "{}", ran.err);
    assert!(bad(&["translate", "-m", m, "-i", "no/such/file"]).contains("no/such/file"));
    assert!(bad(&["translate", "-m", m, "--to", "de", "a"]).contains("does not translate to de"));
    let llama = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/llama.gguf");
    assert!(bad(&["translate", "-m", arg(&llama), "a"]).contains("pupil chat runs it"));
    assert!(bad_with(&["chat", "-m", m, "a"], b"").contains("pupil translate runs it"));
}

#[test]
fn what_comes_before_bad_input_is_translated() {
    let model = model();
    let m = arg(&model);
    let before = run_with(&["translate", "-m", m], b"An apple.\n\n").out;
    let bytes = b"An apple.\n\nA \xff.\nAn apple.\n";
    let long = [&b"An apple.\n\n"[..], &vec![b' '; 17 << 20]].concat();
    let input = file("translate-bad.txt", bytes);
    for (args, text, expected) in [
        (&["translate", "-m", m][..], &bytes[..], "pupil: stdin: byte 13, in line 3, is not UTF-8"),
        (&["translate", "-m", m, "-i", arg(&input)], b"", "bad.txt: byte 13, in line 3, is not UTF-8"),
        (&["translate", "-m", m], &long, "pupil: stdin: line 3 is longer than 16 MiB"),
    ] {
        let ran = run_with(args, text);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), before.as_str()), "{}", ran.err);
        assert!(ran.err.lines().last().unwrap().contains(expected), "{}", ran.err);
    }
}

/// Translates `text` and returns the peak of memory in MiB, unless the system does not tell.
fn peak(text: &str) -> Option<usize> {
    let model = model();
    let (input, output) = (common::place("translate-long.txt"), common::place("translate-long-out.txt"));
    std::fs::write(&input, text).unwrap();
    let args = ["-v", "-t", "1", "--max-ratio", "0.01", "-i", arg(&input), "-o", arg(&output)];
    let ran = run_with(&[&["translate", "-m", arg(&model)], &args[..]].concat(), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let translated = std::fs::read_to_string(&output).unwrap();
    assert_eq!(translated.matches('\n').count(), text.matches('\n').count());
    [&input, &output].into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
    ran.err.rsplit_once("peak memory ").unwrap().1.trim().trim_end_matches(" MiB").parse().ok()
}

/// However much waits, and however long the lines are.
#[test]
fn memory_does_not_grow_with_the_text() {
    let spaces = format!("{}\n", " ".repeat(1 << 20));
    if let (Some(few), Some(many)) = (peak(&spaces.repeat(4)), peak(&spaces.repeat(64))) {
        assert!(many < few + 20, "{few} and {many} MiB");
    }
    let words = |bytes: usize| format!("{}\n", "an apple faces deaf bread ".repeat(bytes / 26));
    if let (Some(few), Some(many)) = (peak(&words(1 << 14)), peak(&words(1 << 20))) {
        assert!(many < few + 20, "{few} and {many} MiB");
    }
}

#[test]
fn an_output_replaces_nothing_that_is_read_and_comes_when_it_is_whole() {
    let model = file("translate-safe.gguf", &std::fs::read(model()).unwrap());
    let m = arg(&model);
    let (input, output) = (file("translate-safe.txt", b"An apple.\n"), file("translate-safe-out.txt", b"old\n"));
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    for path in [&input, &model] {
        let before = read(path);
        let line = bad(&["translate", "-m", m, "-i", arg(&input), "-o", arg(path)]);
        assert!(line.contains("would replace a file that is read") && read(path) == before, "{line}");
    }
    for args in [["-m", "no.gguf", "-i", arg(&input)], ["-m", m, "-i", "no.txt"]] {
        bad(&[&["translate", "-o", arg(&output)][..], &args].concat());
        assert_eq!(read(&output), b"old\n");
    }
    let ran = run_with(&["translate", "-m", m, "-o", arg(&output), "--batch", "1"], b"An apple.\n\xff\n");
    assert!(ran.code == Some(1) && ran.err.contains("not UTF-8") && read(&output) == b"old\n", "{}", ran.err);
    if cfg!(target_os = "linux") {
        let ran = run_with(&["translate", "-m", m, "-o", "/dev/full", "An apple."], b"");
        assert!(ran.code == Some(1) && ran.err.contains("pupil: /dev/full: No space"), "{}", ran.err);
    }
}

#[test]
fn byte_order_marks_are_no_text() {
    let model = model();
    let m = arg(&model);
    let plain = run_with(&["translate", "-m", m], "An apple.\n".as_bytes()).out;
    let marked = "\u{feff}An apple.\n";
    assert_eq!(run_with(&["translate", "-m", m], marked.as_bytes()).out, plain);
    let input = file("translate-marked.txt", marked.as_bytes());
    assert_eq!(run_with(&["translate", "-m", m, "-i", arg(&input)], b"").out, plain);
    assert!(good_with(&["translate", "-m", m, "--json"], "\u{feff}\n".as_bytes()).contains("\"score\":0.0,"));
}

#[test]
fn inspect_and_bench_know_translators() {
    let model = model();
    let m = arg(&model);
    assert!(good(&["inspect", m]).contains("2 encoder and 2 decoder layers of 24"));
    let small =
        ["bench", "-m", m, "--prompt", "5", "--decode", "4", "--reps", "1", "--batch", "2", "--json", "-t", "1"];
    for more in [&[][..], &["--shortlist", "8"]] {
        let line: serde_json::Value = serde_json::from_str(&good(&[&small, more].concat())).unwrap();
        assert!(line["sentences_per_second"].as_f64().unwrap() > 0.0);
    }
    let line = bad(&["bench", "-m", m, "--shortlist", "999999"]);
    assert!(line.contains("--shortlist is 999999, expected at most the model's "), "{line}");
}
