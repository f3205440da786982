//! AdamW (Loshchilov and Hutter 2019), with clipping and the running mean of weights.
//!
//! `fused.rs` does all of it in one pass on the CPU, variable by variable; `composed.rs` out of candle's operations on any
//! device, for all variables at once.

mod composed;
mod fused;

use crate::error::{Error, Result};
use candle_core::{DType, Tensor, Var};
use composed::Composed;
use fused::Fused;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    steps: u64,
    form: Box<dyn Form>,
}

/// How steps are computed, and what is kept of each variable from step to step.
trait Form {
    /// Moves variables against their gradients, given in the order of the names, and returns the norm of these before
    /// clipping. `factors` are those of a step with this norm; if there are none, nothing moves.
    fn step(&mut self, pairs: &[(&Var, &Tensor)], factors: &dyn Fn(f64) -> Result<Factors>) -> Result<f64>;

    /// Tensors on the CPU of one dimension, by [kind](KINDS) and variable. Only the last kind may be absent.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Takes up tensors like those of [`state`](Self::state).
    fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()>;

    /// The running mean of a variable's weights, of one dimension, if there is one.
    fn average(&self, name: &str) -> Result<Option<Tensor>>;
}

/// What is kept: the mean gradient, the mean squared gradient, the mean of the weights.
const KINDS: [&str; 3] = ["mean", "square", "average"];

/// What a form has to know of a variable.
struct Kept<'a> {
    name: &'a str,
    variable: &'a Var,
    /// What the learning rate is multiplied with.
    rate: f64,
    decays: bool,
}

/// The factors of a step.
#[derive(Clone, Copy)]
struct Factors {
    /// Of gradients, so that they are clipped.
    clip: f64,
    beta1: f64,
    beta2: f64,
    /// The learning rate over the bias correction of the mean.
    rate: f64,
    /// 1 over the root of the bias correction of the mean square.
    root: f64,
    epsilon: f64,
    /// The part of weights that decays.
    decay: f64,
    ema: f64,
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
        let kept = variables.iter().map(|(name, variable)| {
            let decays = decays(name, variable);
            Kept { name, variable, rate: rate(name), decays }
        });
        let kept: Vec<Kept<'_>> = kept.collect();
        let form: Box<dyn Form> = match kept.iter().all(|kept| crate::nn::has_fused(kept.variable.device())) {
            true => Box::new(Fused::new(&kept, ema > 0.0)?),
            false => Box::new(Composed::new(&kept, ema > 0.0)?),
        };
        Ok(Self { config, steps: 0, form })
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How much of the running mean of weights stays at the next step. It starts low: a mean that has just begun is to
    /// forget the first weights soon.
    pub fn ema(&self) -> f64 {
        let step = (self.steps + 1) as f64;
        self.config.ema.min(step / (9.0 + step))
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
        let pairs: Vec<(&Var, &Tensor)> = variables
            .iter()
            .map(|(name, variable)| match gradients.get(name) {
                Some(gradient) if gradient.shape() == variable.shape() => Ok((variable, gradient)),
                _ => Err(Error::input(format!("{name} has no gradient that fits it, expected one for each variable"))),
            })
            .collect::<Result<_>>()?;
        let Config { beta1, beta2, epsilon, weight_decay, clip, .. } = self.config;
        let ema = self.ema();
        let steps = (self.steps + 1).min(1 << 30) as i32;
        let factors = |norm: f64| match norm.is_finite() {
            true => Ok(Factors {
                // As PyTorch clips.
                clip: (clip / (norm + 1e-6)).min(1.0),
                beta1,
                beta2,
                rate: learning_rate / (1.0 - beta1.powi(steps)),
                root: (1.0 - beta2.powi(steps)).sqrt().recip(),
                epsilon,
                decay: learning_rate * weight_decay,
                ema,
            }),
            false => Err(Error::input(format!("the norm of the gradients is {norm}, expected a finite number"))),
        };
        let norm = self.form.step(&pairs, &factors)?;
        self.steps += 1;
        Ok(norm)
    }

    /// Everything but the constants: tensors by `mean.NAME`, `square.NAME` and `average.NAME`, and the steps done.
    ///
    /// # Errors
    /// What the device says; none on a CPU.
    pub fn state(&self) -> Result<(BTreeMap<String, Tensor>, u64)> {
        Ok((self.form.state()?, self.steps))
    }

    /// Takes up what [`state`](Self::state) gave; other tensors are passed over.
    ///
    /// # Errors
    /// `Input` if a tensor is missing or of another size.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        self.form.restore(tensors)?;
        self.steps = steps;
        Ok(())
    }

    /// The running mean of each variable, in its shape, where one is kept.
    ///
    /// # Errors
    /// `Input` for a variable that the optimiser does not know.
    pub fn averages(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>> {
        let average = |(name, variable): (&String, &Var)| match self.form.average(name)? {
            Some(average) if average.elem_count() == variable.elem_count() => {
                Ok((name.clone(), average.reshape(variable.shape())?))
            }
            _ => Err(Error::input(format!("no running mean of {name} is kept"))),
        };
        variables.iter().map(average).collect()
    }
}

/// The tensor of a kind and a variable of `size` numbers.
fn found<'a>(tensors: &'a BTreeMap<String, Tensor>, kind: &str, name: &str, size: usize) -> Result<&'a Tensor> {
    let name = format!("{kind}.{name}");
    let found = tensors.get(&name).ok_or_else(|| Error::input(format!("the optimiser's {name} is missing")))?;
    match found.elem_count() == size && found.dtype() == DType::F32 {
        true => Ok(found),
        false => {
            let shape = found.shape();
            Err(Error::input(format!("the optimiser's {name} is {shape:?}, expected {size} numbers of f32")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{
        check::{close, list},
        only_composed,
    };
    use candle_core::Device;

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

    /// Runs a test of each form.
    fn both(test: fn()) {
        test();
        only_composed(test);
    }

    #[test]
    fn steps_are_those_of_pytorch_also_after_a_restart() {
        both(follow_pytorch);
    }

    fn follow_pytorch() {
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
        both(learn_at_rates);
    }

    fn learn_at_rates() {
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
        both(stay);
    }

    fn stay() {
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
