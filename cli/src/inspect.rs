//! `pupil inspect`: what a GGUF file holds.

#[cfg(feature = "detect")]
mod detector;
#[cfg(feature = "onnx")]
pub use detector::input;
mod translator;

use crate::{args::InspectArgs, failure::Outcome};
use pupil::{
    gguf::{Array, Gguf, TensorInfo, Value},
    tensor::DType,
};
use serde_json::{Map, json};
use std::io::{self, BufWriter, Write};

/// Prints what is in the file that `args` name.
pub fn run(args: &InspectArgs) -> Outcome {
    let file = Gguf::open(&args.file)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{:#}", as_json(&file))?;
    } else {
        print(&mut out, &file, args.tensors)?;
    }
    Ok(out.flush()?)
}

/// Tensors of one type, together.
struct Total {
    dtype: DType,
    tensors: usize,
    parameters: usize,
    bytes: usize,
}

/// The types that occur, those with the most bytes first.
fn totals(file: &Gguf) -> Vec<Total> {
    let of = |dtype: DType| {
        let tensors = || file.tensors().iter().filter(move |t| t.dtype == dtype);
        let (parameters, bytes) = (tensors().map(parameters).sum(), tensors().map(|t| t.range.len()).sum());
        Total { dtype, tensors: tensors().count(), parameters, bytes }
    };
    let mut totals: Vec<_> = DType::ALL.into_iter().map(of).filter(|total| total.tensors > 0).collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.bytes));
    totals
}

fn parameters(tensor: &TensorInfo) -> usize {
    tensor.dims.iter().product()
}

fn print(out: &mut impl Write, file: &Gguf, tensors: bool) -> Outcome {
    let (version, alignment) = (file.version(), file.alignment());
    writeln!(out, "{}: GGUF version {version}, {}", file.name(), size(file.file_len()))?;
    writeln!(out, "{} keys, {} tensors aligned to {alignment} bytes\n", file.keys().len(), file.tensors().len())?;

    let width = file.keys().iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    for (key, value) in file.keys().iter() {
        writeln!(out, "{key:width$}  {value}")?;
    }

    #[cfg(feature = "detect")]
    if let Some(detector) = detector::Summary::of(file) {
        writeln!(out, "\n{detector}")?;
    }
    if let Some(translator) = translator::Summary::of(file) {
        writeln!(out, "\n{translator}")?;
    }

    if tensors {
        let width = file.tensors().iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
        writeln!(out, "\n{:width$}  type  {:>18} {:>12}", "tensor", "shape", "size")?;
        for tensor in file.tensors() {
            let dims: Vec<_> = tensor.dims.iter().map(usize::to_string).collect();
            let (name, dtype, shape) = (&tensor.name, tensor.dtype, dims.join(" × "));
            writeln!(out, "{name:width$}  {dtype:4}  {shape:>18} {:>12}", size(tensor.range.len()))?;
        }
    }

    writeln!(out, "\ntype   tensors   parameters         size")?;
    let totals = totals(file);
    for Total { dtype, tensors, parameters, bytes } in &totals {
        writeln!(out, "{dtype:5} {tensors:>8} {:>12} {:>12}", count(*parameters), size(*bytes))?;
    }
    let (parameters, bytes) = totals.iter().fold((0, 0), |(p, b), t| (p + t.parameters, b + t.bytes));
    writeln!(out, "{:5} {:>8} {:>12} {:>12}", "all", file.tensors().len(), count(parameters), size(bytes))?;
    Ok(())
}

fn as_json(file: &Gguf) -> serde_json::Value {
    let keys: Map<_, _> = file.keys().iter().map(|(key, value)| (key.to_owned(), value_json(value))).collect();
    let tensor = |t: &TensorInfo| {
        json!({
            "name": t.name, "type": t.dtype.name(), "shape": t.dims, "offset": t.range.start, "bytes": t.range.len(),
        })
    };
    let total = |t: &Total| {
        let Total { dtype, tensors, parameters, bytes } = t;
        json!({ "type": dtype.name(), "tensors": tensors, "parameters": parameters, "bytes": bytes })
    };
    json!({
        "file": file.name(),
        "version": file.version(),
        "alignment": file.alignment(),
        "bytes": file.file_len(),
        "parameters": file.tensors().iter().map(parameters).sum::<usize>(),
        "metadata": keys,
        "types": totals(file).iter().map(total).collect::<Vec<_>>(),
        "tensors": file.tensors().iter().map(tensor).collect::<Vec<_>>(),
        "detector": detector_json(file),
        "translator": translator::Summary::of(file).map(|translator| translator.to_json()),
    })
}

#[cfg(feature = "detect")]
fn detector_json(file: &Gguf) -> Option<serde_json::Value> {
    detector::Summary::of(file).map(|detector| detector.to_json())
}

/// Nothing, from a program without detectors.
#[cfg(not(feature = "detect"))]
fn detector_json(_: &Gguf) -> Option<serde_json::Value> {
    None
}

fn value_json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::U8(n) => n.into(),
        Value::I8(n) => n.into(),
        Value::U16(n) => n.into(),
        Value::I16(n) => n.into(),
        Value::U32(n) => n.into(),
        Value::I32(n) => n.into(),
        Value::U64(n) => n.into(),
        Value::I64(n) => n.into(),
        // Through text, so that 1e-5 stays 1e-5.
        Value::F32(x) => x.to_string().parse::<f64>().ok().into(),
        Value::F64(x) => x.into(),
        Value::Bool(b) => b.into(),
        Value::Str(text) => text.into(),
        Value::Array(array) => array_json(array),
    }
}

/// A short array as it is; of a long one, such as a vocabulary, only the type and length.
fn array_json(array: Array<'_>) -> serde_json::Value {
    const SHORT: usize = 64;
    let elements: Option<serde_json::Value> = if array.len() > SHORT {
        None
    } else if let Some(strings) = array.strings() {
        Some(strings.map(String::from_utf8_lossy).collect())
    } else if let Some(numbers) = array.f32s() {
        Some(numbers.into())
    } else if let Some(numbers) = array.i32s() {
        Some(numbers.into())
    } else {
        array.u32s().map(Into::into)
    };
    elements.unwrap_or_else(|| json!({ "array_of": array.element().name(), "length": array.len() }))
}

/// Bytes, for people.
fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)),
    }
}

/// A number, for people.
fn count(n: usize) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} B", n as f64 / 1e9),
    }
}
