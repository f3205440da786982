//! Everything but convolutions. None of it is hot, so most of it works on lines of f32: read, computed, written.

use super::program::{Activation, Arithmetic, Axis, Pooling, Sampling, Shape, Window};
use super::session::{Data, Map, Scratch, Target, Workers};
use crate::kernels::{MapKernels, Out};
use std::ops::Range;

impl Map<'_> {
    /// The pixels from `first` on that `line` has room for, in f32 and without gaps.
    fn read(&self, kernels: &MapKernels, first: usize, line: &mut [f32]) {
        self.read_channels(kernels, first, 0, self.shape.c, line);
    }

    /// `count` channels of pixels, from channel `channel` on.
    fn read_channels(&self, kernels: &MapKernels, first: usize, channel: usize, count: usize, line: &mut [f32]) {
        // Pixels without gaps are one run.
        let (run, pixel) = if self.pixel == count { (line.len(), line.len()) } else { (count, self.pixel) };
        for (i, line) in line.chunks_exact_mut(run).enumerate() {
            let at = first * self.pixel + i * pixel + channel;
            match self.data {
                Data::F32(data) => line.copy_from_slice(&data[at..at + run]),
                Data::U8(data, quant) => {
                    kernels.widen_bytes(&data[at..at + run], quant.scale, quant.zero.into(), line);
                }
            }
        }
    }
}

/// Writes pixels without gaps, of `channels` channels, into an output with pixels `pixel` elements apart.
fn write(kernels: &MapKernels, out: &mut Out, pixel: usize, channels: usize, line: &[f32]) {
    let (run, pixel) = if pixel == channels { (line.len(), line.len()) } else { (channels, pixel) };
    for (i, line) in line.chunks_exact(run).enumerate() {
        let at = i * pixel..i * pixel + run;
        match out {
            Out::F32(out) => out[at].copy_from_slice(line),
            Out::U8 { bytes, inverse, zero } => kernels.narrow(line, *inverse, *zero, &mut bytes[at]),
        }
    }
}

/// A scratch line of `n` elements.
fn line<T: Copy + Default>(line: &mut Vec<T>, n: usize) -> &mut [T] {
    if line.len() < n {
        line.resize(n, T::default());
    }
    &mut line[..n]
}

/// Computes a target line by line: `compute(kernels, scratch, y, line)` fills that of row `y`.
fn by_lines(
    workers: &mut Workers,
    target: Target,
    compute: impl Fn(&MapKernels, &mut Scratch, usize, &mut [f32]) + Sync,
) {
    let Target { shape, pixel, out } = target;
    let row = shape.w * pixel;
    workers.share(shape.h, row, 1, shape.len() * 4, out, |kernels, scratch, rows, mut out| {
        let mut buffer = std::mem::take(&mut scratch.lines[0]);
        for (i, y) in rows.enumerate() {
            let line = line(&mut buffer, shape.w * shape.c);
            compute(kernels, scratch, y, line);
            write(kernels, &mut out.from(i * row), pixel, shape.c, line);
        }
        scratch.lines[0] = buffer;
    });
}

/// The same map, stored as the target.
pub(super) fn copy(workers: &mut Workers, x: Map, target: Target) {
    by_lines(workers, target, |kernels, _, y, line| x.read(kernels, y * x.shape.w, line));
}

pub(super) fn activate(workers: &mut Workers, x: Map, then: Activation, target: Target) {
    by_lines(workers, target, |kernels, _, y, line| {
        x.read(kernels, y * x.shape.w, line);
        kernels.activate(then, line);
    });
}

