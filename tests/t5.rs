//! Encoder-decoders against Hugging Face transformers: states, logits, and what is found by greedy and beam search.
//!
//! `tests/vectors/t5.py` makes the models (random weights, real structure). With `--big DIR` it makes full-size ones;
//! `PUPIL_T5=DIR` runs those too.
//!
//! Of 50 inputs each to full-size ones, all ids of greedy and beam-4 search are equal; states and logits are within 9e-6 and
//! 1.1e-5 in 6+2 layers of 256, 2.1e-5 and 1.6e-4 in the shape of Flan-T5-small.

use pupil::gguf::Gguf;
use pupil::nets::encdec::{EarlyStop, EncDec, Request, Row, SearchOptions};
use pupil::nets::kv::CacheType;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Oracle {
    inputs: Vec<Vec<u32>>,
    limit: usize,
    states: Vec<f32>,
    forced: Vec<u32>,
    logits: Vec<f32>,
    searches: Vec<Search>,
}

#[derive(Deserialize)]
struct Search {
    options: serde_json::Value,
    found: Vec<Vec<u32>>,
    scores: Vec<f32>,
}

/// The token that ends a text.
const END: u32 = 1;

fn models() -> Vec<(PathBuf, EncDec, Oracle)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")];
    folders.extend(std::env::var_os("PUPIL_T5").map(PathBuf::from));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect();
    files.sort();
    let models: Vec<_> = files
        .into_iter()
        .filter(|path| Gguf::open(path).unwrap().keys().str("general.architecture").unwrap() == "t5")
        .map(|path| {
            let oracle = std::fs::read_to_string(path.with_extension("json")).unwrap();
            let net = EncDec::load(&Gguf::open(&path).unwrap()).unwrap();
            (path, net, serde_json::from_str(&oracle).unwrap())
        })
        .collect();
    assert!(models.len() >= 2, "the oracles are there");
    models
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn states_and_logits_are_those_of_transformers() {
    for (path, net, oracle) in models() {
        for (kind, threads) in [(CacheType::F32, 1), (CacheType::F32, 3)] {
            let mut session = net.session(kind, threads).unwrap();
            // The sentence in question is the second of three, so that places in the batch matter.
            let batch = [&oracle.inputs[1][..], &oracle.inputs[0], &oracle.inputs[2]];
            let states = net.encode(&mut session, &batch).unwrap();
            let width = net.config.embedding;
            let states = &states[batch[0].len() * width..][..batch[1].len() * width];
            let of_states = max_difference(states, &oracle.states);
            net.reserve(&mut session, 2, oracle.forced.len()).unwrap();
            let mut logits = Vec::new();
            for (position, &token) in oracle.forced.iter().enumerate() {
                let row = Row { token, sentence: 1, slot: 1 };
                logits.extend_from_slice(net.step(&mut session, &[row], position, None).unwrap());
            }
            let of_logits = max_difference(&logits, &oracle.logits);
            let name = path.file_stem().unwrap().display();
            println!("{name}: states differ by {of_states:e}, logits by {of_logits:e} on {threads} threads");
            assert!(of_states < 1e-3 && of_logits < 1e-3);
        }
    }
}

fn options(of: &serde_json::Value) -> SearchOptions {
    SearchOptions {
        beam: of["num_beams"].as_u64().unwrap() as usize,
        length_penalty: of["length_penalty"].as_f64().unwrap_or(1.0) as f32,
        early_stop: match &of["early_stopping"] {
            serde_json::Value::Bool(true) => EarlyStop::Always,
            serde_json::Value::String(never) if never == "never" => EarlyStop::Never,
            _ => EarlyStop::Likely,
        },
        no_repeat_ngram: of["no_repeat_ngram_size"].as_u64().unwrap_or(0) as usize,
        cut_repeats: false,
    }
}

#[test]
fn searches_find_what_generate_finds() {
    for (path, net, oracle) in models() {
        let requests: Vec<Request<'_>> =
            oracle.inputs.iter().map(|tokens| Request { tokens, limit: oracle.limit }).collect();
        for search in &oracle.searches {
            let options = options(&search.options);
            for batch in [1, 7] {
                let mut session = net.session(CacheType::F32, 1).unwrap();
                let found = requests
                    .chunks(batch)
                    .flat_map(|requests| net.search(&mut session, requests, END, None, &options).unwrap());
                let found: Vec<_> = found.collect();
                let mut equal = 0;
                for (i, (found, expected)) in found.iter().zip(&search.found).enumerate() {
                    let expected = expected.strip_suffix(&[END]).unwrap_or(expected);
                    equal += usize::from(found.tokens == expected);
                    if let Some(score) = search.scores.get(i) {
                        assert!((found.score - score).abs() < 1e-3, "{} instead of {score}", found.score);
                    }
                }
                let name = path.file_stem().unwrap().display();
                println!("{name}: {equal} of {} equal, batches of {batch}, {}", found.len(), search.options);
                assert_eq!(equal, found.len());
            }
        }
    }
}
