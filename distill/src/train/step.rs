//! The gradients of one step.

use crate::{
    batch::Batch,
    error::{Error, Result},
    loss::{Lost, Objective, Soft, loss},
    student::Student,
};
use candle_core::{Tensor, backprop::GradStore};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A part of an accumulated batch.
pub struct Part {
    /// What goes through the student.
    pub batch: Batch,
    /// What is made small on it; `tokens` are those of the whole accumulated batch.
    pub objective: Objective,
    /// For people: which one it is.
    pub name: String,
}

/// What came of a step's batches.
#[derive(Default)]
pub struct Step {
    /// The loss a token.
    pub loss: f64,
    /// What it is made of.
    pub lost: Lost,
    /// The sum of the parts' gradients, by the names of the variables.
    pub gradients: BTreeMap<String, Tensor>,
}

/// Runs the parts forward and backward. `teach` gives what the teacher expects of a part.
///
/// # Errors
/// `Input` if a loss is no finite number, with the name of the batch; whatever the functions refuse.
pub fn step(
    student: &dyn Student,
    parts: &[Part],
    teach: &mut dyn FnMut(&Part) -> Result<Option<Soft>>,
    mut dropout: Option<(f32, &mut ChaCha8Rng)>,
) -> Result<Step> {
    let mut total = Step::default();
    for part in parts {
        let soft = teach(part)?;
        let dropout = dropout.as_mut().map(|(rate, random)| (*rate, &mut **random));
        // Weights that cannot be stored are what a loss that is no number looks like to a student that rounds them.
        let states = student.hidden(&part.batch, dropout).and_then(|hidden| Ok((hidden, student.output()?)));
        let (hidden, (weight, scale)) = states.map_err(|error| error.at(&part.name))?;
        let (loss, lost) = loss(&hidden, (&weight, scale), &part.batch.labels, soft.as_ref(), &part.objective)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::input(format!("the loss is {value} at {}, expected a number", part.name)));
        }
        total.loss += value;
        total.lost += lost;
        add(student, &loss.backward()?, &mut total.gradients)?;
    }
    Ok(total)
}

fn add(student: &dyn Student, new: &GradStore, sum: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for (name, variable) in student.variables() {
        let Some(gradient) = new.get(variable) else { continue };
        let gradient = match sum.get(name) {
            Some(sum) => (sum + gradient)?,
            None => gradient.clone(),
        };
        sum.insert(name.clone(), gradient);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{IGNORE, Tokens},
        student::{Decoder, decoder::Config, tests::llama},
    };
    use candle_core::Device;

    /// Texts that begin with each of `first`, some of their positions without a label.
    fn batch(first: &[u32]) -> Batch {
        let rows: Vec<Vec<u32>> = first.iter().map(|&id| (id..id + 2 + id % 3).collect()).collect();
        let labels =
            |row: &Vec<u32>| row.iter().map(|id| if id % 4 == 0 { IGNORE } else { id + 1 }).collect::<Vec<_>>();
        let labels: Vec<Vec<u32>> = rows.iter().map(labels).collect();
        Batch { source: None, labels: Tokens::new(&labels, IGNORE).ids, input: Tokens::new(&rows, 0) }
    }

    #[test]
    fn halves_of_a_batch_add_up_to_it() {
        let config = Config { vocab: 16, ..llama() };
        let student = Decoder::new(config, 3, &Device::Cpu).unwrap();
        let run = |batches: &[&[u32]], teacher: bool| {
            let batches: Vec<Batch> = batches.iter().map(|first| batch(first)).collect();
            let tokens = batches.iter().map(|batch| batch.valid().len()).sum();
            let objective = Objective { alpha: 0.4, label_smoothing: 0.1, tokens, ..Objective::default() };
            let part = |(i, batch)| Part { batch, objective, name: format!("batch {i}") };
            let parts: Vec<Part> = batches.into_iter().enumerate().map(part).collect();
            // A teacher that knows each token's successor but one.
            let mut teach = |part: &Part| -> Result<Option<Soft>> {
                let Batch { input, .. } = &part.batch;
                let rows = part.batch.valid().into_iter().map(|at| {
                    let expected = input.ids[at as usize] + 2;
                    (0..16).map(move |id| if id == expected { 3.0_f32 } else { 0.0 })
                });
                let logits: Vec<f32> = rows.flatten().collect();
                let shape = (logits.len() / 16, 16);
                Ok(teacher.then(|| Tensor::from_vec(logits, shape, &Device::Cpu)).transpose()?.map(Soft::Dense))
            };
            step(&student, &parts, &mut teach, None).unwrap()
        };
        for teacher in [false, true] {
            // Halves of different numbers of tokens, of different widths.
            let (whole, halves) = (run(&[&[1, 2, 3, 5, 8][..]], teacher), run(&[&[1, 2][..], &[3, 5, 8]], teacher));
            assert!((whole.loss - halves.loss).abs() < 1e-6, "{} {}", whole.loss, halves.loss);
            assert_eq!((whole.lost.tokens, whole.lost.correct), (halves.lost.tokens, halves.lost.correct));
            assert_eq!(whole.gradients.len(), student.variables().len());
            for (name, gradient) in &whole.gradients {
                let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let (whole, halves) = (numbers(gradient), numbers(&halves.gradients[name]));
                let size = whole.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                assert!(size > 0.0, "{name}");
                for (a, b) in whole.iter().zip(&halves) {
                    assert!((a - b).abs() < 1e-5 * size, "{name}: {a} {b}");
                }
            }
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_refused_with_its_batch() {
        let config: Config = toml::from_str(
            "vocab = 16\ncontext = 8\nembedding = 8\nlayers = 1\nheads = 2\nkv_heads = 1\nfeed_forward = 12",
        )
        .unwrap();
        let student = Decoder::new(config, 3, &Device::Cpu).unwrap();
        let variable = &student.variables()["output_norm.weight"];
        variable.set(&Tensor::new(&[f32::NAN; 8], &Device::Cpu).unwrap()).unwrap();
        let part = |name: &str| Part { batch: batch(&[1, 2]), objective: Objective::default(), name: name.into() };
        let error = step(&student, &[part("step 7, batch 3")], &mut |_| Ok(None), None).err().unwrap().to_string();
        assert_eq!(error, "the loss is NaN at step 7, batch 3, expected a number");
    }
}
