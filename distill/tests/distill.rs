//! Whole trainings of tiny students on a language made here: what they learn, and that they go on as if never stopped.
#![cfg(feature = "train")]

mod common;

use common::{Ears, done, options};
use pupil::{TranslateOptions, Translator, gguf::Gguf};
use pupil_distill::{
    device::DeviceKind,
    recipe::Recipe,
    train::{Options, Outcome, distill},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const WORDS: [(&str, &str); 6] =
    [("red", "rot"), ("green", "grün"), ("cat", "katze"), ("dog", "hund"), ("sees", "sieht"), ("big", "groß")];

/// Sentences of four or five words, each translated by itself.
fn corpus() -> String {
    let mut state = 1_u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        WORDS[(state >> 16) as usize % WORDS.len()]
    };
    let mut lines = String::new();
    for i in 0..1500 {
        let (source, target): (Vec<_>, Vec<_>) = (0..4 + i % 2).map(|_| word()).unzip();
        lines += &format!("{}\t{}\n", source.join(" "), target.join(" "));
    }
    lines
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("distill-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("toy.tsv"), corpus()).unwrap();
    folder
}

fn recipe(folder: &Path, name: &str, student: &str, rest: &str, steps: u64) -> PathBuf {
    let text = format!(
        r#"
kind = "translate"
[student]
{student}
[data]
files = ["toy.tsv"]
test = 40
validation = 40
max_tokens = 40
[train]
steps = {steps}
learning_rate = 3e-3
warmup = 20
batch_tokens = 800
eval_every = 100
eval_items = 20
ema = 0.95
[output]
file = "{name}.gguf"
name = "A toy"
from = "en"
to = "de"
{rest}
"#
    );
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

const LARGE: &str = "embedding = 64\nlayers = 2\ndecoder_layers = 2\nheads = 2\nhead_dim = 32\nfeed_forward = 128";
const SMALL: &str = "embedding = 32\nlayers = 1\ndecoder_layers = 1\nheads = 2\nhead_dim = 16\nfeed_forward = 64";
const LEARN: &str = "[tokenizer]\ntrain = \"unigram\"\nsize = 40";

fn run(recipe: &Path, options: &Options, ears: &mut Ears) -> Outcome {
    distill(&Recipe::open(recipe, None).unwrap(), options, ears).unwrap()
}

#[test]
fn a_student_learns_from_a_teacher_and_runs() {
    let folder = folder("path");
    let teacher = recipe(&folder, "teacher", LARGE, LEARN, 400);
    let report = done(run(&teacher, &options(&folder, "teacher"), &mut Ears::default()));
    assert!(report.score.unwrap() > 80.0, "{report:?}");

    let rest = "[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\ncheckpoint = \"teacher.gguf\"\n[loss]\nalpha = 0.0\n\
                [quantize]\nsteps = 20\nlearning_rate = 1e-3";
    let student = recipe(&folder, "student", SMALL, rest, 600);
    let mut ears = Ears::default();
    let report = done(run(&student, &options(&folder, "student"), &mut ears));
    assert!(report.score.unwrap() > 60.0, "{report:?} {:#?}", ears.said);
    assert_eq!(ears.losses.len(), 620);

    let run = folder.join("student-run");
    for name in ["checkpoint.safetensors", "best.safetensors", "loss.svg", "score.svg", "test.tsv", "tokenizer.gguf"] {
        assert!(run.join(name).exists(), "{name}");
    }
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() == 7 && metrics.contains("\"phase\":\"quantize\""), "{metrics}");

    let options = TranslateOptions { threads: 1, ..TranslateOptions::default() };
    let mut translator = Translator::open(folder.join("student.gguf"), options).unwrap();
    let keys = translator.file().keys();
    for (key, expected) in [
        ("general.name", "A toy"),
        ("pupil.translate.from", "en"),
        ("pupil.translate.to", "de"),
        ("pupil.teacher", "teacher.gguf"),
        ("pupil.loss", "alpha Fixed(0.0), ForwardKl, temperature 2"),
        ("pupil.score.on", "test"),
    ] {
        assert_eq!(keys.str(key).unwrap(), expected, "{key}");
    }
    assert_eq!(keys.f32("pupil.score.bleu").unwrap(), report.score.unwrap() as f32);
    assert_eq!(keys.f32("pupil.validation.cross_entropy").unwrap(), report.validation as f32);
    let teacher = Gguf::open(&folder.join("teacher.gguf")).unwrap();
    for key in ["pupil.teacher", "pupil.loss", "general.license", "pupil.data"] {
        assert_eq!(teacher.keys().opt_str(key).unwrap(), None, "{key}");
    }
    let translation = translator.translate("red cat sees big dog").unwrap().text;
    assert!(translation.contains("katze"), "{translation}");
}

#[test]
fn a_training_that_goes_on_ends_as_one_that_was_not_stopped() {
    let folder = folder("resume");
    // Everything that there is to keep: dropped activations, sums of gradients, what the student wrote, rounded weights.
    let teacher = recipe(&folder, "teacher", LARGE, LEARN, 20);
    done(run(&teacher, &options(&folder, "teacher"), &mut Ears::default()));
    let rest = "[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\ncheckpoint = \"teacher.gguf\"\n\
                [on_policy]\nsteps = 14\nlearning_rate = 1e-3\nrefresh = 4\nitems = 6\nreplay = 12\nmax_new_tokens = 8\n\
                [quantize]\nsteps = 8\nlearning_rate = 1e-3";
    let recipe = |name: &str| {
        let path = recipe(&folder, name, SMALL, rest, 30);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("ema = 0.95", "ema = 0.95\ndropout = 0.1\naccumulate = 2")).unwrap();
        path
    };
    done(run(&recipe("whole"), &options(&folder, "whole"), &mut Ears::default()));

    let path = recipe("parts");
    for stop_after in [1, 23, 33, 38, 47] {
        let mut ears = Ears { stop_after: Some(stop_after), ..Ears::default() };
        assert_eq!(run(&path, &options(&folder, "parts"), &mut ears), Outcome::Stopped(stop_after));
    }
    done(run(&path, &options(&folder, "parts"), &mut Ears::default()));

    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(read("whole.gguf") == read("parts.gguf"));
    let weights = |name: &str| {
        let path = folder.join(format!("{name}-run/checkpoint.safetensors"));
        let bytes = fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Vec<_> = tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
        all.sort();
        all
    };
    assert!(weights("whole") == weights("parts"));
}

