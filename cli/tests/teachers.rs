//! Students of each kind of teacher, from text to a file that runs.
#![cfg(feature = "distill")]

mod common;

use common::{arg, good, place, run};
use std::{
    fs,
    path::{Path, PathBuf},
};

const WORDS: [(&str, &str); 5] =
    [("cat", "katze"), ("dog", "hund"), ("red", "rot"), ("big", "klein"), ("sees", "sieht")];

/// One to three words and their translations, of all 125 triples.
fn phrases() -> impl Iterator<Item = (String, String)> {
    (0..250_usize).map(|i| {
        let picked = [i % 5, i / 5 % 5, i / 25 % 5].map(|at| WORDS[at]);
        let (source, target): (Vec<_>, Vec<_>) = picked.into_iter().take(1 + i % 3).unzip();
        (source.join(" "), target.join(" "))
    })
}

/// An empty folder with the text of a toy language as parallel text and as dialogues.
fn folder(name: &str) -> PathBuf {
    let folder = place(&format!("teachers-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let pairs: String = phrases().map(|(source, target)| format!("{source}\t{target}\n")).collect();
    let dialogue = |(question, answer): (String, String)| {
        let user = format!(r#"{{"role": "user", "text": "{question}?"}}"#);
        format!("{{\"turns\": [{user}, {{\"role\": \"assistant\", \"text\": \"{answer}!\"}}]}}\n")
    };
    fs::write(folder.join("toy.tsv"), pairs).unwrap();
    fs::write(folder.join("toy.jsonl"), phrases().map(dialogue).collect::<String>()).unwrap();
    folder
}

const CHAT: &str = r#"
kind = "chat"
[student]
embedding = 32
layers = LAYERS
heads = 2
kv_heads = 1
feed_forward = 64
[data]
files = ["toy.jsonl"]
validation = 10
max_tokens = 64
"#;

const TRANSLATE: &str = r#"
kind = "translate"
[student]
embedding = 32
layers = LAYERS
decoder_layers = LAYERS
heads = 2
head_dim = 16
feed_forward = 64
[data]
files = ["toy.tsv"]
validation = 10
max_tokens = 16
"#;

/// Trains as a recipe of `head`, `rest` and what all share says; returns what was said on stderr.
fn distill(folder: &Path, name: &str, head: &str, layers: usize, rest: &str) -> String {
    let train = "[train]\nsteps = 60\nlearning_rate = 1e-2\nwarmup = 5\nbatch_tokens = 600\neval_every = 30\n\
                 eval_items = 300\nema = 0.9\n";
    let output = format!("[output]\nfile = \"{name}.gguf\"\n");
    let head = head.replace("LAYERS", &layers.to_string());
    let recipe = folder.join(format!("{name}.toml"));
    fs::write(&recipe, [&head, rest, train, &output].join("\n")).unwrap();
    let ran = run(&["distill", arg(&recipe), "--threads", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran.err
}

#[test]
fn a_chat_student_learns_from_the_text_then_from_what_it_wrote() {
    let folder = folder("chat");
    distill(&folder, "teacher", CHAT, 2, "[tokenizer]\ntrain = \"bpe\"\nsize = 300");
    let rest = "[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\ngguf = \"teacher.gguf\"\n[on_policy]\nsteps = 12\n\
                learning_rate = 1e-3\nrefresh = 6\nitems = 16\nreplay = 32\nmax_new_tokens = 16";
    let said = distill(&folder, "student", CHAT, 1, rest);
    assert!(said.contains("step 72: loss"), "{said}");
    let metrics = fs::read_to_string(folder.join("student.run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"phase\":\"on-policy\""), "{metrics}");
    let answer = good(&["chat", "-m", arg(&folder.join("student.gguf")), "--temp", "0", "-n", "16", "red?"]);
    assert!(WORDS.iter().any(|(_, word)| answer.contains(word)), "{answer}");
}

#[test]
fn a_translator_learns_from_a_store_of_labels() {
    let folder = folder("store");
    distill(&folder, "teacher", TRANSLATE, 2, "[tokenizer]\ntrain = \"unigram\"\nsize = 60");
    let (teacher, text, store) = (folder.join("teacher.gguf"), folder.join("toy.tsv"), folder.join("toy.labels"));
    good(&["label", "soft", "-m", arg(&teacher), "-d", arg(&text), "-o", arg(&store), "-t", "1"]);
    let rest = "[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\nlabels = \"toy.labels\"\n[loss]\nalpha = 0.0";
    distill(&folder, "student", TRANSLATE, 1, rest);
    let student = folder.join("student.gguf");
    let translation = good(&["translate", "-m", arg(&student), "red"]);
    assert!(WORDS.iter().any(|(_, word)| translation.contains(word)), "{translation}");

    // Labels of other text are refused before training.
    let other: String = phrases().map(|(source, target)| format!("{source} {source}\t{target}\n")).collect();
    fs::write(&text, other).unwrap();
    let ran = run(&["distill", arg(&folder.join("student.toml")), "--fresh", "--threads", "1"]);
    assert!(ran.code == Some(1) && ran.err.lines().last().unwrap().contains("toy.labels"), "{}", ran.err);
}

#[test]
fn a_student_begins_with_some_layers_of_another() {
    let folder = folder("layers");
    distill(&folder, "deep", TRANSLATE, 3, "[tokenizer]\ntrain = \"unigram\"\nsize = 60");
    let rest =
        "[tokenizer]\nfile = \"deep.gguf\"\n[init]\nfile = \"deep.gguf\"\nlayers = [0, 2]\ndecoder_layers = [0, 1]";
    distill(&folder, "shallow", TRANSLATE, 2, rest);
    let recipe = fs::read_to_string(folder.join("shallow.toml")).unwrap();
    for (from, to, expected) in [
        ("layers = [0, 2]", "layers = [0, 3]", "layers [0, 3] of the 3"),
        ("layers = [0, 2]", "layers = [1]", "expected 2 of them"),
        ("[init]\nfile = \"deep.gguf\"", "[init]\nfile = \"none.gguf\"", "init.file: "),
        ("embedding = 32", "embedding = 64", "the student is"),
        ("file = \"deep.gguf\"\n[init]", "train = \"unigram\"\nsize = 30\n[init]", "different vocabularies"),
    ] {
        let path = folder.join("refused.toml");
        fs::write(&path, recipe.replacen(from, to, 1)).unwrap();
        let ran = run(&["distill", arg(&path), "--fresh", "--threads", "1"]);
        let last = ran.err.lines().last().unwrap_or_default();
        assert!(ran.code == Some(1) && last.starts_with("pupil: ") && last.contains(expected), "{to}: {last}");
    }
}
