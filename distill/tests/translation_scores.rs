//! BLEU, chrF and chrF++ against sacrebleu.
//!
//! `tests/vectors/translation_scores.py` made the figures. With `SACREBLEU_CASES`, the path of more cases by the same
//! script, those are compared as well.

use pupil_distill::eval::translate::{Evaluation, Tokenize};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Case {
    pairs: Vec<(String, Vec<String>)>,
    bleu: BTreeMap<String, f64>,
    precisions: [f64; 4],
    brevity_penalty: f64,
    words: usize,
    reference_words: usize,
    chrf: f64,
    chrf_plus_plus: f64,
}

#[test]
fn scores_are_those_of_sacrebleu() {
    let mut cases: Vec<Case> = serde_json::from_str(include_str!("vectors/translation_scores.json")).unwrap();
    if let Ok(path) = std::env::var("SACREBLEU_CASES") {
        cases.extend(serde_json::from_str::<Vec<Case>>(&std::fs::read_to_string(path).unwrap()).unwrap());
    }
    println!("{} cases", cases.len());
    for case in cases {
        for (name, &expected) in &case.bleu {
            let mut evaluation = Evaluation::new(name.parse::<Tokenize>().unwrap());
            for (translation, references) in &case.pairs {
                let references: Vec<&str> = references.iter().map(String::as_str).collect();
                evaluation.add(translation, &references);
            }
            let scores = evaluation.finish();
            let near = |what: &str, a: f64, b: f64| {
                assert!((a - b).abs() < 1e-9, "{what} by {name} is {a}, sacrebleu's {b}: {:?}", case.pairs);
            };
            near("BLEU", scores.bleu.score, expected);
            near("chrF", scores.chrf, case.chrf);
            near("chrF++", scores.chrf_plus_plus, case.chrf_plus_plus);
            if name == "13a" {
                near("brevity penalty", scores.bleu.brevity_penalty, case.brevity_penalty);
                for (a, b) in scores.bleu.precisions.into_iter().zip(case.precisions) {
                    near("a precision", a, b);
                }
                let words = (scores.bleu.words, scores.bleu.reference_words);
                assert_eq!(words, (case.words, case.reference_words), "{:?}", case.pairs);
            }
        }
    }
}
