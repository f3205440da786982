//! What is written is read back as it was, and written again byte for byte; what makes no sense is not written.

use super::{Builder, Random, look_at_everything};
use crate::{
    Error, ErrorKind,
    gguf::{Gguf, OwnedValue, Value, Writer},
    tensor::DType,
};
use std::{fs, io};

fn value(random: &mut Random) -> OwnedValue {
    let n = random.next();
    let list = |random: &mut Random| (0..random.below(9)).map(|_| random.next()).collect::<Vec<u64>>();
    let text = |n: u64| "añ\n€\u{1f600}".chars().cycle().take(n as usize % 40).collect::<String>();
    match random.below(20) {
        0 => (n as u8).into(),
        1 => (n as i8).into(),
        2 => (n as u16).into(),
        3 => (n as i16).into(),
        4 => (n as u32).into(),
        5 => (n as i32).into(),
        6 => n.into(),
        7 => (n as i64).into(),
        8 => f32::from_bits(n as u32).into(),
        9 => f64::from_bits(n).into(),
        10 => (n & 1 == 1).into(),
        11 => text(n).into(),
        12 => text(n).as_str().into(),
        13 => list(random).into(),
        14 => list(random).into_iter().map(|n| n as f32).collect::<Vec<f32>>().into(),
        15 => list(random).into_iter().map(|n| n as i8).collect::<Vec<i8>>().as_slice().into(),
        16 => list(random).into_iter().map(|n| n & 1 == 1).collect::<Vec<bool>>().as_slice().into(),
        17 => list(random).into_iter().map(text).collect::<Vec<String>>().into(),
        18 => list(random).into_iter().map(|n| n.to_le_bytes().to_vec()).collect::<Vec<Vec<u8>>>().into(),
        _ => OwnedValue::strings(list(random).into_iter().map(|n| n.to_string())),
    }
}

/// Rewrites a file out of what was read of it.
fn rewrite(gguf: &Gguf) -> Vec<u8> {
    let tensors: Vec<_> = gguf.tensors().iter().map(|info| (info, gguf.tensor(&info.name).unwrap())).collect();
    let mut writer = Writer::new();
    writer.alignment(gguf.alignment());
    for (name, value) in gguf.keys().iter().filter(|(name, _)| *name != "general.alignment") {
        writer.key(name, value);
    }
    for (info, tensor) in &tensors {
        writer.tensor(&info.name, info.dtype, &info.dims, tensor.data());
    }
    let mut file = Vec::new();
    writer.write(&mut file).unwrap();
    file
}

#[test]
fn random_files_round_trip() {
    let mut random = Random(2);
    for round in 0..300 {
        let alignment = *random.one_of(&[8, 16, 32, 64, 4096]);
        let keys: Vec<_> = (0..random.below(12)).map(|i| (format!("key.{i}"), value(&mut random))).collect();
        let tensors: Vec<_> = (0..random.below(8))
            .map(|i| {
                let dtype = *random.one_of(&DType::ALL);
                let mut dims = vec![dtype.block_len() * (1 + random.below(3))];
                dims.extend((0..random.below(4)).map(|_| 1 + random.below(3)));
                let len = dtype.row_bytes(dims[0]).unwrap() * dims.iter().skip(1).product::<usize>();
                let data: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
                (format!("blk.{i}.weight"), dtype, dims, data)
            })
            .collect();

        let mut writer = Writer::new();
        writer.alignment(alignment);
        for (name, value) in &keys {
            writer.key(name, value.clone());
        }
        for (name, dtype, dims, data) in &tensors {
            writer.tensor(name, *dtype, dims, data);
        }
        let mut file = Vec::new();
        writer.write(&mut file).unwrap();

        assert!(file.len().is_multiple_of(alignment));
        let gguf = Builder(file.clone()).open("m.gguf").unwrap();
        look_at_everything(&gguf);
        assert_eq!((gguf.version(), gguf.alignment()), (3, alignment), "round {round}");
        let read: Vec<_> = gguf.keys().iter().map(|(name, value)| (name.to_owned(), OwnedValue::from(value))).collect();
        assert_eq!(read[..keys.len()], keys[..], "round {round}");
        assert_eq!(read.len(), keys.len() + 1);
        assert_eq!(gguf.tensors().len(), tensors.len());
        for (info, (name, dtype, dims, data)) in gguf.tensors().iter().zip(&tensors) {
            let tensor = gguf.tensor(name).unwrap();
            assert_eq!((&info.name, tensor.dtype(), tensor.dims()), (name, *dtype, &dims[..]), "round {round}");
            assert_eq!(tensor.data(), data, "round {round}");
        }
        assert_eq!(rewrite(&gguf), file, "round {round}");
    }
}

