//! Heads against cases computed by hand, and against whatever numbers there are.

use super::anchors::{Anchor, AnchorLevel, Anchors, Sizes};
use super::boxes::{Boxes, Form};
use super::distances::{DistanceLevel, Distances};
use super::finals::Final;
use super::grid::{Grid, GridLevel};
use super::part::{Map, Part};
use super::{Candidates, Head, Scores};
use crate::image::Detection;
use crate::nets::convnet::program::Shape;
use proptest::prelude::*;

const INPUT: Shape = Shape::new(16, 16, 3);

/// What a head finds above `floor` in these outputs.
fn decode(head: &Head, classes: usize, floor: f32, outputs: &[(Shape, Vec<f32>)]) -> Vec<Detection> {
    let shapes: Vec<Shape> = outputs.iter().map(|(shape, _)| *shape).collect();
    head.check(&shapes, INPUT, classes).unwrap();
    let mut found = Candidates::new(floor, vec![]);
    head.decode(|i| Map { shape: outputs[i].0, data: &outputs[i].1 }, INPUT, classes, &mut found);
    found.list().clone()
}

/// One detection of this class, score and corners.
fn assert_found(found: &[Detection], expected: &[(usize, f32, [f32; 4])]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, (class, score, corners)) in found.iter().zip(expected) {
        let rect = [found.rect.x0, found.rect.y0, found.rect.x1, found.rect.y1];
        let near = rect.iter().zip(corners).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(
            found.class == *class && (found.score - score).abs() < 1e-4 && near,
            "{found:?}, expected {expected:?}"
        );
    }
}

fn logit(p: f32) -> f32 {
    (p / (1.0 - p)).ln()
}

/// Four cells of 8 pixels; the one at column 1 of row 0 has `numbers`.
fn cells(numbers: &[f32]) -> (Shape, Vec<f32>) {
    let mut data = vec![0.0; 4 * numbers.len()];
    data[numbers.len()..2 * numbers.len()].copy_from_slice(numbers);
    (Shape::new(2, 2, numbers.len()), data)
}

fn grid(scores: Scores, every: bool) -> Head {
    Head::Grid(Grid { levels: vec![GridLevel { cells: Part::of(0), stride: 8 }], scores, every })
}

#[test]
fn grid_boxes_are_relative_to_their_cells() {
    // Centre (1.5, 0.25) cells, 1 cell wide and 2 high.
    let numbers = [0.5, 0.25, 0.0, 2.0_f32.ln(), 0.8, 0.5, 0.75];
    let corners = [8.0, -6.0, 16.0, 10.0];
    assert_found(&decode(&grid(Scores::Probability, false), 2, 0.3, &[cells(&numbers)]), &[(1, 0.6, corners)]);
    let both = [(0, 0.4, corners), (1, 0.6, corners)];
    assert_found(&decode(&grid(Scores::Probability, true), 2, 0.3, &[cells(&numbers)]), &both);
    assert_found(&decode(&grid(Scores::Probability, true), 2, 0.6, &[cells(&numbers)]), &[]);
    let mut raw = numbers;
    raw[4..].iter_mut().for_each(|x| *x = logit(*x));
    // The other cells have logits of 0: scores of 1/4.
    assert_found(&decode(&grid(Scores::Sigmoid, true), 2, 0.3, &[cells(&raw)]), &both);
}

fn distances(bins: usize, centre: f32, scores: Scores) -> Head {
    let level = DistanceLevel { classes: Part::of(0), distances: Part::of(1), stride: 8 };
    Head::Distances(Distances { levels: vec![level], bins, centre, scores, every: true })
}

#[test]
fn distances_are_means_of_their_bins() {
    // Means of 0.25, 0, 0.5 and 1 cells; 100 stands for certainty.
    let sides = [logit(0.75), 0.0, 100.0, 0.0, 0.0, 0.0, 0.0, 100.0];
    for scores in [Scores::Probability, Scores::Sigmoid] {
        let raw = |p: f32| if scores == Scores::Sigmoid { logit(p) } else { p };
        let mut classes = cells(&[raw(0.9), raw(0.2)]);
        classes.1.iter_mut().for_each(|x| *x = if *x == 0.0 { raw(0.01) } else { *x });
        let found = decode(&distances(2, 0.5, scores), 2, 0.3, &[classes.clone(), cells(&sides)]);
        assert_found(&found, &[(0, 0.9, [10.0, 4.0, 16.0, 12.0])]);
        let found = decode(&distances(2, 0.0, scores), 2, 0.3, &[classes, cells(&sides)]);
        // The top is cut off at the picture's edge.
        assert_found(&found, &[(0, 0.9, [6.0, 0.0, 12.0, 8.0])]);
    }
}

