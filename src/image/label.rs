//! One line of anti-aliased text.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::Picture;

const WEIGHT: FontWeight = FontWeight::Bold;
const SIZE: RasterHeight = RasterHeight::Size32;

/// A line of text at a given height.
pub(super) struct Line {
    glyphs: Vec<RasterizedChar>,
    height: f32,
}

impl Line {
    /// A line `height` pixels high that is at most `max_width` pixels wide; longer text is cut.
    ///
    /// Latin letters are shown, characters that the font lacks as U+FFFD, marks that would stand over another
    /// character not at all.
    pub(super) fn new(text: &str, height: f32, max_width: f32) -> Self {
        let advance = advance(height);
        let fits = (max_width / advance) as usize;
        let shown = text.chars().filter(|c| c.general_category_group() != GeneralCategoryGroup::Mark);
        let mut glyphs: Vec<_> = shown.take(fits + 1).map(glyph).collect();
        if glyphs.len() > fits {
            glyphs.truncate(fits);
            let dots = fits.min(2);
            glyphs[fits - dots..].fill(glyph('.'));
        }
        Self { glyphs, height }
    }

    pub(super) fn width(&self) -> f32 {
        self.glyphs.len() as f32 * advance(self.height)
    }

    /// Paints with the top left corner at (x, y); what lies outside of the picture is left out.
    pub(super) fn paint(&self, picture: &mut Picture, x: f32, y: f32, colour: [u8; 3]) {
        let scale = SIZE.val() as f32 / self.height;
        for row in y.max(0.0) as usize..((y + self.height).ceil().max(0.0) as usize).min(picture.height()) {
            let glyph_y = (row as f32 + 0.5 - y) * scale - 0.5;
            for (i, glyph) in self.glyphs.iter().enumerate() {
                let left = x + i as f32 * advance(self.height);
                let end = ((left + advance(self.height)).ceil().max(0.0) as usize).min(picture.width());
                for column in left.max(0.0) as usize..end {
                    let glyph_x = (column as f32 + 0.5 - left) * scale - 0.5;
                    mix(picture, column, row, colour, coverage(glyph, glyph_x, glyph_y, scale));
                }
            }
        }
    }
}

/// Lays `colour` over a pixel of the picture, as opaque as `alpha` says (0 to 1).
pub(super) fn mix(picture: &mut Picture, x: usize, y: usize, colour: [u8; 3], alpha: f32) {
    let at = (y * picture.width() + x) * 3;
    for (pixel, colour) in picture.rgb_mut()[at..at + 3].iter_mut().zip(colour) {
        *pixel = (f32::from(*pixel) + (f32::from(colour) - f32::from(*pixel)) * alpha).round() as u8;
    }
}

fn advance(height: f32) -> f32 {
    get_raster_width(WEIGHT, SIZE) as f32 * height / SIZE.val() as f32
}

fn glyph(c: char) -> RasterizedChar {
    let c = if c.is_whitespace() || c.is_control() { ' ' } else { c };
    get_raster(c, WEIGHT, SIZE)
        .or_else(|| get_raster(char::REPLACEMENT_CHARACTER, WEIGHT, SIZE))
        .or_else(|| get_raster('?', WEIGHT, SIZE))
        .expect("the font has ASCII")
}

/// How much of a glyph a pixel at (x, y) sees: a tent filter, which is bilinear when the glyph is magnified.
fn coverage(glyph: &RasterizedChar, x: f32, y: f32, scale: f32) -> f32 {
    let radius = (0.75 * scale).max(1.0);
    let weight = |distance: f32| (1.0 - distance.abs() / radius).max(0.0);
    let span = |at: f32| (at - radius).ceil() as isize..=(at + radius).floor() as isize;
    let (mut sum, mut total) = (0.0, 0.0);
    for row in span(y) {
        for column in span(x) {
            let weight = weight(row as f32 - y) * weight(column as f32 - x);
            let inside = usize::try_from(column).ok().zip(usize::try_from(row).ok());
            let pixel = inside.and_then(|(column, row)| glyph.pixel(column, row)).unwrap_or(0);
            sum += weight * f32::from(pixel);
            total += weight;
        }
    }
    if total > 0.0 { sum / total / 255.0 } else { 0.0 }
}
