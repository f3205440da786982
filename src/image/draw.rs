//! Boxes and labels on a picture.

use super::label::{Line, mix};
use super::{Detection, Picture, Rect};

/// Draws every detection's box and its `label`, the surest on top.
///
/// Lines and text grow with the picture. Each class has a colour of its own. Labels stay inside of the picture, and
/// apart from each other where there is room; an empty one is left out.
pub fn draw(picture: &mut Picture, detections: &[Detection], label: impl Fn(&Detection) -> String) {
    let style = Style::of(picture);
    let mut shown: Vec<_> =
        detections.iter().filter_map(|found| Some((found, style.outline(picture, found)?))).collect();
    shown.sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
    for (found, outline) in shown.iter().rev() {
        let shape = Shape { rect: *outline, radius: style.radius, stroke: Some(style.thickness) };
        shape.paint(picture, colour(found.class));
    }
    let mut taken = Vec::new();
    let mut tags = Vec::new();
    for (found, outline) in &shown {
        let line = Line::new(&label(found), style.text, picture.width() as f32 - 2.0 * style.padding);
        if line.width() > 0.0 {
            let rect = style.tag(picture, outline, &line, &taken);
            taken.push(rect);
            tags.push((rect, line, found.class));
        }
    }
    for (rect, line, class) in tags.iter().rev() {
        let ground = colour(*class);
        Shape { rect: *rect, radius: style.radius, stroke: None }.paint(picture, ground);
        line.paint(picture, (rect.x0 + style.padding).round(), rect.y0.round(), ink(ground));
    }
}

/// Measures in pixels.
struct Style {
    thickness: f32,
    radius: f32,
    /// Height of a line of text.
    text: f32,
    /// Space to both sides of the text.
    padding: f32,
}

impl Style {
    fn of(picture: &Picture) -> Self {
        let side = (picture.width() + picture.height()) as f32 / 2.0;
        let thickness = (side * 0.0032).round().max(if side < 200.0 { 1.0 } else { 2.0 });
        let text = (side * 0.026).round().max(16.0);
        Self { thickness, radius: thickness * 1.5, text, padding: (text * 0.25).round() }
    }

    /// The middle of the line around a detection, inside of the picture; `None` when nothing of it is.
    fn outline(&self, picture: &Picture, found: &Detection) -> Option<Rect> {
        let rect = found.rect;
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        let apart = rect.x1 < 0.0 || rect.y1 < 0.0 || rect.x0 > width || rect.y0 > height;
        if !rect.is_finite() || apart || rect.x1 < rect.x0 || rect.y1 < rect.y0 {
            return None;
        }
        // Whole pixels make crisp lines.
        let inset = self.thickness / 2.0;
        let low = |at: f32, side: f32| at.round().clamp(0.0, (side - self.thickness).max(0.0)) + inset;
        let high = |at: f32, low: f32, side: f32| (at.round().min(side) - inset).max(low);
        let (x0, y0) = (low(rect.x0, width), low(rect.y0, height));
        Some(Rect { x0, y0, x1: high(rect.x1, x0, width), y1: high(rect.y1, y0, height) })
    }

    /// The label's background: above the box, else inside of it or below, wherever no other label is.
    fn tag(&self, picture: &Picture, outline: &Rect, line: &Line, taken: &[Rect]) -> Rect {
        let (width, height) = (line.width() + 2.0 * self.padding, self.text);
        let inset = self.thickness / 2.0;
        let x0 = (outline.x0 - inset).min(picture.width() as f32 - width).max(0.0);
        let lowest = picture.height() as f32 - height;
        let at = |y0: f32| Rect { x0, y0, x1: x0 + width, y1: y0 + height };
        let places = [outline.y0 - inset - height + self.radius, outline.y0 - inset, outline.y1 + inset - self.radius]
            .map(|y0| at(y0.round()));
        let free = |place: &&Rect| {
            (0.0..=lowest.max(0.0)).contains(&place.y0) && taken.iter().all(|other| other.iou(place) == 0.0)
        };
        let crowded = || at((outline.y0 - inset - height).min(lowest).max(0.0).round());
        places.iter().find(free).copied().unwrap_or_else(crowded)
    }
}

