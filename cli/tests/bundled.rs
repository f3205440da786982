//! The students in the program answer as they did when they were put there.

#![cfg(feature = "bundled")]

mod common;

use common::good;
use std::{fs, path::Path};

/// What a student made of what: lines with a tab between both.
fn golden(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
    let text = fs::read_to_string(path).unwrap();
    let pairs: Vec<_> = text.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert!(pairs.len() >= 20, "{name} has {} lines", pairs.len());
    pairs.into_iter().map(|(said, answer)| (said.into(), answer.into())).collect()
}

#[test]
fn the_translator_translates_as_it_did() {
    for (sentence, translation) in golden("en-de.golden.tsv") {
        assert_eq!(good(&["translate", &sentence]).trim_end(), translation, "{sentence}");
    }
}

#[test]
fn the_chat_student_answers_as_it_did() {
    for (opening, answer) in golden("chat.golden.tsv") {
        assert_eq!(good(&["chat", "--temp", "0", "--max-tokens", "60", &opening]).trim_end(), answer, "{opening}");
    }
}
