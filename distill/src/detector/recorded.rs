//! The pass through a detector on the CPU: onto a [tape](crate::nn::maps::tape).

use super::network::{Build, Layer, Then, network};
use super::student::{Detector, Seen};
use crate::error::Result;
use crate::nn::maps::Maps;
use crate::nn::maps::batch_norm::Batch;
use crate::nn::maps::tape::{self, Filters, Id, Pool, Tape};
use crate::nn::with_numbers;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The rows of all levels, picture by picture, and the moments of the norms, if these go by the batch.
pub(super) fn pass(
    student: &Detector,
    pictures: &Tensor,
    maps: Maps,
    training: bool,
    pool: &Arc<Pool>,
) -> Result<(Tensor, Seen)> {
    // The variables one after the other, as a tensor, so that candle takes their gradient apart again.
    let (mut flat, mut places, mut end) = (Vec::new(), BTreeMap::new(), 0);
    for (name, variable) in student.variables() {
        flat.push(variable.as_tensor().flatten_all()?);
        places.insert(name.as_str(), end..end + variable.elem_count());
        end += variable.elem_count();
    }
    let flat = Tensor::cat(&flat, 0)?;
    let mut seen = Seen::new();
    let rows = tape::run(&flat, pool, |tape, parameters| {
        let pictures = with_numbers([pictures], |[numbers]| tape.input(numbers, maps))??;
        let mut record = Record { student, places: &places, parameters, training, tape, seen: &mut seen };
        network(student.config(), &mut record, &pictures)
    })?;
    Ok((rows, seen))
}

struct Record<'a> {
    student: &'a Detector,
    /// Where each variable lies.
    places: &'a BTreeMap<&'a str, Range<usize>>,
    parameters: &'a [f32],
    training: bool,
    tape: &'a mut Tape,
    seen: &'a mut Seen,
}

impl Build for Record<'_> {
    type Map = Id;

    fn conv(&mut self, xs: &[&Id], layer: Layer) -> Result<Id> {
        let Layer { name, depthwise, window, then, .. } = layer;
        let place = |part: &str| self.places[format!("{name}.{part}").as_str()].clone();
        let then = match then {
            Then::Bias => tape::Then::Bias(place("bias")),
            Then::Norm(activation) => {
                tape::Then::Norm { weight: place("norm.weight"), bias: place("norm.bias"), activation }
            }
        };
        let constants = match then {
            tape::Then::Norm { .. } if !self.training => Some(self.student.running(&name)),
            _ => None,
        };
        let filters = Filters { weight: place("weight"), depthwise, window, then };
        let xs: Vec<Id> = xs.iter().map(|&&x| x).collect();
        let (y, moments) = self.tape.convolve(&xs, filters, self.parameters, constants)?;
        self.seen.extend(moments.map(|moments| (name, Batch::Known(Arc::new(moments)))));
        Ok(y)
    }

    fn add(&mut self, x: &Id, y: &Id) -> Result<Id> {
        Ok(self.tape.add(*x, *y)?)
    }

    fn upsample(&mut self, x: &Id) -> Result<Id> {
        Ok(self.tape.upsample(*x))
    }
}
