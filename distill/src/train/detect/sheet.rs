//! Contact sheets: pictures side by side with what a student found in them, so that people can look.

use crate::{data::detect::Item, error::Result};
use pupil::{
    Detection, Picture,
    image::{Fit, Geometry, Placement, Rect, draw},
};
use std::path::Path;

/// Pictures in a row.
const COLUMNS: usize = 4;
/// Pictures of a sheet, at most.
const MOST: usize = 16;
/// Width and height of a picture on the sheet.
const TILE: usize = 320;
/// Pixels between two of them.
const GAP: usize = 4;
/// The grey around pictures.
const GROUND: u8 = 32;
/// The colour of boxes that are to be found.
const TRUTH: [u8; 3] = [255; 3];

/// The name of the sheet after a step.
pub fn name(step: u64) -> String {
    format!("sheet-{step:06}.png")
}

/// Whether a file is called as sheets are.
pub fn is_name(name: &str) -> bool {
    let step = name.strip_prefix("sheet-").and_then(|rest| rest.strip_suffix(".png"));
    step.and_then(|step| step.parse().ok()).is_some_and(|step| self::name(step) == name)
}

/// Which of `count` pictures are shown: some at equal distances.
pub fn chosen(count: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(MOST);
    (0..shown).map(move |i| i * count / shown)
}

/// Writes a sheet of the [chosen] pictures: coloured boxes are what was found with a score of at least `confidence`, thin
/// white ones what is there.
///
/// # Errors
/// `Io` for a picture that cannot be read, or a sheet that cannot be written.
pub fn save(path: &Path, items: &[Item], found: &[Vec<Detection>], classes: &[String], confidence: f32) -> Result<()> {
    let numbers: Vec<usize> = chosen(items.len()).collect();
    let columns = numbers.len().min(COLUMNS);
    let side = |tiles: usize| tiles * (TILE + GAP) - GAP.min(tiles * GAP);
    let (width, height) = (side(columns), side(numbers.len().div_ceil(COLUMNS)));
    let mut rgb = vec![GROUND; 3 * width * height];
    for (i, &number) in numbers.iter().enumerate() {
        let tile = tile(&items[number], &found[number], classes, confidence)?;
        let (left, top) = (i % COLUMNS * (TILE + GAP), i / COLUMNS * (TILE + GAP));
        for (y, row) in tile.rgb().chunks_exact(3 * TILE).enumerate() {
            rgb[3 * ((top + y) * width + left)..][..row.len()].copy_from_slice(row);
        }
    }
    Ok(Picture::from_rgb(width, height, rgb)?.save(path)?)
}

/// One picture with its boxes.
fn tile(item: &Item, found: &[Detection], classes: &[String], confidence: f32) -> Result<Picture> {
    let geometry = Geometry {
        width: TILE,
        height: TILE,
        fit: Fit::Letterbox { centre: true },
        fill: GROUND,
        bgr: false,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let mut pixels = vec![0.0; 3 * TILE * TILE];
    let placement = geometry.place(&Picture::open(&item.path)?, &mut pixels);
    let mut rgb: Vec<u8> = pixels.into_iter().map(|x| x.round() as u8).collect();
    for truth in &item.boxes {
        outline(&mut rgb, on_tile(&placement, truth.rect.map(|edge| edge as f32)));
    }
    let mut picture = Picture::from_rgb(TILE, TILE, rgb)?;
    let shown = found.iter().filter(|found| found.score >= confidence);
    let shown: Vec<Detection> = shown
        .map(|found| {
            let Rect { x0, y0, x1, y1 } = found.rect;
            let [x0, y0, x1, y1] = on_tile(&placement, [x0, y0, x1, y1]);
            Detection { rect: Rect { x0, y0, x1, y1 }, ..*found }
        })
        .collect();
    draw(&mut picture, &shown, |found| format!("{} {:.0} %", classes[found.class], 100.0 * found.score));
    Ok(picture)
}

/// A box of the picture on its tile.
fn on_tile(placement: &Placement, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
    let x = |x: f32| x / placement.scale_x + placement.left as f32;
    let y = |y: f32| y / placement.scale_y + placement.top as f32;
    [x(x0), y(y0), x(x1), y(y1)]
}

/// A thin line along a box's edges.
fn outline(rgb: &mut [u8], rect: [f32; 4]) {
    let [x0, y0, x1, y1] = rect.map(|edge| (edge.round().max(0.0) as usize).min(TILE - 1));
    let mut dot = |x: usize, y: usize| rgb[3 * (y * TILE + x)..][..3].copy_from_slice(&TRUTH);
    (x0..=x1).for_each(|x| [y0, y1].into_iter().for_each(|y| dot(x, y)));
    (y0..=y1).for_each(|y| [x0, x1].into_iter().for_each(|x| dot(x, y)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::detect::Truth;

    #[test]
    fn sheets_are_known_by_their_names() {
        assert!([0, 7, 123_456, 12_345_678].into_iter().all(|step| is_name(&name(step))));
        assert!(
            ["sheet-1.png", "sheet-000001.jpg", "my-sheet-000001.png", "sheet-+00001.png"]
                .into_iter()
                .all(|x| !is_name(x))
        );
    }

    #[test]
    fn a_sheet_has_a_tile_for_each_picture() {
        let folder = std::env::temp_dir().join(format!("pupil-sheet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.png");
        Picture::from_rgb(80, 40, vec![0; 3 * 80 * 40]).unwrap().save(&path).unwrap();
        let boxes = vec![Truth::new(0, [20.0, 10.0, 60.0, 30.0])];
        let item = Item { path, size: (80, 40), boxes };
        let sheet = folder.join("sheet.png");
        let rect = Rect { x0: 20.0, y0: 10.0, x1: 30.0, y1: 20.0 };
        let found = |score| vec![Detection { class: 0, score, rect }];
        let classes = ["car".to_string()];
        for (count, size) in [(1, (320, 320)), (3, (968, 320)), (5, (1292, 644)), (40, (1292, 1292))] {
            let (items, found) = (vec![item.clone(); count], vec![found(0.2); count]);
            save(&sheet, &items, &found, &classes, 0.3).unwrap();
            let picture = Picture::open(&sheet).unwrap();
            assert_eq!((picture.width(), picture.height()), size);
            // A picture of 80x40 is four times as large, and in the middle.
            let pixel = |x: usize, y: usize| &picture.rgb()[3 * (y * size.0 + x)..][..3];
            assert_eq!(
                (pixel(80, 160), pixel(100, 100), pixel(10, 10)),
                (&[255; 3][..], &[0; 3][..], &[GROUND; 3][..])
            );
        }
        let shown = |score| {
            save(&sheet, std::slice::from_ref(&item), &[found(score)], &classes, 0.3).unwrap();
            Picture::open(&sheet).unwrap()
        };
        assert!(shown(0.9) != shown(0.2) && shown(0.1) == shown(0.2));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
