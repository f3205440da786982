//! COCO mAP against pycocotools (`vectors/coco.py` says how), and what must hold for any detections.

use proptest::prelude::*;
use pupil_distill::{
    data::detect::Truth,
    eval::detect::{Evaluation, Found, Scores},
};
use serde_json::Value;

/// Boxes and detections, by picture.
type Picture = (Vec<Truth>, Vec<Found>);

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn truth(row: &Value) -> Truth {
    let [x, y, width, height, area] = [2, 3, 4, 5, 6].map(|i| number(&row[i]));
    let flag = |i: usize| number(&row[i]) == 1.0;
    let rect = [x, y, x + width, y + height];
    Truth { class: number(&row[1]) as usize, rect, area, crowd: flag(7), ignore: flag(8) }
}

fn found(row: &Value) -> Found {
    let edge = |i: usize| number(&row[i]) as f32;
    Found { class: number(&row[1]) as usize, score: edge(2), rect: [3, 4, 5, 6].map(edge) }
}

fn pictures(case: &Value) -> Vec<Picture> {
    let mut pictures = vec![Picture::default(); number(&case["pictures"]) as usize];
    for row in case["truths"].as_array().unwrap() {
        pictures[number(&row[0]) as usize].0.push(truth(row));
    }
    for row in case["found"].as_array().unwrap() {
        pictures[number(&row[0]) as usize].1.push(found(row));
    }
    pictures
}

fn classes(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

fn evaluate<'a>(classes: &[String], pictures: impl IntoIterator<Item = (usize, &'a Picture)>) -> Scores {
    let mut evaluation = Evaluation::new(classes);
    for (index, (truths, found)) in pictures {
        evaluation.add(index, truths, found).unwrap();
    }
    evaluation.finish()
}

/// The largest difference to pycocotools in a case, and how many numbers were compared.
fn difference(case: &Value) -> (f64, usize) {
    let names: Vec<String> = case["classes"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().into()).collect();
    // The last picture first: the order must not matter.
    let scores = evaluate(&names, pictures(case).iter().enumerate().rev());
    let ours = scores.total.stats().into_iter().chain(scores.classes.iter().map(|class| class.ap));
    let theirs: Vec<f64> =
        ["stats", "per_class"].iter().flat_map(|key| case[key].as_array().unwrap()).map(number).collect();
    assert_eq!(theirs.len(), 12 + names.len());
    let differences = ours.zip(&theirs).map(|(ours, theirs)| (ours.unwrap_or(-1.0) - theirs).abs());
    (differences.fold(0.0, f64::max), theirs.len())
}

#[test]
fn equals_pycocotools() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("vectors/coco.json")).unwrap();
    let (mut worst, mut numbers) = (0.0f64, 0);
    for case in &cases {
        let (difference, count) = difference(case);
        assert!(difference <= 1e-12, "{}: {difference:e}", case["name"]);
        (worst, numbers) = (worst.max(difference), numbers + count);
    }
    println!("{} cases, {numbers} numbers: they differ by at most {worst:e}", cases.len());
}

/// `coco.py --big FILE` makes a large case: `PUPIL_COCO_CASES=FILE cargo test -p pupil-distill big -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn big() {
    let Ok(path) = std::env::var("PUPIL_COCO_CASES") else {
        return println!("skipped: PUPIL_COCO_CASES names no file");
    };
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &cases {
        let start = std::time::Instant::now();
        let (difference, count) = difference(case);
        println!("{count} numbers in {:?}: they differ by at most {difference:e}", start.elapsed());
        assert!(difference <= 1e-12);
    }
}

const CLASSES: usize = 3;

/// A box on a grid, so that boxes overlap often and exactly.
fn rects() -> impl Strategy<Value = [f32; 4]> {
    (0u8..12, 0u8..12, 1u8..8, 1u8..8)
        .prop_map(|(x, y, width, height)| [x, y, x + width, y + height].map(|edge| f32::from(edge) * 16.0))
}

fn truths() -> impl Strategy<Value = Truth> {
    (0..CLASSES, rects(), prop::bool::weighted(0.15), prop::bool::weighted(0.1))
        .prop_map(|(class, rect, crowd, ignore)| Truth { crowd, ignore, ..Truth::new(class, rect.map(f64::from)) })
}

/// Few different scores, so that there are ties.
fn founds() -> impl Strategy<Value = Found> {
    (0..CLASSES, 1u8..20, rects()).prop_map(|(class, score, rect)| Found {
        class,
        score: f32::from(score) / 32.0,
        rect,
    })
}

