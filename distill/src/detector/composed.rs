//! The pass through a detector on other devices than the CPU: an [operation](crate::nn::maps::composed) for each layer.

use super::network::{Build, Layer, POINT, Then, network};
use super::student::{Detector, Pass};
use crate::error::{Error, Result};
use crate::nn::linear::{add_linear, linear};
use crate::nn::maps::Maps;
use crate::nn::maps::composed::{Batch, dense, depthwise, norm, norm_of_batch, upsample};
use candle_core::Tensor;

/// What `student` says of `pictures`; norms go by the batch in training.
pub(super) fn pass(student: &Detector, pictures: &Tensor, maps: Maps, training: bool) -> Result<Pass> {
    let mut forward = Forward { student, training, seen: Vec::new() };
    let levels = network(student.config(), &mut forward, &(pictures.clone(), maps))?;
    let outputs = student.config().outputs();
    let mut by_picture = Vec::new();
    for (level, to) in levels.outputs {
        by_picture.push(level.reshape((maps.n, to.height * to.width, outputs))?);
    }
    let rows = Tensor::cat(&by_picture, 1)?.reshape(((), outputs))?;
    let (names, batches): (Vec<String>, Vec<Batch>) = forward.seen.into_iter().unzip();
    let seen = names.into_iter().zip(Batch::moments(&batches)?).collect();
    let features = levels.features.into_iter().map(|(level, _)| level).collect();
    Ok(Pass { rows, features, seen, parameters: None })
}

struct Forward<'a> {
    student: &'a Detector,
    /// Whether norms go by the batch.
    training: bool,
    seen: Vec<(String, Batch)>,
}

impl Forward<'_> {
    fn variable(&self, name: &str, part: &str) -> &Tensor {
        self.student.variables()[&format!("{name}.{part}")].as_tensor()
    }

    fn convolve(&self, xs: &[&(Tensor, Maps)], layer: &Layer) -> Result<Tensor> {
        let weight = self.variable(&layer.name, "weight");
        let (first, maps) = xs[0];
        if layer.depthwise {
            return Ok(depthwise(first, weight, *maps, layer.window)?);
        }
        if layer.window != POINT {
            return Ok(dense(first, weight, *maps, layer.window)?);
        }
        if let [(x, _)] = xs {
            return Ok(linear(x, weight)?);
        }
        // A product for each part of the weights, instead of one of maps that would have to be copied side by side.
        let mut sum: Option<Tensor> = None;
        let mut start = 0;
        for (x, _) in xs {
            let inputs = x.dim(1)?;
            let part = weight.narrow(1, start, inputs)?.contiguous()?;
            sum = Some(match sum {
                None => linear(x, &part)?,
                Some(sum) => add_linear(&sum, x, &part)?,
            });
            start += inputs;
        }
        sum.ok_or_else(|| Error::input("a convolution of no maps"))
    }
}

impl Build for Forward<'_> {
    type Map = (Tensor, Maps);

    fn conv(&mut self, xs: &[&Self::Map], layer: Layer) -> Result<Self::Map> {
        let x = self.convolve(xs, &layer)?;
        let (name, maps) = (&layer.name, xs[0].1.through(layer.window));
        let activation = match layer.then {
            Then::Bias => return Ok((x.broadcast_add(self.variable(name, "bias"))?, maps)),
            Then::Norm(activation) => activation,
        };
        let (weight, bias) = (self.variable(name, "norm.weight"), self.variable(name, "norm.bias"));
        let x = match self.training {
            true => {
                let (x, batch) = norm_of_batch(&x, weight, bias, activation)?;
                self.seen.push((layer.name, batch));
                x
            }
            false => norm(&x, weight, bias, self.student.running(name), activation)?,
        };
        Ok((x, maps))
    }

    fn add(&mut self, x: &Self::Map, y: &Self::Map) -> Result<Self::Map> {
        Ok(((&x.0 + &y.0)?, x.1))
    }

    fn upsample(&mut self, x: &Self::Map) -> Result<Self::Map> {
        Ok((upsample(&x.0, x.1)?, x.1.doubled()))
    }
}
