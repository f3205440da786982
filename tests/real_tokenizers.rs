//! Real vocabularies against the ids that llama.cpp's own tests expect, and T5's against those of its authors' tools. The files are not part of the repository: they
//! are read from `../shared/tokenizers`, and what is not there is skipped.

use pupil::{
    bytes::Bytes,
    gguf::{Gguf, OwnedValue, Writer},
    text::{Specials, Tokenizer},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use vectors::base64;

#[path = "vectors/base64.rs"]
mod vectors;

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tokenizers").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} not found", path.display());
    None
}

/// Texts and their ids.
fn cases(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let texts = fs::read_to_string(shared(&format!("llama.cpp-vocab/ggml-vocab-{name}.gguf.inp"))?).unwrap();
    let ids = fs::read_to_string(shared(&format!("llama.cpp-vocab/ggml-vocab-{name}.gguf.out"))?).unwrap();
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.split('\n').collect();
    let ids = &ids[..texts.len().min(ids.len())];
    assert_eq!(texts.len(), ids.len(), "{name}");
    let parse = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    Some(texts.into_iter().map(str::to_string).zip(ids.iter().map(|line| parse(line))).collect())
}

fn check(name: &str, tokenizer: &Tokenizer) {
    let Some(cases) = cases(name) else { return };
    for (text, expected) in &cases {
        let ids = tokenizer.encode(text, Specials::NONE).unwrap();
        assert_eq!(&ids, expected, "{name}: {text:?}");
        assert_eq!(&tokenizer.decode(&ids), text, "{name}");
    }
    println!("{name}: {} cases equal", cases.len());
}

fn check_file(name: &str) {
    let Some(path) = shared(&format!("llama.cpp-vocab/ggml-vocab-{name}.gguf")) else { return };
    check(name, &Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap());
}

/// A GGUF in memory with the vocabulary and merges of Qwen 2.5.
fn qwen2() -> Option<Gguf> {
    let dir = shared("qwen2.5")?;
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let entries = |name: &str| -> Vec<(String, u64)> {
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&read(name)).unwrap();
        json.into_iter().map(|(token, id)| (token, id.as_u64().unwrap())).collect()
    };
    let mut tokens: Vec<String> = (0..151_936).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![5i32; tokens.len()];
    for (kind, file) in [(1, "vocab.json"), (3, "added_tokens.json")] {
        for (token, id) in entries(file) {
            tokens[id as usize] = token;
            kinds[id as usize] = kind;
        }
    }
    let merges = read("merges.txt");
    let merges: Vec<&str> = merges.lines().filter(|line| !line.starts_with("#version")).collect();
    let mut file = Vec::new();
    let mut writer = Writer::new();
    writer.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", "qwen2");
    writer.key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
    writer.key("tokenizer.ggml.token_type", &kinds[..]);
    writer.key("tokenizer.ggml.merges", OwnedValue::strings(&merges));
    writer.key("tokenizer.ggml.eos_token_id", 151_645u32);
    writer.write(&mut file).unwrap();
    Some(Gguf::from_bytes(Bytes::from(&file[..]), "qwen2").unwrap())
}

#[test]
fn gpt2() {
    check_file("gpt-2");
}

#[test]
fn llama2() {
    check_file("llama-spm");
}

#[test]
fn phi3() {
    check_file("phi-3");
}

#[test]
fn starcoder() {
    check_file("starcoder");
}

#[test]
fn qwen2_5() {
    let Some(file) = qwen2() else { return };
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    check("qwen2", &tokenizer);
    let prompt = "<|im_start|>user\nHi<|im_end|>\n";
    let ids = tokenizer.encode(prompt, Specials::PARSE).unwrap();
    assert_eq!(ids, [151_644, 872, 198, 13048, 151_645, 198]);
    assert!(tokenizer.is_end(151_645) && tokenizer.is_end(151_643) && !tokenizer.is_end(872));
}

/// A GGUF in memory with the unigram vocabulary of T5, from its JSON.
fn t5() -> Option<Gguf> {
    let json = fs::read_to_string(shared("t5/tokenizer.nopad.json")?).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let entries: Vec<(String, f32)> = serde_json::from_value(json["model"]["vocab"].clone()).unwrap();
    let (tokens, scores): (Vec<String>, Vec<f32>) = entries.into_iter().unzip();
    let mut kinds = vec![1i32; tokens.len()];
    for added in json["added_tokens"].as_array().unwrap() {
        kinds[added["id"].as_u64().unwrap() as usize] = 3;
    }
    kinds[2] = 2;
    let mut file = Vec::new();
    let mut writer = Writer::new();
    writer.key("tokenizer.ggml.model", "t5").key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
    writer.key("tokenizer.ggml.scores", &scores[..]).key("tokenizer.ggml.token_type", &kinds[..]);
    let charsmap = base64(json["normalizer"]["precompiled_charsmap"].as_str().unwrap());
    writer.key("tokenizer.ggml.precompiled_charsmap", &charsmap[..]);
    writer.write(&mut file).unwrap();
    Some(Gguf::from_bytes(Bytes::from(&file[..]), "t5").unwrap())
}