/// A rectangle with rounded corners, filled or as a line.
struct Shape {
    rect: Rect,
    radius: f32,
    stroke: Option<f32>,
}

impl Shape {
    fn paint(&self, picture: &mut Picture, colour: [u8; 3]) {
        let reach = self.stroke.unwrap_or(0.0) / 2.0 + 1.0;
        let span = |low: f32, high: f32, side: usize| {
            (low - reach).max(0.0) as usize..((high + reach).ceil().max(0.0) as usize).min(side)
        };
        let columns = span(self.rect.x0, self.rect.x1, picture.width());
        let hole = self.hole(reach);
        for y in span(self.rect.y0, self.rect.y1, picture.height()) {
            let beside_hole = (hole.y0..hole.y1).contains(&(y as f32)) && hole.x0 < hole.x1;
            let mut x = columns.start;
            while x < columns.end {
                if beside_hole && (hole.x0..hole.x1).contains(&(x as f32)) {
                    x = (hole.x1.ceil() as usize).max(x + 1);
                    continue;
                }
                mix(picture, x, y, colour, self.coverage(x as f32 + 0.5, y as f32 + 0.5));
                x += 1;
            }
        }
    }

    /// The inside of an outline, where nothing is painted; empty for a filled shape.
    fn hole(&self, reach: f32) -> Rect {
        if self.stroke.is_none() {
            return Rect::default();
        }
        let inset = reach + self.radius + 1.0;
        let Rect { x0, y0, x1, y1 } = self.rect;
        Rect { x0: x0 + inset, y0: y0 + inset, x1: x1 - inset, y1: y1 - inset }
    }

    /// How much of the pixel around (x, y) is covered, by its signed distance to the edge.
    fn coverage(&self, x: f32, y: f32) -> f32 {
        let Rect { x0, y0, x1, y1 } = self.rect;
        let radius = self.radius.min((x1 - x0) / 2.0).min((y1 - y0) / 2.0);
        let beyond_x = (x - (x0 + x1) / 2.0).abs() - (x1 - x0) / 2.0 + radius;
        let beyond_y = (y - (y0 + y1) / 2.0).abs() - (y1 - y0) / 2.0 + radius;
        let outside = beyond_x.max(0.0).hypot(beyond_y.max(0.0));
        let distance = outside + beyond_x.max(beyond_y).min(0.0) - radius;
        let distance = self.stroke.map_or(distance, |thickness| distance.abs() - thickness / 2.0);
        (0.5 - distance).clamp(0.0, 1.0)
    }
}

/// The colour of a class: hues a golden ratio apart at equal lightness, so that neighbours are far from each other.
fn colour(class: usize) -> [u8; 3] {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let turn = (class as f64 * GOLDEN + 0.08).fract() as f32;
    let lightness = if class.is_multiple_of(2) { 0.74 } else { 0.64 };
    oklch(lightness, 0.19, turn * std::f32::consts::TAU)
}

/// Oklch to sRGB, clipped to what sRGB can show (Björn Ottosson, "A perceptual color space for image processing").
fn oklch(lightness: f32, chroma: f32, hue: f32) -> [u8; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ]
    .map(|linear| (gamma(linear.clamp(0.0, 1.0)) * 255.0).round() as u8)
}

/// The transfer function of sRGB.
fn gamma(linear: f32) -> f32 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

