//! A detector in training.

use super::anchors::{Anchor, anchors};
use super::config::Config;
use super::network::{Build, Layer, POINT, Then, network};
use crate::error::{Error, Result};
use crate::nn::linear::{add_linear, linear};
use crate::nn::maps::batch_norm::{Batch, Moments, batch_norm, norm_of_batch};
use crate::nn::maps::{Maps, dense::dense, depthwise::depthwise, upsample::upsample};
use crate::student::normal;
use candle_core::{Device, Tensor, Var};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far running moments move towards those of a batch.
const MOMENTUM: f32 = 0.1;

/// The probability that an untrained head gives to each class of each cell (Lin et al. 2017).
const PRIOR: f64 = 0.01;

/// A detector in training: its weights, and the running moments of its norms.
///
/// For each convolution called `name` there is a variable `{name}.weight`: `[outputs, inputs]` if it sees single pixels,
/// `[outputs, kernel · kernel · inputs]` if more, `[kernel · kernel, channels]` if it is depthwise. Its norm has
/// `{name}.norm.weight` and `{name}.norm.bias`; the last convolution of each head has `{name}.bias` instead.
pub struct Detector {
    config: Config,
    variables: BTreeMap<String, Var>,
    /// By name of the convolution before the norm.
    running: BTreeMap<String, Arc<Moments>>,
    device: Device,
}

/// What a detector says of some pictures.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// `[pictures · anchors, classes + 4 · bins]`: logits of the classes, and of the bins for left, top, right and bottom.
    pub rows: Tensor,
    /// How many pictures there are.
    pub pictures: usize,
    /// The cells of each picture.
    pub anchors: Arc<Vec<Anchor>>,
    /// How many classes there are.
    pub classes: usize,
    /// How many bins each side has.
    pub bins: usize,
}

impl Detector {
    /// A detector of random weights: as He et al. (2015) draw them, and a head that hardly believes in any object.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let student = Self { config, variables: BTreeMap::new(), running: BTreeMap::new(), device: device.clone() };
        let config = student.config.clone();
        let mut build = Init { student, random: ChaCha8Rng::seed_from_u64(seed) };
        network(&config, &mut build, &3)?;
        Ok(build.student)
    }

    /// The dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every trainable tensor by its name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// The running moments of all norms as tensors `{name}.norm.mean` and `{name}.norm.variance`, for checkpoints.
    ///
    /// # Errors
    /// What candle says.
    pub fn statistics(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = BTreeMap::new();
        for (name, moments) in &self.running {
            for (part, numbers) in [("mean", &moments.mean), ("variance", &moments.variance)] {
                all.insert(format!("{name}.norm.{part}"), Tensor::new(&numbers[..], &Device::Cpu)?);
            }
        }
        Ok(all)
    }

    /// Takes over what [`statistics`](Self::statistics) gave.
    ///
    /// # Errors
    /// `Input` if some are missing or of another size; nothing is taken over then.
    pub fn set_statistics(&mut self, all: &BTreeMap<String, Tensor>) -> Result<()> {
        let running = self.running.keys().map(|name| {
            let [mean, variance] = moments_in(all, name, self.running[name].mean.len())?
                .ok_or_else(|| Error::input(format!("there are no statistics of the norm after `{name}`")))?;
            Ok((name.clone(), Arc::new(Moments { mean, variance, rows: 0 })))
        });
        self.running = running.collect::<Result<_>>()?;
        Ok(())
    }

    /// The running moments of the norm after the convolution called `name`.
    pub(super) fn running(&self, name: &str) -> &Moments {
        &self.running[name]
    }

    /// What it says of `pictures`, normalised as its file will say, `[n · height · width, 3]`, n of them of `size`, width
    /// and height. Norms go by the batch, and running moments follow.
    ///
    /// # Errors
    /// `Input` for pictures of another size than this, or one that is no multiple of 32.
    pub fn train(&mut self, pictures: &Tensor, size: [usize; 2]) -> Result<Outputs> {
        let (outputs, seen) = self.pass(pictures, size, true)?;
        let (names, batches): (Vec<String>, Vec<Batch>) = seen.into_iter().unzip();
        for (name, batch) in names.into_iter().zip(Batch::moments(batches)?) {
            let running = Arc::make_mut(self.running.get_mut(&name).expect("a norm of this network"));
            running.follow(&batch, MOMENTUM);
        }
        Ok(outputs)
    }

    /// As [`train`](Self::train), with norms that go by the running moments, as in a file.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn infer(&self, pictures: &Tensor, size: [usize; 2]) -> Result<Outputs> {
        Ok(self.pass(pictures, size, false)?.0)
    }

    fn pass(&self, pictures: &Tensor, size: [usize; 2], training: bool) -> Result<(Outputs, Seen)> {
        self.config.check_size(size)?;
        let [width, height] = size;
        let (rows, colours) = pictures.dims2()?;
        let n = rows / (width * height);
        if n == 0 || rows != n * width * height || colours != 3 {
            let message =
                format!("pictures of {rows} pixels in {colours} colours, expected some of {width}x{height} in 3");
            return Err(Error::input(message));
        }
        let mut forward = Forward { student: self, training, seen: Vec::new() };
        let levels = network(&self.config, &mut forward, &(pictures.clone(), Maps { n, height, width }))?;
        let Config { classes, bins, .. } = self.config;
        let mut by_picture = Vec::new();
        for (level, maps) in levels {
            by_picture.push(level.reshape((n, maps.height * maps.width, classes + 4 * bins))?);
        }
        let anchors = Arc::new(anchors(size, self.config.strides(), self.config.centre));
        let rows = Tensor::cat(&by_picture, 1)?.reshape((n * anchors.len(), classes + 4 * bins))?;
        Ok((Outputs { rows, pictures: n, anchors, classes, bins }, forward.seen))
    }
}

