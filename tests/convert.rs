//! Hugging Face checkpoints, converted and run, against transformers, and folders that have something wrong with them.
//!
//! `tests/vectors/checkpoints.py` made the folders and says what `expected.json` holds.

#![cfg(feature = "convert")]

use pupil::convert::convert;
use pupil::gguf::Gguf;
use pupil::nets::decoder::{Decoder, Logits};
use pupil::nets::encdec::{EncDec, Finish, Found, Request, Row, SearchOptions};
use pupil::nets::kv::CacheType;
use pupil::quant::Mix;
use pupil::tensor::DType;
use pupil::text::{Specials, Tokenizer};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/checkpoints").join(name)
}

/// A place for the files of the test called `name`.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn converted(name: &str, mix: Mix) -> Gguf {
    let path = place(&format!("{name}-{mix}.gguf"));
    convert(&checkpoint(name), mix).unwrap().write_file(&path).unwrap();
    Gguf::open(&path).unwrap()
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(checkpoint(name).join("expected.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

const ALL: [&str; 5] = ["llama", "qwen2", "qwen3", "t5", "t5-gated"];
const TRANSLATORS: [&str; 2] = ["t5", "t5-gated"];

#[test]
fn decoders_give_the_logits_of_transformers() {
    for name in ["llama", "qwen2", "qwen3"] {
        let (file, expected) = (converted(name, Mix::F32), expected(name));
        let decoder = Decoder::load(&file).unwrap();
        let mut session = decoder.session(16, CacheType::F32, 1).unwrap();
        let logits = decoder.forward(&mut session, &ids(&expected["input"]), Logits::Last).unwrap();
        near(name, logits, &numbers(&expected["logits"]));
    }
}

/// The first token of an answer to the same input.
#[test]
fn translators_give_the_logits_of_transformers() {
    for name in TRANSLATORS {
        let (file, expected) = (converted(name, Mix::F32), expected(name));
        let net = EncDec::load(&file).unwrap();
        let mut session = net.session(CacheType::F32, 1).unwrap();
        net.encode(&mut session, &[&ids(&expected["input"])]).unwrap();
        net.reserve(&mut session, 1, 1).unwrap();
        let logits = net.step(&mut session, &[Row { token: 0, sentence: 0, slot: 0 }], 0, None).unwrap();
        near(name, logits, &numbers(&expected["logits"]));
    }
}

/// llama.cpp read what we made of the folder, transformers the folder.
#[test]
fn translators_answer_as_in_llama_cpp_and_transformers() {
    let options = SearchOptions { cut_repeats: false, ..SearchOptions::default() };
    for name in TRANSLATORS {
        let greedy = &expected(name)["greedy"];
        let lists = |value: &Value| -> Vec<Vec<u32>> { value.as_array().unwrap().iter().map(ids).collect() };
        let (inputs, limit) = (lists(&greedy["inputs"]), greedy["limit"].as_u64().unwrap() as usize);
        for mix in [Mix::F32, Mix::F16] {
            let file = converted(name, mix);
            let end = Tokenizer::from_gguf(&file).unwrap().eos().unwrap();
            let net = EncDec::load(&file).unwrap();
            let mut session = net.session(CacheType::F32, 1).unwrap();
            let requests: Vec<_> = inputs.iter().map(|tokens| Request { tokens, limit }).collect();
            let found = net.search(&mut session, &requests, end, None, &options).unwrap();
            let ended = |found: &Found| (found.finish == Finish::End).then_some(end);
            let whole = |found: &Found| found.tokens.iter().copied().chain(ended(found)).collect();
            let ours: Vec<Vec<u32>> = found.iter().map(whole).collect();
            assert_eq!(ours, lists(&greedy["llama_cpp"][mix.to_string()]), "{name}, {mix}: llama.cpp");
            assert_eq!(ours, lists(&greedy["transformers"]), "{name}, {mix}: transformers");
        }
    }
}

fn near(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: {worst:e}");
    assert!(worst < 1e-3, "{name}: {worst}");
}

#[test]
fn tensors_have_the_names_of_llama_cpp() {
    for name in ALL {
        let file = converted(name, Mix::F32);
        let mut names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        // Llama 3's divisors come from the configuration.
        names.retain(|name| *name != "rope_freqs.weight");
        names.sort_unstable();
        let expected = expected(name);
        let theirs: Vec<_> = expected["tensors"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        assert_eq!(names, theirs, "{name}");
        assert_eq!(file.alignment(), 64);
    }
}

#[test]
fn texts_become_the_ids_of_the_checkpoints_tokenizer() {
    for name in ALL {
        let (file, expected) = (converted(name, Mix::Q8_0), expected(name));
        let tokenizer = Tokenizer::from_gguf(&file).unwrap();
        for (text, theirs) in expected["texts"].as_array().unwrap().iter().zip(expected["ids"].as_array().unwrap()) {
            let text = text.as_str().unwrap();
            assert_eq!(tokenizer.encode(text, Specials::ADD).unwrap(), ids(theirs), "{name}: {text:?}");
        }
    }
}

#[test]
fn keys_of_a_chat() {
    let llama = converted("llama", Mix::F16);
    let keys = llama.keys();
    assert_eq!(keys.str("general.architecture").unwrap(), "llama");
    assert_eq!(keys.str("tokenizer.ggml.pre").unwrap(), "llama-bpe");
    assert_eq!(keys.str("tokenizer.chat_template").unwrap(), "{{ messages }}");
    assert!(keys.bool("tokenizer.ggml.add_bos_token").unwrap() && !keys.bool("tokenizer.ggml.add_eos_token").unwrap());
    let tokenizer = Tokenizer::from_gguf(&llama).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (tokenizer.id("<s>"), tokenizer.id("</s>")));
    assert!(tokenizer.is_control(tokenizer.id("<|im_end|>").unwrap()));
    let qwen2 = converted("qwen2", Mix::F16);
    assert_eq!(qwen2.keys().str("tokenizer.chat_template").unwrap(), "yes");
    assert_eq!(qwen2.keys().str("tokenizer.ggml.pre").unwrap(), "qwen2");
    assert_eq!(converted("qwen3", Mix::F16).keys().str("tokenizer.ggml.pre").unwrap(), "smollm");
}

#[test]
fn keys_of_a_t5() {
    let file = converted("t5", Mix::Q8_0);
    let keys = file.keys();
    for (key, value) in [
        ("block_count", 2),
        ("decoder_block_count", 1),
        ("attention.key_length", 6),
        ("attention.relative_buckets_count", 32),
        ("decoder_start_token_id", 0),
    ] {
        assert_eq!(keys.u32(&format!("t5.{key}")).unwrap(), value, "{key}");
    }
    assert_eq!(keys.str("tokenizer.ggml.model").unwrap(), "t5");
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    assert_eq!(tokenizer.len(), 64);
    assert_eq!((tokenizer.pad(), tokenizer.eos(), tokenizer.unknown()), (Some(0), Some(1), Some(2)));
    assert!(tokenizer.is_control(tokenizer.id("<extra_id_0>").unwrap()));
    // Tied embeddings with T5's factor need no matrix of their own.
    assert!(file.find_tensor("output.weight").is_none());
    let gated = converted("t5-gated", Mix::Q8_0);
    assert!(["output.weight", "enc.blk.0.ffn_gate.weight"].iter().all(|name| gated.find_tensor(name).is_some()));
}

#[test]
fn rows_that_are_no_blocks_fall_back_and_that_is_told() {
    let converted = convert(&checkpoint("qwen2"), Mix::Q4KM).unwrap();
    let (name, why) = &converted.fallbacks[0];
    assert_eq!((name.as_str(), why.as_str()), ("token_embd.weight", "f16, as rows of 16 are no whole blocks of q6_k"));
    assert!(converted.types().iter().all(|(dtype, ..)| matches!(dtype, DType::F16 | DType::F32)));
    assert!(convert(&checkpoint("qwen2"), Mix::F16).unwrap().fallbacks.is_empty());
}

/// A copy of a checkpoint, for a test to break.
fn copy(of: &str, test: &str) -> PathBuf {
    let folder = place(&format!("broken-{test}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(checkpoint(of)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Replaces text in a file of the folder.
fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has {from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn refused(folder: &Path, expected: &str) {
    let error = convert(folder, Mix::Q8_0).err().unwrap_or_else(|| panic!("not refused: {expected}")).to_string();
    assert!(error.contains(expected) && !error.contains('\n'), "{error}\nexpected {expected}");
    assert!(error.contains(&folder.display().to_string()), "{error}");
}

#[test]
fn settings_that_gguf_cannot_express_are_refused() {
    for (of, file, from, to, expected) in [
        (
            "qwen2",
            "config.json",
            "Qwen2ForCausalLM",
            "GPTNeoX",
            "`architectures` is 'GPTNeoX', expected LlamaForCausalLM",
        ),
        ("qwen2", "config.json", "\"silu\"", "\"gelu\"", "`hidden_act` is \"gelu\", expected silu"),
        (
            "qwen2",
            "config.json",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "`model.layers.2.self_attn.q_proj.weight` is missing",
        ),
        (
            "qwen2",
            "config.json",
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "is none of this architecture's",
        ),
        ("qwen2", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": -2", "expected a whole number"),
        ("qwen2", "config.json", "\"hidden_size\": 16", "\"hidden_size\": 32", "is [288, 16], expected [288, 32]"),
        ("qwen2", "config.json", "\"hidden_size\": 16", "\"x\": 16", "no `hidden_size`, expected a whole number"),
        ("qwen2", "config.json", "{", "{\"quantization_config\": {},", "`quantization_config` is {}, expected none"),
        ("qwen2", "config.json", "{", "[", "no JSON object"),
        (
            "qwen2",
            "config.json",
            "\"tie_word_embeddings\": true",
            "\"tie_word_embeddings\": false",
            "`lm_head.weight` is missing",
        ),
        ("llama", "config.json", "\"llama3\"", "\"longrope\"", "`rope_type` is 'longrope', expected default, linear"),
        (
            "t5",
            "config.json",
            "proj\": \"relu\"",
            "proj\": \"gated-silu\"",
            "`feed_forward_proj` is 'gated-silu', expected relu or",
        ),
        ("t5", "config.json", "max_distance\": 128", "max_distance\": 64", "max_distance` is 64, expected 128"),
        (
            "qwen2",
            "tokenizer.json",
            "ByteLevel",
            "Punctuation",
            "splits texts by Split, Punctuation, expected as GPT-2",
        ),
        ("qwen2", "tokenizer.json", "\"BPE\"", "\"WordPiece\"", "is neither BPE nor unigram"),
        ("qwen2", "tokenizer.json", "\"NFC\"", "\"Lowercase\"", "normalises by Lowercase, expected NFC"),
        ("qwen2", "tokenizer.json", "\"model\"", "\"muddle\"", "no tokenizer: missing field `model`"),
        (
            "qwen3",
            "model.safetensors.index.json",
            "\"model-00001-of-00003.safetensors\"",
            "\"../../secret\"",
            "names \"../../secret\", expected a file of the folder",
        ),
    ] {
        let folder = copy(of, "settings");
        edit(&folder, file, from, to);
        refused(&folder, expected);
    }
}

#[test]
fn files_that_are_missing_or_damaged_are_refused() {
    for (of, file, expected) in [
        ("qwen2", "config.json", "No such file"),
        ("qwen2", "model.safetensors", "no model.safetensors, nor model.safetensors.index.json"),
        ("qwen2", "tokenizer.json", "no tokenizer.json, tokenizer.model or spiece.model"),
        ("qwen3", "model-00002-of-00003.safetensors", "No such file"),
    ] {
        let folder = copy(of, "missing");
        fs::remove_file(folder.join(file)).unwrap();
        refused(&folder, expected);
    }
    for (file, bytes, expected) in [
        ("model.safetensors", &b""[..], "the file is empty"),
        ("model.safetensors", b"not tensors", "no safetensors file"),
        ("model.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff{}", "no safetensors file"),
        ("tokenizer.json", b"\xff", "is no UTF-8"),
    ] {
        let folder = copy("qwen2", "damaged");
        fs::write(folder.join(file), bytes).unwrap();
        refused(&folder, expected);
    }
    let folder = copy("t5", "damaged");
    fs::write(folder.join("spiece.model"), b"\x0a\x05abc").unwrap();
    refused(&folder, "expected a SentencePiece model");
}

#[test]
fn weights_that_a_type_cannot_hold_are_refused_and_leave_no_file() {
    let folder = copy("qwen2", "nan");
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path, bytes).unwrap();
    let out = folder.join("nan.gguf");
    let before = fs::read_dir(&folder).unwrap().count();
    let error = convert(&folder, Mix::F32).unwrap().write_file(&out).unwrap_err().to_string();
    assert!(error.contains("tensor `") && error.contains("is NaN, expected a finite number"), "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), before);
}

#[test]
fn half_a_safetensors_file_is_refused_wherever_it_ends() {
    let folder = copy("qwen3", "cut");
    let path = folder.join("model-00003-of-00003.safetensors");
    let bytes = fs::read(&path).unwrap();
    for len in (1..bytes.len()).step_by(97) {
        fs::write(&path, &bytes[..len]).unwrap();
        refused(&folder, "no safetensors file");
    }
}