/// Black or white, whichever is easier to read on `ground`.
fn ink(ground: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = ground.map(f32::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 125.0 { [16; 3] } else { [255; 3] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn white(width: usize, height: usize) -> Picture {
        Picture::from_rgb(width, height, vec![255; width * height * 3]).unwrap()
    }

    fn found(class: usize, x0: f32, y0: f32, x1: f32, y1: f32) -> Detection {
        Detection { class, score: 0.5, rect: Rect { x0, y0, x1, y1 } }
    }

    fn pixel(picture: &Picture, x: usize, y: usize) -> [u8; 3] {
        picture.rgb()[(y * picture.width() + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn outlines_lie_on_the_box() {
        let mut picture = white(400, 400);
        draw(&mut picture, &[found(0, 100.0, 100.0, 300.0, 200.0)], |_| String::new());
        for (x, y) in [(200, 100), (200, 199), (100, 150), (299, 150)] {
            assert_eq!(pixel(&picture, x, y), colour(0), "at {x}, {y}");
        }
        for (x, y) in [(200, 150), (200, 97), (97, 150), (200, 203), (303, 150), (200, 104)] {
            assert_eq!(pixel(&picture, x, y), [255; 3], "at {x}, {y}");
        }
    }

    #[test]
    fn lines_grow_with_the_picture() {
        let thickness = |side| Style::of(&white(side, side)).thickness;
        assert_eq!([100, 416, 1500, 3000].map(thickness), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn labels_stay_inside() {
        let picture = white(200, 100);
        let style = Style::of(&picture);
        for (x, y) in [(0.0, 0.0), (190.0, 0.0), (0.0, 95.0), (195.0, 95.0), (50.0, 50.0)] {
            let outline = Rect { x0: x, y0: y, x1: x + 4.0, y1: y + 4.0 };
            let line = Line::new("a long label", style.text, 200.0 - 2.0 * style.padding);
            let tag = style.tag(&picture, &outline, &line, &[]);
            assert!(tag.x0 >= 0.0 && tag.y0 >= 0.0 && tag.x1 <= 200.0 && tag.y1 <= 100.0, "{tag:?}");
        }
    }

    #[test]
    fn labels_of_one_place_do_not_cover_each_other() {
        let picture = white(300, 300);
        let style = Style::of(&picture);
        let outline = Rect { x0: 100.0, y0: 100.0, x1: 200.0, y1: 200.0 };
        let line = Line::new("car", style.text, 300.0);
        let mut taken = Vec::new();
        for _ in 0..3 {
            let tag = style.tag(&picture, &outline, &line, &taken);
            assert!(taken.iter().all(|other: &Rect| other.iou(&tag) == 0.0));
            taken.push(tag);
        }
    }

    #[test]
    fn neighbouring_classes_differ() {
        for class in 0..100 {
            let (a, b) = (colour(class), colour(class + 1));
            let distance: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
            assert!(distance > 100, "class {class}: {a:?} and {b:?}");
        }
        colour(usize::MAX);
    }

    #[test]
    fn every_alphabet_shows_something() {
        let boxes = [found(3, 40.0, 60.0, 150.0, 90.0)];
        let drawn = |text: &str| {
            let mut picture = white(200, 100);
            draw(&mut picture, &boxes, |_| text.into());
            picture
        };
        assert!(drawn("car") != drawn("cat"));
        assert!(drawn("Fährte") != drawn("Fahrte"));
        assert!(drawn("自転車") == drawn("\u{FFFD}\u{FFFD}\u{FFFD}") && drawn("自転車") != drawn("   "));
        assert!(drawn("e\u{301}t\te\n") == drawn("et e "));
        assert!(drawn(&"w".repeat(100_000)) == drawn(&"w".repeat(1_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_box_on_any_picture(
            (width, height) in (1..60_usize, 1..60_usize), text in "\\PC{0,12}", class: usize,
            bits in prop::array::uniform5(prop_oneof![any::<f32>(), -20.0_f32..80.0]),
        ) {
            let [score, x0, y0, x1, y1] = bits;
            let mut picture = white(width, height);
            draw(&mut picture, &[Detection { class, score, rect: Rect { x0, y0, x1, y1 } }], |_| text.clone());
        }
    }
}