#[test]
fn the_operations_of_other_devices_train_as_well() {
    let folder = folder("composed");
    let quantize = "[quantize]\nsteps = 10\nlearning_rate = 1e-3";
    let teacher = recipe(&folder, "teacher", LARGE, LEARN, 60);
    done(run(&teacher, &options(&folder, "teacher"), &mut Ears::default()));
    let rest = format!("[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\ncheckpoint = \"teacher.gguf\"\n{quantize}");
    let [fused, composed] = [("fused", DeviceKind::Cpu), ("composed", DeviceKind::Composed)].map(|(name, device)| {
        let path = recipe(&folder, name, SMALL, &rest, 100);
        let text = fs::read_to_string(&path).unwrap().replace("ema = 0.95", "ema = 0.95\ndropout = 0.1");
        fs::write(&path, text).unwrap();
        let mut ears = Ears { stop_after: Some(50), ..Ears::default() };
        let options = Options { device, ..options(&folder, name) };
        assert_eq!(run(&path, &options, &mut ears), Outcome::Stopped(50));
        // A checkpoint of one device is one of the other.
        let other = if device == DeviceKind::Cpu { DeviceKind::Composed } else { DeviceKind::Cpu };
        let options = Options { device: other, ..options };
        ears.stop_after = None;
        (done(run(&path, &options, &mut ears)), ears.losses)
    });
    assert_eq!((fused.1.len(), composed.1.len()), (110, 110));
    for (step, (fused, composed)) in fused.1.iter().zip(&composed.1).enumerate() {
        assert!((fused - composed).abs() < 0.01 * fused, "step {}: {fused} and {composed}", step + 1);
    }
    let [fused, composed] = [fused.0.validation, composed.0.validation];
    assert!((fused - composed).abs() < 0.02 * fused, "{fused} and {composed}");
}

