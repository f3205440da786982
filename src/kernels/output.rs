//! The way of finished sums into the output.

use super::activation::{Activation, Bent, Curve, with_curve};
use super::simd::Simd;

/// Where results go: from the first channel of the first pixel on.
pub(crate) enum Out<'a> {
    /// As they are.
    F32(&'a mut [f32]),
    /// `round(x × inverse + zero)`, at least 0 and at most 255.
    U8 {
        /// The bytes.
        bytes: &'a mut [u8],
        /// 1 / scale.
        inverse: f32,
        /// The byte that stands for 0.
        zero: f32,
    },
}

impl<'a> Out<'a> {
    /// What lies from element `first` on.
    pub(crate) fn from(&mut self, first: usize) -> Out<'_> {
        match self {
            Self::F32(out) => Out::F32(&mut out[first..]),
            Self::U8 { bytes, inverse, zero } => Out::U8 { bytes: &mut bytes[first..], inverse: *inverse, zero: *zero },
        }
    }

    /// The first `n` elements, and the others.
    pub(crate) fn split_at(self, n: usize) -> (Out<'a>, Out<'a>) {
        match self {
            Self::F32(out) => {
                let (out, rest) = out.split_at_mut(n);
                (Out::F32(out), Out::F32(rest))
            }
            Self::U8 { bytes, inverse, zero } => {
                let (bytes, rest) = bytes.split_at_mut(n);
                (Out::U8 { bytes, inverse, zero }, Out::U8 { bytes: rest, inverse, zero })
            }
        }
    }
}

/// What a convolution does with its sums.
pub(crate) struct Finish<'a> {
    /// What is applied to them.
    pub then: Activation,
    /// What is multiplied with after that: one for each output channel, in whole blocks; empty for nothing.
    pub gain: &'a [f32],
    /// Where the first pixel goes.
    pub out: Out<'a>,
    /// Elements from one output pixel to the next.
    pub out_pixel: usize,
}

impl Finish<'_> {
    /// What is applied to the sums, if it takes so little that [`tile`](Self::tile) can do it.
    pub(super) fn bent(&self) -> Option<Bent> {
        self.then.bent().filter(|_| self.gain.is_empty())
    }

    /// Finishes sums where they are: those of `count` pixels from `pixel` on, of all that a tile has room for, and `channels`
    /// of them from `channel` on.
    #[inline(always)]
    pub(super) fn tile<S: Simd, const V: usize, const C: usize>(
        &mut self,
        s: S,
        bent: Bent,
        [pixel, count]: [usize; 2],
        [channel, channels]: [usize; 2],
        sums: [[S::F; C]; V],
    ) {
        let at = pixel * self.out_pixel + channel;
        match &mut self.out {
            Out::F32(out) => {
                for c in 0..C {
                    if c == count {
                        break;
                    }
                    let out = &mut out[at + c * self.out_pixel..][..channels];
                    for (v, sums) in sums.iter().enumerate() {
                        let (y, first) = (bent.apply(s, sums[c]), v * S::LANES);
                        if first + S::LANES <= channels {
                            s.store(y, &mut out[first..]);
                        } else if first < channels {
                            s.store_first(y, &mut out[first..]);
                        }
                    }
                }
            }
            Out::U8 { bytes, inverse, zero } => {
                let (inverse, zero) = (s.splat(*inverse), s.splat(*zero));
                for c in 0..C {
                    if c == count {
                        break;
                    }
                    let out = &mut bytes[at + c * self.out_pixel..][..channels];
                    for (v, sums) in sums.iter().enumerate() {
                        let y = to_byte(s, bent.apply(s, sums[c]), inverse, zero);
                        let first = v * S::LANES;
                        if first + S::LANES <= channels {
                            s.store_narrow(y, &mut out[first..]);
                        } else if first < channels {
                            s.store_first_narrow(y, &mut out[first..]);
                        }
                    }
                }
            }
        }
    }

    /// Finishes the sums of pixels from `pixel` on: `count` channels of them from `channel` on. The sums of a pixel are
    /// whole vectors, and those of the next one begin `apart` elements further.
    #[inline(always)]
    pub(super) fn pixels<S: Simd>(
        &mut self,
        s: S,
        pixel: usize,
        [channel, count]: [usize; 2],
        sums: &[f32],
        apart: usize,
    ) {
        let at = pixel * self.out_pixel + channel;
        let gain = &self.gain[channel.min(self.gain.len())..];
        with_curve!(self.then, |curve| match &mut self.out {
            Out::F32(out) => {
                for (p, sums) in sums.chunks_exact(apart).enumerate() {
                    let out = &mut out[at + p * self.out_pixel..][..count];
                    for first in (0..count).step_by(S::LANES) {
                        let y = finished(s, curve, &sums[first..], gain, first);
                        if first + S::LANES <= count {
                            s.store(y, &mut out[first..]);
                        } else {
                            s.store_first(y, &mut out[first..]);
                        }
                    }
                }
            }
            Out::U8 { bytes, inverse, zero } => {
                let (inverse, zero) = (s.splat(*inverse), s.splat(*zero));
                for (p, sums) in sums.chunks_exact(apart).enumerate() {
                    let out = &mut bytes[at + p * self.out_pixel..][..count];
                    for first in (0..count).step_by(S::LANES) {
                        let y = to_byte(s, finished(s, curve, &sums[first..], gain, first), inverse, zero);
                        if first + S::LANES <= count {
                            s.store_narrow(y, &mut out[first..]);
                        } else {
                            s.store_first_narrow(y, &mut out[first..]);
                        }
                    }
                }
            }
        });
    }
}

