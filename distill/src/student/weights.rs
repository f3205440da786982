//! A network's variables: made, copied from files, and seen as they will be stored.

use super::Types;
use crate::error::{Error, Result};
use crate::nn::fake_quant::fake_quant;
use candle_core::{Device, Tensor, Var};
use pupil::{gguf::Gguf, quant, tensor::DType};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Variables by their names in a file.
pub(super) struct Weights {
    variables: BTreeMap<String, Var>,
    store_as: Option<Types>,
    device: Device,
}

impl Weights {
    /// None yet.
    pub(super) fn new(device: &Device) -> Self {
        Self { variables: BTreeMap::new(), store_as: None, device: device.clone() }
    }

    /// Where they are.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The variables.
    pub(super) fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// See [`Student::store_as`](super::Student::store_as).
    pub(super) fn store_as(&mut self, types: Option<Types>) {
        self.store_as = types;
    }

    /// Adds a tensor of normally distributed numbers.
    pub(super) fn normal(
        &mut self,
        name: String,
        shape: &[usize],
        deviation: f64,
        random: &mut ChaCha8Rng,
    ) -> Result<()> {
        let numbers = (0..shape.iter().product()).map(|_| (normal(random) * deviation) as f32).collect();
        self.add(name, shape, numbers)
    }

    /// Adds a tensor of ones.
    pub(super) fn ones(&mut self, name: String, width: usize) -> Result<()> {
        self.add(name, &[width], vec![1.0; width])
    }

    fn add(&mut self, name: String, shape: &[usize], numbers: Vec<f32>) -> Result<()> {
        let variable = Var::from_vec(numbers, shape, &self.device)?;
        self.variables.insert(name, variable);
        Ok(())
    }

    /// The variable called `name`, as it is to be computed with.
    ///
    /// # Errors
    /// `Input` if its numbers cannot be stored as they are to be.
    ///
    /// # Panics
    /// If there is none: networks ask for what they made.
    pub(super) fn get(&self, name: &str) -> Result<Tensor> {
        let variable = self.variables[name].as_tensor();
        match self.store_as.map(|types| types.of(name, variable.dims())) {
            Some(dtype) if dtype != DType::F32 => {
                fake_quant(variable, dtype).map_err(|e| Error::from(e).at(format!("tensor `{name}`")))
            }
            _ => Ok(variable.clone()),
        }
    }

    /// Copies tensors of a file. `source` gives the name in the file of each variable, or `None` to leave it as it is.
    ///
    /// # Errors
    /// `Format` for a tensor that is missing or of another shape.
    pub(super) fn copy(&self, file: &Gguf, source: impl Fn(&str) -> Option<String>) -> Result<()> {
        for (name, variable) in &self.variables {
            let Some(source) = source(name) else { continue };
            let tensor = file.tensor(&source)?;
            let dims: Vec<usize> = tensor.dims().iter().rev().copied().collect();
            if dims != variable.dims() {
                let (found, expected) = (tensor.dims(), variable.dims());
                return Err(Error::input(format!(
                    "{}: tensor `{source}` is {found:?}, the student's is {expected:?} backwards",
                    file.name()
                )));
            }
            let mut numbers = vec![0.0; variable.elem_count()];
            quant::dequantize(tensor.dtype(), tensor.data(), &mut numbers);
            variable.set(&Tensor::from_vec(numbers, variable.shape(), &self.device)?)?;
        }
        Ok(())
    }
}

/// A number from the standard normal distribution (Box and Muller 1958).
pub(crate) fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// The layers to copy: those asked for, or all, in order.
///
/// # Errors
/// `Input` if they are not as many as the student has, or the file does not have them.
pub(super) fn layers_to_copy(
    asked: Option<&[usize]>,
    student: usize,
    available: usize,
    file: &Gguf,
) -> Result<Vec<usize>> {
    let layers: Vec<usize> = asked.map_or((0..available).collect(), <[usize]>::to_vec);
    if layers.len() != student || layers.iter().any(|&layer| layer >= available) {
        return Err(Error::input(format!(
            "layers {layers:?} of the {available} in {} are to be copied, expected {student} of them",
            file.name()
        )));
    }
    Ok(layers)
}

/// The name in a file that a variable is copied from, where its layers `blk.i.` are those given.
pub(super) fn renamed(name: &str, prefix: &str, layers: &[usize]) -> Option<String> {
    let rest = name.strip_prefix(prefix)?;
    let (layer, part) = rest.split_once('.')?;
    Some(format!("{prefix}{}.{part}", layers.get(layer.parse::<usize>().ok()?)?))
}

/// Refuses a dimension that is 0 or beyond `max`.
pub(super) fn within(name: &str, value: usize, max: usize) -> Result<()> {
    match (1..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::input(format!("`{name}` is {value}, expected 1 to {max}"))),
    }
}
