//! Logits of whole models against those that Hugging Face transformers computed.
//!
//! `tests/vectors/logits.py` makes the models (random weights, real structure) and says how the figures are stored.

use pupil::gguf::Gguf;
use pupil::nets::decoder::{Decoder, Logits};
use pupil::nets::kv::CacheType;
use std::path::Path;

/// A `.logits` file: token ids and `[ids][vocab]` logits.
fn expected(path: &Path) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let words: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
    let n = u32::from_le_bytes(words[0]) as usize;
    let ids = words[2..2 + n].iter().map(|w| u32::from_le_bytes(*w)).collect();
    (ids, words[2 + n..].iter().map(|w| f32::from_le_bytes(*w)).collect())
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn f32_models_give_the_logits_of_transformers() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut names: Vec<_> = std::fs::read_dir(&vectors)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "logits"))
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the oracles are there");
    for path in names {
        let file = Gguf::open(&path.with_extension("gguf")).unwrap();
        let decoder = Decoder::load(&file).unwrap();
        let (ids, logits) = expected(&path);
        for threads in [1, 3] {
            // All at once (panels), and one by one (dot products).
            let mut session = decoder.session(64, CacheType::F32, threads).unwrap();
            let batch = decoder.forward(&mut session, &ids, Logits::All).unwrap().to_vec();
            let mut session = decoder.session(64, CacheType::F32, threads).unwrap();
            let single: Vec<f32> = ids
                .iter()
                .flat_map(|id| decoder.forward(&mut session, &[*id], Logits::Last).unwrap().to_vec())
                .collect();
            let worst = max_difference(&batch, &logits).max(max_difference(&single, &logits));
            println!("{}: {worst:e} on {threads} threads", path.file_stem().unwrap().display());
            assert!(worst < 1e-3);
        }
    }
}
