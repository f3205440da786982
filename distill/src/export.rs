//! From a student in training to the file that the runtime maps.

use crate::error::{Error, Result};
use crate::student::{Student, Types};
use candle_core::{Device, Tensor, Var};
use pupil::gguf::{Gguf, OwnedValue, Writer};
use pupil::nets::{decoder::Decoder, encdec::EncDec};
use pupil::{quant, tensor::DType};
use std::collections::BTreeMap;
use std::path::Path;

/// What goes into a file.
pub struct Export<'a> {
    /// The network.
    pub student: &'a dyn Student,
    /// Other weights for it, as [the optimiser's running means](crate::optimizer::AdamW::averages).
    pub weights: Option<&'a BTreeMap<String, Tensor>>,
    /// How they are stored.
    pub types: Types,
    /// Further keys: the tokenizer's, where the student comes from, what it scores.
    pub keys: Vec<(String, OwnedValue)>,
}

/// Dimensions and numbers of tensors, by name.
type Tensors<'a> = BTreeMap<&'a str, (Vec<usize>, Vec<f32>)>;

/// What a stored tensor has lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// How it is stored.
    pub dtype: DType,
    /// The root of the mean squared difference, relative to that of the weights.
    pub error: f64,
}

impl Export<'_> {
    /// Writes the file, opens it again as the runtime does, and compares all of it with the student.
    ///
    /// # Errors
    /// `Input` for weights that are missing or cannot be stored; `Io`; `Format` if what was written does not read as the
    /// student, which would be a fault of this program.
    pub fn write(&self, path: &Path) -> Result<Vec<Stored>> {
        let tensors = self.tensors()?;
        let mut writer = Writer::new();
        for (name, value) in self.student.keys() {
            writer.key(name, value);
        }
        writer.key("general.file_type", file_type(self.types.matrices));
        if self.types != Types::all(DType::F32) {
            writer.key("general.quantization_version", 2_u32);
        }
        for (name, value) in &self.keys {
            writer.key(name, value.clone());
        }
        for (&name, (dims, numbers)) in &tensors {
            let dtype = self.types.of(name, dims);
            let bytes = quant::quantize(dtype, numbers).map_err(|e| Error::from(e).at(format!("tensor `{name}`")))?;
            let backwards: Vec<usize> = dims.iter().rev().copied().collect();
            writer.tensor(name, dtype, &backwards, bytes);
        }
        writer.write_file(path)?;
        compare(&Gguf::open(path)?, &tensors)
    }

    /// Dimensions and numbers of all tensors.
    fn tensors(&self) -> Result<Tensors<'_>> {
        let mut tensors = BTreeMap::new();
        for (name, variable) in self.student.variables() {
            tensors.insert(name.as_str(), (variable.dims().to_vec(), numbers(name, variable, self.weights)?));
        }
        Ok(tensors)
    }
}

/// A variable's numbers, or those of `weights` that stand for it.
///
/// # Errors
/// `Input` if `weights` has none of its shape, or if one is not finite.
pub(crate) fn numbers(name: &str, variable: &Var, weights: Option<&BTreeMap<String, Tensor>>) -> Result<Vec<f32>> {
    let tensor = match weights {
        None => variable.as_tensor(),
        Some(weights) => match weights.get(name) {
            Some(tensor) if tensor.shape() == variable.shape() => tensor,
            _ => return Err(Error::input(format!("there are no weights for {name} that fit it"))),
        },
    };
    finite(name, tensor)
}

/// The numbers of a tensor of f32.
///
/// # Errors
/// `Input` if one is not finite.
pub(crate) fn finite(name: &str, tensor: &Tensor) -> Result<Vec<f32>> {
    let numbers = tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    match numbers.iter().find(|x| !x.is_finite()) {
        None => Ok(numbers),
        Some(number) => Err(Error::input(format!("tensor `{name}` holds {number}, expected finite numbers"))),
    }
}

/// llama.cpp's number for files of this type.
fn file_type(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 7,
        DType::Q5_0 => 8,
        DType::Q5_1 => 9,
        DType::Q4K => 14,
        DType::Q6K => 18,
        DType::BF16 => 32,
        // "Guessed", by its own word.
        _ => 1024,
    }
}

fn compare(file: &Gguf, tensors: &Tensors<'_>) -> Result<Vec<Stored>> {
    // That the runtime finds all that it needs.
    match file.keys().str("general.architecture")? {
        "t5" => drop(EncDec::load(file)?),
        _ => drop(Decoder::load(file)?),
    }
    let mut stored = Vec::new();
    for (&name, (dims, numbers)) in tensors {
        let tensor = file.tensor(name)?;
        let mut found = vec![0.0; numbers.len()];
        if !tensor.dims().iter().eq(dims.iter().rev()) {
            return Err(Error::format(format!("{}: tensor `{name}` reads as {:?}", file.name(), tensor.dims())));
        }
        quant::dequantize(tensor.dtype(), tensor.data(), &mut found);
        let square = |x: f32| f64::from(x) * f64::from(x);
        let difference: f64 = found.iter().zip(numbers).map(|(a, b)| square(a - b)).sum();
        let size: f64 = numbers.iter().map(|&x| square(x)).sum();
        let error = if size > 0.0 { (difference / size).sqrt() } else { difference.sqrt() };
        // Even four bits lose no more than a tenth or so.
        let allowed = if tensor.dtype() == DType::F32 { 0.0 } else { 0.5 };
        if error.is_nan() || error > allowed {
            let message = format!("{}: tensor `{name}` as {} is off by {error}", file.name(), tensor.dtype());
            return Err(Error::format(message));
        }
        stored.push(Stored { name: name.into(), dtype: tensor.dtype(), error });
    }
    Ok(stored)
}