/// `x ∘ y`, dimensions of 1 of `y` being repeated.
pub(super) fn combine(workers: &mut Workers, [a, b]: [Map; 2], with: Arithmetic, then: Activation, target: Target) {
    by_lines(workers, target, |kernels, scratch, y, x| {
        a.read(kernels, y * a.shape.w, x);
        let first = y.min(b.shape.h - 1) * b.shape.w;
        let other = line(&mut scratch.lines[1], b.shape.w * b.shape.c);
        b.read(kernels, first, other);
        if other.len() == x.len() || other.len() == 1 {
            kernels.combine(with, x, other);
        } else {
            for (i, x) in x.chunks_exact_mut(a.shape.c).enumerate() {
                let pixel = &other[i.min(b.shape.w - 1) * b.shape.c..][..b.shape.c];
                kernels.combine(with, x, pixel);
            }
        }
        kernels.activate(then, x);
    });
}

/// Maps side by side; those that are `None` are in their place already.
pub(super) fn concat<'a>(
    workers: &mut Workers,
    parts: impl Iterator<Item = (Shape, Option<Map<'a>>)>,
    axis: Axis,
    target: Target,
) {
    let Target { shape, pixel, mut out } = target;
    let mut offset = 0;
    for (part, map) in parts {
        if let Some(map) = map {
            // Rows that are put next to others lie apart.
            let together = if axis == Axis::W { 1 } else { part.h };
            for y in (0..part.h).step_by(together) {
                let out = out.from(offset + y * shape.w * pixel);
                let how = Part { w: part.w, c: part.c, row: part.w, first: [y * part.w, 0], step: [1, 1] };
                moved(workers, map, Target { shape: Shape::new(together, part.w, part.c), pixel, out }, &how);
            }
        }
        offset += match axis {
            Axis::C => part.c,
            Axis::W => part.w * pixel,
            Axis::H => part.h * part.w * pixel,
        };
    }
}

pub(super) fn slice(workers: &mut Workers, x: Map, axis: Axis, from: usize, step: usize, target: Target) {
    let Shape { w, c, .. } = target.shape;
    let width = x.shape.w;
    let part = match axis {
        Axis::H => Part { w, c, row: step * width, first: [from * width, 0], step: [1, 1] },
        Axis::W => Part { w, c, row: width, first: [from, 0], step: [step, 1] },
        Axis::C => Part { w, c, row: width, first: [0, from], step: [1, step] },
    };
    moved(workers, x, target, &part);
}

/// Part of a map. Pairs are pixels and channels.
struct Part {
    w: usize,
    c: usize,
    /// Pixels of the map from one row to the next.
    row: usize,
    /// Where the part begins.
    first: [usize; 2],
    /// Every how many.
    step: [usize; 2],
}

impl Move for Part {
    fn row<T: Copy>(&self, y: usize, x: Pixels<&[T]>, out: Pixels<&mut [T]>) {
        let first = self.first[0] + y * self.row;
        let whole = self.step == [1, 1] && self.c == x.apart && self.c == out.apart;
        if whole {
            let all = self.w * self.c;
            return out.data[..all].copy_from_slice(&x.data[first * x.apart + self.first[1]..][..all]);
        }
        let pixels = out.data.chunks_mut(out.apart).take(self.w);
        for (i, out) in pixels.enumerate() {
            let x = &x.data[(first + i * self.step[0]) * x.apart + self.first[1]..];
            let out = &mut out[..self.c];
            match self.step[1] {
                1 => out.copy_from_slice(&x[..self.c]),
                2 => {
                    // The last one may have no neighbour.
                    let (last, before) = out.split_last_mut().expect("channels");
                    before.iter_mut().zip(x.as_chunks::<2>().0).for_each(|(out, x)| *out = x[0]);
                    *last = x[2 * self.c - 2];
                }
                step => out.iter_mut().zip(x.iter().step_by(step)).for_each(|(out, x)| *out = *x),
            }
        }
    }
}

/// Elements, and how many of them there are from one pixel to the next.
struct Pixels<D> {
    data: D,
    apart: usize,
}

/// An operation that moves elements and computes nothing.
trait Move: Sync {
    /// Fills row `y` of the target.
    fn row<T: Copy>(&self, y: usize, x: Pixels<&[T]>, out: Pixels<&mut [T]>);
}

