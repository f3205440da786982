//! A matrix of hostile files by stage. Each must be refused with a message of its own.

use super::{Builder, every_type};
use crate::{ErrorKind, tensor::DType};
use std::collections::HashSet;

/// Opens each file and expects the message, which no other file of the table may give.
fn reject(table: Vec<(Builder, ErrorKind, &str)>) {
    let mut seen = HashSet::new();
    for (i, (file, kind, expected)) in table.into_iter().enumerate() {
        let error = match file.open("bad.gguf") {
            Ok(gguf) => panic!("row {i}: accepted {gguf:?}, expected: {expected}"),
            Err(error) => error,
        };
        let message = error.to_string();
        assert_eq!(message, format!("bad.gguf: {expected}"), "row {i}");
        assert_eq!(error.kind(), kind, "row {i}: {message}");
        assert!(!message.contains(char::is_control), "row {i}: {message}");
        assert!(seen.insert(message), "row {i}: this message appears twice: {expected}");
    }
}

use ErrorKind::{Format, Unsupported};

fn raw(bytes: &[u8]) -> Builder {
    Builder(bytes.to_vec())
}

#[test]
fn rejects_headers() {
    reject(vec![
        (raw(b""), Format, "the file ends in the magic number: 4 bytes expected at byte 0, 0 left"),
        (raw(b"GGU"), Format, "the file ends in the magic number: 4 bytes expected at byte 0, 3 left"),
        (raw(b"GGML\x01\0\0\0"), Format, r#"not a GGUF file: it starts with "GGML", expected "GGUF""#),
        (raw(b"PK\x03\x04...."), Format, r#"not a GGUF file: it starts with "PK\x03\x04", expected "GGUF""#),
        (raw(b"FUGG\0\0\0\x03"), Unsupported, "the file is big-endian, expected little-endian GGUF"),
        (raw(b"GGUF\x03"), Format, "the file ends in the version: 4 bytes expected at byte 4, 1 left"),
        (Builder::new(0, 0, 0), Format, "the GGUF version is 0, expected 2 or 3"),
        (Builder::new(1, 0, 0), Unsupported, "GGUF version 1 is not supported, expected 2 or 3"),
        (Builder::new(4, 0, 0), Unsupported, "GGUF version 4 is not supported, expected 2 or 3"),
        (Builder::new(u32::MAX, 0, 0), Unsupported, "GGUF version 4294967295 is not supported, expected 2 or 3"),
        (
            Builder::new(3_u32.swap_bytes(), 0, 0),
            Unsupported,
            "the file is big-endian (GGUF version 3), expected little-endian GGUF",
        ),
        (
            raw(b"GGUF\x03\0\0\0\x01\0"),
            Format,
            "the file ends in the number of tensors: 8 bytes expected at byte 8, 2 left",
        ),
        (
            raw(b"GGUF\x03\0\0\0").u64(0).raw(&[1]),
            Format,
            "the file ends in the number of keys: 8 bytes expected at byte 16, 1 left",
        ),
        (
            Builder::new(3, u64::MAX, 0),
            Format,
            "the header promises 18446744073709551615 tensors, expected at most 65536",
        ),
        (Builder::new(3, 0, u64::MAX), Format, "the header promises 18446744073709551615 keys, expected at most 65536"),
        (Builder::new(3, 65_537, 0), Format, "the header promises 65537 tensors, expected at most 65536"),
        (
            Builder::new(3, 2, 0).raw(&[0; 65]),
            Format,
            "the header promises 2 tensors, too many for the 65 bytes after it",
        ),
        (
            Builder::new(3, 0, 65_536).raw(&[0; 13]),
            Format,
            "the header promises 65536 keys, too many for the 13 bytes after it",
        ),
    ]);
}

#[test]
fn rejects_keys() {
    let one = || Builder::new(3, 0, 1);
    let long = [b'k'; 65_536];
    reject(vec![
        (
            Builder::new(3, 0, 2).key("fine", 0).raw(&[1; 20]),
            Format,
            "key 2 of 2: the file ends in its name: 72340172838076673 bytes expected at byte 49, 11 left",
        ),
        (
            Builder::new(3, 0, 2).key("f", 9).u32(0).u64(8).raw(&[1; 8]).raw(&[0; 3]),
            Format,
            "key 2 of 2: the file ends in its name: 8 bytes expected at byte 57, 3 left",
        ),
        (
            one().u64(u64::MAX).raw(&[b'k'; 20]),
            Format,
            "key 1 of 1: the file ends in its name: 18446744073709551615 bytes expected at byte 32, 20 left",
        ),
        (one().key("", 4).u32(0), Format, "key 1 of 1: its name is empty"),
        (one().key("k\n", 4).u32(0), Format, "key 1 of 1: its name \"k\\n\" has control characters"),
        (one().string(&long).u32(4).u32(0), Format, "key 1 of 1: its name has 65536 bytes, expected at most 65535"),
        (one().string(b"a\xff\n").u32(4).u32(0), Format, "key 1 of 1: its name \"a�\\n\" is not UTF-8"),
        (
            one().string(b"ten letter").raw(&[4, 0]),
            Format,
            "key `ten letter`: the file ends in the type of its value: 4 bytes expected at byte 42, 2 left",
        ),
        (one().key("k", 13).u64(0), Format, "key `k`: the type of its value is 13, expected 0 to 12"),
        (one().key("k", u32::MAX).u64(0), Format, "key `k`: the type of its value is 4294967295, expected 0 to 12"),
        (one().key("k", 10).u32(0), Format, "key `k`: the file ends in its value: 8 bytes expected at byte 37, 4 left"),
        (one().key("k", 7).raw(&[2]), Format, "key `k`: its bool is 2, expected 0 or 1"),
        (
            one().key("key", 8).raw(&[5, 0, 0]),
            Format,
            "key `key`: the file ends in its string: 8 bytes expected at byte 39, 3 left",
        ),
        (
            one().key("k", 8).u64(6).raw(b"short"),
            Format,
            "key `k`: the file ends in its string: 6 bytes expected at byte 45, 5 left",
        ),
        (one().key("k", 8).string(b"ok\xc3("), Format, "key `k`: its string is not UTF-8 at byte 2 of 4"),
        (
            one().key("k", 9).raw(&[4, 0]),
            Format,
            "key `k`: the file ends in the type of its elements: 4 bytes expected at byte 37, 2 left",
        ),
        (one().array("k", 99, 0), Format, "key `k`: the type of its elements is 99, expected 0 to 12"),
        (
            one().array("k", 9, 1).u32(4).u64(0),
            Unsupported,
            "key `k`: it is an array of arrays, expected an array of numbers, bools or strings",
        ),
        (
            one().key("k", 9).u32(4).u32(0),
            Format,
            "key `k`: the file ends in the length of its array: 8 bytes expected at byte 41, 4 left",
        ),
        (
            one().array("k", 4, 3).raw(&[0; 11]),
            Format,
            "key `k`: its array has 3 elements of type u32, too many for the 11 bytes after it",
        ),
        (
            one().array("k", 12, u64::MAX),
            Format,
            "key `k`: its array has 18446744073709551615 elements of type f64, too many for the 0 bytes after it",
        ),
        (
            one().array("k", 8, 1 << 61).u64(0),
            Format,
            "key `k`: its array has 2305843009213693952 elements of type string, too many for the 8 bytes after it",
        ),
        (
            one().array("k", 8, 2).string(b"one").u64(9).raw(b"two"),
            Format,
            "key `k`: element 1 of its 2 strings: the file ends in the string: 9 bytes expected at byte 68, 3 left",
        ),
        (
            one().array("k", 8, 2).string(b"12345678").raw(&[1]),
            Format,
            "key `k`: element 1 of its 2 strings: the file ends in the string: 8 bytes expected at byte 65, 1 left",
        ),
        (
            one().array("k", 8, 1).u64(u64::MAX),
            Format,
            "key `k`: element 0 of its 1 strings: the file ends in the string: 18446744073709551615 bytes expected at \
             byte 57, 0 left",
        ),
        (one().array("k", 7, 3).raw(&[1, 0, 255]), Format, "key `k`: its bool is 255, expected 0 or 1"),
        (
            Builder::new(3, 0, 3).key("a", 4).u32(1).key("b", 4).u32(2).key("a", 4).u32(3),
            Format,
            "key `a` appears twice",
        ),
        (
            one().key("general.alignment", 4).u32(0),
            Format,
            "key `general.alignment`: the alignment is 0, expected a power of two that is at least 8",
        ),
        (
            one().key("general.alignment", 4).u32(48),
            Format,
            "key `general.alignment`: the alignment is 48, expected a power of two that is at least 8",
        ),
        (
            one().key("general.alignment", 4).u32(4),
            Format,
            "key `general.alignment`: the alignment is 4, expected a power of two that is at least 8",
        ),
        (one().key("general.alignment", 10).u64(32), Format, "key `general.alignment`: its type is u64, expected u32"),
        (
            one().key("general.alignment", 8).string(b"32"),
            Format,
            "key `general.alignment`: its type is string, expected u32",
        ),
        (
            one().array("general.alignment", 4, 1).u32(32),
            Format,
            "key `general.alignment`: its type is array, expected u32",
        ),
    ]);
}

#[test]
fn rejects_tensors() {
    let one = || Builder::new(3, 1, 0);
    let with = |dims: &[u64], dtype| one().tensor("t", dims, dtype, 0).data(32, 64);
    let max = usize::MAX as u64;
    reject(vec![
        (
            one().u64(30).raw(&[b't'; 25]),
            Format,
            "tensor 1 of 1: the file ends in its name: 30 bytes expected at byte 32, 25 left",
        ),
        (one().tensor("", &[1], 0, 0).data(32, 4), Format, "tensor 1 of 1: its name is empty"),
        (
            one().tensor(&"t".repeat(65), &[1], 0, 0),
            Format,
            "tensor 1 of 1: its name has 65 bytes, expected at most 64",
        ),
        (one().string(b"\xf0\x9f").u32(1).u64(1).u32(0).u64(0), Format, "tensor 1 of 1: its name \"�\" is not UTF-8"),
        (
            one().string(&[b't'; 24]).raw(&[1]),
            Format,
            "tensor `tttttttttttttttttttttttt`: the file ends in the number of its dimensions: 4 bytes expected at \
             byte 56, 1 left",
        ),
        (
            one().string(&[b't'; 16]).u32(2).u64(1).raw(&[1]),
            Format,
            "tensor `tttttttttttttttt`: the file ends in its dimensions: 8 bytes expected at byte 60, 1 left",
        ),
        (
            one().string(&[b't'; 16]).u32(1).u64(1),
            Format,
            "tensor `tttttttttttttttt`: the file ends in its element type: 4 bytes expected at byte 60, 0 left",
        ),
        (
            one().string(&[b't'; 12]).u32(1).u64(1).u32(0).raw(&[0; 5]),
            Format,
            "tensor `tttttttttttt`: the file ends in its offset: 8 bytes expected at byte 60, 5 left",
        ),
        (with(&[], 0), Format, "tensor `t`: it has 0 dimensions, expected 1 to 4"),
        (with(&[1; 5], 0), Format, "tensor `t`: it has 5 dimensions, expected 1 to 4"),
        (
            one().string(b"t").u32(u32::MAX).raw(&[0; 64]),
            Format,
            "tensor `t`: it has 4294967295 dimensions, expected 1 to 4",
        ),
        (with(&[4, 0], 0), Format, "tensor `t`: its shape [4, 0] has a dimension of size 0"),
        (
            with(&[max, 2], 0),
            Format,
            &format!("tensor `t`: its shape [{max}, 2] is larger than this machine can address"),
        ),
        (
            with(&[2, 1 << 31, 1 << 31, 2], 0),
            Format,
            "tensor `t`: its shape [2, 2147483648, 2147483648, 2] is larger than this machine can address",
        ),
        (
            with(&[1 << 62], 0),
            Format,
            &if usize::BITS < 64 {
                "tensor `t`: its dimension 4611686018427387904 is larger than this machine can address".to_owned()
            } else {
                "tensor `t`: its shape [4611686018427387904] is larger than this machine can address".to_owned()
            },
        ),
        (with(&[33], 2), Format, "tensor `t`: its rows of 33 elements are not whole q4_0 blocks of 32"),
        (with(&[128, 2], 12), Format, "tensor `t`: its rows of 128 elements are not whole q4_k blocks of 256"),
        (
            Builder::new(3, 2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).data(32, 64),
            Format,
            "tensor `t` appears twice",
        ),
    ]);
}

#[test]
fn rejects_data() {
    let at = |offset| Builder::new(3, 1, 0).tensor("t", &[4, 2], 0, offset); // 32 bytes
    let two = |a, b| Builder::new(3, 2, 0).tensor("a", &[16], 0, a).tensor("b", &[8], 0, b).data(32, 96);
    reject(vec![
        (at(33).data(32, 96), Format, "tensor `t`: its offset 33 is not a multiple of the alignment 32"),
        (
            Builder::new(3, 1, 1).key("general.alignment", 4).u32(64).tensor("t", &[1], 0, 32).data(64, 64),
            Format,
            "tensor `t`: its offset 32 is not a multiple of the alignment 64",
        ),
        (at(0), Format, "tensor `t`: its offset 0 is past the end of the file, which has 65 bytes"),
        (at(32).data(32, 32), Format, "tensor `t`: its offset 32 is past the end of the file, which has 128 bytes"),
        (
            at(u64::MAX - 31).data(32, 32),
            Format,
            "tensor `t`: its offset 18446744073709551584 is past the end of the file, which has 128 bytes",
        ),
        (
            at(1 << 63).data(32, 32),
            Format,
            "tensor `t`: its offset 9223372036854775808 is past the end of the file, which has 128 bytes",
        ),
        (at(0).data(32, 31), Format, "tensor `t`: the file ends in its data: 32 bytes expected at byte 96, 31 left"),
        (
            Builder::new(3, 1, 0).tensor("t", &[1 << 30, 1 << 20], 1, 0).data(32, 32),
            Format,
            if usize::BITS < 64 {
                "tensor `t`: its shape [1073741824, 1048576] is larger than this machine can address"
            } else {
                "tensor `t`: the file ends in its data: 2251799813685248 bytes expected at byte 96, 32 left"
            },
        ),
        (two(0, 0), Format, "tensors `a` (bytes 96..160) and `b` (bytes 96..128) overlap"),
        (two(0, 32), Format, "tensors `a` (bytes 96..160) and `b` (bytes 128..160) overlap"),
        (
            Builder::new(3, 1, 1).key("general.alignment", 4).u32(1 << 31).tensor("t", &[1], 0, 0).data(64, 64),
            Format,
            "tensor `t`: its offset 0 is past the end of the file, which has 192 bytes",
        ),
    ]);
}

#[test]
fn rejects_element_types_by_name() {
    let known: Vec<u32> = DType::ALL.iter().map(|t| t.to_gguf()).collect();
    let mut seen = HashSet::new();
    for id in (0..200).chain([u32::MAX]).filter(|id| !known.contains(id)) {
        let error = Builder::new(3, 1, 0).tensor("t", &[256], id, 0).data(32, 4096).open("bad.gguf").unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), Unsupported);
        assert!(message.starts_with("bad.gguf: tensor `t`: its element type is "), "{message}");
        assert!(message.contains("expected one of f32, f16, q4_0"), "{message}");
        assert!(message.contains(&id.to_string()), "{message}");
        assert!(seen.insert(message));
    }
    let names = [
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (34, "TQ1_0"),
        (39, "MXFP4"),
    ];
    for (id, name) in names.into_iter().filter(|(id, _)| !known.contains(id)) {
        let expected = format!("{name} ({id}), which is not supported");
        assert!(seen.iter().any(|message| message.contains(&expected)), "{expected}");
    }
}

