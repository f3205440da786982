//! A detector in training.

use super::anchors::{Anchor, anchors};
use super::config::Config;
use super::network::{Build, Layer, Then, network};
use super::{composed, recorded};
use crate::error::{Error, Result};
use crate::nn::has_fused;
use crate::nn::maps::{Maps, moments::Moments, tape::Pool};
use crate::student::normal;
use candle_core::{Device, Tensor, Var, backprop::GradStore};
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
    running: BTreeMap<String, Moments>,
    device: Device,
    /// Memory that steps take and give back.
    pub(super) pool: Arc<Pool>,
    pub(super) gives_features: bool,
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
    /// If it [gives](Detector::give_features) them, what the heads begin with: for each level `[rows, config.neck]`.
    pub features: Vec<Tensor>,
    /// All variables one after the other, if the pass was one operation of these.
    pub(super) parameters: Option<Tensor>,
}

impl Detector {
    /// A detector of random weights: as He et al. (2015) draw them, and a head that hardly believes in any object.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn new(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let (variables, running, pool) = (BTreeMap::new(), BTreeMap::new(), Arc::default());
        let student = Self { config, variables, running, device: device.clone(), pool, gives_features: false };
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
            Ok((name.clone(), Moments { mean, variance, rows: 0 }))
        });
        self.running = running.collect::<Result<_>>()?;
        Ok(())
    }

    /// Begins with what a detector of the same shape had learnt: its variables and [statistics](Self::statistics) by their
    /// names. The last layers of one with another number of classes are of no use; then this is false, and the student's stay
    /// as they are.
    ///
    /// # Errors
    /// `Input` for a detector of another shape; nothing is taken over then.
    pub fn init_from(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<bool> {
        let other =
            |what: String| Error::input(format!("{what}, expected best.safetensors of a student of this shape"));
        let statistics = self.statistics()?;
        let strange = |name: &&String| !self.variables.contains_key(*name) && !statistics.contains_key(*name);
        if let Some(name) = tensors.keys().find(strange) {
            return Err(other(format!("the student has no `{name}`")));
        }
        if let Some(name) = statistics.keys().find(|name| !tensors.contains_key(*name)) {
            return Err(other(format!("there is no `{name}`")));
        }
        let mut taken = Vec::new();
        for (name, variable) in &self.variables {
            let theirs = tensors.get(name).ok_or_else(|| other(format!("there is no `{name}`")))?;
            let is_last = name.starts_with("head") && name.contains(".out.");
            match (theirs.dims(), variable.dims()) {
                (found, expected) if found == expected => taken.push((variable, theirs)),
                (found, expected) if is_last && found.get(1..) == expected.get(1..) => {}
                (found, expected) => return Err(other(format!("`{name}` is {found:?}, the student's {expected:?}"))),
            }
        }
        let all = taken.len() == self.variables.len();
        let taken = taken.into_iter().map(|(variable, theirs)| Ok((variable.clone(), theirs.to_device(&self.device)?)));
        let taken = taken.collect::<Result<Vec<_>>>()?;
        self.set_statistics(tensors)?;
        for (variable, theirs) in taken {
            variable.set(&theirs)?;
        }
        Ok(all)
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
        for (name, batch) in seen {
            self.running.get_mut(&name).expect("a norm of this network").follow(&batch, MOMENTUM);
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
        let maps = Maps { n, height, width };
        let Config { classes, bins, .. } = self.config;
        let anchors = Arc::new(anchors(size, self.config.strides(), self.config.centre));
        let pass = if has_fused(&self.device) { recorded::pass } else { composed::pass };
        let Pass { rows, features, seen, parameters } = pass(self, pictures, maps, training)?;
        Ok((Outputs { rows, pictures: n, anchors, classes, bins, features, parameters }, seen))
    }

    /// From now on its outputs have features, too, which cost some time.
    pub fn give_features(&mut self) {
        self.gives_features = true;
    }

    /// The gradient of a loss of `outputs` by each variable that it depends on, out of `all` that its backward pass gave.
    ///
    /// # Errors
    /// What candle says.
    pub fn gradients(&self, outputs: &Outputs, all: &GradStore) -> Result<BTreeMap<String, Tensor>> {
        let mut gradients = BTreeMap::new();
        let flat = outputs.parameters.as_ref().and_then(|parameters| all.get(parameters));
        let mut start = 0;
        for (name, variable) in &self.variables {
            let count = variable.elem_count();
            let gradient = match flat {
                Some(flat) => Some(flat.narrow(0, start, count)?.reshape(variable.shape())?),
                None => all.get(variable).cloned(),
            };
            gradients.extend(gradient.map(|gradient| (name.clone(), gradient)));
            start += count;
        }
        Ok(gradients)
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

/// The moments of a batch, by the name of the convolution before the norm.
pub(super) type Seen = Vec<(String, Moments)>;

/// What came of a pass.
pub(super) struct Pass {
    /// Those of [`Outputs`].
    pub(super) rows: Tensor,
    /// Those of [`Outputs`].
    pub(super) features: Vec<Tensor>,
    /// What norms saw that go by the batch.
    pub(super) seen: Seen,
    /// Those of [`Outputs`].
    pub(super) parameters: Option<Tensor>,
}

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
                self.student.running.insert(name, Moments::standard(outputs));
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
