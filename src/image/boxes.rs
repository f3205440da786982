//! Boxes: overlap, and non-maximum suppression.

use std::cmp::Ordering;
use std::collections::HashMap;

/// A box from its top left corner (x0, y0) to its bottom right corner (x1, y1), in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(missing_docs, reason = "the coordinates are what the first line says")]
pub struct Rect {
    pub x0: f32,
    pub y0: f32,
    pub x1: f32,
    pub y1: f32,
}

impl Rect {
    /// Square pixels covered; 0 when a corner is on the wrong side of the other.
    pub fn area(&self) -> f32 {
        self.area64() as f32
    }

    /// Intersection over union, from 0 (apart, or without area) to 1 (the same box).
    pub fn iou(&self, other: &Rect) -> f32 {
        let common = self.intersection(other).area64();
        let union = self.area64() + other.area64() - common;
        if common > 0.0 { (common / union) as f32 } else { 0.0 }
    }

    fn intersection(&self, other: &Rect) -> Rect {
        Rect {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        }
    }

    /// In f64, where the area of no finite box overflows.
    fn area64(&self) -> f64 {
        let width = f64::from(self.x1) - f64::from(self.x0);
        let height = f64::from(self.y1) - f64::from(self.y0);
        width.max(0.0) * height.max(0.0)
    }

    pub(super) fn is_finite(&self) -> bool {
        [self.x0, self.y0, self.x1, self.y1].into_iter().all(f32::is_finite)
    }
}

/// One object that a detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Which of the model's classes.
    pub class: usize,
    /// How sure the model is, usually from 0 to 1.
    pub score: f32,
    /// Where it is.
    pub rect: Rect,
}

/// Non-maximum suppression: of the boxes of a class that overlap by more than `iou`, keeps the one of highest score.
///
/// What stays is sorted by descending score (equal scores keep their order) and at most `max` long. Detections whose
/// score or coordinates are not finite are dropped.
pub fn nms(detections: &mut Vec<Detection>, iou: f32, max: usize) {
    detections.retain(|detection| detection.score.is_finite() && detection.rect.is_finite());
    detections.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
    let mut kept: HashMap<usize, Vec<Rect>> = HashMap::new();
    let mut left = max;
    detections.retain(|detection| {
        if left == 0 {
            return false;
        }
        let rivals = kept.entry(detection.class).or_default();
        let keep = rivals.iter().all(|rival| rival.iou(&detection.rect) <= iou);
        if keep {
            rivals.push(detection.rect);
            left -= 1;
        }
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rect(x0: f32, y0: f32, x1: f32, y1: f32) -> Rect {
        Rect { x0, y0, x1, y1 }
    }

    fn found(class: usize, score: f32, rect: Rect) -> Detection {
        Detection { class, score, rect }
    }

    #[test]
    fn overlap_of_known_boxes() {
        let a = rect(0.0, 0.0, 10.0, 10.0);
        assert_eq!(a.area(), 100.0);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&rect(5.0, 0.0, 15.0, 10.0)), 50.0 / 150.0);
        assert_eq!(a.iou(&rect(10.0, 0.0, 20.0, 10.0)), 0.0);
        assert_eq!(a.iou(&rect(2.0, 2.0, 4.0, 4.0)), 0.04);
    }

    #[test]
    fn boxes_without_area_overlap_nothing() {
        let inside_out = rect(8.0, 8.0, 2.0, 2.0);
        assert_eq!(inside_out.area(), 0.0);
        assert_eq!(inside_out.iou(&rect(0.0, 0.0, 10.0, 10.0)), 0.0);
        assert_eq!(inside_out.iou(&inside_out), 0.0);
    }

    #[test]
    fn huge_boxes_do_not_overflow() {
        let huge = rect(f32::MIN, f32::MIN, f32::MAX, f32::MAX);
        assert_eq!(huge.iou(&huge), 1.0);
    }

    #[test]
    fn suppresses_within_a_class_only() {
        let here = rect(0.0, 0.0, 10.0, 10.0);
        let mut list = vec![found(0, 0.5, here), found(1, 0.6, here), found(0, 0.9, here)];
        nms(&mut list, 0.5, 10);
        assert_eq!(list, [found(0, 0.9, here), found(1, 0.6, here)]);
    }

    #[test]
    fn equal_scores_keep_their_order_and_max_cuts() {
        let at = |x: f32| rect(x, 0.0, x + 1.0, 1.0);
        let mut list: Vec<_> = (0..5).map(|i| found(0, if i == 4 { 0.8 } else { 0.5 }, at(3.0 * i as f32))).collect();
        nms(&mut list, 0.5, 3);
        assert_eq!(list.iter().map(|d| d.rect.x0).collect::<Vec<_>>(), [12.0, 0.0, 3.0]);
        nms(&mut list, 0.5, 0);
        assert!(list.is_empty());
    }

    #[test]
    fn what_is_no_number_is_dropped() {
        let fine = rect(0.0, 0.0, 1.0, 1.0);
        let mut list = vec![
            found(0, f32::NAN, fine),
            found(0, 0.5, rect(f32::NAN, 0.0, 1.0, 1.0)),
            found(0, 0.5, rect(0.0, 0.0, f32::INFINITY, 1.0)),
            found(0, 0.1, fine),
        ];
        nms(&mut list, 0.5, 10);
        assert_eq!(list, [found(0, 0.1, fine)]);
    }

    /// The textbook's algorithm: take the best of what is left, drop what overlaps it.
    fn naive(mut left: Vec<Detection>, iou: f32, max: usize) -> Vec<Detection> {
        let mut kept = Vec::new();
        while !left.is_empty() && kept.len() < max {
            let best = (1..left.len()).fold(0, |best, i| if left[i].score > left[best].score { i } else { best });
            let best = left.remove(best);
            left.retain(|other| other.class != best.class || other.rect.iou(&best.rect) <= iou);
            kept.push(best);
        }
        kept
    }

    fn any_detection() -> impl Strategy<Value = Detection> {
        (0..3_usize, 0..20_u8, 0..30_u8, 0..30_u8, 0..20_u8, 0..20_u8).prop_map(|(class, score, x, y, w, h)| {
            let [x, y, w, h] = [x, y, w, h].map(f32::from);
            found(class, f32::from(score) / 20.0, rect(x, y, x + w, y + h))
        })
    }

    proptest! {
        #[test]
        fn equals_the_textbook(
            list in prop::collection::vec(any_detection(), 0..60), iou in 0.0_f32..1.0, max in 0..40_usize,
        ) {
            let mut fast = list.clone();
            nms(&mut fast, iou, max);
            prop_assert_eq!(&fast, &naive(list, iou, max));
            prop_assert!(fast.is_sorted_by(|a, b| a.score >= b.score));
            for (i, a) in fast.iter().enumerate() {
                prop_assert!(fast[..i].iter().all(|b| a.class != b.class || a.rect.iou(&b.rect) <= iou));
            }
        }

        #[test]
        fn any_bits_will_do(bits in prop::collection::vec(prop::array::uniform5(any::<u32>()), 0..30), iou: u32) {
            let mut list: Vec<_> = bits.iter().map(|b| {
                let [score, x0, y0, x1, y1] = b.map(f32::from_bits);
                found(0, score, rect(x0, y0, x1, y1))
            }).collect();
            nms(&mut list, f32::from_bits(iou), usize::MAX);
            prop_assert!(list.iter().all(|d| d.score.is_finite()));
        }
    }
}
