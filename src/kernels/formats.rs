//! How each quantized format's blocks become vectors of 32 quants and their scales.
//!
//! One decoding serves both products: the dot product of a row with one token ([`super::gemv`]) and the unpacking of
//! a panel of rows for many tokens ([`super::panel`]). The layouts are those of [`crate::quant`].

use super::simd::Blocks;

/// How quants become weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `scale × q`, with signed quants.
    Signed,
    /// `scale × (q − 2^shift)`, with quants from 0.
    Offset(u32),
    /// `scale × q + min`, with quants from 0.
    Mins,
}

/// A block format.
pub(crate) trait Format {
    /// A block as it lies in the file.
    type Block;
    /// Elements in a block: 32 or 256.
    const LEN: usize;
    /// Elements that share a scale: 16 or 32.
    const GROUP: usize;
    const KIND: Kind;

    /// The whole blocks of `bytes`.
    fn blocks(bytes: &[u8]) -> &[Self::Block];
    /// Quants `32 × i .. 32 × i + 32` of the block.
    fn quants<S: Blocks>(s: S, block: &Self::Block, i: usize) -> S::B;
    /// The scales of the block's groups, and their mins where the format has them.
    fn scales<S: Blocks>(s: S, block: &Self::Block, scales: &mut [f32; 16], mins: &mut [f32; 16]);
}

/// A format of 32 elements with one scale and at most one min.
pub(crate) trait Small: Format + Sized {
    fn scale(block: &Self::Block) -> u16;
    fn min(block: &Self::Block) -> u16;
}

macro_rules! small {
    ($name:ident, $bytes:literal, $kind:expr, min: $min:expr, |$s:ident, $block:ident| $quants:expr) => {
        pub(crate) struct $name;

        impl Format for $name {
            type Block = [u8; $bytes];
            const LEN: usize = 32;
            const GROUP: usize = 32;
            const KIND: Kind = $kind;

            #[inline(always)]
            fn blocks(bytes: &[u8]) -> &[Self::Block] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn quants<S: Blocks>($s: S, $block: &Self::Block, _: usize) -> S::B {
                $quants
            }
            #[inline(always)]
            fn scales<S: Blocks>(s: S, block: &Self::Block, scales: &mut [f32; 16], mins: &mut [f32; 16]) {
                scales[0] = s.half(Self::scale(block));
                mins[0] = s.half(Self::min(block));
            }
        }

        impl Small for $name {
            #[inline(always)]
            fn scale(block: &Self::Block) -> u16 {
                u16::from_le_bytes([block[0], block[1]])
            }
            #[inline(always)]
            fn min(block: &Self::Block) -> u16 {
                let at: Option<usize> = $min;
                at.map_or(0, |at| u16::from_le_bytes([block[at], block[at + 1]]))
            }
        }
    };
}

#[inline(always)]
fn take<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("inside the block")
}

small!(Q8_0, 34, Kind::Signed, min: None, |s, block| s.load_bytes(&block[2..]));
small!(Q4_0, 18, Kind::Offset(3), min: None, |s, block| s.nibbles(take(block, 2)));
small!(Q4_1, 20, Kind::Mins, min: Some(2), |s, block| s.nibbles(take(block, 4)));
small!(Q5_0, 22, Kind::Offset(4), min: None, |s, block| {
    s.or(s.nibbles(take(block, 6)), s.spread_bits(u32::from_le_bytes(*take(block, 2)), 16))
});
small!(Q5_1, 24, Kind::Mins, min: Some(2), |s, block| {
    s.or(s.nibbles(take(block, 8)), s.spread_bits(u32::from_le_bytes(*take(block, 4)), 16))
});

macro_rules! super_block {
    ($name:ident, $bytes:literal, group: $group:literal, $kind:expr,
     quants: |$s:ident, $block:ident, $i:ident| $quants:expr,
     scales: |$ss:ident, $sblock:ident, $scales:ident, $mins:ident| $set:expr) => {
        pub(crate) struct $name;

        impl Format for $name {
            type Block = [u8; $bytes];
            const LEN: usize = 256;
            const GROUP: usize = $group;
            const KIND: Kind = $kind;

            #[inline(always)]
            fn blocks(bytes: &[u8]) -> &[Self::Block] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn quants<S: Blocks>($s: S, $block: &Self::Block, $i: usize) -> S::B {
                $quants
            }
            #[inline(always)]
            fn scales<S: Blocks>($ss: S, $sblock: &Self::Block, $scales: &mut [f32; 16], $mins: &mut [f32; 16]) {
                $set
            }
        }
    };
}

