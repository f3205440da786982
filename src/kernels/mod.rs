//! The hot loops. Slices and numbers in, numbers out: nothing here knows of files or names.
//!
//! | file | what |
//! |---|---|
//! | `simd` | the vector operations that the kernels are written in, as traits |
//! | `portable`, `x86`, `arm` | the traits for each instruction set |
//! | `formats` | quantized blocks → vectors of quants and their scales |
//! | `tile` | activations, quantized and interleaved |
//! | `gemv` | rows × one token: decoding |
//! | `panel`, `gemm` | panels of rows × tiles of tokens: prefill |
//! | `ops` | norms, softmax, rotary embedding, attention's two halves |
//! | `conv`, `depthwise` | convolutions over maps of f32 and of bytes |
//! | `activation`, `output` | what they do with their sums |
//! | `maps` | what else is done with maps |
//! | `map_kernels` | the table of all that is done with maps |
//!
//! Bodies are written once; the `table!` macro instantiates them per instruction set, inside functions that carry
//! its `#[target_feature]`. [`Kernels::get`] picks a table once, from what the CPU has.
//!
//! Where every CPU has vectors, on 64-bit ARM and x86, the portable kernels are there only in tests and in builds with debug
//! assertions, to compare with: they would be a tenth of a program for devices.

/// Makes types whose values prove that the CPU has the instructions they are named after.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! tokens {
    ($($name:ident)*) => {$(
        impl $name {
            /// # Safety
            /// The CPU must have the instructions that the type is named after.
            #[inline(always)]
            #[allow(unsafe_code)]
            pub(crate) unsafe fn new() -> Self {
                Self(())
            }
        }
    )*};
}

/// Calls intrinsics in a method of such a type.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! intrinsics {
    ($body:expr) => {{
        // SAFETY: a value of the implementing type exists only where the CPU has been found to have its instructions
        // (`new`). Where memory is touched, the slice was cut to the vector's length just before.
        #[allow(unsafe_code)]
        unsafe {
            $body
        }
    }};
}

/// Calls an intrinsic on both halves of its arguments, where a vector is a pair of registers.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! both {
    ($name:ident($($arg:expr),*)) => {
        intrinsics!([$name($($arg[0]),*), $name($($arg[1]),*)])
    };
}

/// Loads such a pair.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! load {
    ($name:ident, $x:expr) => {
        intrinsics!([$name($x.as_ptr().cast()), $name($x.as_ptr().byte_add(16).cast())])
    };
}

/// Stores such a pair.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! store {
    ($name:ident, $out:expr, $v:expr) => {
        intrinsics!({
            $name($out.as_mut_ptr().cast(), $v[0]);
            $name($out.as_mut_ptr().byte_add(16).cast(), $v[1])
        })
    };
}

/// Calls a table's function.
macro_rules! call {
    ($function:expr, $($arg:expr),*) => {{
        // SAFETY: tables are only handed out (`get`, `available`) if `detected` found the CPU's instructions; the
        // bodies are otherwise safe code.
        #[allow(unsafe_code)]
        unsafe { ($function)($($arg),*) }
    }};
}

mod activation;
#[cfg(target_arch = "aarch64")]
mod arm;
mod buffer;
mod conv;
mod depthwise;
mod formats;
mod gemm;
mod gemv;
mod map_kernels;
mod maps;
mod ops;
mod output;
mod panel;
#[cfg(any(test, debug_assertions, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
mod portable;
mod simd;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::Activation;
pub(crate) use buffer::Buffer;
pub(crate) use conv::{BLOCK, Dense, Element, Step, Sweep, Taps};
pub(crate) use depthwise::{Depthwise, Filter, Quads, Rows};
pub(crate) use map_kernels::MapKernels;
pub use maps::Arithmetic;
pub use ops::KEYS;
pub(crate) use output::{Finish, Out};
pub use panel::Panel;
pub use tile::Tile;

use crate::error::{Error, Result};
use crate::tensor::DType;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as detected;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as detected;