fn data() -> impl Strategy<Value = Vec<Picture>> {
    let picture = (prop::collection::vec(truths(), 0..6), prop::collection::vec(founds(), 0..14));
    prop::collection::vec(picture, 1..6)
}

fn score(pictures: &[Picture]) -> Scores {
    evaluate(&classes(CLASSES), pictures.iter().enumerate())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn scores_are_fractions(pictures in data()) {
        let scores = score(&pictures);
        for stat in scores.classes.iter().chain([&scores.total]).flat_map(|score| score.stats()).flatten() {
            prop_assert!((0.0..=1.0).contains(&stat), "{stat}");
        }
        // Means of the same numbers may differ in their last bit.
        let at_most = |a: Option<f64>, b: Option<f64>| a.zip(b).is_none_or(|(a, b)| a <= b + 1e-12);
        for class in scores.classes.iter().chain([&scores.total]) {
            prop_assert!(at_most(class.ap, class.ap50) && at_most(class.ap75, class.ap50), "{class:?}");
            prop_assert!(at_most(class.ar1, class.ar10) && at_most(class.ar10, class.ar100), "{class:?}");
            prop_assert_eq!(class.ap.is_some(), class.truths > 0);
        }
    }

    #[test]
    fn perfect_detections_give_1(mut pictures in data()) {
        for (truths, found) in &mut pictures {
            truths.iter_mut().for_each(|truth| (truth.crowd, truth.ignore) = (false, false));
            let perfect = |truth: &Truth| Found { class: truth.class, score: 0.5, rect: truth.rect.map(|edge| edge as f32) };
            *found = truths.iter().map(perfect).collect();
        }
        let scores = score(&pictures);
        for class in &scores.classes {
            prop_assert!(class.ap.is_none_or(|ap| (ap - 1.0).abs() < 1e-12), "{class:?}");
            prop_assert!(class.ar100.is_none_or(|ar| ar == 1.0), "{class:?}");
        }
    }

    /// Boxes that nobody found give 0, not nothing.
    #[test]
    fn no_detections_give_0(mut pictures in data()) {
        pictures.iter_mut().for_each(|(_, found)| found.clear());
        prop_assert!(score(&pictures).classes.iter().all(|class| class.ap.is_none_or(|ap| ap == 0.0)));
    }

    #[test]
    fn the_order_of_adding_does_not_matter(pictures in data(), turn in 0usize..6) {
        let mut order: Vec<(usize, &Picture)> = pictures.iter().enumerate().collect();
        let turn = turn % order.len();
        order.rotate_left(turn);
        prop_assert_eq!(evaluate(&classes(CLASSES), order), score(&pictures));
    }

    /// Nor does it matter which picture is which, if no two scores are equal.
    #[test]
    fn the_order_of_pictures_does_not_matter(mut pictures in data()) {
        let mut next = 0.0;
        for found in pictures.iter_mut().flat_map(|(_, found)| found) {
            next += 1.0 / 4096.0;
            found.score += next;
        }
        let first = score(&pictures);
        pictures.reverse();
        prop_assert_eq!(score(&pictures), first);
    }

    #[test]
    fn only_the_order_of_scores_matters(mut pictures in data()) {
        let first = score(&pictures);
        for found in pictures.iter_mut().flat_map(|(_, found)| found) {
            found.score = (found.score * 9.0).exp() - 1000.0;
        }
        prop_assert_eq!(score(&pictures), first);
    }

    #[test]
    fn one_more_mistake_never_helps(mut pictures in data(), class in 0..CLASSES, at in 0usize..6, certain: bool) {
        let before = score(&pictures);
        let at = at % pictures.len();
        let nowhere = [5000.0, 5000.0, 5050.0, 5050.0];
        pictures[at].1.push(Found { class, score: if certain { 1.0 } else { 0.0 }, rect: nowhere });
        let after = score(&pictures);
        for (after, before) in after.classes.iter().zip(&before.classes) {
            prop_assert!(after.ap <= before.ap && after.ap50 <= before.ap50);
            // Recall does not see mistakes that come last.
            prop_assert!(certain || after.ar100 == before.ar100);
        }
    }

    /// A mistake that comes after everything changes nothing at all: precision is the best at this recall or above.
    #[test]
    fn a_last_mistake_costs_nothing(mut pictures in data(), class in 0..CLASSES) {
        let before = score(&pictures);
        pictures[0].1.push(Found { class, score: 0.0, rect: [5000.0, 5000.0, 5050.0, 5050.0] });
        for (after, before) in score(&pictures).classes.iter().zip(&before.classes) {
            prop_assert_eq!(after.stats(), before.stats());
        }
    }

    /// A crowd may be found, or not, any number of times.
    #[test]
    fn crowds_do_not_count(mut pictures in data(), class in 0..CLASSES) {
        let before = score(&pictures);
        let rect = [4000.0, 4000.0, 4500.0, 4500.0];
        pictures[0].0.push(Truth { crowd: true, ..Truth::new(class, rect) });
        pictures[0].1.extend([0.1, 0.7, 0.9].map(|score| Found { class, score, rect: [4100.0, 4100.0, 4200.0, 4200.0] }));
        for (after, before) in score(&pictures).classes.iter().zip(&before.classes) {
            prop_assert_eq!((after.ap, after.ap50, after.truths), (before.ap, before.ap50, before.truths));
        }
    }
}

