//! The Python package `gguf` as an oracle, both ways. `PUPIL_PYTHON` names a Python that has it.

use super::look_at_everything;
use crate::{
    gguf::{Gguf, Writer},
    tensor::DType,
};
use std::{fs, process::Command};

/// Reads `ours`, checks it, and writes `theirs` with the same things in it.
const SCRIPT: &str = r#"
import sys
import numpy as np
from gguf import GGMLQuantizationType as T, GGUFReader, GGUFWriter
ours, theirs = sys.argv[1:]
file = GGUFReader(ours)
key = lambda name: file.get_field(name).contents()
assert key("GGUF.version") == 3 and file.alignment == 64 == key("general.alignment")
assert key("general.architecture") == "llama" and key("name") == "aé\n"
assert (key("u8"), key("i8"), key("u16"), key("i16")) == (200, -1, 60000, -2)
assert (key("u32"), key("i32"), key("u64"), key("i64")) == (2**32 - 1, -3, 2**64 - 1, -4)
assert (key("f32"), key("f64"), key("bool")) == (1.5, 0.1, True)
assert key("tokens") == ["<s>", "", "€"] and key("scores") == [0.5, -1.0] and key("types") == [1, -1, 3]
wide, half, quant = file.tensors
assert [t.name for t in file.tensors] == ["wide", "half", "quant"]
assert wide.data.tolist() == [[0, 1, 2], [3, 4, 5]] and half.data.tolist() == [1.0]
assert quant.tensor_type == T.Q8_0 and quant.shape.tolist() == [64, 2] and quant.data.tobytes() == bytes(range(136))
out = GGUFWriter(theirs, "llama")
out.add_array("tokens", key("tokens"))
out.add_array("scores", key("scores"))
out.add_float64("f64", 0.1)
out.add_bool("bool", True)
out.add_string("name", "aé\n")
out.add_tensor("wide", np.arange(6, dtype=np.float32).reshape(2, 3))
out.add_tensor("half", np.ones(1, dtype=np.float16))
out.add_tensor("quant", np.frombuffer(bytes(range(136)), dtype=np.uint8).reshape(2, 68), raw_dtype=T.Q8_0)
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()
"#;

#[test]
fn python_reads_what_we_write_and_we_read_what_it_writes() {
    let Some(python) = std::env::var_os("PUPIL_PYTHON") else {
        println!("skipped: PUPIL_PYTHON does not name a Python with the package gguf");
        return;
    };
    let dir = std::env::temp_dir().join(format!("pupil-gguf-peer-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (ours, theirs) = (dir.join("ours.gguf"), dir.join("theirs.gguf"));
    let wide: Vec<u8> = [0_f32, 1.0, 2.0, 3.0, 4.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let quant: Vec<u8> = (0..136).collect();
    Writer::new()
        .key("general.architecture", "llama")
        .key("name", "aé\n")
        .key("u8", 200_u8)
        .key("i8", -1_i8)
        .key("u16", 60_000_u16)
        .key("i16", -2_i16)
        .key("u32", u32::MAX)
        .key("i32", -3_i32)
        .key("u64", u64::MAX)
        .key("i64", -4_i64)
        .key("f32", 1.5_f32)
        .key("f64", 0.1_f64)
        .key("bool", true)
        .key("tokens", vec!["<s>", "", "€"])
        .key("scores", vec![0.5_f32, -1.0])
        .key("types", vec![1_i32, -1, 3])
        .tensor("wide", DType::F32, &[3, 2], &wide)
        .tensor("half", DType::F16, &[1], vec![0x00, 0x3c])
        .tensor("quant", DType::Q8_0, &[64, 2], &quant)
        .write_file(&ours)
        .unwrap();
    let status = Command::new(python).args(["-c", SCRIPT]).args([&ours, &theirs]).status().unwrap();
    assert!(status.success(), "the script failed");

    let gguf = Gguf::open(&theirs).unwrap();
    look_at_everything(&gguf);
    assert_eq!(gguf.alignment(), 32);
    assert_eq!(gguf.keys().str("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.keys().str("name").unwrap(), "aé\n");
    assert_eq!(gguf.keys().f32("f64").unwrap(), 0.1);
    assert!(gguf.keys().bool("bool").unwrap());
    assert_eq!(gguf.keys().f32s("scores").unwrap(), [0.5, -1.0]);
    let tokens: Vec<&[u8]> = gguf.keys().strings("tokens").unwrap().collect();
    assert_eq!(tokens, ["<s>".as_bytes(), b"", "€".as_bytes()]);
    assert_eq!(gguf.tensor("wide").unwrap().dims(), [3, 2]);
    assert_eq!(gguf.tensor("wide").unwrap().data(), wide);
    assert_eq!(gguf.tensor("quant").unwrap().dtype(), DType::Q8_0);
    assert_eq!(gguf.tensor("quant").unwrap().data(), quant);
    fs::remove_dir_all(&dir).unwrap();
}
