//! Tokenizers of small vocabularies made for the tests, and of hostile files.

use proptest::prelude::*;
use pupil::{
    ErrorKind,
    bytes::Bytes,
    gguf::{Gguf, OwnedValue, Writer},
    text::{ChatTemplate, Message, RenderOptions, Specials, StreamDecoder, Tokenizer},
};

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
        model in prop_oneof![Just("llama"), Just("gpt2")],
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
}
