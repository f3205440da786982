//! The key/value cache: what attention has seen, so that each token is computed once.

use crate::error::{Error, Result};
use crate::kernels::{KEYS, Kernels};
use half::f16;

/// How the cache stores keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheType {
    /// 4 bytes each.
    F32,
    /// 2 bytes each: the default.
    #[default]
    F16,
    /// 1 byte each, with an f32 scale for every 32: 9/8 bytes.
    Q8_0,
}

impl CacheType {
    /// Bytes of a number, rounded up.
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Q8_0 => 2,
        }
    }
}

impl std::str::FromStr for CacheType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "q8_0" => Ok(Self::Q8_0),
            _ => Err(Error::input(format!("cache type '{name}': expected f32, f16 or q8_0"))),
        }
    }
}

/// Numbers in one of the cache's types.
enum Store {
    F32(Vec<f32>),
    F16(Vec<[u8; 2]>),
    /// `scales[i]` belongs to `quants[32 × i ..]`.
    Q8 {
        quants: Vec<i8>,
        scales: Vec<f32>,
    },
}

impl Store {
    /// Zeros, which cost no memory until they are written.
    fn new(kind: CacheType, len: usize) -> Self {
        match kind {
            CacheType::F32 => Self::F32(vec![0.0; len]),
            CacheType::F16 => Self::F16(vec![[0; 2]; len]),
            CacheType::Q8_0 => Self::Q8 { quants: vec![0; len], scales: vec![0.0; len.div_ceil(32)] },
        }
    }

    /// Stores `x` at `at`, `at + step`, …
    fn write(&mut self, at: usize, step: usize, x: &[f32]) {
        match self {
            Self::F32(data) => data[at..].iter_mut().step_by(step).zip(x).for_each(|(slot, &x)| *slot = x),
            Self::F16(data) => {
                data[at..].iter_mut().step_by(step).zip(x).for_each(|(slot, &x)| *slot = f16::from_f32(x).to_le_bytes())
            }
            Self::Q8 { .. } => unreachable!("quantized in rows, by HeadCache"),
        }
    }

    fn copy(&mut self, from: usize, to: usize, len: usize) {
        match self {
            Self::F32(data) => data.copy_within(from..from + len, to),
            Self::F16(data) => data.copy_within(from..from + len, to),
            Self::Q8 { quants, scales } => {
                quants.copy_within(from..from + len, to);
                scales.copy_within(from / 32..(from + len) / 32, to / 32);
            }
        }
    }
}

/// One head's keys and values in one layer.
///
/// Keys lie in blocks of [`KEYS`] positions, `[block][dim][position]`, so that a block's scores are computed with
/// positions in the vector lanes. Values lie as `[position][dim]`, padded to a multiple of 16. In a quantized cache
/// both lie as `[position][dim]`, and keys are turned as they are read.
pub struct HeadCache {
    kind: CacheType,
    dims: usize,
    keys: Store,
    values: Store,
}

impl HeadCache {
    fn new(kind: CacheType, dims: usize, capacity: usize) -> Self {
        let padded = padded(dims, kind);
        let positions = capacity.next_multiple_of(KEYS);
        let key_dims = if kind == CacheType::Q8_0 { padded } else { dims };
        Self { kind, dims, keys: Store::new(kind, positions * key_dims), values: Store::new(kind, positions * padded) }
    }

    /// Stores one position's key and value.
    pub fn write(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let padded = padded(self.dims, self.kind);
        if let (Store::Q8 { quants: kq, scales: ks }, Store::Q8 { quants: vq, scales: vs }) =
            (&mut self.keys, &mut self.values)
        {
            quantize(key, &mut kq[position * padded..], &mut ks[position * padded / 32..]);
            quantize(value, &mut vq[position * padded..], &mut vs[position * padded / 32..]);
            return;
        }
        self.keys.write(position / KEYS * KEYS * self.dims + position % KEYS, KEYS, key);
        self.values.write(position * padded, 1, value);
    }

