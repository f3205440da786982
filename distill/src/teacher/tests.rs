//! Teachers against oracles and against each other.

use super::{Kept, Runtime, Teacher, Twin, is_padding, same_vocabulary};
use crate::{
    batch::{Batch, IGNORE, Tokens},
    data::text::examples::Example,
    error::Result,
    labels::{
        record::Layout,
        soft::{Settings, write},
        store::Labels,
        vocabulary_hash,
    },
    loss::Soft,
    student::{Student, Types},
};
use candle_core::{Device, Tensor, Var};
use pupil::{
    gguf::{Gguf, OwnedValue, Writer},
    nets::{
        decoder::{Decoder, Logits},
        kv::CacheType,
    },
    text::Tokenizer,
};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name)
}

fn place(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pupil-teachers-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn dense(soft: Soft) -> Vec<Vec<f32>> {
    let Soft::Dense(logits) = soft else { panic!("expected logits") };
    logits.to_vec2().unwrap()
}

#[test]
fn a_decoder_gives_the_logits_of_positions_that_count() {
    let path = vector("llama.gguf");
    let net = Decoder::load(&Gguf::open(&path).unwrap()).unwrap();
    let alone = |tokens: &[u32]| -> Vec<Vec<f32>> {
        let mut session = net.session(16, CacheType::F32, 1).unwrap();
        let logits = net.forward(&mut session, tokens, Logits::All).unwrap();
        logits.chunks(net.config.vocab).map(<[f32]>::to_vec).collect()
    };
    let input = Tokens::new(&[&[5, 6, 7, 8][..], &[9], &[10, 11]], 3);
    let batch = Batch { source: None, input, labels: vec![1, IGNORE, 2, IGNORE, 3, 0, 0, 0, IGNORE, 4, 0, 0] };
    // What stands in the padding does not count, as its labels say in real batches.
    let batch = Batch { labels: batch.labels.iter().map(|&l| if l == 0 { IGNORE } else { l }).collect(), ..batch };
    let mut teacher = Runtime::open(&path, 2).unwrap();
    assert!(!teacher.translates());
    let found = dense(teacher.expect(&batch).unwrap());
    let (first, second, third) = (alone(&[5, 6, 7, 8]), alone(&[9]), alone(&[10, 11]));
    let expected = [&first[0], &first[2], &second[0], &third[1]];
    assert_eq!(found.len(), 4);
    for (found, expected) in found.iter().zip(expected) {
        found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
    }
    let pair = Batch { source: Some(Tokens::new(&[&[1], &[1], &[1]], 0)), ..batch };
    assert!(teacher.expect(&pair).unwrap_err().to_string().contains("a decoder-only teacher"));
}

#[derive(Deserialize)]
struct Oracle {
    inputs: Vec<Vec<u32>>,
    forced: Vec<u32>,
    logits: Vec<f32>,
}

#[test]
fn an_encoder_decoder_gives_transformers_logits() {
    for name in ["t5-relu", "t5-gelu"] {
        let Ok(json) = fs::read_to_string(vector(&format!("{name}.json"))) else { continue };
        let oracle: Oracle = serde_json::from_str(&json).unwrap();
        let mut teacher = Runtime::open(&vector(&format!("{name}.gguf")), 1).unwrap();
        assert!(teacher.translates());
        // The row in question stands between others that are shorter.
        let source = Tokens::new(&[&oracle.inputs[1][..], &oracle.inputs[0], &oracle.inputs[2]], 0);
        let input = Tokens::new(&[&[0, 5][..], &oracle.forced, &[0]], 0);
        let mut labels = vec![IGNORE; 3 * oracle.forced.len()];
        labels[1] = 7;
        labels[oracle.forced.len()..2 * oracle.forced.len()].fill(9);
        let batch = Batch { source: Some(source), input, labels };
        let found = dense(teacher.expect(&batch).unwrap());
        assert_eq!(found.len(), 1 + oracle.forced.len());
        let vocab = oracle.logits.len() / oracle.forced.len();
        for (found, expected) in found[1..].iter().zip(oracle.logits.chunks(vocab)) {
            found.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-3, "{a} {b}"));
        }
        let without = Batch { source: None, ..batch };
        assert!(teacher.expect(&without).unwrap_err().to_string().contains("an encoder-decoder teacher"));
    }
}

/// A student whose hidden state is a row of a table.
struct Table(BTreeMap<String, Var>);

impl Student for Table {
    fn variables(&self) -> &BTreeMap<String, Var> {
        &self.0
    }

    fn hidden(&self, batch: &Batch, _: Option<(f32, &mut ChaCha8Rng)>) -> Result<Tensor> {
        let ids: Vec<u32> = batch.valid().iter().map(|&position| batch.input.ids[position as usize]).collect();
        Ok(self.0["table"].index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?)
    }

    fn output(&self) -> Result<(Tensor, f64)> {
        Ok((self.0["table"].as_tensor().clone(), 0.5))
    }

    fn store_as(&mut self, _: Option<Types>) {}

    fn keys(&self) -> Vec<(&'static str, OwnedValue)> {
        Vec::new()
    }
}

