//! Translating with small random models: layout, batches, shortlists, and what is refused.

use pupil::gguf::{Gguf, OwnedValue, Writer};
use pupil::nets::encdec::EncDec;
use pupil::translate::Finish;
use pupil::{Model, TranslateOptions, Translator};
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// One thread, one sentence at a time.
fn options() -> TranslateOptions {
    TranslateOptions { threads: 1, batch: 1, ..Default::default() }
}

/// The small model with `keys` added.
fn with(keys: Vec<(&str, OwnedValue)>) -> Vec<u8> {
    let file = Gguf::open(&path("t5-gelu.gguf")).unwrap();
    let mut writer = Writer::new();
    for (key, value) in file.keys().iter() {
        writer.key(key, OwnedValue::from(value));
    }
    keys.into_iter().for_each(|(key, value)| _ = writer.key(key, value));
    for info in file.tensors() {
        writer.tensor(&info.name, info.dtype, &info.dims, file.tensor(&info.name).unwrap().data().to_vec());
    }
    let mut out = Vec::new();
    writer.write(&mut out).unwrap();
    out
}

fn open(keys: Vec<(&str, OwnedValue)>, options: TranslateOptions) -> pupil::Result<Translator> {
    Translator::from_bytes(pupil::bytes::Bytes::from(&with(keys)[..]), "student.gguf", options)
}

/// A shortlist of `frequent` tokens and nothing for any source token of the 64.
fn shortlist(frequent: Vec<u32>) -> Vec<(&'static str, OwnedValue)> {
    vec![
        ("pupil.shortlist.frequent", frequent.into()),
        ("pupil.shortlist.offsets", vec![0_u32; 65].into()),
        ("pupil.shortlist.targets", Vec::<u32>::new().into()),
    ]
}

const TEXT: &str = "- An apple. Bread?\n\n  1. cab, fed\n\tface; deaf\nGood.";

#[test]
fn the_layout_stays() {
    let mut translator = Translator::open(path("t5-gelu.gguf"), options()).unwrap();
    let translation = translator.translate(TEXT).unwrap();
    assert_eq!(translation.text.matches('\n').count(), TEXT.matches('\n').count());
    assert!(translation.text.starts_with("- ") && translation.text.contains("\n\n  1. "), "{:?}", translation.text);
    assert_eq!(translation.sentences, 5);
    for empty in ["", " \n\n", "- \n", "42"] {
        let translation = translator.translate(empty).unwrap();
        assert_eq!((translation.text.as_str(), translation.sentences), (empty, 0));
        assert_eq!(translation.finish, Finish::End);
    }
}

#[test]
fn translations_do_not_depend_on_threads_and_batches() {
    let alone = Translator::open(path("t5-relu.gguf"), options()).unwrap().translate(TEXT).unwrap();
    for (threads, batch, beam) in [(1, 3, 1), (3, 16, 1), (2, 2, 1)] {
        let options = TranslateOptions { threads, batch, beam, ..options() };
        let mut translator = Translator::open(path("t5-relu.gguf"), options).unwrap();
        let both = translator.translate_batch(&["", TEXT, "abc"]).unwrap();
        assert_eq!(both[1].text, alone.text);
    }
}

#[test]
fn endless_words_are_cut_into_parts() {
    let mut translator = Translator::open(path("t5-gelu.gguf"), TranslateOptions { batch: 16, ..options() }).unwrap();
    let translation = translator.translate(&"x".repeat(3000)).unwrap();
    assert!(translation.sentences >= 3000 / 512, "{}", translation.sentences);
    assert!(translation.tokens <= translation.source_tokens * 3 + 16 * translation.sentences);
}

