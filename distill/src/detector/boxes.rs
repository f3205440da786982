//! Boxes: how much two of them overlap, and how that changes with their sides.

/// Left, top, right, bottom.
pub type Rect = [f64; 4];

/// The area of a box.
fn area([x0, y0, x1, y1]: Rect) -> f64 {
    (x1 - x0).max(0.0) * (y1 - y0).max(0.0)
}

/// The area that both cover.
fn shared(a: Rect, b: Rect) -> f64 {
    area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])])
}

/// Intersection over union, 0 to 1; 0 for boxes without area.
pub fn iou(a: Rect, b: Rect) -> f64 {
    let both = shared(a, b);
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

/// Generalized IoU (Rezatofighi et al. 2019), −1 to 1, and its gradient by the sides of `a`: `IoU − (hull − union) / hull`,
/// the hull being the smallest box around both. 0 for boxes whose hull has no area.
pub fn giou(a: Rect, b: Rect) -> (f64, Rect) {
    let both = shared(a, b);
    let union = area(a) + area(b) - both;
    let outer = [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
    let hull = area(outer);
    if hull <= 0.0 || union <= 0.0 {
        return (0.0, [0.0; 4]);
    }
    let inner = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    let overlaps = inner[0] < inner[2] && inner[1] < inner[3];
    // How an area changes with one of its sides: by the length of the side, outwards.
    let outward = |rect: Rect, side: usize| {
        let length = if side.is_multiple_of(2) { rect[3] - rect[1] } else { rect[2] - rect[0] };
        if side < 2 { -length } else { length }
    };
    let gradient = std::array::from_fn(|side| {
        // Left and top bound the inner box where they are the greater ones, and the hull where they are the smaller.
        let (is_inner, is_outer) =
            if side < 2 { (a[side] > b[side], a[side] < b[side]) } else { (a[side] < b[side], a[side] > b[side]) };
        let of_both = if overlaps && is_inner { outward(inner, side) } else { 0.0 };
        let of_hull = if is_outer { outward(outer, side) } else { 0.0 };
        let of_union = outward(a, side) - of_both;
        // both / union − 1 + union / hull
        (of_both * union - both * of_union) / (union * union) + (of_union * hull - union * of_hull) / (hull * hull)
    });
    (both / union - 1.0 + union / hull, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::check::close;

    #[test]
    fn overlaps_by_hand() {
        let unit = [0.0, 0.0, 2.0, 2.0];
        assert_eq!(iou(unit, unit), 1.0);
        assert_eq!(iou(unit, [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou(unit, [2.0, 0.0, 3.0, 2.0]), 0.0);
        assert_eq!(iou([1.0; 4], [1.0; 4]), 0.0);
        assert_eq!(giou(unit, unit).0, 1.0);
        // Two unit squares with one between them: 0 − 1 / 3.
        close("giou", &[giou([0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]).0], &[-1.0 / 3.0], 1e-12);
        assert_eq!(giou([1.0; 4], [1.0; 4]), (0.0, [0.0; 4]));
    }

    #[test]
    fn gradients_are_differences() {
        let b = [1.0, 2.0, 4.0, 5.0];
        for a in [
            [0.0, 1.0, 3.0, 4.0],
            [1.5, 2.5, 3.5, 4.5],
            [0.0, 0.0, 6.0, 7.0],
            [5.0, 6.0, 7.0, 9.0],
            [5.0, 2.5, 7.0, 4.0],
            [0.5, 3.0, 2.0, 8.0],
        ] {
            let differences = std::array::from_fn::<f64, 4, _>(|side| {
                let at = |step: f64| {
                    let mut moved = a;
                    moved[side] += step;
                    giou(moved, b).0
                };
                (at(1e-6) - at(-1e-6)) / 2e-6
            });
            close(&format!("{a:?}"), &giou(a, b).1, &differences, 1e-8);
        }
    }
}