#[test]
fn classes_and_distances_may_share_an_output() {
    let mut numbers = vec![0.1, 0.9];
    numbers.extend([0.5, 0.25, 0.25, 0.5]);
    let level = DistanceLevel { classes: Part::of(0), distances: Part::of(0).from_channel(2), stride: 8 };
    let head = Distances { levels: vec![level], bins: 1, centre: 0.5, scores: Scores::Probability, every: false };
    let found = decode(&Head::Distances(head), 2, 0.3, &[cells(&numbers)]);
    assert_found(&found, &[(1, 0.9, [8.0, 2.0, 14.0, 8.0])]);
}

#[test]
fn anchors_scale_boxes() {
    let anchor = |i: usize| Anchor {
        size: [10.0, 4.0],
        boxes: Part::of(0).from_channel(4 * i),
        objectness: Part::of(1).from_channel(i),
        classes: Part::of(2),
    };
    let level = AnchorLevel { stride: 8, anchors: vec![anchor(0), anchor(1)] };
    let mut head = Anchors { levels: vec![level], sizes: Sizes::Square, scores: Scores::Softmax, every: true };
    // The second anchor: centre (2 × 0.5 − 0.5 + 1, 2 × 0.25 − 0.5) cells, (2 × 0.5)² and (2 × 0.25)² of the anchor.
    let low = logit(0.25);
    let boxes = cells(&[0.0, 0.0, 0.0, 0.0, 0.0, low, 0.0, low]);
    let outputs = [boxes, cells(&[logit(0.1), logit(0.8)]), cells(&[logit(0.25), 0.0])];
    let corners = [7.0, -0.5, 17.0, 0.5];
    let found = decode(&Head::Anchors(head.clone()), 2, 0.5, &outputs);
    assert_found(&found, &[(1, 0.6, corners)]);
    head.scores = Scores::Sigmoid;
    let found = decode(&Head::Anchors(head.clone()), 2, 0.35, &outputs);
    assert_found(&found, &[(1, 0.4, corners)]);
    // As YOLOv3: centre (0.5 + 1, 0.25) cells, e⁰ and 1/3 of the anchor.
    head.sizes = Sizes::Exp;
    let found = decode(&Head::Anchors(head), 2, 0.35, &outputs);
    assert_found(&found, &[(1, 0.4, [7.0, 2.0 - 2.0 / 3.0, 17.0, 2.0 + 2.0 / 3.0])]);
}

fn boxes(form: Form) -> Boxes {
    Boxes {
        boxes: Part::of(0),
        classes: Part::of(1),
        objectness: None,
        form,
        normalised: false,
        background: None,
        scores: Scores::Probability,
        every: true,
    }
}

#[test]
fn decoded_boxes_come_in_several_forms() {
    let scores = || cells(&[0.7, 0.2, 0.6]);
    let three = [(0, 0.7, [2.0, 4.0, 6.0, 8.0]), (2, 0.6, [2.0, 4.0, 6.0, 8.0])];
    let found = |head: Boxes, classes: usize, numbers: [f32; 4]| {
        decode(&Head::Boxes(head), classes, 0.5, &[cells(&numbers), scores()])
    };
    assert_found(&found(boxes(Form::Corners), 3, [2.0, 4.0, 6.0, 8.0]), &three);
    assert_found(&found(boxes(Form::CornersYx), 3, [4.0, 2.0, 8.0, 6.0]), &three);
    assert_found(&found(boxes(Form::Centre), 3, [4.0, 6.0, 4.0, 4.0]), &three);
    let fractions = Boxes { normalised: true, ..boxes(Form::Corners) };
    assert_found(&found(fractions, 3, [0.125, 0.25, 0.375, 0.5]), &three);
    // Without the background in the middle, the last class is the second one.
    let background = Boxes { background: Some(1), ..boxes(Form::Corners) };
    assert_found(&found(background, 2, [2.0, 4.0, 6.0, 8.0]), &[three[0], (1, 0.6, three[1].2)]);
    let background = Boxes { background: Some(0), ..boxes(Form::Corners) };
    assert_found(&found(background, 2, [2.0, 4.0, 6.0, 8.0]), &[(1, 0.6, three[1].2)]);
}

