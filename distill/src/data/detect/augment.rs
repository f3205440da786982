//! Changes of pictures and their boxes, so that a few photographs teach as if they were many. The same random numbers make
//! the same changes.

use super::Truth;
use crate::error::{Error, Result, within};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A picture with its boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// Red, green, blue of each pixel, row by row.
    pub rgb: Vec<u8>,
    /// Its boxes.
    pub boxes: Vec<Truth>,
}

/// What is changed, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// How probable it is that left and right change places, 0 to 1.
    pub flip: f64,
    /// The smallest and the largest size, 1 being that which just fits. What is larger is cropped.
    pub scale: [f64; 2],
    /// By how much width and height may differ: factors up to `1 + stretch`.
    pub stretch: f64,
    /// By how much brightness, contrast and saturation may change: factors of `1 ± colour`.
    pub colour: f64,
    /// How probable it is that four pictures become one, 0 to 1 (Bochkovskiy et al. 2020).
    pub mosaic: f64,
    /// The least part of a box that must be left of it. Of those with less, nobody needs to find the rest.
    pub keep: f64,
    /// The part of the training, 0 to 1, after which there are no mosaics: real pictures are none.
    pub mosaic_until: f64,
}

impl Default for Augment {
    fn default() -> Self {
        Self { flip: 0.5, scale: [0.6, 1.6], stretch: 0.15, colour: 0.3, mosaic: 0.5, keep: 0.3, mosaic_until: 0.85 }
    }
}

/// Part of a canvas: left, top, right, bottom.
type Part = [usize; 4];

impl Augment {
    /// # Errors
    /// `Input` for a number that makes no sense.
    pub fn check(&self) -> Result<()> {
        within("flip", self.flip, 0.0, 1.0)?;
        within("scale", self.scale[0], 0.05, 20.0)?;
        within("scale", self.scale[1], self.scale[0], 20.0)?;
        within("stretch", self.stretch, 0.0, 1.0)?;
        within("colour", self.colour, 0.0, 0.95)?;
        within("mosaic", self.mosaic, 0.0, 1.0)?;
        within("keep", self.keep, 0.0, 1.0)?;
        within("mosaic_until", self.mosaic_until, 0.0, 1.0)
    }

    /// What is changed when this part of the training, 0 to 1, is over.
    pub fn at(self, done: f64) -> Self {
        let mosaic = if done < self.mosaic_until { self.mosaic } else { 0.0 };
        Self { mosaic, ..self }
    }

    /// Whether the next picture is made of four.
    pub fn is_mosaic(&self, random: &mut ChaCha8Rng) -> bool {
        random.random_bool(self.mosaic)
    }

    /// A picture of `size` out of one sample, or out of four in its corners. What no sample covers is of the grey `fill`.
    ///
    /// # Errors
    /// `Input` for another number of samples, or pixels that are not as many as a sample's size says.
    pub fn apply(&self, samples: &[&Sample], size: [usize; 2], fill: u8, random: &mut ChaCha8Rng) -> Result<Sample> {
        for sample in samples {
            let [width, height] = sample.size;
            if width == 0 || height == 0 || sample.rgb.len() != 3 * width * height {
                let bytes = sample.rgb.len();
                return Err(Error::input(format!("{bytes} bytes, expected a picture of {width}x{height}")));
            }
        }
        let [width, height] = size;
        let mut canvas = Sample { size, rgb: vec![fill; 3 * width * height], boxes: Vec::new() };
        match samples {
            [one] => self.place(one, [0, 0, width, height], &mut canvas, random),
            [_, _, _, _] => {
                let x = (width as f64 * random.random_range(0.3..0.7)) as usize;
                let y = (height as f64 * random.random_range(0.3..0.7)) as usize;
                let parts = [[0, 0, x, y], [x, 0, width, y], [0, y, x, height], [x, y, width, height]];
                for (sample, part) in samples.iter().zip(parts) {
                    self.place(sample, part, &mut canvas, random);
                }
            }
            _ => return Err(Error::input(format!("{} samples, expected 1 or 4", samples.len()))),
        }
        self.paint(&mut canvas.rgb, random);
        Ok(canvas)
    }