#[test]
fn t5_gives_the_published_ids() {
    let (Some(file), Some(expected)) = (t5(), shared("hf-swift-expected/t5_base_encoded.json")) else { return };
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&fs::read_to_string(expected).unwrap()).unwrap();
    let ids: Vec<u32> = serde_json::from_value(expected["token_ids"].clone()).unwrap();
    assert_eq!(tokenizer.encode(expected["text"].as_str().unwrap(), Specials::ADD).unwrap(), ids);
    let prompt = tokenizer.encode("translate English to German: Hello.</s>", Specials::PARSE).unwrap();
    assert_eq!(prompt, [13959, 1566, 12, 2968, 10, 8774, 5, 1]);
    assert_eq!(tokenizer.decode(&prompt), "translate English to German: Hello.");
}

#[cfg(feature = "hf-tokenizer")]
#[test]
fn the_json_of_t5_gives_the_same_ids() {
    let (Some(file), Some(json)) = (t5(), shared("t5/tokenizer.json")) else { return };
    let mut bytes = Vec::new();
    let json = fs::read_to_string(json).unwrap();
    Writer::new().key("tokenizer.huggingface.json", json.as_str()).write(&mut bytes).unwrap();
    let json = Tokenizer::from_gguf(&Gguf::from_bytes(Bytes::from(&bytes[..]), "t5").unwrap()).unwrap();
    let own = Tokenizer::from_gguf(&file).unwrap();
    let Some(cases) = cases("llama-spm") else { return };
    for (text, _) in &cases {
        let ids = own.encode(text, Specials::ADD).unwrap();
        assert_eq!(ids, json.encode(text, Specials::ADD).unwrap(), "{text:?}");
        assert_eq!(own.decode(&ids), json.decode(&ids), "{text:?}");
    }
    println!("t5: {} cases equal", cases.len());
}

/// Llama 3's vocabulary is too large to be at hand; only its expected ids are.
#[test]
fn llama3() {
    if shared("llama.cpp-vocab/ggml-vocab-llama-bpe.gguf").is_some() {
        check_file("llama-bpe");
    }
}

#[cfg(feature = "hf-tokenizer")]
#[test]
fn the_json_of_gpt2_gives_the_same_ids() {
    let Some(path) = shared("gpt2/tokenizer.json") else { return };
    let mut file = Vec::new();
    let json = fs::read_to_string(path).unwrap();
    Writer::new().key("tokenizer.huggingface.json", json.as_str()).write(&mut file).unwrap();
    let start = std::time::Instant::now();
    let file = Gguf::from_bytes(Bytes::from(&file[..]), "gpt2").unwrap();
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    println!("gpt2's tokenizer.json: opened in {:?}", start.elapsed());
    check("gpt-2", &tokenizer);
    assert!(tokenizer.is_end(50256) && tokenizer.is_control(50256));
    assert_eq!(tokenizer.encode("<|endoftext|>", Specials::PARSE).unwrap(), [50256]);
    assert!(tokenizer.encode("<|endoftext|>", Specials::NONE).unwrap().len() > 1);
}

/// Times, for `cargo test --release --test real_tokenizers timings -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn timings() {
    let best = |what: &str, run: &mut dyn FnMut()| {
        let times = (0..20).map(|_| {
            let start = std::time::Instant::now();
            run();
            start.elapsed()
        });
        println!("{what}: {:?}", times.min().unwrap());
    };
    if let Some(file) = qwen2() {
        best("qwen2 opened", &mut || drop(Tokenizer::from_gguf(&file).unwrap()));
        measure("qwen2", &Tokenizer::from_gguf(&file).unwrap(), &best);
    }
    if let Some(file) = t5() {
        best("t5 opened", &mut || drop(Tokenizer::from_gguf(&file).unwrap()));
        measure("t5", &Tokenizer::from_gguf(&file).unwrap(), &best);
    }
    for name in ["llama-spm", "gpt-2"] {
        let Some(path) = shared(&format!("llama.cpp-vocab/ggml-vocab-{name}.gguf")) else { continue };
        let file = Gguf::open(&path).unwrap();
        best(&format!("{name} opened"), &mut || drop(Tokenizer::from_gguf(&file).unwrap()));
        measure(name, &Tokenizer::from_gguf(&file).unwrap(), &best);
    }
}

fn measure(name: &str, tokenizer: &Tokenizer, best: &dyn Fn(&str, &mut dyn FnMut())) {
    let source = concat!(include_str!("../src/text/pretokenize.rs"), include_str!("../src/text/sampler.rs"));
    let prose = source.repeat((1 << 20) / source.len());
    let texts = [
        ("1 MB of code and prose", prose),
        ("a word of 100,000 letters", "abcdefghij".repeat(10_000)),
        ("100,000 times one letter", "a".repeat(100_000)),
        ("100,000 spaces", " ".repeat(100_000)),
        ("1 MB of Chinese", "我们的模型很小但是很快乐".repeat((1 << 20) / 36)),
    ];
    for (what, text) in &texts {
        let mut count = 0;
        best(&format!("{name}: {what}"), &mut || count = tokenizer.encode(text, Specials::NONE).unwrap().len());
        println!("    {count} tokens");
    }
}