#[test]
fn what_cannot_be_is_refused_before_training() {
    let folder = folder("refused");
    let refused = |name: &str, student: &str, rest: &str| {
        let path = recipe(&folder, name, student, rest, 10);
        let mut ears = Ears::default();
        let trained = Recipe::open(&path, None).and_then(|recipe| distill(&recipe, &options(&folder, name), &mut ears));
        let error = trained.unwrap_err().to_string();
        assert!(ears.losses.is_empty() && !error.contains('\n'), "{error}");
        error
    };
    assert!(refused("shape", "embedding = 32", LEARN).contains("[student]: missing field"));
    let wrong = SMALL.replace("heads = 2", "heads = 0");
    assert!(refused("heads", &wrong, LEARN).contains("[student]: `heads` is 0"));

    let path = recipe(&folder, "other", SMALL, "[tokenizer]\ntrain = \"unigram\"\nsize = 35", 5);
    done(run(&path, &options(&folder, "other"), &mut Ears::default()));
    let rest = format!("{LEARN}\n[teacher]\ncheckpoint = \"other.gguf\"");
    let best = rest.replace("other.gguf", "other-run/best.safetensors");
    for rest in [&rest, &rest.replace("checkpoint", "gguf"), &best] {
        let error = refused("vocabulary", SMALL, rest);
        assert!(error.contains("other") && error.contains("different vocabularies"), "{error}");
    }
    let not_best = rest.replace("other.gguf", "other-run/checkpoint.safetensors");
    assert!(refused("not-best", SMALL, &not_best).contains("missing field"));

    // A folder that holds another training, which stays as it is.
    let files = ["checkpoint.safetensors", "best.safetensors", "metrics.jsonl", "tokenizer.gguf", "test.tsv"];
    let kept = || files.map(|name| fs::read(folder.join("other-run").join(name)).unwrap());
    let before = kept();
    let touched =
        || files.iter().zip(kept().iter().zip(&before)).find(|(_, (now, before))| now != before).map(|(file, _)| *file);
    fs::copy(folder.join("other.gguf"), folder.join("copy.gguf")).unwrap();
    let taught = "[tokenizer]\ntrain = \"unigram\"\nsize = 35\n[teacher]\ncheckpoint = \"copy.gguf\"";
    for (student, rest) in [(LARGE, "[tokenizer]\ntrain = \"unigram\"\nsize = 35"), (SMALL, taught)] {
        let path = recipe(&folder, "other", student, rest, 5);
        let text = fs::read_to_string(&path).unwrap().replace("test = 40", "test = 50");
        fs::write(&path, text.replace("validation = 40", "validation = 30")).unwrap();
        let recipe = Recipe::open(&path, None).unwrap();
        let error = distill(&recipe, &options(&folder, "other"), &mut Ears::default()).unwrap_err().to_string();
        assert!(error.contains("was") && error.contains("expected the same, or --fresh"), "{error}");
        assert_eq!(touched(), None);
    }
    let path = recipe(&folder, "other", SMALL, &rest.replace("other.gguf", "copy.gguf"), 5);
    let fresh = Options { fresh: true, ..options(&folder, "other") };
    let error = distill(&Recipe::open(&path, None).unwrap(), &fresh, &mut Ears::default()).unwrap_err().to_string();
    assert!(error.contains("different vocabularies") && touched().is_none(), "{error}");
}

#[test]
fn what_is_no_number_stops_and_keeps_the_checkpoint() {
    let folder = folder("nan");
    // A good student, whose weights the first step of the second phase blows up.
    let rest = format!("type = \"f32\"\n{LEARN}\n[quantize]\nsteps = 40\nlearning_rate = 1e300");
    let path = recipe(&folder, "nan", SMALL, &rest, 20);
    let run_on = |stop_after: Option<u64>| {
        let mut ears = Ears { stop_after, ..Ears::default() };
        distill(&Recipe::open(&path, None).unwrap(), &options(&folder, "nan"), &mut ears)
    };
    assert_eq!(run_on(Some(20)).unwrap(), Outcome::Stopped(20));
    let files = ["checkpoint.safetensors", "best.safetensors"].map(|name| folder.join("nan-run").join(name));
    let kept = || files.each_ref().map(|file| fs::read(file).unwrap());
    let mut good = kept();
    let refused = |stop_after, expected: &[&str]| {
        let error = run_on(stop_after).unwrap_err().to_string();
        assert!(expected.iter().all(|expected| error.contains(expected)) && !error.contains('\n'), "{error}");
    };
    // Whoever stops here, before a loss has shown it, keeps what was good; and so does who goes on.
    refused(Some(21), &["the checkpoint of step 21", "expected finite numbers"]);
    // What the phase begins with was measured anew, and is as good.
    assert!(kept()[0] == good[0]);
    good = kept();
    refused(None, &["step 22", "batch ", "expected a"]);
    assert!(kept() == good);

    // A measurement finds it, too.
    let text = fs::read_to_string(&path).unwrap().replace("eval_every = 100", "eval_every = 1");
    fs::write(&path, text).unwrap();
    refused(None, &["step 21: the loss on the validation part is", "expected a number"]);
    assert!(kept() == good);
}

