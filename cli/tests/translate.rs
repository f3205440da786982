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

/// However much waits, and however long the lines are.
#[test]
fn memory_does_not_grow_with_the_text() {
    let model = model();
    let (input, output) = (common::place("translate-long.txt"), common::place("translate-long-out.txt"));
    // Some systems do not tell.
    let peak = |lines: usize| -> Option<usize> {
        let line = format!("{}\n", " ".repeat(1 << 20));
        std::fs::write(&input, line.repeat(lines)).unwrap();
        let ran =
            run_with(&["translate", "-m", arg(&model), "-v", "-t", "1", "-i", arg(&input), "-o", arg(&output)], b"");
        let sizes = [&input, &output].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(ran.code == Some(0) && sizes[0] == sizes[1], "{}", ran.err);
        ran.err.rsplit_once("peak memory ").unwrap().1.trim().trim_end_matches(" MiB").parse().ok()
    };
    if let (Some(few), Some(many)) = (peak(4), peak(64)) {
        assert!(many < few + 20, "{few} and {many} MiB");
    }
    [&input, &output].into_iter().for_each(|path| std::fs::remove_file(path).unwrap());
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
    let out =
        good(&["bench", "-m", m, "--prompt", "5", "--decode", "4", "--reps", "1", "--batch", "2", "--json", "-t", "1"]);
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(line["sentences_per_second"].as_f64().unwrap() > 0.0);
    let line = bad(&["bench", "-m", m, "--shortlist", "999999"]);
    assert!(line.contains("--shortlist is 999999, expected at most the model's "), "{line}");
}
