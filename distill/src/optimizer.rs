//! AdamW (Loshchilov and Hutter 2019): clipping, moments, decay and the running mean of weights in one pass.

use crate::error::{Error, Result};
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Numbers in a task.
const TASK: usize = 1 << 15;

/// Constants of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much of the mean gradient stays from step to step, 0 to below 1.
    pub beta1: f64,
    /// And of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Decay of [decaying](decays) weights a step, times the learning rate; not below 0.
    pub weight_decay: f64,
    /// The norm of all gradients together above which they are scaled down to it; infinite for never.
    pub clip: f64,
    /// How much of the running mean of weights stays from step to step, 0 to below 1; 0 keeps none.
    pub ema: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, clip: 1.0, ema: 0.0 }
    }
}

/// Whether a variable decays: matrices do, norms, embeddings and relative biases do not.
pub fn decays(name: &str, variable: &Tensor) -> bool {
    variable.rank() > 1 && name != "token_embd.weight" && !name.ends_with("attn_rel_b.weight")
}

/// The optimiser and its state.
pub struct AdamW {
    config: Config,
    /// What now holds of it.
    ema: f64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

/// What is kept for each variable, on the CPU.
struct Moments {
    /// What the learning rate is multiplied with.
    rate: f64,
    mean: Vec<f32>,
    square: Vec<f32>,
    /// The running mean of weights; empty if none is kept.
    average: Vec<f32>,
}

/// The factors of a step.
#[derive(Clone, Copy)]
struct Factors {
    /// Of gradients, so that they are clipped.
    clip: f32,
    beta1: f32,
    beta2: f32,
    /// The learning rate over the bias correction of the mean.
    rate: f32,
    /// 1 over the root of the bias correction of the mean square.
    root: f32,
    epsilon: f32,
    /// Of weights.
    keep: f32,
    ema: f32,
}

impl AdamW {
    /// A new optimiser of these variables. `rate` is what the learning rate is multiplied with for the variable of a name.
    ///
    /// # Errors
    /// `Input` for constants out of their ranges.
    pub fn new(config: Config, variables: &BTreeMap<String, Var>, rate: impl Fn(&str) -> f64) -> Result<Self> {
        let Config { beta1, beta2, epsilon, weight_decay, clip, ema } = config;
        for (name, value) in [("beta1", beta1), ("beta2", beta2), ("ema", ema)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::input(format!("`{name}` is {value}, expected 0 to below 1")));
            }
        }
        for (name, value, good) in [
            ("epsilon", epsilon, epsilon > 0.0 && epsilon.is_finite()),
            ("weight_decay", weight_decay, weight_decay >= 0.0 && weight_decay.is_finite()),
            ("clip", clip, clip > 0.0),
        ] {
            if !good {
                return Err(Error::input(format!("`{name}` is {value}, expected a positive number")));
            }
        }
        let mut moments = BTreeMap::new();
        for (name, variable) in variables {
            let n = variable.elem_count();
            let average = if ema > 0.0 { to_vec(variable)? } else { Vec::new() };
            let moment = || vec![0.0; n];
            moments.insert(name.clone(), Moments { rate: rate(name), mean: moment(), square: moment(), average });
        }
        Ok(Self { config, ema, steps: 0, moments })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// From now on, this much of the running mean of weights stays from step to step, at most as much as in the constants:
    /// a mean that has just begun is to forget the first weights soon.
    pub fn set_ema(&mut self, ema: f64) {
        self.ema = ema.min(self.config.ema);
    }