/// Moves elements as they are or, if the target stores them in another way, row by row through f32.
fn moved(workers: &mut Workers, x: Map, target: Target, how: &impl Move) {
    let Target { shape, pixel: apart, out } = target;
    let row = shape.w * apart;
    let alike = match (&x.data, &out) {
        (Data::F32(_), Out::F32(_)) => true,
        (Data::U8(_, quant), Out::U8 { inverse, zero, .. }) => {
            f32::from(quant.zero) == *zero && 1.0 / quant.scale == *inverse
        }
        _ => false,
    };
    if !alike {
        let target = Target { shape, pixel: apart, out };
        return by_lines(workers, target, |kernels, scratch, y, out| match x.data {
            Data::F32(data) => how.row(y, Pixels { data, apart: x.pixel }, Pixels { data: out, apart: shape.c }),
            Data::U8(data, quant) => {
                let row = line(&mut scratch.row, out.len());
                how.row(y, Pixels { data, apart: x.pixel }, Pixels { data: row, apart: shape.c });
                kernels.widen_bytes(row, quant.scale, quant.zero.into(), out);
            }
        });
    }
    workers.share(shape.h, row, 1, shape.len(), out, |_, _, rows, out| match (x.data, out) {
        (Data::F32(data), Out::F32(out)) => each_row(how, rows, row, Pixels { data, apart: x.pixel }, out, apart),
        (Data::U8(data, _), Out::U8 { bytes, .. }) => {
            each_row(how, rows, row, Pixels { data, apart: x.pixel }, bytes, apart);
        }
        _ => unreachable!("both are alike"),
    });
}

fn each_row<T: Copy>(how: &impl Move, rows: Range<usize>, row: usize, x: Pixels<&[T]>, out: &mut [T], apart: usize) {
    for (i, y) in rows.enumerate() {
        how.row(y, Pixels { data: x.data, apart: x.apart }, Pixels { data: &mut out[i * row..], apart });
    }
}

/// Channel `i × (c / groups) + j` becomes channel `j × groups + i`.
pub(super) fn shuffle(workers: &mut Workers, x: Map, groups: usize, target: Target) {
    let Shape { w, c, .. } = target.shape;
    moved(workers, x, target, &Shuffle { w, c, groups });
}

struct Shuffle {
    w: usize,
    c: usize,
    groups: usize,
}

impl Move for Shuffle {
    fn row<T: Copy>(&self, y: usize, x: Pixels<&[T]>, out: Pixels<&mut [T]>) {
        let pixels = out.data.chunks_mut(out.apart).take(self.w);
        for (i, out) in pixels.enumerate() {
            let x = &x.data[(y * self.w + i) * x.apart..][..self.c];
            interleave(x, self.c / self.groups, self.groups, &mut out[..self.c]);
        }
    }
}

fn interleave<T: Copy>(x: &[T], per_group: usize, groups: usize, out: &mut [T]) {
    if groups == 2 {
        let (a, b) = x.split_at(per_group);
        for ((a, b), out) in a.iter().zip(b).zip(out.as_chunks_mut::<2>().0) {
            *out = [*a, *b];
        }
        return;
    }
    for (j, out) in out.chunks_exact_mut(groups).enumerate() {
        out.iter_mut().zip(x[j..].iter().step_by(per_group)).for_each(|(out, x)| *out = *x);
    }
}

pub(super) fn reshape(workers: &mut Workers, x: Map, target: Target) {
    let to = target.shape;
    by_lines(workers, target, |kernels, scratch, y, out| {
        // The pixels of the source that the line is made of may begin and end in between.
        let (first, last) = (y * to.w * to.c, (y + 1) * to.w * to.c - 1);
        let pixels = first / x.shape.c..last / x.shape.c + 1;
        let whole = line(&mut scratch.lines[1], pixels.len() * x.shape.c);
        x.read(kernels, pixels.start, whole);
        out.copy_from_slice(&whole[first % x.shape.c..][..out.len()]);
    });
}

