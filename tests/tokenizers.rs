//! Tokenizers of small vocabularies made for the tests, and of hostile files.

use growth::expect_linear;
use proptest::prelude::*;
use pupil::{
    ErrorKind,
    bytes::Bytes,
    gguf::{Gguf, OwnedValue, Writer},
    text::{ChatTemplate, Message, RenderOptions, Specials, StreamDecoder, Tokenizer},
};
use serde_json::{Map, Value as Json};
use vectors::base64;

mod growth;
#[path = "vectors/base64.rs"]
mod vectors;

fn file(fill: impl FnOnce(&mut Writer)) -> Gguf {
    let mut writer = Writer::new();
    fill(&mut writer);
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    Gguf::from_bytes(Bytes::from(&bytes[..]), "test.gguf").unwrap()
}

/// A SentencePiece vocabulary: marks, all bytes, and a few pieces.
fn spm() -> Gguf {
    let pieces = ["▁", "h", "e", "l", "o", "é", "lo", "ll", "he", "hell", "hello", "▁hello", "▁▁"];
    let marks = ["<unk>", "<s>", "</s>", "<|user|>", "<tag>"];
    let mut tokens: Vec<String> = marks.map(String::from).to_vec();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(pieces.map(String::from));
    let mut kinds = vec![2, 3, 3, 3, 4];
    kinds.extend([6i32; 256]);
    kinds.extend([1; 13]);
    let mut scores = vec![0f32; 261];
    scores.extend([-9.0, -9.0, -9.0, -9.0, -9.0, -9.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]);
    file(|w| {
        w.key("tokenizer.ggml.model", "llama").key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
        w.key("tokenizer.ggml.scores", &scores[..]).key("tokenizer.ggml.token_type", &kinds[..]);
    })
}

/// A byte-level vocabulary: all bytes, three merges, two marks.
fn bpe(pre: &str) -> Gguf {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| byte_char(byte).to_string()).collect();
    tokens.extend(["he", "ll", "hell", "<|im_start|>", "<|im_end|>", "Ġhi", "<tag>"].map(String::from));
    let mut kinds = vec![1i32; 259];
    kinds.extend([3, 3, 1, 4]);
    file(|w| {
        w.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", pre);
        w.key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
        w.key("tokenizer.ggml.token_type", &kinds[..]);
        w.key("tokenizer.ggml.merges", OwnedValue::strings(["h e", "l l", "he ll"]));
        w.key("tokenizer.ggml.bos_token_id", 259u32).key("tokenizer.ggml.eos_token_id", 260u32);
    })
}

/// The vocabularies of vectors/unigram.py, by name.
fn unigrams() -> Map<String, Json> {
    let mut all: Map<String, Json> = serde_json::from_str(include_str!("vectors/unigram.json")).unwrap();
    all["bytes"]["charsmap"] = all["nfkc"]["charsmap"].clone();
    all
}

/// A file with one of them, and with the rules in `charsmap`.
fn unigram(model: &Json, charsmap: &[u8]) -> Gguf {
    let list = |key: &str| model[key].as_array().unwrap().iter();
    let tokens: Vec<&str> = list("tokens").map(|token| token.as_str().unwrap()).collect();
    let scores: Vec<f32> = list("scores").map(|score| score.as_f64().unwrap() as f32).collect();
    let kinds: Vec<i32> = list("types").map(|kind| kind.as_i64().unwrap() as i32).collect();
    file(|w| {
        w.key("tokenizer.ggml.model", "t5").key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
        w.key("tokenizer.ggml.scores", &scores[..]).key("tokenizer.ggml.token_type", &kinds[..]);
        for key in ["add_space_prefix", "remove_extra_whitespaces"] {
            w.key(format!("tokenizer.ggml.{key}"), model[key].as_bool().unwrap());
        }
        w.key("tokenizer.ggml.precompiled_charsmap", charsmap);
    })
}

fn charsmap(model: &Json) -> Vec<u8> {
    base64(model["charsmap"].as_str().unwrap())
}

/// GPT-2's character for a byte, by its definition.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    match printable(byte) {
        true => char::from(byte),
        false => char::from_u32(256 + (0..byte).filter(|&b| !printable(b)).count() as u32).unwrap(),
    }
}

