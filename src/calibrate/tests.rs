//! What each step claims, on networks and numbers made for it.

use super::convert::{Choices, convert};
use super::layout::{convolutions, never};
use super::*;
use crate::nets::convnet::program::{Activation, Arithmetic, Axis, Op, Program, Shape, Window};
use crate::nets::convnet::weights::{Filter, Weights};
use std::collections::{BTreeMap, BTreeSet};

const SIDE: usize = 6;

/// Numbers from -1 to 1 that look random.
fn noise(seed: usize, len: usize) -> Vec<f32> {
    let number = |i: usize| ((i + 1 + 7919 * seed) as u32).wrapping_mul(2_654_435_761) >> 8;
    (0..len).map(|i| number(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn conv(x: usize, name: &str, channels: usize, groups: usize, then: Activation) -> Op {
    Op::Conv { x, name: name.into(), channels, groups, window: Window::new([1, 1]), then }
}

/// A network of 1×1 convolutions with these weights, of which the first sees three channels.
fn network(ops: Vec<Op>, filters: &[(&str, Vec<f32>, Vec<f32>)]) -> Draft {
    let last = ops.len();
    let program = Program::new(Shape::new(SIDE, SIDE, 3), ops, vec![], vec![last]).unwrap();
    let filter = |(name, weights, bias): &(&str, Vec<f32>, Vec<f32>)| {
        (name.to_string(), Filter { weights: Weights::F32(weights.clone()), bias: bias.clone(), gain: vec![] })
    };
    Draft { program, filters: filters.iter().map(filter).collect(), constants: BTreeMap::new() }
}

/// Loud and quiet channels on their way through all that gains follow.
fn winding() -> Draft {
    let ops = vec![
        conv(0, "first", 8, 1, Activation::Silu),
        conv(1, "each", 8, 8, Activation::Relu),
        Op::Combine { x: 1, y: 2, with: Arithmetic::Add, then: Activation::None },
        Op::Slice { x: 3, axis: Axis::C, from: 1, len: 4, step: 2 },
        Op::Concat { xs: vec![4, 2], axis: Axis::C },
        Op::Shuffle { x: 5, groups: 2 },
        conv(6, "grouped", 6, 2, Activation::LeakyRelu(0.1)),
        conv(7, "last", 4, 1, Activation::Sigmoid),
    ];
    let loud = |mut weights: Vec<f32>, every: usize| {
        weights.iter_mut().enumerate().filter(|(i, _)| (i / every).is_multiple_of(3)).for_each(|(_, w)| *w *= 40.0);
        weights
    };
    network(
        ops,
        &[
            ("first", loud(noise(1, 24), 3), noise(2, 8)),
            ("each", noise(3, 8), noise(4, 8)),
            ("grouped", noise(5, 36), noise(6, 6)),
            ("last", noise(7, 24), noise(8, 4)),
        ],
    )
}

/// Some pictures of noise.
fn pictures() -> Vec<Vec<f32>> {
    (0..4).map(|i| noise(100 + i, SIDE * SIDE * 3)).collect()
}

/// Does something with samples out of pictures.
fn with_samples<T>(pictures: &[Vec<f32>], then: impl FnOnce(&mut Samples) -> T) -> T {
    let mut place = |i: usize, out: &mut [f32]| {
        out.copy_from_slice(&pictures[i]);
        Ok(())
    };
    then(&mut Samples { count: pictures.len(), place: &mut place })
}

fn seen(draft: &Draft) -> Vec<stats::Channels> {
    let mut session = stats::session(draft, 1).unwrap();
    with_samples(&pictures(), |samples| stats::gather(&mut session, samples, |x| x > 0, |_| {})).unwrap()
}

fn outputs(draft: &Draft) -> Vec<f32> {
    let mut session = stats::session(draft, 1).unwrap();
    let run = |picture: &Vec<f32>| {
        session.input().copy_from_slice(picture);
        session.run();
        session.output(0).to_vec()
    };
    pictures().iter().flat_map(run).collect()
}

/// Everything in f32, without gains.
fn plain(draft: &Draft) -> Choices {
    Choices {
        kept: convolutions(&draft.program).collect(),
        gains: gains::none(&draft.program),
        quants: vec![None; draft.program.shapes().len()],
        biases: BTreeMap::new(),
    }
}

fn calibrated(draft: &Draft, budget: f64) -> Result<(Draft, Report)> {
    let options = Options { threads: 1, budget };
    with_samples(&pictures(), |samples| calibrate(draft, samples, &options, |_| {}))
}

#[test]
fn gains_leave_the_function_as_it_is() {
    let draft = winding();
    let (seen, expected) = (seen(&draft), outputs(&draft));
    for alpha in [0.5, 1.0] {
        let choices = Choices { gains: gains::balance(&draft, &seen, alpha), ..plain(&draft) };
        let spread = |gains: &[f32]| gains.iter().fold(0.0, |a, g| g.max(a)) / gains.iter().fold(1e9, |a, g| g.min(a));
        assert!(spread(&choices.gains[1]) > 5.0 && spread(&choices.gains[6]) > 5.0, "{:?}", choices.gains);
        // The picture and the result are what they are.
        assert!(choices.gains[0].iter().chain(&choices.gains[8]).all(|gain| *gain == 1.0));
        let layout = Layout::new(&draft.program, &choices.kept);
        let made = outputs(&convert(&draft, &layout, &choices).unwrap());
        let worst = made.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}

/// With α = 1 all channels reach equally far, as far as they have gains of their own.
#[test]
fn gains_make_channels_equally_loud() {
    let draft = winding();
    let seen = seen(&draft);
    let gains = gains::balance(&draft, &seen, 1.0);
    for (c, gain) in gains[7].iter().enumerate().take(6) {
        assert!((gain * seen[7].peak(c) - 1.0).abs() < 1e-3);
    }
}

#[test]
fn bias_correction_takes_off_what_rounding_adds() {
    let ops = vec![conv(0, "a", 4, 1, Activation::None), conv(1, "b", 2, 2, Activation::Relu)];
    let filters = [("a", noise(1, 12), noise(2, 4)), ("b", noise(3, 4), vec![0.5, -0.5])];
    let draft = network(ops, &filters);
    let mut seen = seen(&draft);
    (seen[0].mean, seen[1].mean) = (vec![1.0, -2.0, 0.5], vec![3.0, 4.0, -1.0, 2.0]);
    // Each weight is off by a known number.
    let mut made = draft.clone();
    let off = |name: &str, by: &[f32]| {
        let Weights::F32(weights) = &draft.filters[name].weights else { unreachable!() };
        let weights = weights.iter().zip(by).map(|(w, by)| w + by).collect();
        Filter { weights: Weights::F32(weights), ..draft.filters[name].clone() }
    };
    made.filters.insert("a".into(), off("a", &[0.25; 12]));
    made.filters.insert("b".into(), off("b", &[0.0, 0.5, 0.25, 0.0]));
    let mut choices = plain(&draft);
    bias::correct(&draft, &seen, &made, &mut choices);
    let moved = |i: usize, name: &str| -> Vec<f32> {
        choices.biases[&i].iter().zip(&draft.filters[name].bias).map(|(a, b)| a - b).collect()
    };
    let near = |a: Vec<f32>, b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    // The mean input of a sums up to -0.5. The two channels of b read channels 0 and 1, and 2 and 3.
    assert!(near(moved(0, "a"), &[0.125; 4]), "{:?}", moved(0, "a"));
    assert!(near(moved(1, "b"), &[-2.0, 0.25]), "{:?}", moved(1, "b"));
}

/// The difference of two channels that are almost the same is lost in bytes, and nothing else is.
fn with_a_difference() -> Draft {
    let ops = vec![
        conv(0, "first", 8, 1, Activation::None),
        conv(1, "even", 8, 1, Activation::Relu),
        conv(2, "nearly", 2, 1, Activation::None),
        conv(3, "difference", 8, 1, Activation::None),
        conv(4, "after", 8, 1, Activation::None),
    ];
    let nearly = [vec![1.0; 8], vec![1.001; 8]].concat();
    let difference = [200.0, -200.0].repeat(8);
    network(
        ops,
        &[
            ("first", noise(1, 24), noise(2, 8)),
            ("even", noise(3, 64), noise(4, 8)),
            ("nearly", nearly, vec![0.0; 2]),
            ("difference", difference, noise(5, 8)),
            ("after", noise(6, 64), noise(7, 8)),
        ],
    )
}

#[test]
fn the_sensitive_convolution_is_found() {
    let draft = with_a_difference();
    let (_, none) = calibrated(&draft, 0.0).unwrap();
    let (made, report) = calibrated(&draft, 0.15).unwrap();
    let kept: Vec<_> = report.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["first", "difference"]);
    assert_eq!((report.kept[0].1, &none.kept), (Why::First, &report.kept[..1].to_vec()));
    assert!(
        matches!(report.kept[1].1, Why::Loss(loss) if loss > 0.5 * none.loss),
        "{:?} of {}",
        report.kept,
        none.loss
    );
    assert_eq!((report.converted, none.converted), (3, 4));
    assert!(report.loss < 0.1 * none.loss, "{} of {}", report.loss, none.loss);
    let integers = |name: &str| matches!(made.filters[name].weights, Weights::I8 { .. });
    assert!(integers("even") && integers("nearly") && integers("after") && !integers("difference"));
}

#[test]
fn the_budget_is_kept() {
    // One of the convolutions in bytes has 16 of 160 multiply-adds.
    let (_, report) = calibrated(&with_a_difference(), 0.09).unwrap();
    assert_eq!(report.kept.len(), 1);
}

#[test]
fn moved_values_share_a_scale() {
    let draft = winding();
    let layout = Layout::new(&draft.program, &never(&draft.program));
    assert_eq!(never(&draft.program), BTreeSet::from([0]));
    assert_eq!(layout.groups[2], layout.groups[6]);
    assert_eq!((layout.groups[0], layout.groups[8]), (None, None));
    let sources: Vec<_> = (1..9).filter(|&x| layout.is_source(&draft.program, x)).collect();
    assert_eq!(sources, [1, 2, 3, 7]);
}

/// Whatever the pictures are, there is a network or an error.
#[test]
fn senseless_pictures() {
    let draft = winding();
    let options = Options { threads: 1, budget: 0.1 };
    let error = with_samples(&[], |samples| calibrate(&draft, samples, &options, |_| {})).unwrap_err();
    assert_eq!(error.to_string(), "no pictures to calibrate with, expected at least one");
    let mut place = |_: usize, _: &mut [f32]| Err(Error::input("the camera is off"));
    let mut samples = Samples { count: 3, place: &mut place };
    assert_eq!(calibrate(&draft, &mut samples, &options, |_| {}).unwrap_err().to_string(), "the camera is off");
    for x in [0.0, 1e-30, 1e30, f32::NAN, f32::INFINITY, f32::MIN] {
        let pictures = vec![vec![x; SIDE * SIDE * 3]; 2];
        if let Ok((made, _)) = with_samples(&pictures, |samples| calibrate(&draft, samples, &options, |_| {})) {
            outputs(&made);
        }
    }
}

#[test]
fn senseless_weights() {
    for x in [0.0, f32::NAN, f32::INFINITY, 1e38] {
        let mut draft = winding();
        for filter in draft.filters.values_mut() {
            let Weights::F32(weights) = &mut filter.weights else { unreachable!() };
            weights.fill(x);
        }
        if let Ok((made, _)) = calibrated(&draft, 0.1) {
            outputs(&made);
        }
    }
}