    /// Moves the variables against their gradients and returns the norm of these before clipping.
    ///
    /// # Errors
    /// `Input` if a variable has no gradient, or the norm is no finite number; nothing has moved then.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &BTreeMap<String, Tensor>,
        learning_rate: f64,
    ) -> Result<f64> {
        let pairs: Vec<(&String, &Var, &Tensor)> = variables
            .iter()
            .map(|(name, variable)| match gradients.get(name) {
                Some(gradient) if gradient.shape() == variable.shape() && self.moments.contains_key(name) => {
                    Ok((name, variable, gradient))
                }
                _ => Err(Error::input(format!("{name} has no gradient that fits it, expected one for each variable"))),
            })
            .collect::<Result<_>>()?;
        let mut norm = 0.0;
        for (_, _, gradient) in &pairs {
            norm += square_sum(gradient)?;
        }
        let norm = norm.sqrt();
        if !norm.is_finite() {
            return Err(Error::input(format!("the norm of the gradients is {norm}, expected a finite number")));
        }
        self.steps += 1;
        let Config { beta1, beta2, epsilon, weight_decay, clip, .. } = self.config;
        let steps = self.steps.min(1 << 30) as i32;
        let factors = Factors {
            // As PyTorch clips.
            clip: (clip / (norm + 1e-6)).min(1.0) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rate: (learning_rate / (1.0 - beta1.powi(steps))) as f32,
            root: (1.0 - beta2.powi(steps)).sqrt().recip() as f32,
            epsilon: epsilon as f32,
            keep: 1.0,
            ema: self.ema as f32,
        };
        let decayed = (1.0 - learning_rate * weight_decay) as f32;
        for (name, variable, gradient) in pairs {
            let keep = if decays(name, variable) { decayed } else { 1.0 };
            let moments = self.moments.get_mut(name).expect("checked above");
            let rate = factors.rate * moments.rate as f32;
            moments.update(variable, gradient, Factors { rate, keep, ..factors })?;
        }
        Ok(norm)
    }

    /// Everything but the constants: tensors by `mean.NAME`, `square.NAME` and `average.NAME`, and the steps done.
    ///
    /// # Errors
    /// None on a CPU.
    pub fn state(&self) -> Result<(BTreeMap<String, Tensor>, u64)> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            for (kind, numbers) in moments.parts() {
                if !numbers.is_empty() {
                    tensors.insert(format!("{kind}.{name}"), Tensor::new(&numbers[..], &Device::Cpu)?);
                }
            }
        }
        Ok((tensors, self.steps))
    }

    /// Takes up what [`state`](Self::state) gave; other tensors are passed over.
    ///
    /// # Errors
    /// `Input` if a tensor is missing or of another size.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let mut restored = BTreeMap::new();
        for (name, moments) in &self.moments {
            let part = |(kind, numbers): (&str, &Vec<f32>)| {
                if numbers.is_empty() {
                    return Ok(Vec::new());
                }
                let name = format!("{kind}.{name}");
                let found =
                    tensors.get(&name).ok_or_else(|| Error::input(format!("the optimiser's {name} is missing")))?;
                if found.elem_count() != numbers.len() || found.dtype() != DType::F32 {
                    let message = format!(
                        "the optimiser's {name} is {:?}, expected {} numbers of f32",
                        found.shape(),
                        numbers.len()
                    );
                    return Err(Error::input(message));
                }
                to_vec(found)
            };
            let [mean, square, average] = moments.parts().map(part);
            let moments = Moments { rate: moments.rate, mean: mean?, square: square?, average: average? };
            restored.insert(name.clone(), moments);
        }
        (self.moments, self.steps) = (restored, steps);
        Ok(())
    }

    /// The running mean of each variable, in its shape, where one is kept.
    ///
    /// # Errors
    /// `Input` for a variable that the optimiser does not know.
    pub fn averages(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>> {
        let average = |(name, variable): (&String, &Var)| match self.moments.get(name) {
            Some(moments) if moments.average.len() == variable.elem_count() => {
                let average = Tensor::from_slice(&moments.average, variable.shape(), variable.device())?;
                Ok((name.clone(), average))
            }
            _ => Err(Error::input(format!("no running mean of {name} is kept"))),
        };
        variables.iter().map(average).collect()
    }
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// The sum of squares: in f32 over a task, then in f64 and in order, so that it does not depend on the threads.
fn square_sum(gradient: &Tensor) -> Result<f64> {
    if !gradient.device().is_cpu() {
        return Ok(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?.into());
    }
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(numbers)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(Error::input(format!("a gradient is of {:?}, expected f32", gradient.dtype())));
    };
    let sum = |numbers: &[f32]| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut sums = [0.0_f32; 16];
                let (groups, rest) = numbers.as_chunks::<16>();
                for group in groups {
                    for lane in 0..16 {
                        sums[lane] += group[lane] * group[lane];
                    }
                }
                sums.iter().chain([&rest.iter().map(|x| x * x).sum()]).map(|&sum| f64::from(sum)).sum::<f64>()
            },
        )
    };
    let parts: Vec<f64> = numbers[start..end].par_chunks(TASK).map(sum).collect();
    Ok(parts.into_iter().sum())
}

