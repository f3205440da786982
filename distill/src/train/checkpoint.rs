//! Everything that a training needs to go on: one safetensors file, with what is not a tensor as JSON in its header.
//!
//! It is written as an [`output`], so whatever goes wrong, the last one stays whole.

use crate::{
    error::{Error, Result},
    export::finite,
};
use candle_core::{Device, Tensor};
use pupil::output;
use safetensors::SafeTensors;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// The key of the JSON among the file's metadata.
const STATE: &str = "pupil.state";

/// Writes tensors of f32 and a state.
///
/// # Errors
/// `Input` if a number is not finite: nobody could go on with it. `Io` if it cannot be written. What was at `path` is then as
/// it was.
pub fn save(path: &Path, tensors: &BTreeMap<String, Tensor>, state: &impl Serialize) -> Result<()> {
    tensors.iter().try_for_each(|(name, tensor)| finite(name, tensor).map(drop))?;
    let state = serde_json::to_string(state).map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    let metadata = HashMap::from([(STATE.to_string(), state)]);
    let bytes = safetensors::serialize(tensors, Some(metadata));
    let bytes = bytes.map_err(|error| Error::input(format!("{}: {error}", path.display())))?;
    Ok(output::write(path, &bytes)?)
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// `Io` if it cannot be read, `Format` if it is something else.
pub fn load<S: DeserializeOwned>(path: &Path) -> Result<(BTreeMap<String, Tensor>, S)> {
    let bad =
        |what: &dyn std::fmt::Display| Error::format(format!("{}: {what}, expected a checkpoint", path.display()));
    let bytes = fs::read(path).map_err(|error| Error::io(path, &error))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(&error))?;
    let state = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE));
    let state = state.ok_or_else(|| bad(&"a file without a state"))?;
    let state = serde_json::from_str(state).map_err(|error| bad(&error))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| bad(&error))?;
    Ok((tensors.into_iter().collect(), state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pupil-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let path = folder("checkpoint").join("c.safetensors");
        let values = [1.0_f32, -0.0, f32::MIN_POSITIVE / 3.0, 1e38];
        let tensor = Tensor::new(&values, &Device::Cpu).unwrap().reshape((2, 2)).unwrap();
        let tensors = BTreeMap::from([("a.b".to_string(), tensor)]);
        save(&path, &tensors, &(7_u64, "x")).unwrap();
        let (read, state): (_, (u64, String)) = load(&path).unwrap();
        let bits = |tensor: &Tensor| -> Vec<u32> {
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert_eq!((read["a.b"].dims(), bits(&read["a.b"])), (&[2, 2][..], bits(&tensors["a.b"])));
        assert_eq!(state, (7, "x".to_string()));
    }

    #[test]
    fn what_is_not_finite_replaces_nothing() {
        let path = folder("finite").join("c.safetensors");
        let save = |number: f32| {
            let tensor = Tensor::new(&[1.0, number, 2.0], &Device::Cpu).unwrap();
            save(&path, &BTreeMap::from([("a.b".to_string(), tensor)]), &number.is_finite())
        };
        save(0.5).unwrap();
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = save(number).unwrap_err().to_string();
            assert_eq!(error, format!("tensor `a.b` holds {number}, expected finite numbers"));
            assert!(load::<bool>(&path).unwrap().1);
        }
    }

    #[test]
    fn other_files_are_refused() {
        let path = folder("other").join("c.safetensors");
        for content in [&b""[..], b"hello hello hello", &[255; 100]] {
            fs::write(&path, content).unwrap();
            let error = load::<u32>(&path).unwrap_err().to_string();
            assert!(error.contains("expected a checkpoint"), "{error}");
        }
    }
}
