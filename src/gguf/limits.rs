//! What every GGUF file must satisfy, whether it is read or written. A check that fails says what was expected;
//! the caller adds which file and which key or tensor.

use super::values::shown;
use crate::tensor::DType;

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME: usize = 65_535;
/// The longest name of a tensor, in bytes, that is read.
pub const MAX_TENSOR_NAME: usize = 64;
/// The most dimensions of a tensor.
pub const MAX_DIMS: usize = 4;
/// The most keys of a file: thousands of times what models use, and little memory.
pub const MAX_KEYS: u64 = 65_536;
/// The most tensors of a file: dozens of times what models use, and little memory.
pub const MAX_TENSORS: u64 = 65_536;
/// The alignment of tensor data in a file that does not say.
pub const DEFAULT_ALIGNMENT: usize = 32;
/// The key that holds the alignment of tensor data.
pub const ALIGNMENT_KEY: &str = "general.alignment";

/// A name is text of 1 to `max` bytes.
pub(super) fn name(bytes: &[u8], max: usize) -> Result<&str, String> {
    if bytes.is_empty() {
        return Err("its name is empty".into());
    }
    if bytes.len() > max {
        return Err(format!("its name has {} bytes, expected at most {max}", bytes.len()));
    }
    std::str::from_utf8(bytes).map_err(|_| format!("its name \"{}\" is not UTF-8", shown(bytes, 80)))
}

/// The alignment of tensor data is a power of two and, so that every number in it is aligned, at least 8.
pub(super) fn alignment(value: usize) -> Result<usize, String> {
    if value >= 8 && value.is_power_of_two() {
        Ok(value)
    } else {
        Err(format!("the alignment is {value}, expected a power of two that is at least 8"))
    }
}

/// Bytes of a tensor's data: 1 to 4 dimensions, none of them zero, rows of whole blocks, and a size that this machine
/// can address.
pub(super) fn tensor_bytes(dtype: DType, dims: &[usize]) -> Result<usize, String> {
    if dims.is_empty() || dims.len() > MAX_DIMS {
        return Err(format!("it has {} dimensions, expected 1 to {MAX_DIMS}", dims.len()));
    }
    if dims.contains(&0) {
        return Err(format!("its shape {dims:?} has a dimension of size 0"));
    }
    let cols = dims.first().copied().unwrap_or(1);
    if !cols.is_multiple_of(dtype.block_len()) {
        return Err(format!("its rows of {cols} elements are not whole {dtype} blocks of {}", dtype.block_len()));
    }
    // The elements too must be countable, though they may take less than a byte each.
    let elements = dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
    let bytes = dims.iter().skip(1).try_fold(dtype.row_bytes(cols), |n, &d| Some(n?.checked_mul(d)));
    match (elements, bytes) {
        (Some(_), Some(Some(bytes))) => Ok(bytes),
        _ => Err(format!("its shape {dims:?} is larger than this machine can address")),
    }
}