/// One instruction set's kernels.
///
/// The functions are `unsafe` to call only because the CPU must have the instructions: a table is handed out after
/// that was found, and the methods check the lengths.
pub struct Kernels {
    /// The name that `PUPIL_ISA` takes.
    pub isa: &'static str,
    /// Rows in a [`Panel`].
    pub panel_rows: usize,
    /// Query rows that attention takes at once: 1, 2, 4 or 8.
    pub query_width: usize,
    /// Tokens in a [`Tile`] for matrix-matrix products: of many tokens, and of few ([`Kernels::tile_width`]).
    pub tile_widths: [usize; 2],
    /// Bytes of a token that lie side by side in a [`Tile`] of several.
    pub run: usize,
    detected: fn() -> bool,
    gemv: unsafe fn(DType, &[u8], &Tile, &mut [f32]),
    unpack: unsafe fn(DType, &[u8], usize, &mut Panel),
    gemm: unsafe fn(DType, &Panel, &Tile, &mut [f32]),
    fill: unsafe fn(&mut Tile, usize, &[f32]),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    swiglu: unsafe fn(&mut [f32], &[f32]),
    geglu: unsafe fn(&mut [f32], &[f32]),
    sum_exp: unsafe fn(&[f32], f32) -> f32,
    add: unsafe fn(&mut [f32], &[f32]),
    softmax: unsafe fn(&mut [f32], usize, usize, usize),
    scores: unsafe fn(usize, &[f32], &[f32], &mut [f32]),
    mix: unsafe fn(usize, &[f32], &[f32], usize, &mut [f32]),
    widen: unsafe fn(&[[u8; 2]], &mut [f32]),
    rope: unsafe fn(&mut [f32], &[f32], &[f32], bool),
}

/// What one table takes of another, whose instructions must be a part of its own. Kernels that would come out the same are
/// then compiled once, which makes programs smaller.
impl Kernels {
    /// The kernels that multiply no bytes.
    #[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
    const fn with_floats_of(self, other: Self) -> Self {
        Self {
            rms_norm: other.rms_norm,
            swiglu: other.swiglu,
            geglu: other.geglu,
            sum_exp: other.sum_exp,
            add: other.add,
            softmax: other.softmax,
            scores: other.scores,
            mix: other.mix,
            widen: other.widen,
            rope: other.rope,
            ..self
        }
    }

    /// The kernels that multiply bytes of one row at a time.
    #[cfg(target_arch = "aarch64")]
    const fn with_rows_of(self, other: Self) -> Self {
        Self { gemv: other.gemv, ..self }
    }
}

