//! The pass through a detector on the CPU: onto a [tape](crate::nn::maps::tape).

use super::Config;
use super::network::{Build, Layer, Then, network};
use super::student::{Detector, Pass, Seen};
use crate::error::{Error, Result};
use crate::nn::maps::Maps;
use crate::nn::maps::tape::{self, Filters, Id, Tape};
use crate::nn::with_numbers;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;
use std::ops::Range;

/// What `student` says of `pictures`; norms go by the batch in training.
pub(super) fn pass(student: &Detector, pictures: &Tensor, maps: Maps, training: bool) -> Result<Pass> {
    // One after the other they are one variable: candle would add the gradient of each to zeros.
    let (mut flat, mut places) = (Vec::new(), BTreeMap::new());
    for (name, variable) in student.variables() {
        let start = flat.len();
        with_numbers([variable], |[numbers]| flat.extend_from_slice(numbers))?;
        places.insert(name.as_str(), start..flat.len());
    }
    let flat = Var::from_vec(flat, places.values().map(Range::len).sum::<usize>(), student.device())?;
    let mut seen = Seen::new();
    let (mut sizes, features) = (Vec::new(), student.gives_features);
    let numbers = tape::run(&flat, &student.pool, |tape, parameters| {
        let pictures = with_numbers([pictures], |[numbers]| tape.input(numbers, maps))??;
        let mut record = Record { student, places: &places, parameters, training, tape, seen: &mut seen };
        let levels = network(student.config(), &mut record, &pictures)?;
        let features = if features { levels.features } else { Vec::new() };
        sizes.extend(features.iter().map(|&level| tape.maps(level).rows()));
        Ok::<_, Error>([levels.outputs].into_iter().chain(features.into_iter().map(|level| vec![level])).collect())
    })?;
    let Config { neck, .. } = *student.config();
    let mut start = numbers.elem_count() - sizes.iter().sum::<usize>() * neck;
    let rows = numbers.narrow(0, 0, start)?.reshape(((), student.config().outputs()))?;
    let mut features = Vec::new();
    for rows in sizes {
        features.push(numbers.narrow(0, start, rows * neck)?.reshape((rows, neck))?);
        start += rows * neck;
    }
    Ok(Pass { rows, features, seen, parameters: Some(flat.into_inner()) })
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
        self.seen.extend(moments.map(|moments| (name, moments)));
        Ok(y)
    }

    fn add(&mut self, x: &Id, y: &Id) -> Result<Id> {
        Ok(self.tape.add(*x, *y)?)
    }

    fn upsample(&mut self, x: &Id) -> Result<Id> {
        Ok(self.tape.upsample(*x))
    }
}