#[test]
fn rejects_typed_access_to_other_types() {
    let gguf = every_type().open("m.gguf").unwrap();
    let keys = gguf.keys();
    let table = [
        (keys.u32("none").err(), "key `none` is missing, expected an integer from 0 to 4294967295"),
        (keys.str("none\n").err(), "key `none\\n` is missing, expected a string"),
        (keys.u32("i8").err(), "key `i8` is the i8 -1, expected an integer from 0 to 4294967295"),
        (
            keys.opt_u32("u64").err(),
            "key `u64` is the u64 18446744073709551615, expected an integer from 0 to 4294967295",
        ),
        (keys.usize("i16").err(), "key `i16` is the i16 -2, expected an integer that is not negative"),
        (keys.usize("f32").err(), "key `f32` is the f32 1.5, expected an integer that is not negative"),
        (keys.f32("u8").err(), "key `u8` is the u8 200, expected a finite f32"),
        (keys.bool("u8").err(), "key `u8` is the u8 200, expected a bool"),
        (keys.str("bool").err(), "key `bool` is the bool true, expected a string"),
        (keys.strings("f32s").err(), "key `f32s` is the array of f32 [0.5, -1.0], expected an array of strings"),
        (
            keys.f32s("strings").err(),
            "key `strings` is the array of string [\"<s>\", \"\", \"�\"], expected an array of f32",
        ),
        (
            keys.u32s("i16s").err(),
            "key `i16s` is the array of i16 [1, -1], expected an array of integers from 0 to 4294967295",
        ),
        (
            keys.opt_i32s("general.architecture").err(),
            "key `general.architecture` is the string \"llama\", expected an array of integers from -2147483648 to \
             2147483647",
        ),
        (gguf.tensor("none").err(), "tensor `none` is missing"),
    ];
    for (error, expected) in table {
        assert_eq!(error.unwrap().to_string(), format!("m.gguf: {expected}"));
    }
    let nan = Builder::new(3, 0, 1).key("eps", 6).u32(f32::NAN.to_bits()).open("m.gguf").unwrap();
    assert_eq!(
        nan.keys().f32("eps").unwrap_err().to_string(),
        "m.gguf: key `eps` is the f32 NaN, expected a finite f32"
    );
}