#[test]
fn the_writer_refuses_what_makes_no_sense() {
    let long = "t".repeat(64);
    let t = |name: &str, dims: &[usize], bytes: usize| {
        let mut writer = Writer::new();
        writer.tensor(name, DType::Q8_0, dims, vec![0; bytes]);
        writer
    };
    let mut twice = Writer::new();
    twice.key("k", 1_u32).key("k", 2_u32);
    let mut own = Writer::new();
    own.key("general.alignment", 32_u32);
    let mut unaligned = Writer::new();
    unaligned.alignment(0);
    let mut unnamed = Writer::new();
    unnamed.key("", true);
    let mut tensors = t("t", &[32], 34);
    tensors.tensor("t", DType::F32, &[1], vec![0; 4]);
    let mut many = Writer::new();
    for i in 0..65_536 {
        many.key(i.to_string(), true);
    }
    let table = [
        (twice, "key `k`: it was added twice, or is the writer's own"),
        (own, "key `general.alignment`: it was added twice, or is the writer's own"),
        (unaligned, "the alignment is 0, expected a power of two that is at least 8"),
        (unnamed, "key ``: its name is empty"),
        (many, "there are 65537 keys, expected at most 65536"),
        (tensors, "tensor `t`: it was added twice"),
        (t(&long, &[32], 34), &format!("tensor `{long}`: its name has 64 bytes, expected at most 63")),
        (t("t", &[], 34), "tensor `t`: it has 0 dimensions, expected 1 to 4"),
        (t("t", &[32, 0], 0), "tensor `t`: its shape [32, 0] has a dimension of size 0"),
        (t("t", &[31], 34), "tensor `t`: its rows of 31 elements are not whole q8_0 blocks of 32"),
        (t("t", &[32, 2], 34), "tensor `t`: it has 34 bytes of data, expected 68 for q8_0 [32, 2]"),
    ];
    for (writer, expected) in table {
        let mut out = Vec::new();
        let error = writer.write(&mut out).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(out.is_empty());
        let error = writer.write_file("no/such/folder/m.gguf".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), format!("no/such/folder/m.gguf: {expected}"));
    }
}

#[test]
fn a_failed_write_leaves_the_file_that_was_there() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.0);
            self.0 -= n;
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Writer::new();
    writer.key("k", 1_u32).tensor("t", DType::F32, &[16], vec![7; 64]);
    for room in [0, 10, 100, 191] {
        assert_eq!(writer.write(&mut Full(room)).unwrap_err().kind(), ErrorKind::Io);
    }

    let dir = std::env::temp_dir().join(format!("pupil-gguf-write-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("m.gguf");
    writer.write_file(&path).unwrap();
    let before = Gguf::open(&path).unwrap();
    assert_eq!(before.tensor("t").unwrap().data(), [7; 64]);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);

    // The new file replaces the old one, which stays readable where it is mapped.
    let mut other = Writer::new();
    other.key("k", 2_u32);
    other.write_file(&path).unwrap();
    assert_eq!(before.keys().get("k"), Some(Value::U32(1)));
    assert_eq!(Gguf::open(&path).unwrap().keys().u32("k").unwrap(), 2);

    // Where a piece cannot be made, the old file is untouched, and nothing stays behind.
    writer.tensor_in_pieces("pieces", DType::F32, &[16], 2, |_| Err(Error::input("no piece")));
    assert!(writer.write_file(&path).unwrap_err().to_string().contains("no piece"));
    assert_eq!(Gguf::open(&path).unwrap().keys().u32("k").unwrap(), 2);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    fs::remove_dir_all(&dir).unwrap();
}
