//! The cells over a picture, in which a detector sees objects.

/// A cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// Its centre from the left edge, in pixels.
    pub x: f32,
    /// Its centre from the top edge.
    pub y: f32,
    /// Its side.
    pub stride: f32,
}

/// The cells of all levels, the finest level first, each row by row: in the order of a detector's outputs.
///
/// The last cells may reach beyond the edge. `middle` is where a cell's centre lies, in cells from its top left corner.
pub fn anchors([width, height]: [usize; 2], strides: &[usize], middle: f32) -> Vec<Anchor> {
    let mut all = Vec::new();
    for &stride in strides {
        let centre = |i: usize| (i as f32 + middle) * stride as f32;
        for y in 0..height.div_ceil(stride) {
            all.extend((0..width.div_ceil(stride)).map(|x| Anchor {
                x: centre(x),
                y: centre(y),
                stride: stride as f32,
            }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_row_by_row() {
        let all = anchors([32, 16], &[8, 16], 0.5);
        assert_eq!(all.len(), 8 + 2);
        assert_eq!(all[1], Anchor { x: 12.0, y: 4.0, stride: 8.0 });
        assert_eq!(all[4], Anchor { x: 4.0, y: 12.0, stride: 8.0 });
        assert_eq!(all[9], Anchor { x: 24.0, y: 8.0, stride: 16.0 });
        assert_eq!(anchors([32, 16], &[8], 0.0)[5], Anchor { x: 8.0, y: 8.0, stride: 8.0 });
    }
}