    /// Block `block` of the keys as `[dims][KEYS]`, in place or widened into `scratch`.
    pub fn keys<'a>(&'a self, block: usize, kernels: &Kernels, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let len = KEYS * self.dims;
        match &self.keys {
            Store::F32(data) => &data[block * len..][..len],
            Store::F16(data) => {
                scratch.resize(len, 0.0);
                kernels.widen(&data[block * len..][..len], scratch);
                scratch
            }
            Store::Q8 { quants, scales } => {
                scratch.resize(len, 0.0);
                let padded = padded(self.dims, self.kind);
                for j in 0..KEYS {
                    let row = (block * KEYS + j) * padded;
                    for d in 0..self.dims {
                        scratch[d * KEYS + j] = f32::from(quants[row + d]) * scales[(row + d) / 32];
                    }
                }
                scratch
            }
        }
    }

    /// Block `block` of the values as `[KEYS][padded dims]`, in place or widened into `scratch`.
    pub fn values<'a>(&'a self, block: usize, kernels: &Kernels, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let len = KEYS * padded(self.dims, self.kind);
        let range = block * len..(block + 1) * len;
        match &self.values {
            Store::F32(data) => &data[range],
            Store::F16(data) => {
                scratch.resize(len, 0.0);
                kernels.widen(&data[range], scratch);
                scratch
            }
            Store::Q8 { quants, scales } => {
                scratch.resize(len, 0.0);
                let scales = &scales[range.start / 32..range.end / 32];
                for ((out, quants), scale) in
                    scratch.chunks_exact_mut(32).zip(quants[range].chunks_exact(32)).zip(scales)
                {
                    out.iter_mut().zip(quants).for_each(|(out, &q)| *out = f32::from(q) * scale);
                }
                scratch
            }
        }
    }

    /// Copies the keys and values in block `from` to block `to`.
    pub(super) fn copy_block(&mut self, from: usize, to: usize) {
        let values = KEYS * padded(self.dims, self.kind);
        let keys = if self.kind == CacheType::Q8_0 { values } else { KEYS * self.dims };
        self.keys.copy(from * keys, to * keys, keys);
        self.values.copy(from * values, to * values, values);
    }

    /// Elements of a value with its padding.
    pub fn value_dims(&self) -> usize {
        padded(self.dims, self.kind)
    }
}

fn padded(dims: usize, kind: CacheType) -> usize {
    dims.next_multiple_of(if kind == CacheType::Q8_0 { 32 } else { 16 })
}

/// `scale = max|x| / 127` for every 32, `q = round(x / scale)`.
fn quantize(x: &[f32], quants: &mut [i8], scales: &mut [f32]) {
    for ((x, quants), scale) in x.chunks(32).zip(quants.chunks_mut(32)).zip(scales) {
        let max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        *scale = max / 127.0;
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        quants.iter_mut().zip(x).for_each(|(q, x)| *q = (x * inverse).round_ties_even() as i8);
    }
}

/// All heads of all layers, for up to `capacity` positions.
pub struct KvCache {
    heads: Vec<HeadCache>,
    per_layer: usize,
    capacity: usize,
    len: usize,
}

impl KvCache {
    /// An empty cache for `layers` layers of `heads` key/value heads of `dims` elements.
    ///
    /// # Errors
    /// `Input` if there is no memory for a cache of that capacity.
    pub fn new(kind: CacheType, layers: usize, heads: usize, dims: usize, capacity: usize) -> Result<Self> {
        let too_large = || Error::input(format!("a context of {capacity} tokens: there is no memory for its cache"));
        let numbers = capacity.checked_next_multiple_of(KEYS).ok_or_else(too_large)?;
        let bytes =
            [layers, heads, padded(dims, kind), 2, kind.bytes()].into_iter().try_fold(numbers, usize::checked_mul);
        // An allocation that fails further down would end the program; this one says whether it would.
        Vec::<u8>::new().try_reserve_exact(bytes.ok_or_else(too_large)?).map_err(|_| too_large())?;
        let heads_of_all = (0..layers * heads).map(|_| HeadCache::new(kind, dims, capacity)).collect();
        Ok(Self { heads: heads_of_all, per_layer: heads, capacity, len: 0 })
    }

    /// Positions stored so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Counts `n` more positions as stored.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
        assert!(self.len <= self.capacity);
    }

    /// A layer's heads.
    pub(super) fn layer(&self, layer: usize) -> &[HeadCache] {
        &self.heads[layer * self.per_layer..][..self.per_layer]
    }

    pub(super) fn layer_mut(&mut self, layer: usize) -> &mut [HeadCache] {
        &mut self.heads[layer * self.per_layer..][..self.per_layer]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_every_type() {
        for (kind, bound) in [(CacheType::F32, 0.0), (CacheType::F16, 1e-3), (CacheType::Q8_0, 5e-3)] {
            for dims in [8, 16, 24, 64, 80] {
                let mut head = HeadCache::new(kind, dims, 40);
                let number = |p: usize, d: usize| ((p * 31 + d * 7) % 41) as f32 / 41.0 - 0.5;
                for p in 0..40 {
                    let key: Vec<f32> = (0..dims).map(|d| number(p, d)).collect();
                    let value: Vec<f32> = (0..dims).map(|d| -number(p, d)).collect();
                    head.write(p, &key, &value);
                }
                let kernels = Kernels::get().unwrap();
                let (mut a, mut b) = (Vec::new(), Vec::new());
                for p in 0..40 {
                    let keys = head.keys(p / KEYS, kernels, &mut a).to_vec();
                    let values = head.values(p / KEYS, kernels, &mut b).to_vec();
                    let width = head.value_dims();
                    for d in 0..dims {
                        assert!((keys[d * KEYS + p % KEYS] - number(p, d)).abs() <= bound);
                        assert!((values[p % KEYS * width + d] + number(p, d)).abs() <= bound);
                    }
                    assert!(values[p % KEYS * width..][dims..width].iter().all(|&x| x == 0.0));
                }
            }
        }
    }

    #[test]
    fn an_absurd_capacity_is_refused() {
        assert!(KvCache::new(CacheType::F16, 30, 3, 64, usize::MAX / 100).is_err());
    }
}
