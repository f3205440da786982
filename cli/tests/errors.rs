//! What goes wrong is said in one line, with exit code 1.

mod common;

use common::{arg, bad, bad_with, file, place, run, tiny};
use pupil::{
    gguf::{Gguf, OwnedValue, Writer},
    tensor::DType,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The verbs that open a model, with arguments that make them short.
fn verbs(model: &str) -> [Vec<&str>; 3] {
    [
        vec!["chat", "-m", model, "-n", "2", "-t", "1", "hello"],
        vec!["bench", "-m", model, "--prompt", "2", "--decode", "1", "--reps", "1", "-t", "1"],
        vec!["tokenize", "-m", model, "hello"],
    ]
}

#[test]
fn senseless_arguments() {
    for (args, expected) in [
        (&[][..], "no command was given"),
        (&["sing"][..], "unrecognized subcommand 'sing'"),
        (&["tokenize", "hi"], "--model <FILE>"),
        (&["chat", "-m"], "a value is required"),
        (&["chat", "-m", "x", "--temprature", "1", "hi"], "a similar argument exists: '--temp'"),
        (
            &["chat", "-m", "x", "--temp", "hot", "hi"],
            "invalid value 'hot' for '--temp <T>': expected a number from 0 up",
        ),
        (
            &["chat", "-m", "x", "--temp", "-1", "hi"],
            "invalid value '-1' for '--temp <T>': expected a number from 0 up",
        ),
        (
            &["chat", "-m", "x", "--temp", "nan", "hi"],
            "invalid value 'nan' for '--temp <T>': expected a number from 0 up",
        ),
        (&["chat", "-m", "x", "--top-p", "2", "hi"], "'--top-p <P>': expected more than 0 and at most 1"),
        (&["chat", "-m", "x", "--min-p", "-0.5", "hi"], "'--min-p <P>': expected a number from 0 to 1"),
        (&["chat", "-m", "x", "--repeat-penalty", "0", "hi"], "'--repeat-penalty <X>': expected a number above 0"),
        (&["chat", "-m", "x", "-n", "0", "hi"], "expected a whole number from 1 to"),
        (&["chat", "-m", "x", "-c", "99999999999999999999", "hi"], "expected a whole number from 1 to"),
        (&["chat", "-m", "x", "-t", "0", "hi"], "expected a whole number from 1 to"),
        (&["chat", "-m", "x", "--cache-type", "q2", "hi"], "expected f32, f16 or q8_0"),
        (&["chat", "-m", "x", "--raw", "--system", "be kind", "hi"], "cannot be used with"),
        (&["chat", "-m", "x", "-n", "-1", "hi"], "expected a whole number from 1 to"),
        (&["chat", "-m", "x", "--top-k", "-1", "hi"], "expected a whole number from 0 to"),
        (&["chat", "-m", "x", "--threads", "-1", "hi"], "expected a whole number from 1 to 1024"),
        (&["translate", "--max-ratio", "-1", "hi"], "expected more than 0 and at most 100"),
        (&["translate", "--length-penalty", "much", "hi"], "expected a number"),
        (&["bench"], "<--model <FILE>|--synthetic <SHAPE:TYPE>>"),
        (&["bench", "--synthetic", "huge:f32"], "expected SHAPE:TYPE with a shape of tiny, smollm2-135m"),
        (&["bench", "-m", "x", "--save", "y"], "cannot be used with"),
        (&["bench", "-m", "x", "--threads", "1,zwei"], "expected a whole number from 1 to"),
        (&["inspect"], "<FILE>"),
        (&["tokenize", "-m", "x", "--ids", "--json", "hi"], "cannot be used with"),
    ] {
        let line = bad(args);
        assert!(line.contains(expected), "{args:?}: {line}");
    }
}

/// Every verb refuses `path` with a line that names it and has `expected` in it.
fn refused(path: &Path, expected: &str) {
    for args in verbs(arg(path)).iter().map(Vec::as_slice).chain([&["inspect", arg(path)][..]]) {
        let line = bad(args);
        assert!(line.contains(arg(path)) && line.contains(expected), "{args:?}: {line}");
    }
}

#[test]
fn files_that_are_no_models() {
    refused(&place("nothing-here.gguf"), "No such file");
    refused(Path::new(env!("CARGO_TARGET_TMPDIR")), "is a directory");
    refused(&file("empty.gguf", b""), "is empty");
    refused(&file("text.gguf", b"I am no model, but I am a text."), "not a GGUF file");
    refused(&file("zeros.gguf", &[0; 4096]), "not a GGUF file");
    refused(&file("magic.gguf", b"GGUF"), "");
    refused(&file("endian.gguf", b"GGUF\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "");
}

#[test]
fn truncated_files() {
    let whole = fs::read(tiny("truncated", "q8_0")).unwrap();
    let path = place("truncated-here.gguf");
    let head = (0..2000).step_by(97);
    for len in head.chain([whole.len() / 2, whole.len() - 64]) {
        fs::write(&path, &whole[..len]).unwrap();
        refused(&path, "");
    }
}

#[test]
fn counts_beyond_all_bounds() {
    let whole = fs::read(tiny("counts", "f16")).unwrap();
    for at in [8, 16, 24] {
        for count in [u64::MAX, u64::MAX / 8, 1 << 40, 65_537] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes()); // tensors, keys, length of the first key's name
            refused(&file("counts-here.gguf", &bytes), "");
        }
    }
}

/// A copy of the tiny model with other keys; without its tensors if `weights` is false.
fn changed(name: &str, keys: &[(&str, OwnedValue)], weights: bool) -> PathBuf {
    let model = Gguf::open(&tiny(name, "q8_0")).unwrap();
    let mut writer = Writer::new();
    for (key, value) in model.keys().iter().filter(|(key, _)| *key != "general.alignment") {
        match keys.iter().find(|(changed, _)| *changed == key) {
            Some((_, value)) => writer.key(key, value.clone()),
            None => writer.key(key, value),
        };
    }
    for info in model.tensors().iter().filter(|_| weights) {
        let data = model.tensor(&info.name).unwrap().data().to_vec();
        writer.tensor(&info.name, info.dtype, &info.dims, data);
    }
    let path = place(&format!("{name}-here.gguf"));
    writer.write_file(&path).unwrap();
    path
}

#[test]
fn numbers_that_make_no_sense() {
    for (key, value) in [
        ("llama.block_count", u32::MAX),
        ("llama.block_count", 0),
        ("llama.block_count", 3),
        ("llama.embedding_length", u32::MAX),
        ("llama.embedding_length", 0),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", u32::MAX),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.key_length", u32::MAX),
        ("llama.feed_forward_length", u32::MAX),
        ("llama.context_length", u32::MAX),
        ("llama.context_length", 0),
        ("llama.rope.dimension_count", u32::MAX),
    ] {
        let path = changed("numbers", &[(key, value.into())], true);
        for args in &verbs(arg(&path))[..2] {
            let line = bad(args);
            assert!(line.contains(arg(&path)), "{key} = {value}: {line}");
        }
    }
    for (key, value) in [
        ("general.architecture", OwnedValue::from("mamba")),
        ("llama.rope.freq_base", f32::NAN.into()),
        ("llama.attention.layer_norm_rms_epsilon", f32::INFINITY.into()),
        ("tokenizer.ggml.model", "none such".into()),
        ("tokenizer.ggml.pre", "none such".into()),
        ("tokenizer.ggml.tokens", vec!["a", "b"].into()),
        ("llama.block_count", "two".into()),
    ] {
        let path = changed("values", &[(key, value)], true);
        for args in &verbs(arg(&path))[..2] {
            let line = bad(args);
            assert!(line.contains(arg(&path)), "{key}: {line}");
        }
    }
}