    /// Draws a sample into part of a canvas, at a random size and place.
    fn place(&self, sample: &Sample, part: Part, canvas: &mut Sample, random: &mut ChaCha8Rng) {
        let [width, height] = sample.size.map(|side| side as f64);
        let [left, top, right, bottom] = part.map(|edge| edge as f64);
        let fit = ((right - left) / width).min((bottom - top) / height);
        let scale = fit * random.random_range(self.scale[0]..=self.scale[1]);
        let stretch = (1.0 + random.random_range(0.0..=self.stretch)).sqrt();
        let scale = if random.random_bool(0.5) {
            [scale * stretch, scale / stretch]
        } else {
            [scale / stretch, scale * stretch]
        };
        // Anywhere within the part if it is smaller, and over all of it if it is larger.
        let room = [right - left - width * scale[0], bottom - top - height * scale[1]];
        let start = [left + room[0] * random.random_range(0.0..=1.0), top + room[1] * random.random_range(0.0..=1.0)];
        let flip = random.random_bool(self.flip);
        let view = View { sample, start, scale, flip };
        view.draw(part, canvas);
        for truth in &sample.boxes {
            let [x0, y0, x1, y1] = view.rect(truth.rect);
            let inside = [x0.clamp(left, right), y0.clamp(top, bottom), x1.clamp(left, right), y1.clamp(top, bottom)];
            let area = |[x0, y0, x1, y1]: [f64; 4]| (x1 - x0) * (y1 - y0);
            let (whole, rest) = (area([x0, y0, x1, y1]), area(inside));
            if rest > 0.0 {
                let ignore = truth.ignore || rest < self.keep * whole;
                canvas.boxes.push(Truth { rect: inside, area: truth.area * scale[0] * scale[1], ignore, ..*truth });
            }
        }
    }

    /// Changes brightness, contrast and saturation.
    fn paint(&self, rgb: &mut [u8], random: &mut ChaCha8Rng) {
        let mut factor = || 1.0 + random.random_range(-self.colour..=self.colour) as f32;
        let (brightness, contrast, saturation) = (factor(), factor(), factor());
        if self.colour == 0.0 {
            return;
        }
        for pixel in rgb.as_chunks_mut::<3>().0 {
            let [r, g, b] = pixel.map(f32::from);
            // Luma as in ITU-R BT.601.
            let grey = 0.299 * r + 0.587 * g + 0.114 * b;
            *pixel = [r, g, b].map(|x| {
                let x = (grey + saturation * (x - grey)) * brightness;
                (128.0 + contrast * (x - 128.0)).round().clamp(0.0, 255.0) as u8
            });
        }
    }
}

/// A sample at its place on a canvas.
struct View<'a> {
    sample: &'a Sample,
    /// Where its top left corner lies.
    start: [f64; 2],
    /// Canvas pixels for one of the sample.
    scale: [f64; 2],
    flip: bool,
}