impl Moments {
    fn parts(&self) -> [(&'static str, &Vec<f32>); 3] {
        [("mean", &self.mean), ("square", &self.square), ("average", &self.average)]
    }

    fn update(&mut self, variable: &Var, gradient: &Tensor, factors: Factors) -> Result<()> {
        if variable.device().is_cpu() {
            let update = Update { moments: Mutex::new(self), factors };
            return Ok(variable.inplace_op2(&gradient.contiguous()?, &update)?);
        }
        // A device's variables are brought here and back: slow, and the same numbers.
        let local = Var::from_tensor(&variable.to_device(&Device::Cpu)?)?;
        self.update(&local, &gradient.to_device(&Device::Cpu)?, factors)?;
        Ok(variable.set(&local.to_device(variable.device())?)?)
    }
}

/// Weights and moments of a variable, changed in place.
struct Update<'a> {
    moments: Mutex<&'a mut Moments>,
    factors: Factors,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        weights_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(weights), CpuStorage::F32(gradient)) = (weights, gradient) else {
            bail!("expected variables and gradients of f32");
        };
        let (Some((start, end)), Some((first, last))) =
            (weights_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            bail!("expected contiguous variables");
        };
        let mut moments = self.moments.lock().unwrap_or_else(|e| e.into_inner());
        let Moments { mean, square, average, .. } = &mut **moments;
        let factors = self.factors;
        let parts = weights[start..end]
            .par_chunks_mut(TASK)
            .zip(gradient[first..last].par_chunks(TASK))
            .zip(mean.par_chunks_mut(TASK).zip(square.par_chunks_mut(TASK)));
        #[allow(clippy::type_complexity, reason = "it is what the iterators above give")]
        let update = |((weights, gradient), (mean, square)): ((&mut [f32], &[f32]), (&mut [f32], &mut [f32]))| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || factors.update(weights, gradient, mean, square),
            );
        };
        if average.is_empty() {
            parts.for_each(update);
            return Ok(());
        }
        parts.zip(average.par_chunks_mut(TASK)).for_each(|(((weights, gradient), moments), average)| {
            update(((&mut *weights, gradient), moments));
            average
                .iter_mut()
                .zip(&*weights)
                .for_each(|(average, weight)| *average += (1.0 - factors.ema) * (weight - *average));
        });
        Ok(())
    }
}

