//! Convolutional networks: detectors.
//!
//! | file | what |
//! |---|---|
//! | [`program`] | the operations, as a file lists them, and their checks |
//! | [`weights`] | how convolution weights lie in a file |
//! | [`Session`] | the pass over the operations |
//! | `plan` | where values live |
//! | `layer`, `maps` | convolutions, and everything else |
//! | `reference` | what each operation means: the oracle of the tests |

mod features;
mod layer;
mod maps;
mod plan;
pub mod program;
#[cfg(test)]
mod reference;
mod resized;
mod session;
#[cfg(test)]
mod tests;
pub mod weights;

pub use session::Session;

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use program::{Op, Program, Quant, Shape};
use std::collections::{BTreeMap, HashSet};
use weights::{FilterShape, Loaded};

/// A network: its program, and its weights where they are mapped.
pub struct ConvNet {
    program: Program,
    /// One for each operation that is a convolution.
    filters: Vec<Option<Loaded>>,
    constants: BTreeMap<String, Vec<f32>>,
}

impl ConvNet {
    /// The network in a file.
    ///
    /// # Errors
    /// `Format` or `Unsupported` with a message that names the file and the key or tensor.
    pub fn load(file: &Gguf) -> Result<Self> {
        let program = read_program(file)?;
        let mut constants = BTreeMap::new();
        let mut filters = Vec::with_capacity(program.ops().len());
        let mut names = HashSet::new();
        for op in program.ops() {
            filters.push(match op {
                Op::Conv { x, name, .. } => {
                    let shape = FilterShape::of(op, program.shapes()[*x].c).expect("a convolution");
                    // Much of it is copied, so what is copied must not be more than what the file holds.
                    if !names.insert(name) {
                        let (file, i) = (file.name(), filters.len());
                        let message = format!(
                            "{file}: operation {i} is called `{name}` as another is, expected weights of its own"
                        );
                        return Err(Error::format(message));
                    }
                    let filter = Loaded::load(file, name, shape)?;
                    if filter.is_integer() != program.quants()[*x].is_some() {
                        let (file, i) = (file.name(), filters.len());
                        let message =
                            format!("{file}: operation {i} multiplies bytes by floats, expected both of a kind");
                        return Err(Error::format(message));
                    }
                    Some(filter)
                }
                _ => None,
            });
            if let Op::Constant { name, shape } = op {
                let constant = weights::load_floats(file, name, &[shape.c, shape.w, shape.h])?;
                constants.insert(name.clone(), constant);
            }
        }
        Ok(Self { program, filters, constants })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The weights of the convolution at position `op`.
    ///
    /// # Panics
    /// If the operation is none.
    pub fn filter(&self, op: usize) -> &Loaded {
        self.filters[op].as_ref().expect("a convolution")
    }

    /// The constants, by name.
    pub fn constants(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.constants
    }
}

/// The shape of the pictures that a file's network takes.
///
/// # Errors
/// `Format` if the file does not say so.
pub(crate) fn read_input(file: &Gguf) -> Result<Shape> {
    let input = file.keys().u32s("convnet.input")?;
    let [h, w, c] = input[..] else {
        let (file, n) = (file.name(), input.len());
        let message = format!("{file}: key `convnet.input` has {n} numbers, expected height, width and channels");
        return Err(Error::format(message));
    };
    Ok(Shape::new(h as usize, w as usize, c as usize))
}

fn read_program(file: &Gguf) -> Result<Program> {
    let keys = file.keys();
    let input = read_input(file)?;
    let in_key = |key: &str, e: Error| e.at(format_args!("{}: key `{key}`", file.name()));
    let mut ops = Vec::new();
    for (i, text) in keys.strings("convnet.program")?.enumerate() {
        let op = serde_json::from_slice::<Op>(text);
        ops.push(op.map_err(|e| in_key("convnet.program", Error::format(format!("operation {i}: {e}"))))?);
    }
    let scales = keys.opt_f32s("convnet.scales")?.unwrap_or_default();
    let zeros = keys.opt_u32s("convnet.zeros")?.unwrap_or_default();
    if zeros.len() != scales.len() || zeros.iter().any(|&zero| zero > 255) {
        return Err(in_key("convnet.zeros", Error::format(format!("expected {} bytes", scales.len()))));
    }
    let quants = scales.into_iter().zip(zeros);
    let quants = quants.map(|(scale, zero)| (scale != 0.0).then_some(Quant { scale, zero: zero as u8 })).collect();
    let outputs = keys.u32s("convnet.outputs")?.into_iter().map(|x| x as usize).collect();
    Program::new(input, ops, quants, outputs).map_err(|e| in_key("convnet.program", e))
}
