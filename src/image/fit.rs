//! From a picture to a network's input, and from its boxes back.

use super::{Picture, Rect};
use crate::{Error, Result};

/// How a picture is brought to the size that a network expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Width and height are scaled apart; the picture fills the input.
    Stretch,
    /// The picture keeps its aspect ratio and the rest of the input is filled.
    Letterbox {
        /// Whether the picture is put in the middle; else at the top left, as YOLOX does.
        centre: bool,
    },
}

/// What a network expects as its input.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Width of the input in pixels.
    pub width: usize,
    /// Height of the input in pixels.
    pub height: usize,
    /// How the picture is brought to this size.
    pub fit: Fit,
    /// The grey around a letterboxed picture, before normalisation.
    pub fill: u8,
    /// Whether the network sees blue, green, red instead of red, green, blue.
    pub bgr: bool,
    /// Subtracted from values of 0 to 255, in the order in which the network sees the channels.
    pub mean: [f32; 3],
    /// Divides the difference, in the same order.
    pub std: [f32; 3],
}

/// Where a picture lies in a network's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Picture pixels per input pixel, from left to right.
    pub scale_x: f32,
    /// Picture pixels per input pixel, from top to bottom.
    pub scale_y: f32,
    /// Input pixels to the left of the picture.
    pub left: usize,
    /// Input pixels above the picture.
    pub top: usize,
    /// Width of the picture itself.
    pub picture_width: usize,
    /// Height of the picture itself.
    pub picture_height: usize,
}

impl Placement {
    /// Maps a box in the input to the picture, and clips it to the picture's edges.
    pub fn to_picture(&self, rect: Rect) -> Rect {
        let x = |x: f32| ((x - self.left as f32) * self.scale_x).clamp(0.0, self.picture_width as f32);
        let y = |y: f32| ((y - self.top as f32) * self.scale_y).clamp(0.0, self.picture_height as f32);
        Rect { x0: x(rect.x0), y0: y(rect.y0), x1: x(rect.x1), y1: y(rect.y1) }
    }
}

impl Geometry {
    /// Checks numbers that came from a file.
    ///
    /// # Errors
    /// A side of 0 or of more than 16,384 pixels, a mean that is not finite, or a standard deviation that is not above 0.
    pub fn check(&self) -> Result<()> {
        let sides = 1..=super::picture::MAX_SIDE;
        if !sides.contains(&self.width) || !sides.contains(&self.height) {
            let (width, height, most) = (self.width, self.height, sides.end());
            return Err(Error::format(format!("an input of {width} x {height}: expected 1 to {most} pixels a side")));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return Err(Error::format(format!("input mean {:?}: expected finite numbers", self.mean)));
        }
        if !self.std.iter().all(|std| std.is_normal() && *std > 0.0) {
            return Err(Error::format(format!("input std {:?}: expected numbers above 0", self.std)));
        }
        Ok(())
    }

    /// Resizes and normalises `picture` into `out`, which is `[height][width][3]`.
    ///
    /// Resampling is bilinear with half-pixel centres, clamped at the edges and not smoothed when shrinking: OpenCV's
    /// `INTER_LINEAR`, which detectors are trained with. A picture that has the right size is not resampled.
    ///
    /// # Panics
    /// When `out` has not `height * width * 3` elements.
    pub fn place(&self, picture: &Picture, out: &mut [f32]) -> Placement {
        self.place_with(&mut Resampler::default(), picture, out)
    }

    /// As [`Geometry::place`]; with the same resampler and pictures of the same size nothing is allocated.
    ///
    /// # Panics
    /// As [`Geometry::place`].
    pub fn place_with(&self, resampler: &mut Resampler, picture: &Picture, out: &mut [f32]) -> Placement {
        assert_eq!(out.len(), self.height * self.width * 3, "a network's input is height * width * 3");
        let inner = self.inner(picture);
        if !out.is_empty() {
            self.fill_around(&inner, out);
            self.fill_inner(resampler, picture, &inner, out);
        }
        Placement {
            scale_x: picture.width() as f32 / inner.width as f32,
            scale_y: picture.height() as f32 / inner.height as f32,
            left: inner.left,
            top: inner.top,
            picture_width: picture.width(),
            picture_height: picture.height(),
        }
    }

    /// Where the resized picture goes.
    fn inner(&self, picture: &Picture) -> Inner {
        let Fit::Letterbox { centre } = self.fit else {
            return Inner { left: 0, top: 0, width: self.width, height: self.height };
        };
        // YOLOX truncates the product of doubles, even where it is an integer but for rounding.
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let ratio = (self.width as f64 / width).min(self.height as f64 / height);
        let width = ((width * ratio) as usize).max(1).min(self.width);
        let height = ((height * ratio) as usize).max(1).min(self.height);
        let (left, top) = if centre { ((self.width - width) / 2, (self.height - height) / 2) } else { (0, 0) };
        Inner { left, top, width, height }
    }