impl Factors {
    #[inline(always)]
    fn update(self, weights: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let n = weights.len();
        let (gradient, mean, square) = (&gradient[..n], &mut mean[..n], &mut square[..n]);
        for i in 0..n {
            let g = gradient[i] * self.clip;
            mean[i] += (1.0 - self.beta1) * (g - mean[i]);
            square[i] = self.beta2 * square[i] + (1.0 - self.beta2) * g * g;
            weights[i] = weights[i] * self.keep - self.rate * mean[i] / (square[i].sqrt() * self.root + self.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::{close, list};

    #[derive(Deserialize)]
    struct Vectors {
        adamw: Trace,
    }

    #[derive(Deserialize)]
    struct Trace {
        start: [Vec<f32>; 2],
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        gradients: [Vec<f32>; 2],
        norm: f64,
        weights: [Vec<f64>; 2],
        averages: [Vec<f64>; 2],
    }

    const NAMES: [&str; 2] = ["blk.0.ffn_up.weight", "blk.0.ffn_norm.weight"];

    fn named<T>(parts: [T; 2]) -> BTreeMap<String, T> {
        NAMES.into_iter().map(String::from).zip(parts).collect()
    }

    fn tensors(numbers: &[Vec<f32>; 2]) -> [Tensor; 2] {
        let [matrix, norm] = numbers.each_ref().map(|n| Tensor::new(&n[..], &Device::Cpu).unwrap());
        [matrix.reshape((2, 3)).unwrap(), norm]
    }

    fn config() -> Config {
        Config { beta2: 0.99, epsilon: 1e-6, weight_decay: 0.1, ema: 0.9, ..Config::default() }
    }

    #[test]
    fn steps_are_those_of_pytorch_also_after_a_restart() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/students.json");
        let Vectors { adamw } = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let variables = named(tensors(&adamw.start).map(|t| Var::from_tensor(&t).unwrap()));
        let mut optimizer = AdamW::new(config(), &variables, |_| 1.0).unwrap();
        for (i, step) in adamw.steps.iter().enumerate() {
            if i == 4 {
                let (state, steps) = optimizer.state().unwrap();
                optimizer = AdamW::new(config(), &variables, |_| 1.0).unwrap();
                optimizer.restore(&state, steps).unwrap();
                let again = optimizer.state().unwrap();
                assert_eq!(again.1, 4);
                assert!(state.iter().all(|(name, tensor)| list(tensor) == list(&again.0[name])));
            }
            let rate = 0.01 * (i + 1) as f64 / 4.0;
            let norm = optimizer.step(&variables, &named(tensors(&step.gradients)), rate).unwrap();
            close("norm", &[norm], &[step.norm], 1e-6);
            let averages = optimizer.averages(&variables).unwrap();
            for (name, (weights, average)) in NAMES.iter().zip(step.weights.iter().zip(&step.averages)) {
                close(name, &list(&variables[*name]), weights, 1e-6);
                close(name, &list(&averages[*name]), average, 1e-6);
            }
        }
    }

    #[test]
    fn variables_learn_at_rates_of_their_own() {
        let variables = named(tensors(&[vec![1.0; 6], vec![1.0; 4]]).map(|t| Var::from_tensor(&t).unwrap()));
        let rate = |name: &str| if name == NAMES[0] { 3.0 } else { 1.0 };
        let mut optimizer = AdamW::new(Config { weight_decay: 0.0, ..config() }, &variables, rate).unwrap();
        let gradients = named(tensors(&[vec![0.5; 6], vec![0.5; 4]]));
        optimizer.step(&variables, &gradients, 0.1).unwrap();
        let (state, steps) = optimizer.state().unwrap();
        optimizer.restore(&state, steps).unwrap();
        optimizer.step(&variables, &gradients, 0.1).unwrap();
        close("tripled", &list(&variables[NAMES[0]]), &[0.4; 6], 1e-4);
        close("as it is", &list(&variables[NAMES[1]]), &[0.8; 4], 1e-4);
    }

    #[test]
    fn nothing_moves_without_all_gradients_or_with_infinite_ones() {
        let start = [vec![1.0; 6], vec![2.0; 4]];
        let variables = named(tensors(&start).map(|t| Var::from_tensor(&t).unwrap()));
        let mut optimizer = AdamW::new(config(), &variables, |_| 1.0).unwrap();
        let mut gradients = named(tensors(&[vec![0.5; 6], vec![f32::INFINITY; 4]]));
        assert!(optimizer.step(&variables, &gradients, 0.1).unwrap_err().to_string().contains("finite"));
        gradients.remove(NAMES[1]);
        assert!(optimizer.step(&variables, &gradients, 0.1).unwrap_err().to_string().contains(NAMES[1]));
        assert_eq!((list(&variables[NAMES[0]]), optimizer.steps()), (vec![1.0; 6], 0));
        assert!(AdamW::new(Config { beta1: 1.0, ..config() }, &variables, |_| 1.0).is_err());
        assert!(AdamW::new(Config { clip: f64::NAN, ..config() }, &variables, |_| 1.0).is_err());
    }
}