#[test]
fn boxes_with_objectness_multiply() {
    let row = [4.0, 6.0, 4.0, 4.0, 0.5, 0.4, 0.8];
    let head = Boxes {
        classes: Part::of(0).from_channel(5),
        objectness: Some(Part::of(0).from_channel(4)),
        every: false,
        ..boxes(Form::Centre)
    };
    let found = decode(&Head::Boxes(head), 2, 0.1, &[cells(&row)]);
    assert_found(&found, &[(1, 0.4, [2.0, 4.0, 6.0, 8.0])]);
}

#[test]
fn softmax_without_objectness() {
    let head = Boxes { scores: Scores::Softmax, every: false, ..boxes(Form::Corners) };
    let found = decode(&Head::Boxes(head), 2, 0.7, &[cells(&[2.0, 4.0, 6.0, 8.0]), cells(&[0.0, logit(0.9)])]);
    assert_found(&found, &[(1, 0.9, [2.0, 4.0, 6.0, 8.0])]);
}

#[test]
fn lists_are_taken_as_they_are() {
    let row = Part::of(0);
    let head = Head::Final(Final {
        boxes: row,
        scores: row.from_channel(4),
        labels: row.from_channel(5),
        first: 1,
        form: Form::Corners,
        normalised: false,
    });
    let rows = [
        [1.0, 2.0, 3.0, 4.0, 0.9, 1.0],
        [1.0, 2.0, 3.0, 4.0, 0.9, 3.0],
        [1.0, 2.0, 3.0, 4.0, 0.9, -1.0],
        [1.0, 2.0, 3.0, 4.0, 0.1, 2.0],
    ];
    let found = decode(&head, 2, 0.3, &[(Shape::new(1, 4, 6), rows.concat())]);
    assert_found(&found, &[(0, 0.9, [1.0, 2.0, 3.0, 4.0])]);
    assert!(!head.needs_nms());
}

/// Every family, over outputs of four cells of 13 channels.
fn families() -> Vec<Head> {
    let at = |channel: usize| Part::of(0).from_channel(channel);
    let mut heads = Vec::new();
    for scores in [Scores::Probability, Scores::Sigmoid, Scores::Softmax] {
        for every in [false, true] {
            if scores != Scores::Softmax {
                heads.push(grid(scores, every));
            }
            let level = DistanceLevel { classes: at(0), distances: at(8).from_channel(8), stride: 8 };
            heads.push(Head::Distances(Distances { levels: vec![level], bins: 1, centre: 0.5, scores, every }));
            let anchor = Anchor { size: [3.0, 4.0], boxes: at(0), objectness: at(4), classes: at(5) };
            let level = AnchorLevel { stride: 8, anchors: vec![anchor] };
            heads.push(Head::Anchors(Anchors { levels: vec![level], sizes: Sizes::Square, scores, every }));
            heads.push(Head::Boxes(Boxes { classes: at(5), scores, every, boxes: at(0), ..boxes(Form::Centre) }));
            let objectness = Some(at(4));
            heads.push(Head::Boxes(Boxes { objectness, classes: at(5), scores, every, ..boxes(Form::Corners) }));
        }
    }
    heads.push(Head::Final(Final {
        boxes: at(0),
        scores: at(4),
        labels: at(5),
        first: 0,
        form: Form::Corners,
        normalised: true,
    }));
    heads
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<f32>(),
        -10.0_f32..10.0,
        0.0_f32..1.0,
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        Just(f32::MAX),
    ]
}

proptest! {
    #[test]
    fn any_numbers_will_do(numbers in prop::collection::vec(any_number(), 4 * 13), floor in 0.0_f32..=1.0) {
        let shape = Shape::new(2, 2, 13);
        for head in families() {
            let classes = head.classes(&[shape]).unwrap_or(5);
            let found = decode(&head, classes, floor, &[(shape, numbers.clone())]);
            for found in found {
                let rect = found.rect;
                prop_assert!([rect.x0, rect.y0, rect.x1, rect.y1].iter().all(|x| x.is_finite()));
                prop_assert!(found.class < classes && found.score > floor && found.score.is_finite());
            }
        }
    }
}
