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
        let hidden = student.hidden(&part.batch, dropout)?;
        let (weight, scale) = student.output()?;
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
