//! Variables of a student as a whole: for checkpoints, and for the mean of their past.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor, Var};
use std::collections::BTreeMap;

/// The variables by their names behind a prefix, on the CPU.
///
/// # Errors
/// What the device says; none on a CPU.
pub(super) fn named(variables: &BTreeMap<String, Var>, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
    let on_cpu = |variable: &Var| variable.to_device(&Device::Cpu);
    variables.iter().map(|(name, variable)| Ok((format!("{prefix}{name}"), on_cpu(variable)?))).collect()
}

/// Sets all variables to the tensors of their names behind a prefix, wherever these are.
///
/// # Errors
/// `Format` if one is missing or of another shape.
pub(super) fn set(variables: &BTreeMap<String, Var>, tensors: &BTreeMap<String, Tensor>, prefix: &str) -> Result<()> {
    for (name, variable) in variables {
        let tensor = tensors.get(&format!("{prefix}{name}"));
        let tensor = tensor.filter(|tensor| tensor.shape() == variable.shape());
        let tensor =
            tensor.ok_or_else(|| Error::format(format!("{name} is missing in the checkpoint, or of another shape")))?;
        variable.set(&tensor.to_device(variable.device())?)?;
    }
    Ok(())
}

/// Sets all variables to other tensors, and returns what they were.
///
/// # Errors
/// As [`set`].
pub(super) fn swap(
    variables: &BTreeMap<String, Var>,
    others: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut before = BTreeMap::new();
    for (name, variable) in variables {
        before.insert(name.clone(), variable.as_tensor().copy()?);
    }
    set(variables, others, "")?;
    Ok(before)
}

/// Refuses a student of which a variable gets no gradient: some operation dropped it silently.
///
/// # Errors
/// `Input` with the names of such variables.
pub(super) fn check_all_reached(variables: &BTreeMap<String, Var>, gradients: &BTreeMap<String, Tensor>) -> Result<()> {
    let missing: Vec<&str> =
        variables.keys().filter(|name| !gradients.contains_key(*name)).map(String::as_str).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            Err(Error::input(format!("no gradient reaches {}, expected one for each variable", missing.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_gradient_is_named() {
        let variable = || Var::from_vec(vec![1.0_f32, 2.0], 2, &Device::Cpu).unwrap();
        let variables = BTreeMap::from(["a", "b", "c"].map(|name| (name.to_string(), variable())));
        let (x, y) = (&variables["a"], &variables["c"]);
        // `detach` stands for an operation that has no gradient.
        let loss = |x: Tensor, y: Tensor| (x * y).unwrap().sum_all().unwrap().backward().unwrap();
        let reached = |store: candle_core::backprop::GradStore| -> BTreeMap<String, Tensor> {
            let gradient = |(name, variable): (&String, &Var)| Some((name.clone(), store.get(variable)?.clone()));
            variables.iter().filter_map(gradient).collect()
        };
        let of_some = reached(loss(x.detach(), y.as_tensor().clone()));
        let error = check_all_reached(&variables, &of_some).unwrap_err().to_string();
        assert_eq!(error, "no gradient reaches a, b, expected one for each variable");
        let with_b = (x.as_tensor() + variables["b"].as_tensor()).unwrap();
        check_all_reached(&variables, &reached(loss(with_b, y.as_tensor().clone()))).unwrap();
    }
}