impl View<'_> {
    /// A box of the sample on the canvas.
    fn rect(&self, [x0, y0, x1, y1]: [f64; 4]) -> [f64; 4] {
        let width = self.sample.size[0] as f64;
        let [x0, x1] = if self.flip { [width - x1, width - x0] } else { [x0, x1] };
        let at = |side: usize, x: f64| self.start[side] + self.scale[side] * x;
        [at(0, x0), at(1, y0), at(0, x1), at(1, y1)]
    }

    /// Between which pixels of the sample's side `side` each of the canvas's pixels lies, and how near to the higher one;
    /// `None` beside it.
    fn taps(&self, side: usize, from: usize, to: usize) -> Vec<Option<(usize, usize, f32)>> {
        let size = self.sample.size[side];
        let tap = |pixel: usize| {
            let at = (pixel as f64 + 0.5 - self.start[side]) / self.scale[side];
            if !(0.0..size as f64).contains(&at) {
                return None;
            }
            let at = if self.flip && side == 0 { size as f64 - at } else { at };
            let at = (at - 0.5).clamp(0.0, (size - 1) as f64);
            let low = at as usize;
            Some((low, (low + 1).min(size - 1), (at - low as f64) as f32))
        };
        (from..to).map(tap).collect()
    }

    /// Draws it, linear between pixels.
    fn draw(&self, [left, top, right, bottom]: Part, canvas: &mut Sample) {
        let width = self.sample.size[0];
        let horizontal = self.taps(0, left, right);
        for (y, tap) in (top..bottom).zip(self.taps(1, top, bottom)) {
            let Some((above, below, lower)) = tap else { continue };
            let line = |y: usize| self.sample.rgb[3 * y * width..][..3 * width].as_chunks::<3>().0;
            let (above, below) = (line(above), line(below));
            let out = &mut canvas.rgb[3 * (y * canvas.size[0] + left)..][..3 * (right - left)];
            for (pixel, tap) in out.as_chunks_mut::<3>().0.iter_mut().zip(&horizontal) {
                let Some((first, second, weight)) = *tap else { continue };
                *pixel = std::array::from_fn(|c| {
                    let mix = |a: u8, b: u8| f32::from(a) + weight * (f32::from(b) - f32::from(a));
                    let (a, b) = (mix(above[first][c], above[second][c]), mix(below[first][c], below[second][c]));
                    (a + lower * (b - a)).round() as u8
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// A black picture with a white box.
    fn sample(size: [usize; 2], rect: [usize; 4]) -> Sample {
        let [x0, y0, x1, y1] = rect;
        let white = |i: usize| (x0..x1).contains(&(i % size[0])) && (y0..y1).contains(&(i / size[0]));
        let rgb = (0..size[0] * size[1]).flat_map(|i| [if white(i) { 255 } else { 0 }; 3]).collect();
        Sample { size, rgb, boxes: vec![Truth::new(1, rect.map(|x| x as f64))] }
    }

    fn nothing() -> Augment {
        Augment { flip: 0.0, scale: [1.0; 2], stretch: 0.0, colour: 0.0, mosaic: 0.0, keep: 0.3, mosaic_until: 1.0 }
    }

    fn run(augment: Augment, samples: &[&Sample], size: [usize; 2], seed: u64) -> Sample {
        augment.check().unwrap();
        augment.apply(samples, size, 0, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
    }

    #[test]
    fn nothing_changes_nothing() {
        let sample = sample([20, 14], [3, 4, 9, 11]);
        assert_eq!(run(nothing(), &[&sample], [20, 14], 1), sample);
    }

    #[test]
    fn the_same_seed_makes_the_same_picture() {
        let sample = sample([40, 30], [3, 4, 19, 21]);
        let all = [&sample; 4];
        let run = |seed| run(Augment::default(), &all, [64, 64], seed);
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    /// The white pixels of the result span the box.
    #[test]
    fn boxes_stay_with_what_they_are_around() {
        let sample = sample([60, 50], [18, 16, 42, 34]);
        let augment = Augment { colour: 0.0, keep: 0.0, ..Augment::default() };
        for seed in 0..50 {
            let made = run(augment, &[&sample], [96, 64], seed);
            let white = |i: &usize| made.rgb[3 * i] > 127;
            let (xs, ys): (Vec<usize>, Vec<usize>) = (0..96 * 64).filter(white).map(|i| (i % 96, i / 96)).unzip();
            let Some(truth) = made.boxes.first() else {
                assert!(xs.is_empty(), "seed {seed}");
                continue;
            };
            let [x0, y0, x1, y1] = truth.rect;
            if (x1 - x0).min(y1 - y0) < 3.0 {
                continue;
            }
            let span = |all: &[usize]| [*all.iter().min().unwrap() as f64, *all.iter().max().unwrap() as f64 + 1.0];
            let found = [span(&xs)[0], span(&ys)[0], span(&xs)[1], span(&ys)[1]];
            for (found, expected) in found.iter().zip(truth.rect) {
                assert!((found - expected).abs() <= 1.5, "seed {seed}: {found} is not {expected} of {:?}", truth.rect);
            }
        }
    }

    #[test]
    fn what_is_cut_off_need_not_be_found() {
        let sample = sample([40, 40], [0, 0, 10, 10]);
        let augment = Augment { scale: [3.0; 2], ..nothing() };
        let (mut kept, mut left, mut gone) = (0, 0, 0);
        for seed in 0..200 {
            match run(augment, &[&sample], [40, 40], seed).boxes[..] {
                [] => gone += 1,
                [truth] if truth.ignore => left += 1,
                _ => kept += 1,
            }
        }
        assert!(kept > 5 && left > 5 && gone > 5, "{kept} {left} {gone}");
    }

    #[test]
    fn four_pictures_share_a_mosaic() {
        let sample = sample([32, 32], [8, 8, 24, 24]);
        let made = run(nothing(), &[&sample; 4], [64, 64], 9);
        assert_eq!(made.boxes.len(), 4);
        let overlaps = |a: &Truth, b: &Truth| {
            a.rect[0] < b.rect[2] && b.rect[0] < a.rect[2] && a.rect[1] < b.rect[3] && b.rect[1] < a.rect[3]
        };
        assert!((0..4).all(|i| (0..i).all(|j| !overlaps(&made.boxes[i], &made.boxes[j]))));
        let three = nothing().apply(&[&sample; 3], [64, 64], 0, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(three.unwrap_err().to_string().contains("expected 1 or 4"));
    }
}
