//! What the tests share: files built byte by byte, a look at everything in an open file, and random numbers.

mod accepts;
mod mutations;
mod peer;
mod rejects;
mod round_trip;

use super::{Gguf, Value};
use crate::{bytes::Bytes, error::Result};
use std::path::{Path, PathBuf};

/// A file under construction. Nothing is checked: that is the point.
#[derive(Clone)]
struct Builder(Vec<u8>);

impl Builder {
    fn new(version: u32, tensors: u64, keys: u64) -> Self {
        Self(Vec::new()).raw(b"GGUF").u32(version).u64(tensors).u64(keys)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, n: u32) -> Self {
        self.raw(&n.to_le_bytes())
    }

    fn u64(self, n: u64) -> Self {
        self.raw(&n.to_le_bytes())
    }

    fn string(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).raw(bytes)
    }

    /// A key up to its type; the value follows.
    fn key(self, name: &str, ty: u32) -> Self {
        self.string(name.as_bytes()).u32(ty)
    }

    /// A key whose value is an array, up to the length; the elements follow.
    fn array(self, name: &str, element: u32, len: u64) -> Self {
        self.key(name, 9).u32(element).u64(len)
    }

    fn tensor(self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> Self {
        let head = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(head, |file, &dim| file.u64(dim)).u32(dtype).u64(offset)
    }

    /// Zeros up to a multiple of `alignment`, and `data` more.
    fn data(mut self, alignment: usize, data: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(alignment) + data, 0);
        self
    }

    fn open(&self, name: &str) -> Result<Gguf> {
        Gguf::from_bytes(Bytes::from(&self.0[..]), name)
    }
}

/// A small file with a key of every type and three tensors.
fn every_type() -> Builder {
    Builder::new(3, 3, 16)
        .key("general.architecture", 8)
        .string(b"llama")
        .key("general.alignment", 4)
        .u32(32)
        .key("u8", 0)
        .raw(&[200])
        .key("i8", 1)
        .raw(&[0xff])
        .key("u16", 2)
        .raw(&[0x39, 0x30])
        .key("i16", 3)
        .raw(&[0xfe, 0xff])
        .key("i32", 5)
        .u32(u32::MAX)
        .key("f32", 6)
        .u32(1.5_f32.to_bits())
        .key("bool", 7)
        .raw(&[1])
        .key("u64", 10)
        .u64(u64::MAX)
        .key("i64", 11)
        .u64(7)
        .key("f64", 12)
        .u64(0.25_f64.to_bits())
        .array("strings", 8, 3)
        .string(b"<s>")
        .string(b"")
        .string(b"\xe2\x96")
        .array("f32s", 6, 2)
        .u32(0.5_f32.to_bits())
        .u32((-1.0_f32).to_bits())
        .array("bools", 7, 3)
        .raw(&[0, 1, 1])
        .array("i16s", 3, 2)
        .raw(&[1, 0, 0xff, 0xff])
        .tensor("norm", &[8], 0, 64)
        .tensor("wide", &[64, 2], 2, 96)
        .tensor("cube", &[4, 2, 2, 1], 1, 0)
        .data(32, 96 + 72)
}

/// Looks at everything that an accepted file offers, and checks what the reader promises about it.
fn look_at_everything(gguf: &Gguf) {
    let mut text = format!("{gguf:?}");
    for (name, value) in gguf.keys().iter() {
        text += &format!("{name} {} {value}", value.ty());
        assert_eq!(gguf.keys().get(name).map(|v| v.to_string()), Some(value.to_string()));
        if let Value::Array(array) = value {
            assert_eq!(array.strings().map_or(array.len(), |strings| strings.count()), array.len());
            assert_eq!(array.f32s().map_or(array.len(), |list| list.len()), array.len());
            let size = array.element().size().unwrap_or(8);
            assert!(array.bytes().len() >= array.len() * size);
        }
        let keys = gguf.keys();
        let typed = [
            keys.u32(name).err(),
            keys.usize(name).err(),
            keys.f32(name).err(),
            keys.bool(name).err(),
            keys.str(name).err(),
            keys.strings(name).err(),
            keys.f32s(name).err(),
            keys.i32s(name).err(),
            keys.u32s(name).err(),
        ];
        for error in typed.into_iter().flatten() {
            assert!(error.to_string().starts_with(&format!("{}: key `", gguf.name())), "{error}");
        }
    }
    let mut ranges = Vec::new();
    for info in gguf.tensors() {
        assert!(info.range.end <= gguf.file_len() && info.range.start.is_multiple_of(gguf.alignment()));
        let tensor = gguf.tensor(&info.name).unwrap();
        assert_eq!(tensor.data().len(), info.range.len());
        assert_eq!(tensor.rows() * tensor.row_bytes(), info.range.len());
        ranges.push((info.range.start, info.range.end));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{ranges:?}");
    assert!(!text.contains('\n'));
}

/// A file of the shared models and vocabularies, which are next to a checkout on some machines only.
fn shared(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(dir);
    let Ok(entries) = std::fs::read_dir(&dir) else {
        println!("skipped: {} is not on this machine", dir.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "gguf"));
    files.sort();
    files
}

/// Random numbers that are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One of `list`.
    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