#[test]
fn sentencepiece_merges_by_score_and_falls_back_to_bytes() {
    let tokenizer = Tokenizer::from_gguf(&spm()).unwrap();
    let spell = |text: &str, specials| -> Vec<String> {
        let ids = tokenizer.encode(text, specials).unwrap();
        ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token(id)).into_owned()).collect()
    };
    // "lo" has a better score than "ll", so "hello" is never reached.
    assert_eq!(spell("hello", Specials::NONE), ["▁", "he", "l", "lo"]);
    assert_eq!(spell("hell", Specials::ADD), ["<s>", "▁", "hell"]);
    assert_eq!(spell("é ü", Specials::NONE), ["▁", "é", "▁", "<0xC3>", "<0xBC>"]);
    assert_eq!(spell("", Specials::ADD), ["<s>"]);
    assert_eq!(spell("<|user|>é<tag>l", Specials::PARSE), ["<|user|>", "▁", "é", "<tag>", "▁", "l"]);
    assert!(!spell("<|user|>", Specials::NONE).contains(&"<|user|>".to_string()));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unknown()), (Some(1), Some(2), Some(0)));
    assert!(tokenizer.is_end(2) && !tokenizer.is_end(3) && tokenizer.is_control(3) && !tokenizer.is_control(4));
}

#[test]
fn byte_level_bpe_merges_by_rank() {
    let tokenizer = Tokenizer::from_gguf(&bpe("gpt-2")).unwrap();
    let hello = tokenizer.encode("hello hi", Specials::ADD).unwrap();
    assert_eq!(hello, [258, b'o'.into(), b' '.into(), b'h'.into(), b'i'.into()]);
    // Llama 3's family takes whole words first, and begins with BOS.
    let tokenizer = Tokenizer::from_gguf(&bpe("llama-bpe")).unwrap();
    assert_eq!(tokenizer.encode("hello hi", Specials::ADD).unwrap(), [259, 258, b'o'.into(), 261]);
    assert!(tokenizer.is_end(260) && !tokenizer.is_end(259));
    assert_eq!(tokenizer.decode(&[259, 258, 111, 260, 261, 9999]), "hello hi");
}

#[test]
fn unigram_ids_and_texts_equal_those_of_sentencepiece() {
    for (name, model) in &unigrams() {
        let tokenizer = Tokenizer::from_gguf(&unigram(model, &charsmap(model))).unwrap();
        let cases = model["cases"].as_array().unwrap();
        for case in cases {
            let text = case[0].as_str().unwrap();
            let expected: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
            let ids = tokenizer.encode(text, Specials::NONE).unwrap();
            assert_eq!(ids, expected, "{name}: {text:?}");
            // SentencePiece writes a mark for what is unknown.
            if !ids.contains(&2) {
                assert_eq!(tokenizer.decode(&ids), case[2].as_str().unwrap(), "{name}: {text:?}");
            }
        }
        println!("{name}: {} cases equal", cases.len());
    }
}

#[test]
fn unigram_texts_end_with_eos_and_may_hold_special_tokens() {
    let model = &unigrams()["nfkc"];
    let tokenizer = Tokenizer::from_gguf(&unigram(model, &[])).unwrap();
    let encode = |text, specials| tokenizer.encode(text, specials).unwrap();
    assert_eq!((tokenizer.pad(), tokenizer.eos(), tokenizer.unknown()), (Some(0), Some(1), Some(2)));
    assert!(tokenizer.adds_eos() && !tokenizer.adds_bos() && tokenizer.is_end(1));
    assert_eq!(encode("", Specials::ADD), [1]);
    let the = tokenizer.id("▁the").unwrap();
    assert_eq!(encode("the</s> the", Specials::PARSE), [the, 1, the]);
    assert!(!encode("the</s>", Specials::NONE).contains(&1));
    assert_eq!(tokenizer.decode(&[0, tokenizer.id("▁").unwrap(), the, the, 1]), "the the");
}

#[test]
fn unigram_takes_linear_time() {
    let model = &unigrams()["nfkc"];
    let tokenizer = Tokenizer::from_gguf(&unigram(model, &charsmap(model))).unwrap();
    for unit in ["a", " ", "日", "the end. "] {
        expect_linear(unit, |text| {
            tokenizer.encode(text, Specials::NONE).unwrap();
        });
    }
}