pub(super) fn transpose(workers: &mut Workers, x: Map, order: [Axis; 3], target: Target) {
    let to = target.shape;
    by_lines(workers, target, |kernels, scratch, y, out| {
        let element = line(&mut scratch.lines[1], 1);
        for (i, out) in out.iter_mut().enumerate() {
            let mut at = [0; 3];
            order.iter().zip([y, i / to.c, i % to.c]).for_each(|(axis, i)| at[*axis as usize] = i);
            x.read_channels(kernels, at[0] * x.shape.w + at[1], at[2], 1, element);
            *out = element[0];
        }
    });
}

/// Softmax over the channels.
pub(super) fn softmax(workers: &mut Workers, x: Map, target: Target) {
    by_lines(workers, target, |kernels, _, y, line| {
        x.read(kernels, y * x.shape.w, line);
        kernels.softmax_pixels(line, x.shape.c);
    });
}

pub(super) fn resize(workers: &mut Workers, x: Map, sampling: Sampling, target: Target) {
    let (from, to) = (x.shape, target.shape);
    by_lines(workers, target, |kernels, scratch, y, out| {
        let rows = sampling.taps(from.h, to.h, y);
        let [_, low, high, _] = &mut scratch.lines;
        let (low, high) = (line(low, from.w * from.c), line(high, from.w * from.c));
        x.read(kernels, rows.low * from.w, low);
        if rows.weight > 0.0 {
            x.read(kernels, rows.high * from.w, high);
            low.iter_mut().zip(&*high).for_each(|(low, high)| *low += (high - *low) * rows.weight);
        }
        for (i, out) in out.chunks_exact_mut(to.c).enumerate() {
            let taps = sampling.taps(from.w, to.w, i);
            let pixel = |at: usize| &low[at * from.c..][..from.c];
            if taps.weight > 0.0 {
                kernels.lerp(pixel(taps.low), pixel(taps.high), taps.weight, out);
            } else {
                out.copy_from_slice(pixel(taps.low));
            }
        }
    });
}

/// The rows or columns of the map that the window at position `i` sees.
fn under(window: &Window, axis: usize, size: usize, i: usize) -> impl Iterator<Item = usize> + Clone {
    let (first, step, pad) = (i * window.stride[axis], window.dilation[axis], window.pads[axis]);
    (0..window.kernel[axis]).filter_map(move |k| (first + k * step).checked_sub(pad)).filter(move |&at| at < size)
}

pub(super) fn pool(workers: &mut Workers, x: Map, pooling: Pooling, window: &Window, target: Target) {
    let (from, to) = (x.shape, target.shape);
    by_lines(workers, target, |kernels, scratch, y, out| {
        let [_, sums, row, _] = &mut scratch.lines;
        let (sums, row) = (line(sums, from.w * from.c), line(row, from.w * from.c));
        let take = |sums: &mut [f32], x: &[f32]| match pooling {
            Pooling::Max => kernels.maximum_floats(sums, x),
            _ => kernels.combine(Arithmetic::Add, sums, x),
        };
        let rows = under(window, 0, from.h, y);
        for (i, at) in rows.clone().enumerate() {
            if i == 0 {
                x.read(kernels, at * from.w, sums);
            } else {
                x.read(kernels, at * from.w, row);
                take(sums, row);
            }
        }
        for (i, out) in out.chunks_exact_mut(to.c).enumerate() {
            let columns = under(window, 1, from.w, i);
            for (k, at) in columns.clone().enumerate() {
                let pixel = &sums[at * from.c..][..from.c];
                if k == 0 { out.copy_from_slice(pixel) } else { take(out, pixel) }
            }
            let count = match pooling {
                Pooling::Max => continue,
                Pooling::Mean => rows.clone().count() * columns.count(),
                Pooling::PaddedMean => window.kernel[0] * window.kernel[1],
            };
            kernels.combine(Arithmetic::Div, out, &[count as f32]);
        }
    });
}
