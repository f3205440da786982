//! What the verbs do when all is well.

mod common;

use common::{arg, good, good_with, pupil, tiny};
use serde_json::Value;
use std::{
    io::Read,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn help_and_version() {
    assert!(good(&["--version"]).starts_with("pupil 0."));
    for verb in ["chat", "inspect", "tokenize", "bench"] {
        assert!(good(&["--help"]).contains(verb));
        assert!(good(&[verb, "--help"]).contains("Usage: pupil"));
    }
}

#[test]
fn bench_measures_every_type_and_number_of_threads() {
    for mix in ["f32", "f16", "q8_0", "q4_0", "q4_k_m"] {
        let shape = format!("tiny:{mix}");
        let args = ["bench", "--synthetic", &shape, "-t", "1,2", "--prompt", "9", "--decode", "3", "--json"];
        let out = good(&args);
        let lines: Vec<_> = out.lines().map(json).collect();
        assert_eq!(lines.len(), 2);
        for (line, threads) in lines.iter().zip([1, 2]) {
            assert_eq!(line["threads"], threads);
            for key in ["prefill_tps", "decode_tps", "load_ms"] {
                assert!(line[key].as_f64().unwrap() > 0.0, "{line}");
            }
            assert!(line["isa"].is_string() && line.get("peak_mib").is_some());
        }
    }
    let table = good(&["bench", "--synthetic", "tiny:q8_0", "--reps", "2"]);
    assert_eq!(table.lines().count(), 2, "{table}");
}

#[test]
fn inspect_shows_keys_tensors_and_totals() {
    let path = tiny("inspect", "q4_k_m");
    let text = good(&["inspect", arg(&path)]);
    for part in [arg(&path), "general.architecture", "\"llama\"", "512 in all", "q4_k", "parameters"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("blk.1.attn_q.weight"));
    assert!(good(&["inspect", "--tensors", arg(&path)]).contains("blk.1.attn_q.weight"));

    let whole = json(&good(&["inspect", "--json", arg(&path)]));
    assert_eq!(whole["metadata"]["llama.block_count"], 2);
    assert_eq!(whole["metadata"]["llama.attention.layer_norm_rms_epsilon"], 1e-5);
    assert_eq!(whole["metadata"]["tokenizer.ggml.tokens"]["length"], 512);
    let tensors = whole["tensors"].as_array().unwrap();
    let sum = |key: &str, list: &[Value]| list.iter().map(|item| item[key].as_u64().unwrap()).sum::<u64>();
    let types = whole["types"].as_array().unwrap();
    assert_eq!(sum("bytes", tensors), sum("bytes", types));
    assert_eq!(sum("tensors", types), tensors.len() as u64);
    assert_eq!(sum("parameters", types), whole["parameters"].as_u64().unwrap());
}

#[test]
fn tokenize_there_and_back() {
    let path = tiny("tokenize", "q8_0");
    let model = ["tokenize", "-m", arg(&path)];
    let with = |more: &[&'static str]| -> Vec<&str> { model.iter().copied().chain(more.iter().copied()).collect() };
    for text in ["Hello, world", " two  spaces\tand\nlines\n", "héllo – 日本 🙂", "<|im_end|>"] {
        let ids = good_with(&with(&["--ids"]), text.as_bytes());
        assert_eq!(good_with(&with(&["--decode"]), ids.as_bytes()), format!("{text}\n"));
        let all = json(&good_with(&with(&["--json", "-"]), text.as_bytes()));
        assert_eq!(all["text"], text);
        assert_eq!(all["ids"].as_array().unwrap().len(), all["pieces"].as_array().unwrap().len());
    }
    assert_eq!(good(&with(&["--special", "<|im_end|>"])), "      2  \"<|im_end|>\"\n");
    assert_eq!(good(&with(&["--decode", "[2, 75]"])), good(&with(&["--decode", "75"])));
    assert!(common::bad(&with(&["--decode", "1 512"])).contains("'512' is no token"));
}

#[test]
fn chat_answers_once() {
    let path = tiny("once", "q8_0");
    let model = ["chat", "-m", arg(&path), "-t", "1", "--temp", "0", "-n", "8"];
    let with = |more: &[&'static str]| -> Vec<&str> { model.iter().copied().chain(more.iter().copied()).collect() };
    let answer = json(&good(&with(&["--json", "hello"])));
    assert_eq!((&answer["finish"], &answer["tokens"]), (&"length".into(), &8.into()));
    assert!(answer["prompt_tokens"].as_u64().unwrap() > 5);
    let text = answer["text"].as_str().unwrap();
    assert_eq!(good(&with(&["hello"])).trim_end_matches('\n'), text.trim_end_matches('\n'));
    assert_eq!(good_with(&with(&["-"]), b"hello\n"), good(&with(&["hello"])));
    // The template and what is told first change what the model reads.
    let told = json(&good(&with(&["--json", "--system", "be kind", "hello"])));
    assert!(told["prompt_tokens"].as_u64() > answer["prompt_tokens"].as_u64());
    let raw = json(&good(&with(&["--json", "--raw", "hello"])));
    assert!(raw["prompt_tokens"].as_u64() < answer["prompt_tokens"].as_u64());
    assert!(good(&with(&["--raw", "hello"])).starts_with("hello"));
    // Another cache type and more threads run, too.
    good(&with(&["--cache-type", "q8_0", "hello"]));
    assert_eq!(
        good(&["chat", "-m", arg(&path), "-t", "2", "--temp", "0", "-n", "8", "hello"]),
        good(&with(&["hello"]))
    );
    // A stop string ends it before itself.
    let stop = text.chars().rfind(|c| !c.is_control()).unwrap().to_string();
    let args: Vec<_> = with(&["--json", "hello"]).into_iter().chain(["--stop", &stop]).collect();
    let stopped = json(&good(&args));
    assert_eq!(stopped["finish"], "stop");
    assert!(text.starts_with(stopped["text"].as_str().unwrap()) && !stopped["text"].as_str().unwrap().contains(&stop));
}

#[test]
fn a_seed_repeats_an_answer() {
    let path = tiny("seed", "q8_0");
    let args = ["chat", "-m", arg(&path), "-n", "20", "--temp", "2", "--seed", "7", "hello"];
    assert_eq!(good(&args), good(&args));
}

#[test]
fn chat_answers_every_line_and_remembers() {
    let path = tiny("lines", "q8_0");
    let args = ["chat", "-m", arg(&path), "-t", "1", "--temp", "0", "-n", "8", "--json"];
    let out = good_with(&args, b"hello\n\nand now\n");
    let answers: Vec<_> = out.lines().map(json).collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["reused_tokens"], 0);
    assert!(answers[1]["reused_tokens"].as_u64() >= answers[0]["prompt_tokens"].as_u64());
}

#[test]
fn verbose_speaks_on_stderr() {
    let path = tiny("verbose", "q8_0");
    let ran = common::run(&["chat", "-v", "-m", arg(&path), "-n", "4", "hello"]);
    assert_eq!(ran.code, Some(0));
    for part in ["seed ", "loaded in ", "tok/s", "peak memory"] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
}

/// An answer that would take minutes.
fn endless(model: &Path) -> Command {
    pupil(&["chat", "-m", arg(model), "-c", "100000", "--raw", "--temp", "0", "-t", "1", "hello"])
}

#[test]
fn a_closed_pipe_is_silent() {
    let path = tiny("pipe", "q8_0");
    let mut child = endless(&path).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_answer() {
    let path = tiny("interrupt", "q8_0");
    let mut child = endless(&path).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let start = Instant::now();
    std::thread::spawn(move || out.read_to_end(&mut Vec::new()));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(130), 0));
    assert!(start.elapsed() < Duration::from_secs(20));
}