/// Means and variances of the norm after `name`, if they are there.
///
/// # Errors
/// `Input` if they are not two lists of `channels`.
pub(super) fn moments_in(all: &BTreeMap<String, Tensor>, name: &str, channels: usize) -> Result<Option<[Vec<f32>; 2]>> {
    let mut found = [Vec::<f32>::new(), Vec::new()];
    for (found, part) in found.iter_mut().zip(["mean", "variance"]) {
        let name = format!("{name}.norm.{part}");
        let Some(tensor) = all.get(&name) else { return Ok(None) };
        *found = tensor.to_device(&Device::Cpu)?.to_vec1()?;
        if found.len() != channels || found.iter().any(|x| !x.is_finite()) {
            return Err(Error::input(format!("`{name}` has {} numbers, expected {channels} finite ones", found.len())));
        }
    }
    Ok(Some(found))
}

/// What norms saw of a batch, by the name of the convolution before them.
type Seen = Vec<(String, Batch)>;

/// Makes variables; maps are their channels.
struct Init {
    student: Detector,
    random: ChaCha8Rng,
}

impl Init {
    fn variable(
        &mut self,
        name: String,
        shape: &[usize],
        mut number: impl FnMut(&mut ChaCha8Rng, usize) -> f64,
    ) -> Result<()> {
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|i| number(&mut self.random, i) as f32).collect();
        self.student.variables.insert(name, Var::from_vec(numbers, shape, &self.student.device)?);
        Ok(())
    }
}

impl Build for Init {
    type Map = usize;

    fn conv(&mut self, xs: &[&usize], layer: Layer) -> Result<usize> {
        let Layer { name, depthwise, outputs, window, then } = layer;
        let inputs: usize = xs.iter().copied().sum();
        let (shape, fan_in) = match depthwise {
            true => ([window.taps(), outputs], window.taps()),
            false => ([outputs, window.taps() * inputs], window.taps() * inputs),
        };
        let deviation = match then {
            Then::Norm(_) => (2.0 / fan_in as f64).sqrt(),
            Then::Bias => 0.01,
        };
        self.variable(format!("{name}.weight"), &shape, |random, _| normal(random) * deviation)?;
        match then {
            Then::Norm(_) => {
                self.variable(format!("{name}.norm.weight"), &[outputs], |_, _| 1.0)?;
                self.variable(format!("{name}.norm.bias"), &[outputs], |_, _| 0.0)?;
                self.student.running.insert(name, Arc::new(Moments::standard(outputs)));
            }
            Then::Bias => {
                let (classes, prior) = (self.student.config.classes, (PRIOR / (1.0 - PRIOR)).ln());
                self.variable(format!("{name}.bias"), &[outputs], |_, i| if i < classes { prior } else { 0.0 })?;
            }
        }
        Ok(outputs)
    }

    fn add(&mut self, x: &usize, _: &usize) -> Result<usize> {
        Ok(*x)
    }

    fn upsample(&mut self, x: &usize) -> Result<usize> {
        Ok(*x)
    }
}

/// Computes.
struct Forward<'a> {
    student: &'a Detector,
    /// Whether norms go by the batch.
    training: bool,
    seen: Seen,
}

impl Forward<'_> {
    fn variable(&self, name: &str, part: &str) -> &Tensor {
        self.student.variables[&format!("{name}.{part}")].as_tensor()
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
            false => batch_norm(&x, weight, bias, &self.student.running[name], activation)?,
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