#[test]
fn a_training_ends_early_if_nothing_gets_better() {
    let folder = folder("patience");
    let path =
        recipe(&folder, "patience", SMALL, &format!("{LEARN}\n[quantize]\nsteps = 3\nlearning_rate = 1e-4"), 300);
    // A rate at which nothing changes.
    let text = fs::read_to_string(&path).unwrap().replace("learning_rate = 3e-3", "learning_rate = 1e-300");
    let text = text.replace("eval_every = 100", "eval_every = 10\npatience = 2");
    fs::write(&path, text.replace("ema = 0.95", "ema = 0.0")).unwrap();
    let mut ears = Ears::default();
    done(run(&path, &options(&folder, "patience"), &mut ears));
    // The first measurement is the best of three; the next phase comes all the same.
    assert_eq!((ears.losses.len(), ears.step), (33, 303));
    assert!(ears.said.iter().any(|line| line.contains("no better measurement in 2")), "{:#?}", ears.said);
}

#[test]
fn the_best_of_a_training_teaches_as_its_file_does() {
    let folder = folder("best");
    let teacher = recipe(&folder, "teacher", LARGE, &format!("type = \"f32\"\n{LEARN}"), 30);
    done(run(&teacher, &options(&folder, "teacher"), &mut Ears::default()));
    let losses = ["teacher.gguf", "teacher-run/best.safetensors"].map(|file| {
        let rest = format!("[tokenizer]\nfile = \"teacher.gguf\"\n[teacher]\ncheckpoint = \"{file}\"");
        let student = recipe(&folder, "student", SMALL, &rest, 5);
        let mut ears = Ears::default();
        done(run(&student, &Options { fresh: true, ..options(&folder, "student") }, &mut ears));
        ears.losses
    });
    assert_eq!(losses[0].len(), 5);
    assert_eq!(losses[0], losses[1]);
}

/// A recipe for students of dialogues in which one says the other's words in German.
fn chat_recipe(folder: &Path, name: &str, layers: usize, rest: &str) -> PathBuf {
    let line = |(i, line): (usize, &str)| {
        let (source, target) = line.split_once('\t').unwrap();
        let turn = |role: &str, text: &str| format!("{{\"role\": \"{role}\", \"text\": \"{text}\"}}");
        let turns = [turn("user", &format!("{source} {i}")), turn("assistant", target)];
        format!("{{\"turns\": [{}]}}\n", turns.join(", "))
    };
    let dialogues: String = corpus().lines().take(200).enumerate().map(line).collect();
    fs::write(folder.join("toy.jsonl"), dialogues).unwrap();
    let text = format!(
        r#"
kind = "chat"
[student]
embedding = 32
layers = {layers}
heads = 2
kv_heads = 1
feed_forward = 48
[data]
files = ["toy.jsonl"]
test = 10
validation = 20
max_tokens = 128
[output]
file = "{name}.gguf"
type = "f32"
{rest}
"#
    );
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_chat_student_begins_with_some_of_the_layers_of_another() {
    let folder = folder("init");
    let train = |rate: &str| {
        format!("[train]\nsteps = 2\nbatch_tokens = 400\nlearning_rate = {rate}\neval_items = 4\nema = 0.0")
    };
    let learn = format!("[tokenizer]\ntrain = \"bpe\"\nsize = 400\n{}", train("1e-3"));
    let first = chat_recipe(&folder, "first", 3, &learn);
    let report = done(run(&first, &options(&folder, "first"), &mut Ears::default()));
    assert_eq!(report.score_name, "ROUGE-L");

    let take = |layers: &str| {
        // At such a rate nothing changes.
        let init = format!("[tokenizer]\nfile = \"first.gguf\"\n[init]\nfile = \"first.gguf\"\nlayers = {layers}\n");
        chat_recipe(&folder, "second", 2, &(init + &train("1e-300")))
    };
    done(run(&take("[0, 2]"), &options(&folder, "second"), &mut Ears::default()));
    let [first, second] = ["first.gguf", "second.gguf"].map(|name| Gguf::open(&folder.join(name)).unwrap());
    let mut compared = 0;
    for tensor in second.tensors() {
        let (name, source) = (&tensor.name, tensor.name.replace("blk.1.", "blk.2."));
        assert!(first.tensor(&source).unwrap().data() == second.tensor(name).unwrap().data(), "{name}");
        compared += 1;
    }
    assert!(compared > 10);
    assert_eq!(second.keys().str("pupil.score.on").unwrap(), "test");
    assert!((0.0..=100.0).contains(&second.keys().f32("pupil.score.rouge-l").unwrap()));

    let fresh = Options { fresh: true, ..options(&folder, "second") };
    let bad = Recipe::open(&take("[0]"), None).unwrap();
    let error = distill(&bad, &fresh, &mut Ears::default()).unwrap_err().to_string();
    assert!(error.contains("layers [0] of the 3 in") && error.contains("expected 2 of them"), "{error}");
}