#[test]
fn a_twin_teaches_without_learning() {
    let table = Var::from_tensor(&Tensor::rand(-1.0_f32, 1.0, (6, 3), &Device::Cpu).unwrap()).unwrap();
    let student = Table(BTreeMap::from([("table".to_string(), table)]));
    let batch = Batch { source: None, input: Tokens::new(&[&[1, 2, 3]], 0), labels: vec![2, IGNORE, 4] };
    let mut twin = Twin { student: &student, vocab: 5 };
    let Soft::Hidden { hidden, weight, scale } = twin.expect(&batch).unwrap() else { panic!() };
    assert_eq!((hidden.dims(), weight.dims(), scale), (&[2, 3][..], &[5, 3][..], 0.5));
    assert!(!hidden.track_op() && !weight.track_op() && !weight.is_variable());
}

fn examples() -> Vec<Example> {
    (1..40_u32)
        .map(|i| {
            let input: Vec<u32> = (0..1 + i % 7).map(|j| (i * 13 + j * 5) % 60 + 4).collect();
            let mut labels: Vec<u32> = input[1..].iter().copied().chain([2]).collect();
            labels[0] = if i % 3 == 0 { IGNORE } else { labels[0] };
            Example { source: vec![], input, labels }
        })
        .collect()
}

fn settings(vocab: usize, shard: [usize; 2]) -> Settings {
    let layout = Layout { vocab, k: 4, samples: 3 };
    Settings { teacher: "llama.gguf".into(), layout, temperature: 2.0, seed: 1, shard }
}

#[test]
fn a_store_says_what_its_teacher_said_wherever_runs_stopped() {
    let mut teacher = Runtime::open(&vector("llama.gguf"), 1).unwrap();
    let (examples, vocab) = (examples(), teacher.vocab());
    let path = place("whole");
    let _ = fs::remove_file(&path);
    let go = &mut |_, _| ControlFlow::Continue(());
    assert!(write(&mut teacher, &examples, 3, settings(vocab, [1, 1]), &path, go).unwrap());
    let bytes = fs::read(&path).unwrap();

    // Stopped again and again, and in shards.
    let stopped = place("stopped");
    let _ = fs::remove_file(&stopped);
    let mut runs = 0_u32;
    loop {
        let mut calls = 0;
        let mut each = |_, _| {
            calls += 1;
            if calls > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        runs += 1;
        if write(&mut teacher, &examples, 3, settings(vocab, [1, 1]), &stopped, &mut each).unwrap() {
            break;
        }
        // Every other run also loses the end of its last row, which the next one writes again.
        if runs % 2 == 1 {
            let len = fs::metadata(&stopped).unwrap().len();
            fs::File::options().write(true).open(&stopped).unwrap().set_len(len - 3).unwrap();
        }
    }
    assert!(runs > 2 && fs::read(&stopped).unwrap() == bytes);
    let shards = [1, 2, 3].map(|shard| place(&format!("part-{shard}")));
    for (i, shard) in shards.iter().enumerate() {
        let _ = fs::remove_file(shard);
        assert!(write(&mut teacher, &examples, 3, settings(vocab, [i + 1, 3]), shard, go).unwrap());
    }
    crate::labels::write::merge(&shards, &stopped).unwrap();
    assert!(fs::read(&stopped).unwrap() == bytes);

    // And read as a teacher.
    let hash = vocabulary_hash(teacher.tokenizer());
    assert!(Kept::new(Labels::open(&path).unwrap(), hash, 1.0).is_err());
    let mut kept = Kept::new(Labels::open(&path).unwrap(), hash, 2.0).unwrap();
    let batch = Batch::of(&[&examples[20], &examples[3], &examples[11]], 3);
    let Soft::Sparse(sparse) = kept.expect(&batch).unwrap() else { panic!() };
    let logits = dense(teacher.expect(&batch).unwrap());
    assert_eq!((sparse.k, sparse.ids.len()), (7, 7 * logits.len()));
    for ((ids, probabilities), logits) in sparse.ids.chunks(7).zip(sparse.probabilities.chunks(7)).zip(&logits) {
        let sum: f64 = logits.iter().map(|&z| (f64::from(z) / 2.0).exp()).sum();
        for (&id, &p) in ids.iter().zip(probabilities).take(4) {
            let exact = (f64::from(logits[id as usize]) / 2.0).exp() / sum;
            assert!((f64::from(p) - exact).abs() < 5e-3 * exact, "{p} {exact}");
        }
    }
}

fn tokenizer(tokens: &[&str]) -> Tokenizer {
    let mut writer = Writer::new();
    writer
        .key("general.architecture", "llama")
        .key("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.tokens", OwnedValue::strings(tokens))
        .key("tokenizer.ggml.scores", vec![0.0_f32; tokens.len()]);
    let path = place(&format!("{}.gguf", tokens.concat().replace(['<', '>', '[', ']', '/'], "-")));
    writer.write_file(&path).unwrap();
    Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
}

#[test]
fn vocabularies_are_compared_token_by_token() {
    let student = tokenizer(&["<unk>", "a", "b"]);
    let refused = |tokens: &[&str]| same_vocabulary(&tokenizer(tokens), &student).unwrap_err().to_string();
    assert!(same_vocabulary(&student, &student).is_ok());
    assert!(same_vocabulary(&tokenizer(&["<unk>", "a", "b", "[PAD3]", "<unused_1>"]), &student).is_ok());
    assert!(
        refused(&["<unk>", "b", "a"])
            .contains("token 1 is \"b\", the student's is \"a\": different vocabularies; pupil label answers")
    );
    assert!(refused(&["<unk>", "a"]).contains("2 tokens, the student has 3"));
    assert!(refused(&["<unk>", "a", "b", "c"]).contains("token 3 is \"c\", the student has none"));
    assert!(is_padding("<|reserved_special_token_5|>") && is_padding("") && !is_padding("padding"));
}