#[test]
fn a_vocabulary_without_weights() {
    let path = changed("vocabulary", &[], false);
    for args in &verbs(arg(&path))[..2] {
        let line = bad(args);
        assert!(line.contains(arg(&path)) && line.contains("tensor"), "{line}");
    }
    // But there is a tokenizer to use, and something to see.
    assert_eq!(run(&["tokenize", "-m", arg(&path), "hello"]).code, Some(0));
    assert_eq!(run(&["inspect", arg(&path)]).code, Some(0));
}

#[test]
fn weights_without_a_vocabulary() {
    let mut writer = Writer::new();
    writer.key("general.architecture", "llama").tensor("a", DType::F32, &[2], vec![0; 8]);
    let path = place("bare.gguf");
    writer.write_file(&path).unwrap();
    for args in verbs(arg(&path)) {
        assert!(bad(&args).contains(arg(&path)));
    }
}

/// Whatever byte is wrong, the program answers or refuses, and does not die.
#[test]
fn flipped_bytes() {
    let whole = fs::read(tiny("flipped", "q4_k_m")).unwrap();
    let path = place("flipped-here.gguf");
    for at in (0..3000).step_by(31).chain((3000..whole.len()).step_by(whole.len() / 40)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        fs::write(&path, &bytes).unwrap();
        for args in verbs(arg(&path)) {
            let code = run(&args).code;
            assert!(matches!(code, Some(0 | 1)), "byte {at}: {args:?} ended with {code:?}");
        }
    }
}

#[test]
fn stdin_that_is_not_utf8() {
    let path = tiny("utf8", "q8_0");
    for args in [&["chat", "-m", arg(&path), "-"][..], &["chat", "-m", arg(&path)], &["tokenize", "-m", arg(&path)]] {
        let line = bad_with(args, b"ok\xff\n");
        assert!(line.contains("stdin: byte 2 is not UTF-8"), "{line}");
    }
}

#[test]
fn options_that_do_nothing() {
    let path = tiny("nothing", "q8_0");
    for option in [&["--ops"][..], &["--beam", "2"], &["--batch", "2"], &["--shortlist", "9"]] {
        let line = bad(&[&["bench", "-m", arg(&path)][..], option].concat());
        assert!(line.contains(&format!("{} does nothing here: the model is a chat model", option[0])), "{line}");
    }
    let line = bad(&["bench", "--synthetic", "t5-d256-6x2:q8_0", "--ops"]);
    assert!(line.contains("--ops does nothing here: the model is a translator"), "{line}");
}

#[test]
fn a_full_context() {
    let path = tiny("full", "q8_0");
    let line = bad(&["chat", "-m", arg(&path), "-c", "4", "--shift", "a question of more than four tokens"]);
    assert!(line.ends_with("allow a larger context (--context)\n"), "{line}");
    let line = bad(&["chat", "-m", arg(&path), "-c", "4", "-t", "1", "a question of more than four tokens"]);
    assert!(line.contains("the context is full"), "{line}");
    let ran = run(&["chat", "-m", arg(&path), "-c", "8", "-t", "1", "--temp", "0", "--raw", "abc"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.err.contains("the context is full"), "{}", ran.err);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let path = tiny("disk", "q8_0");
    let out = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = common::pupil(&["inspect", arg(&path)]).stdout(out).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("pupil: cannot write: No space left"));
}
