//! Files that are unusual but fine, and real ones.

use super::{Builder, every_type, look_at_everything, shared};
use crate::{
    ErrorKind,
    gguf::{Gguf, OwnedValue, Value, ValueType, Writer, values::Strings},
    tensor::DType,
};
use std::path::Path;

#[test]
fn every_type_of_value_is_read() {
    let gguf = every_type().open("m.gguf").unwrap();
    look_at_everything(&gguf);
    assert_eq!((gguf.name(), gguf.version(), gguf.alignment()), ("m.gguf", 3, 32));
    let shown: Vec<String> = gguf.keys().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "general.architecture=\"llama\"",
        "general.alignment=32",
        "u8=200",
        "i8=-1",
        "u16=12345",
        "i16=-2",
        "i32=-1",
        "f32=1.5",
        "bool=true",
        "u64=18446744073709551615",
        "i64=7",
        "f64=0.25",
        "strings=[\"<s>\", \"\", \"�\"]",
        "f32s=[0.5, -1.0]",
        "bools=[false, true, true]",
        "i16s=[1, -1]",
    ];
    assert_eq!(shown, expected);
    assert_eq!(gguf.keys().len(), expected.len());
    let keys = gguf.keys();
    assert_eq!(keys.u32("i64").unwrap(), 7);
    assert_eq!(keys.usize("u16").unwrap(), 12345);
    assert_eq!(keys.f32("f64").unwrap(), 0.25);
    assert!(keys.bool("bool").unwrap());
    assert_eq!(keys.str("general.architecture").unwrap(), "llama");
    assert_eq!(keys.i32s("i16s").unwrap(), [1, -1]);
    assert_eq!(keys.f32s("f32s").unwrap(), [0.5, -1.0]);
    assert_eq!(keys.opt_u32("none").unwrap(), None);
    let strings = keys.strings("strings").unwrap();
    assert_eq!(strings.len(), 3);
    assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"<s>"[..], b"", b"\xe2\x96"]);
    let names: Vec<&str> = gguf.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["norm", "wide", "cube"]);
    assert_eq!(gguf.tensors()[1].dtype, DType::Q4_0);
    assert_eq!(gguf.tensor("wide").unwrap().dims(), [64, 2]);
    assert!(gguf.find_tensor("none").is_none());
}

#[test]
fn version_2_is_read() {
    assert_eq!(Builder::new(2, 0, 0).open("m.gguf").unwrap().version(), 2);
}

#[test]
fn no_tensors_need_no_padding() {
    let gguf = Builder::new(3, 0, 1).key("k", 0).raw(&[1]).open("vocab.gguf").unwrap();
    look_at_everything(&gguf);
    assert!(gguf.tensors().is_empty());
}

#[test]
fn gaps_disorder_and_trailing_bytes_are_tolerated() {
    let head = Builder::new(3, 2, 0).tensor("late", &[8], 0, 128).tensor("early", &[1], 0, 0);
    for trailing in [0, 1, 31, 1000] {
        let gguf = head.clone().data(32, 128 + 32 + trailing).open("m.gguf").unwrap();
        look_at_everything(&gguf);
        assert_eq!(gguf.tensors()[0].name, "late");
    }
}

#[test]
fn text_for_messages_is_short_and_on_one_line() {
    let long = "é\u{1b}[31m\n".repeat(1000);
    let gguf = Builder::new(3, 0, 2).key("s", 8).string(long.as_bytes()).array("a", 4, 7).raw(&[0; 28]).open("m.gguf");
    let gguf = gguf.unwrap();
    let shown = gguf.keys().get("s").unwrap().to_string();
    assert!(shown.starts_with(r#""é\u{1b}[31m\né"#) && shown.ends_with("…\"") && shown.len() < 300, "{shown}");
    assert_eq!(gguf.keys().get("a").unwrap().to_string(), "[0, 0, 0, 0, 0, 0, … 7 in all]");
}

#[test]
fn overwritten_strings_are_empty_but_as_many() {
    let bytes = Builder(Vec::new()).string(b"one").u64(1 << 60).raw(b"two").0;
    let strings = Strings { left: 4, bytes: &bytes };
    assert_eq!(strings.collect::<Vec<_>>(), [&b"one"[..], b"", b"", b""]);
}

#[test]
fn a_gguf_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync>() {}
    shareable::<Gguf>();
}

#[test]
fn numbers_of_value_types_round_trip() {
    for ty in ValueType::ALL {
        assert_eq!(ValueType::from_gguf(ty.to_gguf()), Some(ty));
    }
    assert_eq!(ValueType::from_gguf(13), None);
}

#[test]
fn messages_about_unreadable_files_start_with_the_path() {
    let dir = std::env::temp_dir().join(format!("pupil-gguf-open-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("bad.gguf");
    let cases: [(Option<&[u8]>, ErrorKind); 3] =
        [(None, ErrorKind::Io), (Some(b""), ErrorKind::Format), (Some(b"nonsense"), ErrorKind::Format)];
    for (content, kind) in cases {
        content.inspect(|bytes| std::fs::write(&path, bytes).unwrap());
        let error = Gguf::open(&path).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with(&format!("{}: ", path.display())), "{error}");
    }
    assert!(Gguf::open(&dir).unwrap_err().to_string().starts_with(&format!("{}: ", dir.display())));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn real_files_are_read_and_survive_a_rewrite() {
    for path in shared("models/gguf").iter().chain(&shared("tokenizers/llama.cpp-vocab")) {
        let gguf = Gguf::open(path).unwrap();
        look_at_everything(&gguf);
        println!("{gguf:?}");
        rewrite(&gguf, path);
    }
}

/// Copies a file through the writer and compares what was read of both.
fn rewrite(gguf: &Gguf, path: &Path) {
    let tensors: Vec<_> = gguf.tensors().iter().map(|info| (info, gguf.tensor(&info.name).unwrap())).collect();
    let mut writer = Writer::new();
    for (name, value) in gguf.keys().iter().filter(|(name, _)| *name != "general.alignment") {
        writer.key(name, value);
    }
    for (info, tensor) in &tensors {
        writer.tensor(&info.name, info.dtype, &info.dims, tensor.data());
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    let copy = Builder(file).open("copy.gguf").unwrap();
    for (name, value) in gguf.keys().iter().filter(|(name, _)| *name != "general.alignment") {
        // By their bytes, so that a NaN among the scores does not matter.
        assert_eq!(
            OwnedValue::from(copy.keys().get(name).unwrap()),
            OwnedValue::from(value),
            "{}: {name}",
            path.display()
        );
    }
    assert_eq!(copy.tensors().len(), tensors.len());
    for (info, tensor) in &tensors {
        assert_eq!(copy.tensor(&info.name).unwrap().data(), tensor.data());
    }
}

#[test]
fn a_large_vocabulary_is_read() {
    let word = |i: u32| format!("tok{i}");
    let merges = |i: u32| format!("m{i} er{i}");
    let mut file = Vec::new();
    Writer::new()
        .key("tokenizer.ggml.tokens", (0..151_936).map(word).collect::<Vec<_>>())
        .key("tokenizer.ggml.token_type", vec![1_i32; 151_936])
        .key("tokenizer.ggml.merges", (0..151_387).map(merges).collect::<Vec<_>>())
        .write(&mut file)
        .unwrap();
    let file = std::sync::Arc::new(crate::bytes::Bytes::from(&file[..]));
    let gguf = Gguf::from_bytes(file, "vocab.gguf").unwrap();
    assert!(matches!(gguf.keys().get("tokenizer.ggml.tokens"), Some(Value::Array(a)) if a.len() == 151_936));
}