#[inline(always)]
fn half_at<S: Blocks>(s: S, block: &[u8], at: usize) -> f32 {
    s.half(u16::from_le_bytes(*take(block, at)))
}

/// The eight 6-bit scales and eight 6-bit mins of Q4_K and Q5_K, times `d` and `-dmin`.
#[inline(always)]
fn six_bit_scales(packed: &[u8; 12], d: f32, dmin: f32, scales: &mut [f32; 16], mins: &mut [f32; 16]) {
    // Four at a time, as bytes of a 32-bit word: the first four of each lie in the low 6 bits; of the last four, the
    // low 4 bits lie in the third word's nibbles and the high 2 bits on top of the first four.
    let word = |i: usize| u32::from_le_bytes(*take(packed, 4 * i));
    let (a, b, c) = (word(0), word(1), word(2));
    let low = |x: u32| x & 0x3f3f_3f3f;
    let high = |x: u32| x >> 2 & 0x3030_3030;
    let s = u64::from(low(a)) | u64::from(c & 0x0f0f_0f0f | high(a)) << 32;
    let m = u64::from(low(b)) | u64::from(c >> 4 & 0x0f0f_0f0f | high(b)) << 32;
    for (i, (s, m)) in s.to_le_bytes().into_iter().zip(m.to_le_bytes()).enumerate() {
        scales[i] = d * f32::from(s);
        mins[i] = -dmin * f32::from(m);
    }
}

super_block!(Q2K, 84, group: 16, Kind::Mins,
quants: |s, block, i| {
    let two = s.shr_bytes(s.load_bytes(&block[16 + 32 * (i / 4)..]), 2 * (i % 4) as u32);
    s.and(two, s.splat_byte(3))
},
scales: |s, block, scales, mins| {
    let (d, dmin) = (half_at(s, block, 80), half_at(s, block, 82));
    for (i, &packed) in take::<16>(block, 0).iter().enumerate() {
        scales[i] = d * f32::from(packed & 15);
        mins[i] = -dmin * f32::from(packed >> 4);
    }
});

super_block!(Q3K, 110, group: 16, Kind::Offset(2),
quants: |s, block, i| {
    let two = s.shr_bytes(s.load_bytes(&block[32 + 32 * (i / 4)..]), 2 * (i % 4) as u32);
    let third = s.shr_bytes(s.load_bytes(&block[..]), i as u32);
    s.or(s.and(two, s.splat_byte(3)), s.shl_bytes(s.and(third, s.splat_byte(1)), 2))
},
scales: |s, block, scales, _mins| {
    let d = half_at(s, block, 108);
    let packed: &[u8; 12] = take(block, 96);
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = packed[i % 8] >> (4 * (i / 8)) & 15;
        let high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        *scale = d * f32::from((low | high << 4) as i8 - 32);
    }
});

super_block!(Q4K, 144, group: 32, Kind::Mins,
    quants: |s, block, i| {
        let both = s.load_bytes(&block[16 + 32 * (i / 2)..]);
        if i.is_multiple_of(2) { s.and(both, s.splat_byte(15)) } else { s.shr_bytes(both, 4) }
    },
    scales: |s, block, scales, mins| six_bit_scales(take(block, 4), half_at(s, block, 0), half_at(s, block, 2), scales, mins));

super_block!(Q5K, 176, group: 32, Kind::Mins,
    quants: |s, block, i| {
        let both = s.load_bytes(&block[48 + 32 * (i / 2)..]);
        let four = if i.is_multiple_of(2) { s.and(both, s.splat_byte(15)) } else { s.shr_bytes(both, 4) };
        let fifth = s.and(s.shr_bytes(s.load_bytes(&block[16..]), i as u32), s.splat_byte(1));
        s.or(four, s.shl_bytes(fifth, 4))
    },
    scales: |s, block, scales, mins| six_bit_scales(take(block, 4), half_at(s, block, 0), half_at(s, block, 2), scales, mins));

super_block!(Q6K, 210, group: 16, Kind::Offset(5),
quants: |s, block, i| {
    let (half, j) = (i / 4, i % 4);
    let both = s.load_bytes(&block[64 * half + 32 * (j % 2)..]);
    let four = if j < 2 { s.and(both, s.splat_byte(15)) } else { s.shr_bytes(both, 4) };
    let two = s.and(s.shr_bytes(s.load_bytes(&block[128 + 32 * half..]), 2 * j as u32), s.splat_byte(3));
    s.or(four, s.shl_bytes(two, 4))
},
scales: |s, block, scales, _mins| {
    let d = half_at(s, block, 208);
    for (i, &scale) in take::<16>(block, 192).iter().enumerate() {
        scales[i] = d * f32::from(scale as i8);
    }
});
