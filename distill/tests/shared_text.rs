//! Real text: what is read, how it is split, and the vocabularies that are learned from it. Skipped without ../shared.
#![cfg(feature = "train")]

use pupil::text::Specials;
use pupil_distill::{
    data::text::{
        Corpus, Item, Kind,
        split::{HeldOut, Parts, hash},
    },
    tokenizer::Vocabulary,
};
use std::{collections::HashSet, path::PathBuf};

fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}

/// The share of texts of which every character survives; fails if any text changes otherwise.
fn round_trips(vocabulary: &Vocabulary, texts: &[String]) -> f64 {
    let tokenizer = vocabulary.tokenizer();
    let mut whole = 0;
    for text in texts {
        let ids = tokenizer.encode(text, Specials::NONE).unwrap();
        if tokenizer.unknown().is_some_and(|unknown| ids.contains(&unknown)) {
            continue;
        }
        assert_eq!(tokenizer.decode(&ids), *text);
        whole += 1;
    }
    f64::from(whole) / texts.len() as f64
}

#[test]
fn tatoeba() {
    let Some(path) = shared("translate/tatoeba_de/deu.tsv") else { return };
    let corpus = Corpus::read(&[path], Kind::Translate).unwrap();
    assert!(corpus.items.len() > 160_000 && corpus.bad.count < 10, "{}", corpus.bad.summary("lines"));
    let all = corpus.items.len();
    let parts = Parts::new(corpus.items, HeldOut { test: 2000, validation: 1000 });
    let sources = |items: &[Item]| items.iter().map(|item| hash(item.source())).collect::<HashSet<u64>>();
    let held_out = sources(&parts.test);
    assert_eq!((held_out.len(), sources(&parts.validation).len()), (2000, 1000));
    assert_eq!(parts.train.len() + parts.validation.len() + parts.test.len(), all);
    assert!(parts.train.iter().all(|item| !held_out.contains(&hash(item.source()))));

    let texts = |items: &[Item]| -> Vec<String> {
        let both = |item: &Item| match item {
            Item::Pair { source, target } => vec![source.clone(), target.clone()],
            _ => unreachable!("pairs were read"),
        };
        items.iter().flat_map(both).collect()
    };
    let train = texts(&parts.train[..20_000]);
    let vocabulary = Vocabulary::unigram(train.iter().map(String::as_str), 4000).unwrap();
    assert_eq!(vocabulary.tokenizer().len(), 4000);
    let whole = round_trips(&vocabulary, &texts(&parts.test));
    assert!(whole > 0.99, "{whole}");
    if let Some(save) = std::env::var_os("PUPIL_SAVE_VOCABULARY") {
        vocabulary.save(&PathBuf::from(save).join("unigram.gguf")).unwrap();
    }
}

#[test]
fn dialogues() {
    let Some(path) = shared("chat/dolly_subset/train.jsonl") else { return };
    let corpus = Corpus::read(&[path], Kind::Chat).unwrap();
    assert!(corpus.items.len() > 8000 && corpus.bad.count < 10, "{}", corpus.bad.summary("lines"));
    let texts: Vec<String> = corpus
        .items
        .iter()
        .flat_map(|item| match item {
            Item::Dialogue(turns) => turns.iter().map(|turn| turn.text.clone()).collect(),
            _ => vec![],
        })
        .collect();
    let vocabulary = Vocabulary::bpe(texts.iter().map(String::as_str), 4000).unwrap();
    assert_eq!(vocabulary.tokenizer().len(), 4000);
    assert_eq!(round_trips(&vocabulary, &texts), 1.0);
    if let Some(save) = std::env::var_os("PUPIL_SAVE_VOCABULARY") {
        vocabulary.save(&PathBuf::from(save).join("bpe.gguf")).unwrap();
    }
}