#[test]
fn what_is_cut_is_told() {
    let short = TranslateOptions { max_length_ratio: 0.01, ..options() };
    // Nothing but `a` to say, or everything.
    for (keys, finish, tokens) in [(shortlist(vec![6]), Finish::Repeats, 1), (vec![], Finish::Length, 16)] {
        let mut translator = open(keys, short.clone()).unwrap();
        let cut = translator.translate("An apple.").unwrap();
        assert_eq!((cut.finish, cut.tokens), (finish, tokens), "{}", cut.text);
        // What comes beside it does not hide it.
        let both = translator.translate_batch(&["\n", "- \nAn apple.\n"]).unwrap();
        assert_eq!([both[0].finish, both[1].finish], [Finish::End, finish]);
    }
    // Who says it again and again is understood.
    let same = open(shortlist(vec![6]), short).unwrap().translate(&"face ".repeat(20)).unwrap();
    assert_eq!(same.finish, Finish::Length);
}

#[test]
fn a_shortlist_of_all_tokens_changes_nothing_and_one_of_few_is_kept_to() {
    let free = open(vec![], options()).unwrap().translate(TEXT).unwrap();
    let all = open(shortlist((0..64).collect()), options()).unwrap().translate(TEXT).unwrap();
    assert_eq!(all.text, free.text);
    let few = open(shortlist(vec![6, 7, 8]), options()).unwrap().translate("An apple").unwrap();
    assert!(few.text.chars().all(|c| "abc".contains(c)), "{:?}", few.text);
    let off = TranslateOptions { shortlist: false, ..options() };
    let off = open(shortlist(vec![6, 7, 8]), off).unwrap().translate(TEXT).unwrap();
    assert_eq!(off.text, free.text);
}

#[test]
fn rejects_shortlists_that_make_no_sense() {
    let with = |key: &'static str, value: OwnedValue| {
        let mut keys = shortlist(vec![3]);
        keys.iter_mut().filter(|(name, _)| *name == key).for_each(|(_, old)| *old = value.clone());
        keys
    };
    let mut falling = vec![0_u32; 65];
    falling[3] = 1;
    for (keys, message) in [
        (with("pupil.shortlist.frequent", vec![64_u32].into()), "tokens below 64, found 64"),
        (with("pupil.shortlist.frequent", "x".into()), "an array of u32"),
        (with("pupil.shortlist.targets", vec![1_u32].into()), "the last one to be 1"),
        (with("pupil.shortlist.offsets", vec![0_u32; 64].into()), "65 numbers that ascend from 0"),
        (with("pupil.shortlist.offsets", falling.into()), "65 numbers that ascend from 0"),
        (shortlist(vec![3]).into_iter().skip(1).collect(), "an array of u32"),
    ] {
        let error = open(keys, options()).err().expect(message).to_string();
        assert!(error.starts_with("student.gguf: ") && error.contains(message), "{error}\nexpected: {message}");
    }
}

#[test]
fn languages_are_those_of_the_file() {
    let languages = || vec![("pupil.translate.from", "en".into()), ("pupil.translate.to", "de".into())];
    let to = |to: &str| TranslateOptions { to: Some(to.into()), ..options() };
    assert!(open(languages(), to("DE")).is_ok());
    let error = open(languages(), to("fr")).err().unwrap().to_string();
    assert_eq!(error, "student.gguf: does not translate to fr; expected de");
    let from = TranslateOptions { from: Some("nl".into()), ..options() };
    let error = open(languages(), from).err().unwrap().to_string();
    assert_eq!(error, "student.gguf: translates from en, not from nl");
    let from = TranslateOptions { from: Some("nl".into()), ..options() };
    let error = open(vec![], from).err().unwrap().to_string();
    assert_eq!(error, "student.gguf: names no language that it translates from, so that nl does nothing here");
    assert!(open(vec![], to("fr")).err().unwrap().to_string().contains("it names no languages"));
}

#[test]
fn prefixes_go_before_every_sentence() {
    let plain = open(vec![], options()).unwrap().translate("face. deaf").unwrap();
    let with = open(vec![("pupil.translate.prefix", "bad cab ".into())], options()).unwrap();
    let with = { with }.translate("face. deaf").unwrap();
    assert!(with.source_tokens > plain.source_tokens);
    let other = TranslateOptions { prefix: Some(String::new()), ..options() };
    let other =
        open(vec![("pupil.translate.prefix", "bad cab ".into())], other).unwrap().translate("face. deaf").unwrap();
    assert_eq!(other.text, plain.text);
}