#[inline(always)]
fn finished<S: Simd>(s: S, curve: impl Curve, sums: &[f32], gain: &[f32], first: usize) -> S::F {
    let y = curve.apply(s, s.load(sums));
    if gain.is_empty() { y } else { s.mul(y, s.load(&gain[first..])) }
}

/// `out = round(x × inverse + zero)`, at least 0 and at most 255.
#[inline(always)]
pub(super) fn narrow<S: Simd>(s: S, x: &[f32], inverse: f32, zero: f32, out: &mut [u8]) {
    let (inverse, zero) = (s.splat(inverse), s.splat(zero));
    let mut xs = x.chunks_exact(S::LANES);
    let mut outs = out.chunks_exact_mut(S::LANES);
    for (x, out) in (&mut xs).zip(&mut outs) {
        s.store_narrow(to_byte(s, s.load(x), inverse, zero), out);
    }
    let rest = outs.into_remainder();
    if !rest.is_empty() {
        let mut x = [0.0; 16];
        x[..rest.len()].copy_from_slice(xs.remainder());
        s.store_first_narrow(to_byte(s, s.load(&x), inverse, zero), rest);
    }
}

// Not a closure: those do not get the instruction set of the function that they are in.
#[inline(always)]
fn to_byte<S: Simd>(s: S, x: S::F, inverse: S::F, zero: S::F) -> S::I {
    s.round(s.min(s.max(s.mul_add(x, inverse, zero), s.splat(0.0)), s.splat(255.0)))
}

/// `out = (x − zero) × scale`
#[inline(always)]
pub(super) fn widen<S: Simd>(s: S, x: &[u8], scale: f32, zero: f32, out: &mut [f32]) {
    let mut xs = x.chunks_exact(S::LANES);
    let mut outs = out.chunks_exact_mut(S::LANES);
    let (vscale, vzero) = (s.splat(scale), s.splat(zero));
    for (x, out) in (&mut xs).zip(&mut outs) {
        s.store(s.mul(s.sub(s.to_f32(s.load_u8(x)), vzero), vscale), out);
    }
    for (&x, out) in xs.remainder().iter().zip(outs.into_remainder()) {
        *out = (f32::from(x) - zero) * scale;
    }
}