    fn fill_around(&self, inner: &Inner, out: &mut [f32]) {
        if inner.width == self.width && inner.height == self.height {
            return;
        }
        let fill: [f32; 3] = std::array::from_fn(|c| self.normal(c, self.fill));
        let paint = |pixels: &mut [f32]| pixels.as_chunks_mut().0.fill(fill);
        let (above, rest) = out.split_at_mut(inner.top * self.width * 3);
        let (rows, below) = rest.split_at_mut(inner.height * self.width * 3);
        paint(above);
        paint(below);
        for row in rows.chunks_exact_mut(self.width * 3) {
            let (before, rest) = row.split_at_mut(inner.left * 3);
            paint(before);
            paint(&mut rest[inner.width * 3..]);
        }
    }

    fn fill_inner(&self, resampler: &mut Resampler, picture: &Picture, inner: &Inner, out: &mut [f32]) {
        let rows = out.chunks_exact_mut(self.width * 3).skip(inner.top).take(inner.height);
        let rows = rows.map(|row| &mut row[inner.left * 3..][..inner.width * 3]);
        if (inner.width, inner.height) == (picture.width(), picture.height()) {
            self.copy(picture, rows);
        } else if self.bgr {
            resampler.run::<true>(self, picture, inner, rows);
        } else {
            resampler.run::<false>(self, picture, inner, rows);
        }
    }

    fn normal(&self, channel: usize, value: u8) -> f32 {
        (f32::from(value) - self.mean[channel]) / self.std[channel]
    }

    fn copy<'o>(&self, picture: &Picture, rows: impl Iterator<Item = &'o mut [f32]>) {
        // A table spares a division per value.
        let table: [[f32; 256]; 3] = std::array::from_fn(|c| std::array::from_fn(|value| self.normal(c, value as u8)));
        let source = |c: usize| if self.bgr { 2 - c } else { c };
        let source: [usize; 3] = std::array::from_fn(source);
        for (row, pixels) in rows.zip(picture.rgb().chunks_exact(picture.width() * 3)) {
            for (out, pixel) in row.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0) {
                *out = std::array::from_fn(|c| table[c][usize::from(pixel[source[c]])]);
            }
        }
    }
}

/// What resampling needs besides the picture, kept from one picture to the next.
#[derive(Debug, Default)]
pub struct Resampler {
    across: Vec<Tap>,
    upper: Cached,
    lower: Cached,
}

impl Resampler {
    /// Each source row is scaled and normalised across once, and kept while output rows need it.
    fn run<'o, const BGR: bool>(
        &mut self,
        geometry: &Geometry,
        picture: &Picture,
        inner: &Inner,
        rows: impl Iterator<Item = &'o mut [f32]>,
    ) {
        let Self { across, upper, lower } = self;
        across.clear();
        across.extend(taps(picture.width(), inner.width));
        upper.restart(inner.width);
        lower.restart(inner.width);
        let normal = Normal::of(geometry);
        let scale = |y: usize, row: &mut Vec<f32>| {
            let pixels = &picture.rgb()[y * picture.width() * 3..][..picture.width() * 3];
            scale_row::<BGR>(pixels.as_chunks().0, across, &normal, row.as_chunks_mut().0);
        };
        for (out, tap) in rows.zip(taps(picture.height(), inner.height)) {
            if lower.y == Some(tap.first) {
                std::mem::swap(upper, lower);
            }
            upper.want(tap.first, scale);
            lower.want(tap.second, scale);
            blend(&upper.row, &lower.row, tap.weight, out);
        }
    }
}

/// The part of the input that the picture covers.
struct Inner {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// The two neighbours that one output position is made of, and the weight of the second.
#[derive(Debug)]
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

fn taps(from: usize, to: usize) -> impl Iterator<Item = Tap> {
    let scale = from as f64 / to as f64;
    (0..to).map(move |i| {
        let at = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
        let first = at as usize;
        Tap { first, second: (first + 1).min(from - 1), weight: (at - first as f64) as f32 }
    })
}

/// The normalisation as one multiplication and one addition.
struct Normal {
    scale: [f32; 3],
    bias: [f32; 3],
}

impl Normal {
    fn of(geometry: &Geometry) -> Self {
        let scale = geometry.std.map(|std| 1.0 / std);
        Self { scale, bias: std::array::from_fn(|c| -geometry.mean[c] * scale[c]) }
    }
}

/// A source row, scaled across.
#[derive(Debug, Default)]
struct Cached {
    y: Option<usize>,
    row: Vec<f32>,
}

impl Cached {
    fn restart(&mut self, width: usize) {
        self.y = None;
        self.row.resize(width * 3, 0.0);
    }

    fn want(&mut self, y: usize, scale: impl Fn(usize, &mut Vec<f32>)) {
        if self.y != Some(y) {
            scale(y, &mut self.row);
            self.y = Some(y);
        }
    }
}

fn scale_row<const BGR: bool>(pixels: &[[u8; 3]], taps: &[Tap], normal: &Normal, out: &mut [[f32; 3]]) {
    for (out, tap) in out.iter_mut().zip(taps) {
        let (first, second) = (pixels[tap.first].map(f32::from), pixels[tap.second].map(f32::from));
        *out = std::array::from_fn(|c| {
            let source = if BGR { 2 - c } else { c };
            let value = first[source] + (second[source] - first[source]) * tap.weight;
            value * normal.scale[c] + normal.bias[c]
        });
    }
}

fn blend(upper: &[f32], lower: &[f32], weight: f32, out: &mut [f32]) {
    for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
        *out = upper + (lower - upper) * weight;
    }
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