#[test]
fn files_of_another_kind_are_named() {
    let error = Translator::open(path("llama.gguf"), options()).err().unwrap().to_string();
    assert!(error.contains("holds a language model") && error.ends_with("pupil chat runs it"), "{error}");
    let error = Model::open(path("t5-relu.gguf")).err().unwrap().to_string();
    assert!(error.contains("holds a translator") && error.ends_with("pupil translate runs it"), "{error}");
}

#[test]
fn senseless_options_are_refused() {
    for (bad, message) in [
        (TranslateOptions { threads: 0, ..options() }, "0 threads: expected 1 to 1024"),
        (TranslateOptions { beam: 0, ..options() }, "beam is 0"),
        (TranslateOptions { batch: 0, ..options() }, "batch is 0"),
        (TranslateOptions { length_penalty: f32::NAN, ..options() }, "length_penalty is NaN"),
        (TranslateOptions { max_length_ratio: 0.0, ..options() }, "max_length_ratio is 0"),
        (TranslateOptions { prefix: Some("a ".repeat(600)), ..options() }, "a prefix of"),
    ] {
        let error = open(vec![], bad).err().expect(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn rejects_every_tensor_that_is_missing() {
    let file = Gguf::open(&path("t5-relu.gguf")).unwrap();
    for left_out in file.tensors() {
        let mut writer = Writer::new();
        file.keys().iter().for_each(|(key, value)| _ = writer.key(key, OwnedValue::from(value)));
        for info in file.tensors().iter().filter(|info| info.name != left_out.name) {
            writer.tensor(&info.name, info.dtype, &info.dims, file.tensor(&info.name).unwrap().data().to_vec());
        }
        let mut out = Vec::new();
        writer.write(&mut out).unwrap();
        let bytes = pupil::bytes::Bytes::from(&out[..]);
        let error = EncDec::load(&Gguf::from_bytes(bytes, "student.gguf").unwrap()).err().expect(&left_out.name);
        assert!(error.to_string().contains(&left_out.name), "{error}");
    }
}

#[test]
fn rejects_keys_that_make_no_sense() {
    for (key, value, message) in [
        ("t5.block_count", OwnedValue::from(0_u32), "key `t5.block_count` is 0, expected 1 to 4096"),
        ("t5.decoder_block_count", 3_u32.into(), "tensor `dec.blk.2."),
        ("t5.attention.relative_buckets_count", 2_u32.into(), "expected 4 to 128"),
        ("t5.attention.relative_buckets_count", 16_u32.into(), "attn_rel_b.weight` is [2, 32], expected [2, 16]"),
        ("t5.attention.head_count", 3_u32.into(), "attn_q.weight` is"),
        ("t5.decoder_start_token_id", 64_u32.into(), "expected 0 to 63"),
        ("t5.attention.layer_norm_rms_epsilon", 2.0_f32.into(), "is 2, expected 0 to 1"),
        ("t5.attention.value_length", 8_u32.into(), "keys of 16 and values of 8"),
    ] {
        let file = Gguf::open(&path("t5-gelu.gguf")).unwrap();
        let mut writer = Writer::new();
        file.keys()
            .iter()
            .filter(|(name, _)| *name != key)
            .for_each(|(key, v)| _ = writer.key(key, OwnedValue::from(v)));
        writer.key(key, value);
        for info in file.tensors() {
            writer.tensor(&info.name, info.dtype, &info.dims, file.tensor(&info.name).unwrap().data().to_vec());
        }
        let mut out = Vec::new();
        writer.write(&mut out).unwrap();
        let error = Translator::from_bytes(pupil::bytes::Bytes::from(&out[..]), "student.gguf", options()).err();
        let error = error.expect(message).to_string();
        assert!(error.starts_with("student.gguf: ") && error.contains(message), "{error}\nexpected: {message}");
    }
}
