//! FNV-1a over 64 bits (Fowler, Noll & Vo): the same everywhere, and for ever, since files name things by it.

/// A hash that grows.
#[derive(Clone, Copy)]
pub struct Fnv(pub u64);

impl Fnv {
    /// Of nothing.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes up bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self
    }
}