#[test]
fn nonsense_is_refused_and_nothing_is_added() {
    let mut evaluation = Evaluation::new(["cat", "dog"]);
    let truth = Truth::new(0, [10.0, 10.0, 20.0, 20.0]);
    let good = Found { class: 0, score: 0.5, rect: [10.0, 10.0, 20.0, 20.0] };
    let table = [
        (vec![truth], Found { class: 2, ..good }, "picture 4: detection 0: the class is 2, expected less than 2"),
        (vec![truth], Found { score: f32::NAN, ..good }, "picture 4: detection 0: the score is NaN, expected a number"),
        (
            vec![truth],
            Found { rect: [0.0, 0.0, f32::NAN, 1.0], ..good },
            "picture 4: detection 0: the rectangle is [0.0, 0.0, NaN, 1.0], expected finite [left, top, right, bottom]",
        ),
        (
            vec![truth],
            Found { rect: [2.0, 0.0, 1.0, 1.0], ..good },
            "picture 4: detection 0: the rectangle is [2.0, 0.0, 1.0, 1.0], expected finite [left, top, right, bottom]",
        ),
        (vec![truth, Truth { class: 9, ..truth }], good, "picture 4: box 1: the class is 9, expected less than 2"),
        (vec![Truth { area: f64::NAN, ..truth }], good, "picture 4: box 0: the area is NaN, expected a number"),
    ];
    for (truths, found, expected) in table {
        assert_eq!(evaluation.add(4, &truths, &[found]).unwrap_err().to_string(), expected);
    }
    evaluation.add(4, &[truth], &[good]).unwrap();
    assert_eq!(evaluation.add(4, &[], &[]).unwrap_err().to_string(), "picture 4: added twice, expected once");
    let total = evaluation.finish().total;
    assert_eq!((total.pictures, total.truths, total.found), (1, 1, 1));
    assert!((total.ap50.unwrap() - 1.0).abs() < 1e-12);
}

#[test]
fn infinite_scores_and_huge_boxes_are_no_problem() {
    let truth = Truth::new(0, [0.0, 0.0, 1e300, 1e300]);
    let found = |score, edge: f32| Found { class: 0, score, rect: [-edge, -edge, edge, edge] };
    let all = [found(f32::INFINITY, f32::MAX), found(f32::NEG_INFINITY, 0.0), found(0.0, 1.0)];
    assert!(evaluate(&classes(1), [(0, &(vec![truth], all.to_vec()))]).total.ap.is_none_or(|ap| ap >= 0.0));
}

#[test]
fn the_table_is_aligned() {
    let mut evaluation = Evaluation::new(["cat", "a long name\u{1b}", "Fußgänger"]);
    let truths = [Truth::new(0, [0.0, 0.0, 20.0, 20.0]), Truth::new(2, [0.0, 0.0, 200.0, 200.0])];
    let found = [Found { class: 0, score: 0.5, rect: [0.0, 0.0, 20.0, 16.0] }];
    evaluation.add(0, &truths, &found).unwrap();
    let scores = evaluation.finish();
    let expected = "\
class         pictures  boxes  found     AP   AP50   AP75    APs    APm    APl    AR1   AR10  AR100
all                  1      2      1  0.350  0.500  0.500  0.700      -  0.000  0.350  0.350  0.350
cat                  1      1      1  0.700  1.000  1.000  0.700      -      -  0.700  0.700  0.700
a long name?         0      0      0      -      -      -      -      -      -      -      -      -
Fußgänger            1      1      0  0.000  0.000  0.000      -      -  0.000  0.000  0.000  0.000";
    assert_eq!(scores.to_string(), expected);
    let json = scores.to_json();
    assert_eq!(json["total"]["ap50"].as_f64(), scores.total.ap50);
    assert_eq!(json["classes"][1]["ap"], Value::Null);
    assert_eq!(json["classes"][2]["ar_large"], 0.0);
}