#[test]
fn a_conversation_becomes_ids() {
    let file = bpe("qwen2");
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    let template = ChatTemplate::from_gguf(&file, &tokenizer).unwrap();
    let text = template.render(&[Message::user("he")], &RenderOptions::prompt()).unwrap();
    let ids = tokenizer.encode(&text, Specials::PARSE).unwrap();
    assert_eq!((ids[0], ids.iter().filter(|&&id| id == 260).count()), (259, 1));
}

#[test]
fn hostile_vocabularies_are_refused_or_defined() {
    let refused = |fill: &dyn Fn(&mut Writer)| {
        let error = Tokenizer::from_gguf(&file(|w| fill(w))).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("test.gguf: ") && !message.contains('\n'), "{message}");
        (error.kind(), message.replace("test.gguf: ", ""))
    };
    let none = [""; 0];
    let ab = || OwnedValue::strings(["a", "b"]);
    let llama = |w: &mut Writer, tokens| {
        w.key("tokenizer.ggml.model", "llama").key("tokenizer.ggml.tokens", tokens);
    };
    let (kind, message) = refused(&|_| {});
    assert_eq!((kind, message.contains("no tokenizer")), (ErrorKind::Format, true));
    let (_, message) = refused(&|w| llama(w, OwnedValue::strings(none)));
    assert_eq!(message, "tokenizer.ggml.tokens is empty, expected a vocabulary");
    let (_, message) = refused(&|w| {
        llama(w, ab());
        w.key("tokenizer.ggml.scores", &[1f32][..]);
    });
    assert_eq!(message, "tokenizer.ggml.scores has 1 values, expected one for each of 2 tokens");
    let (_, message) = refused(&|w| {
        llama(w, ab());
        w.key("tokenizer.ggml.token_type", &[1i32, 1, 1][..]);
    });
    assert_eq!(message, "tokenizer.ggml.token_type has 3 values, expected one for each of 2 tokens");
    let (_, message) = refused(&|w| {
        llama(w, OwnedValue::strings(["a"]));
        w.key("tokenizer.ggml.bos_token_id", 7u32);
    });
    assert!(message.contains("bos_token_id names none of the 1 tokens"), "{message}");
    let (kind, message) = refused(&|w| {
        w.key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", "nonsense").key("tokenizer.ggml.tokens", ab());
    });
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("nonsense") && message.contains("qwen2"), "{message}");
    let (kind, _) = refused(&|w| {
        w.key("tokenizer.ggml.model", "bert").key("tokenizer.ggml.tokens", ab());
    });
    assert_eq!(kind, ErrorKind::Unsupported);
    let model = &unigrams()["nfkc"];
    let unended = [&[0; 4][..], b"abc"].concat();
    let long = [&[0; 4][..], &b"x".repeat(300), b"\0"].concat();
    for (rules, expected) in [
        (&b"\x01"[..], "its 1 bytes contradict its length field, expected a trie and replacements"),
        (b"\xff\xff\xff\xff....", "its 8 bytes contradict its length field, expected a trie and replacements"),
        (b"\x03\0\0\0...", "its 7 bytes contradict its length field, expected a trie and replacements"),
        (b"\0\0\0\0\xff\0", "its replacements are not UTF-8, expected strings that end with a NUL"),
        (&unended, "its last replacement has no end, expected strings that end with a NUL"),
        (&long, "a replacement of 300 bytes, expected at most 256"),
    ] {
        let error = Tokenizer::from_gguf(&unigram(model, rules)).unwrap_err();
        assert_eq!(error.to_string(), format!("test.gguf: tokenizer.ggml.precompiled_charsmap: {expected}"));
    }
    #[cfg(feature = "hf-tokenizer")]
    for json in ["", "{}", "[1", "{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}"] {
        refused(&|w| {
            w.key("tokenizer.huggingface.json", json);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn texts_come_back(text in "[hello é\n\r\t<>|a-z👩🏽中]{0,40}") {
        for file in [spm(), bpe("gpt-2"), bpe("llama3"), bpe("smollm"), bpe("default")] {
            let tokenizer = Tokenizer::from_gguf(&file).unwrap();
            for specials in [Specials::NONE, Specials::ADD] {
                let ids = tokenizer.encode(&text, specials).unwrap();
                prop_assert_eq!(tokenizer.decode(&ids), &text[..]);
            }
            let mut stream = StreamDecoder::new();
            let ids = tokenizer.encode(&text, Specials::NONE).unwrap();
            let mut streamed: String = ids.iter().map(|&id| stream.push(&tokenizer.piece(id))).collect();
            streamed += &stream.finish();
            prop_assert_eq!(streamed.trim_start(), text.trim_start());
        }
    }

    /// Any tokens, scores, types and merges: an error or ids of the vocabulary, never a panic.
    #[test]
    fn no_vocabulary_makes_it_panic(
        tokens in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'a'), Just(b'<'), Just(0xe2), any::<u8>()], 0..6), 0..20),
        merges in prop::collection::vec("[a-c ]{0,5}", 0..8),
        kinds in prop::collection::vec(0i32..8, 20),
        scores in prop::collection::vec(any::<f32>(), 20),
        model in prop_oneof![Just("llama"), Just("gpt2"), Just("t5")],
        pre in prop_oneof![Just("llama3"), Just("default")],
        id: u32,
        text in "[abc<▁é \n]{0,20}",
    ) {
        let file = file(|w| {
            w.key("tokenizer.ggml.model", model).key("tokenizer.ggml.pre", pre);
            w.key("tokenizer.ggml.tokens", OwnedValue::strings(&tokens));
            w.key("tokenizer.ggml.token_type", &kinds[..tokens.len()]).key("tokenizer.ggml.scores", &scores[..tokens.len()]);
            w.key("tokenizer.ggml.merges", OwnedValue::strings(&merges)).key("tokenizer.ggml.eos_token_id", id);
            w.key("tokenizer.ggml.add_bos_token", false);
        });
        let Ok(tokenizer) = Tokenizer::from_gguf(&file) else { return Ok(()) };
        for specials in [Specials::NONE, Specials::ADD, Specials::PARSE] {
            let ids = tokenizer.encode(&text, specials).unwrap();
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
            tokenizer.decode(&ids);
        }
    }

    /// SentencePiece takes no text apart for good: what it normalises to itself comes back.
    #[test]
    fn unigram_texts_come_back(text in "[a-zé.,0-9 ]{0,40}") {
        let all = unigrams();
        let words: Vec<&str> = text.split_whitespace().collect();
        for (name, expected) in [("bytes", words.join(" ")), ("spaces", text.clone())] {
            let model = &all[name];
            let tokenizer = Tokenizer::from_gguf(&unigram(model, &charsmap(model))).unwrap();
            let ids = tokenizer.encode(&text, Specials::NONE).unwrap();
            if !ids.contains(&2) {
                prop_assert_eq!(tokenizer.decode(&ids), expected);
            }
        }
    }

    #[test]
    fn no_charsmap_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        keep_len: bool,
        len in (0u32..2500).prop_map(|units| units * 4),
        text in "[a-zé ﬁＡ①\u{0}\u{301}\u{308}日]{0,40}",
    ) {
        let model = &unigrams()["bytes"];
        let mut rules = charsmap(model);
        for (at, byte) in changes {
            *at.get_mut(&mut rules) = byte;
        }
        // Most other lengths are refused.
        let len = if keep_len { charsmap(model)[..4].try_into().unwrap() } else { len.to_le_bytes() };
        rules[..4].copy_from_slice(&len);
        for ascii in [false, true] {
            if ascii {
                let from = rules.len().min(4 + u32::from_le_bytes(len) as usize);
                rules[from..].iter_mut().enumerate().for_each(|(at, byte)| *byte = if at % 8 == 7 { 0 } else { *byte & 0x7f });
                *rules.last_mut().unwrap() = 0;
            }
            let Ok(tokenizer) = Tokenizer::from_gguf(&unigram(model, &rules)) else { continue };
            let ids = tokenizer.encode(&text, Specials::NONE).unwrap();
            prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        }
    }
}