/// Instantiates all kernels for one instruction set: `$wide` is the type for numbers, `$blocks` the one that reads
/// blocks, `$features` what both need. A product computes `$vectors` vectors of rows times `$tokens` tokens at once,
/// as many as the registers hold, or `$few`, as a beam search has them; a convolution `$pixels` pixels, in bytes the way
/// `$bytes`.
macro_rules! table {
    ($module:ident, $isa:literal, wide: $wide:expr, $wide_type:ty, blocks: $blocks:expr, $blocks_type:ty,
     features: [$($feature:tt)*], vectors: $vectors:literal, tokens: $tokens:literal, few: $few:literal,
     pixels: $pixels:literal, bytes: $bytes:ident $(, floats: $floats:ident)? $(, rows: $rows:ident)?) => {
        mod $module {
            use super::*;
            use super::{formats::*, simd::{Matrix, Simd}};

            const ROWS: usize = $vectors * <$wide_type as Simd>::LANES;
            /// Vectors that make up one block of output channels, or two blocks where a vector holds one.
            const WIDE: usize = 2;

            table!(@functions [$($feature)*] {
                fn gemv(dtype: DType, rows: &[u8], x: &Tile, out: &mut [f32]) {
                    let (s, wide) = ($blocks, $wide);
                    match dtype {
                        DType::F32 => gemv::floats::<_, gemv::F32>(wide, rows, x, out),
                        DType::F16 => gemv::floats::<_, gemv::F16>(wide, rows, x, out),
                        DType::BF16 => gemv::floats::<_, gemv::BF16>(wide, rows, x, out),
                        DType::I8 => gemv::floats::<_, gemv::I8>(wide, rows, x, out),
                        DType::Q8_0 => gemv::small::<_, Q8_0>(s, rows, x, out),
                        DType::Q4_0 => gemv::small::<_, Q4_0>(s, rows, x, out),
                        DType::Q4_1 => gemv::small::<_, Q4_1>(s, rows, x, out),
                        DType::Q5_0 => gemv::small::<_, Q5_0>(s, rows, x, out),
                        DType::Q5_1 => gemv::small::<_, Q5_1>(s, rows, x, out),
                        DType::Q2K => gemv::super_blocks::<_, Q2K>(s, rows, x, out),
                        DType::Q3K => gemv::super_blocks::<_, Q3K>(s, rows, x, out),
                        DType::Q4K => gemv::super_blocks::<_, Q4K>(s, rows, x, out),
                        DType::Q5K => gemv::super_blocks::<_, Q5K>(s, rows, x, out),
                        DType::Q6K => gemv::super_blocks::<_, Q6K>(s, rows, x, out),
                    }
                }
                fn unpack(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut Panel) {
                    let s = $blocks;
                    match dtype {
                        DType::F32 => panel::unpack_floats::<gemv::F32, ROWS>(rows, row_bytes, panel),
                        DType::F16 => panel::unpack_floats::<gemv::F16, ROWS>(rows, row_bytes, panel),
                        DType::BF16 => panel::unpack_floats::<gemv::BF16, ROWS>(rows, row_bytes, panel),
                        DType::I8 => panel::unpack_floats::<gemv::I8, ROWS>(rows, row_bytes, panel),
                        DType::Q8_0 => panel::unpack::<_, Q8_0, ROWS>(s, rows, row_bytes, panel),
                        DType::Q4_0 => panel::unpack::<_, Q4_0, ROWS>(s, rows, row_bytes, panel),
                        DType::Q4_1 => panel::unpack::<_, Q4_1, ROWS>(s, rows, row_bytes, panel),
                        DType::Q5_0 => panel::unpack::<_, Q5_0, ROWS>(s, rows, row_bytes, panel),
                        DType::Q5_1 => panel::unpack::<_, Q5_1, ROWS>(s, rows, row_bytes, panel),
                        DType::Q2K => panel::unpack::<_, Q2K, ROWS>(s, rows, row_bytes, panel),
                        DType::Q3K => panel::unpack::<_, Q3K, ROWS>(s, rows, row_bytes, panel),
                        DType::Q4K => panel::unpack::<_, Q4K, ROWS>(s, rows, row_bytes, panel),
                        DType::Q5K => panel::unpack::<_, Q5K, ROWS>(s, rows, row_bytes, panel),
                        DType::Q6K => panel::unpack::<_, Q6K, ROWS>(s, rows, row_bytes, panel),
                    }
                }
                fn gemm(dtype: DType, panel: &Panel, x: &Tile, out: &mut [f32]) {
                    // The same rows and tokens either way; bytes have several tokens in a vector where that is faster.
                    const T: usize = <$wide_type as Matrix>::TOKENS;
                    let s = $wide;
                    if $few == $tokens || x.width == $tokens {
                        gemm::any::<_, $vectors, { $vectors * T }, $tokens, { $tokens / T }>(s, dtype, panel, x, out)
                    } else {
                        gemm::any::<_, $vectors, { $vectors * T }, $few, { $few / T }>(s, dtype, panel, x, out)
                    }
                }
                fn fill(tile: &mut Tile, c: usize, x: &[f32]) { tile::fill($wide, tile, c, x) }
                fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
                    ops::rms_norm($wide, x, weight, epsilon, out)
                }
                fn swiglu(gate: &mut [f32], up: &[f32]) { ops::swiglu($wide, gate, up) }
                fn geglu(gate: &mut [f32], up: &[f32]) { ops::geglu($wide, gate, up) }
                fn sum_exp(x: &[f32], max: f32) -> f32 { ops::sum_exp($wide, x, max) }
                fn add(x: &mut [f32], y: &[f32]) { ops::add($wide, x, y) }
                fn softmax(scores: &mut [f32], width: usize, c: usize, len: usize) {
                    ops::softmax($wide, scores, width, c, len)
                }
                fn scores(width: usize, q: &[f32], keys: &[f32], out: &mut [f32]) {
                    let s = $wide;
                    match width {
                        1 => ops::scores::<_, 1>(s, q, keys, out),
                        2 => ops::scores::<_, 2>(s, q, keys, out),
                        4 => ops::scores::<_, 4>(s, q, keys, out),
                        _ => ops::scores::<_, 8>(s, q, keys, out),
                    }
                }
                fn mix(width: usize, weights: &[f32], values: &[f32], dims: usize, out: &mut [f32]) {
                    let s = $wide;
                    match width {
                        1 => ops::mix::<_, 1>(s, weights, values, dims, out),
                        2 => ops::mix::<_, 2>(s, weights, values, dims, out),
                        4 => ops::mix::<_, 4>(s, weights, values, dims, out),
                        _ => ops::mix::<_, 8>(s, weights, values, dims, out),
                    }
                }
                fn widen(x: &[[u8; 2]], out: &mut [f32]) { ops::widen($wide, x, out) }
                fn rope(head: &mut [f32], cos: &[f32], sin: &[f32], halves: bool) {
                    ops::rope(head, cos, sin, halves)
                }
                fn dense_floats(job: &mut Dense<'_, f32>) { conv::dense::<_, _, conv::Singly, WIDE, $pixels>($wide, job) }
                fn dense_bytes(job: &mut Dense<'_, u8>) { conv::dense::<_, _, conv::$bytes, WIDE, $pixels>($wide, job) }
                fn depthwise_floats(job: &mut Depthwise<'_, f32>) { depthwise::floats($wide, job) }
                fn depthwise_bytes(job: &mut Depthwise<'_, u8>) { depthwise::bytes($wide, job) }
                fn activate(activation: Activation, x: &mut [f32]) { activation::apply($wide, activation, x) }
                fn narrow(x: &[f32], inverse: f32, zero: f32, out: &mut [u8]) {
                    output::narrow($wide, x, inverse, zero, out)
                }
                fn widen_bytes(x: &[u8], scale: f32, zero: f32, out: &mut [f32]) {
                    output::widen($wide, x, scale, zero, out)
                }
                fn combine(with: Arithmetic, x: &mut [f32], y: &[f32]) { maps::combine(with, x, y) }
                fn maximum_floats(x: &mut [f32], y: &[f32]) { maps::maximum(x, y) }
                fn lerp(a: &[f32], b: &[f32], weight: f32, out: &mut [f32]) { maps::lerp(a, b, weight, out) }
                fn softmax_pixels(x: &mut [f32], channels: usize) { maps::softmax($wide, x, channels) }
            });

            pub(super) const OWN: Kernels = Kernels {
                isa: $isa,
                panel_rows: ROWS,
                query_width: <$wide_type as Simd>::LANES / 2,
                tile_widths: [$tokens, $few],
                run: <$wide_type as Matrix>::RUN,
                detected: table!(@detected $($feature)*),
                gemv, unpack, gemm, fill, rms_norm, swiglu, geglu, sum_exp, add, softmax, scores, mix, widen, rope,
            };
            pub(super) static TABLE: Kernels = OWN$(.with_floats_of($floats::OWN))?$(.with_rows_of($rows::OWN))?;

            pub(super) const OWN_MAPS: MapKernels = MapKernels {
                conv_pixels: $pixels,
                flips: <$wide_type as Simd>::FLIP == 0,
                dense_floats, dense_bytes, depthwise_floats, depthwise_bytes, activate, narrow, widen_bytes, combine,
                maximum_floats, lerp, softmax_pixels,
            };
            pub(super) static MAPS: MapKernels = OWN_MAPS$(.with_floats_of($floats::OWN_MAPS))?$(.with_rows_of($rows::OWN_MAPS))?;
        }
    };
    (@functions $features:tt { $(fn $name:ident $args:tt $(-> $result:ty)? $body:block)* }) => {
        $(table!(@function $features $name $args [$($result)?] $body);)*
    };
    (@function [$($feature:literal)*] $name:ident ($($arg:ident: $type:ty),*) [$($result:ty)?] $body:block) => {
        #[allow(unsafe_code)]
        $(#[target_feature(enable = $feature)])*
        unsafe fn $name($($arg: $type),*) $(-> $result)? $body
    };
    (@detected) => { || true };
    (@detected $($feature:tt)+) => { || $(detected!($feature))&&+ };
}

/// Makes the proof that the CPU has a type's instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! proof {
    ($type:ty) => {{
        // SAFETY: we are in a function that carries the features the type stands for, and that is only reached
        // through a table whose `detected` said yes.
        #[allow(unsafe_code)]
        unsafe {
            <$type>::new()
        }
    }};
}

#[cfg(any(test, debug_assertions, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
table!(plain, "portable", wide: portable::Portable, portable::Portable, blocks: portable::Portable, portable::Portable,
    features: [], vectors: 1, tokens: 4, few: 4, pixels: 4, bytes: Singly);
// Of 16 registers, 8 hold the sums of a convolution's two pixels.
#[cfg(target_arch = "x86_64")]
table!(sse2, "sse2", wide: proof!(x86::Sse2), x86::Sse2, blocks: proof!(x86::Sse2), x86::Sse2,
    features: ["sse2"], vectors: 1, tokens: 4, few: 4, pixels: 2, bytes: Singly);
#[cfg(target_arch = "x86_64")]
table!(avx2, "avx2", wide: proof!(x86::Avx2), x86::Avx2, blocks: proof!(x86::Avx2), x86::Avx2,
    features: ["avx2" "fma" "f16c"], vectors: 1, tokens: 4, few: 4, pixels: 4, bytes: Singly);
#[cfg(target_arch = "x86_64")]
table!(avxvnni, "avxvnni", wide: proof!(x86::AvxVnni), x86::AvxVnni, blocks: proof!(x86::AvxVnni), x86::AvxVnni,
    features: ["avx2" "fma" "f16c" "avxvnni"], vectors: 1, tokens: 6, few: 4, pixels: 4, bytes: Singly,
    floats: avx2);
#[cfg(target_arch = "x86_64")]
table!(avx512, "avx512", wide: proof!(x86::Avx512), x86::Avx512, blocks: proof!(x86::Avx512Half), x86::Avx512Half,
    features: ["avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512dq" "avx512vnni"], vectors: 2, tokens: 6,
    few: 4, pixels: 8, bytes: Singly);
// Of the 32 registers, 24 hold sums each time. Without the dot instruction, products need some; with it, more rows save
// broadcasts. Matrices take 4 registers of rows by 3 of tokens.
#[cfg(target_arch = "aarch64")]
table!(neon, "neon", wide: proof!(arm::Neon), arm::Neon, blocks: proof!(arm::Neon), arm::Neon,
    features: ["neon"], vectors: 1, tokens: 6, few: 4, pixels: 4, bytes: Singly);
#[cfg(target_arch = "aarch64")]
table!(dotprod, "dotprod", wide: proof!(arm::Dotprod), arm::Dotprod, blocks: proof!(arm::Dotprod), arm::Dotprod,
    features: ["neon" "dotprod"], vectors: 2, tokens: 3, few: 2, pixels: 4, bytes: Singly,
    floats: neon);
#[cfg(target_arch = "aarch64")]
table!(i8mm, "i8mm", wide: proof!(arm::I8mm), arm::I8mm, blocks: proof!(arm::I8mm), arm::I8mm,
    features: ["neon" "dotprod" "i8mm"], vectors: 1, tokens: 6, few: 4, pixels: 4, bytes: InPairs,
    floats: neon, rows: dotprod);

/// All tables of a kind that are compiled in, from the plainest to the fastest.
macro_rules! every {
    ($table:ident) => {
        &[
            #[cfg(any(test, debug_assertions, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
            &plain::$table,
            #[cfg(target_arch = "x86_64")]
            &sse2::$table,
            #[cfg(target_arch = "x86_64")]
            &avx2::$table,
            #[cfg(target_arch = "x86_64")]
            &avxvnni::$table,
            #[cfg(target_arch = "x86_64")]
            &avx512::$table,
            #[cfg(target_arch = "aarch64")]
            &neon::$table,
            #[cfg(target_arch = "aarch64")]
            &dotprod::$table,
            #[cfg(target_arch = "aarch64")]
            &i8mm::$table,
        ]
    };
}

static TABLES: &[&Kernels] = every!(TABLE);
static MAP_TABLES: &[&MapKernels] = every!(MAPS);

impl Kernels {
    /// The fastest kernels that this CPU runs, or those that the environment variable `PUPIL_ISA` names.
    ///
    /// # Errors
    /// `Input` if `PUPIL_ISA` names an instruction set that is unknown or that the CPU does not have.
    pub fn get() -> Result<&'static Self> {
        static CHOICE: OnceLock<Result<&'static Kernels>> = OnceLock::new();
        CHOICE.get_or_init(|| Self::choose(std::env::var("PUPIL_ISA").ok().as_deref())).clone()
    }

    fn choose(wanted: Option<&str>) -> Result<&'static Self> {
        let available: Vec<_> = Self::available().collect();
        match wanted {
            None | Some("") => Ok(available[available.len() - 1]),
            Some(name) => available.iter().find(|k| k.isa == name).copied().ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|k| k.isa).collect();
                Error::input(format!("PUPIL_ISA={name}: this CPU runs {}", names.join(", ")))
            }),
        }
    }

    /// Those that this CPU runs, from the plainest to the fastest.
    pub fn available() -> impl Iterator<Item = &'static Self> {
        TABLES.iter().copied().filter(|k| (k.detected)())
    }

    /// `out[i] = rows[i] · x` for the whole rows in `rows`; `x` is a tile of width 1.
    pub fn gemv(&self, dtype: DType, rows: &[u8], x: &Tile, out: &mut [f32]) {
        assert_eq!(x.width, 1);
        assert_eq!(Some(rows.len()), dtype.row_bytes(x.cols).map(|n| n * out.len()));
        if !out.is_empty() {
            call!(self.gemv, dtype, rows, x, out);
        }
    }

    /// Unpacks the whole rows in `rows`, at least one and at most `panel_rows`, of `cols` elements each.
    pub fn unpack(&self, dtype: DType, rows: &[u8], cols: usize, panel: &mut Panel) {
        let row_bytes = dtype.row_bytes(cols).expect("whole blocks");
        assert!(!rows.is_empty() && rows.len().is_multiple_of(row_bytes) && rows.len() / row_bytes <= self.panel_rows);
        call!(self.unpack, dtype, rows, row_bytes, panel);
    }

    /// The width of tiles for so many tokens: of [`Kernels::tile_widths`] that which takes fewer instructions.
    pub fn tile_width(&self, tokens: usize) -> usize {
        tile::width(self.tile_widths, tokens)
    }

    /// Multiplies the panel's rows, of type `dtype` before they were unpacked, with the tokens of a tile of one of
    /// [`Kernels::tile_widths`]: `out: [width][panel_rows]`.
    pub fn gemm(&self, dtype: DType, panel: &Panel, x: &Tile, out: &mut [f32]) {
        assert!(self.tile_widths.contains(&x.width) && out.len() == x.width * self.panel_rows);
        call!(self.gemm, dtype, panel, x, out);
    }

    /// Stores token `c`'s activations in the tile.
    pub fn fill(&self, tile: &mut Tile, c: usize, x: &[f32]) {
        call!(self.fill, tile, c, x);
    }

    /// `out = x / √(mean(x²) + epsilon) × weight` (Zhang & Sennrich 2019).
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        call!(self.rms_norm, x, weight, epsilon, out);
    }

    /// `gate = gate × σ(gate) × up` (SwiGLU, Shazeer 2020).
    pub fn swiglu(&self, gate: &mut [f32], up: &[f32]) {
        call!(self.swiglu, gate, up);
    }

    /// `gate = gelu(gate) × up` (GEGLU, Shazeer 2020), with GELU approximated by tanh.
    pub fn geglu(&self, gate: &mut [f32], up: &[f32]) {
        call!(self.geglu, gate, up);
    }

    /// `Σ exp(x − max)`, where `max` is the largest of `x`.
    pub fn sum_exp(&self, x: &[f32], max: f32) -> f32 {
        call!(self.sum_exp, x, max)
    }

    /// `x += y`
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        call!(self.add, x, y);
    }

    /// Softmax over the first `len` keys of row `c` in `scores: [blocks][width][KEYS]`; the rest becomes 0.
    pub fn softmax(&self, scores: &mut [f32], width: usize, c: usize, len: usize) {
        assert!(c < width && len > 0 && scores.len().is_multiple_of(width * KEYS));
        assert!(len <= scores.len() / width);
        call!(self.softmax, scores, width, c, len);
    }

    /// Scores of `width` queries (1, 2, 4 or 8) against one block of keys: `q: [dims][width]`, `keys: [dims][KEYS]`,
    /// `out: [width][KEYS]`.
    pub fn scores(&self, width: usize, q: &[f32], keys: &[f32], out: &mut [f32]) {
        assert!(matches!(width, 1 | 2 | 4 | 8) && out.len() == width * KEYS);
        assert_eq!(q.len() * KEYS, keys.len() * width);
        call!(self.scores, width, q, keys, out);
    }

    /// Adds one block of values, weighted: `weights: [width][KEYS]`, `values: [KEYS][dims]`, `out: [width][dims]`, with
    /// `dims` a multiple of 16 and a width of 1, 2, 4 or 8.
    pub fn mix(&self, width: usize, weights: &[f32], values: &[f32], out: &mut [f32]) {
        let dims = values.len() / KEYS;
        assert!(matches!(width, 1 | 2 | 4 | 8) && dims.is_multiple_of(16) && values.len() == dims * KEYS);
        assert!(weights.len() == width * KEYS && out.len() == width * dims);
        call!(self.mix, width, weights, values, dims, out);
    }

    /// Widens half-precision numbers (little-endian) to f32.
    pub fn widen(&self, x: &[[u8; 2]], out: &mut [f32]) {
        assert_eq!(x.len(), out.len());
        call!(self.widen, x, out);
    }

    /// Rotates the first `2 × cos.len()` elements of a head by the angles whose cosines and sines are given (Su et al.
    /// 2021). Pairs are neighbours or, with `halves`, element i and element i + `cos.len()`.
    pub fn rope(&self, head: &mut [f32], cos: &[f32], sin: &[f32], halves: bool) {
        assert!(cos.len() == sin.len() && head.len() >= 2 * cos.len());
        call!(self.rope, head, cos, sin, halves);
    }

    /// The same instruction set's kernels over maps.
    pub(crate) fn maps(&self) -> &'static MapKernels {
        // Were there a field for them, every program that has this table would have those, too.
        let i = TABLES.iter().position(|table| table.isa == self.isa).expect("one of the tables");
        MAP_TABLES[i]
    }
}
