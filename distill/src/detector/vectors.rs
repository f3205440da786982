//! Operations, assignment and losses against PyTorch: `tests/vectors/detector.py`.

use super::anchors::anchors;
use super::assign::{Target, assign};
use super::loss::loss;
use super::*;
use crate::data::detect::Truth;
use crate::nn::check::{close, list, weighted};
use crate::nn::maps::batch_norm::{Moments, batch_norm};
use crate::nn::maps::{Activation, Maps, Window, dense::dense, depthwise::depthwise, upsample::upsample};
use candle_core::{Device, Var};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
struct Vectors {
    chains: Vec<Chain>,
    losses: Vec<Case>,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/detector.json")).unwrap()
}

/// Convolutions and batch norms one after the other.
#[derive(Deserialize)]
struct Chain {
    activation: Activation,
    kernel: usize,
    stride: usize,
    n: usize,
    height: usize,
    width: usize,
    inputs: usize,
    channels: usize,
    x: Vec<f32>,
    dense: Vec<f32>,
    depth: Vec<f32>,
    norms: [Vec<f32>; 4],
    out: Vec<f64>,
    of_x: Vec<f64>,
    of_dense: Vec<f64>,
    of_depth: Vec<f64>,
    of_norms: [Vec<f64>; 4],
    running: [Vec<f64>; 4],
}

fn variable(numbers: &[f32], columns: usize) -> Var {
    Var::from_slice(numbers, (numbers.len() / columns, columns), &Device::Cpu).unwrap()
}

#[test]
fn chains_of_operations() {
    for chain in vectors().chains {
        let Chain { activation, kernel, stride, n, height, width, inputs, channels, .. } = chain;
        let what = format!("{activation:?} {kernel} {stride}");
        let (x, deep) = (variable(&chain.x, inputs), variable(&chain.depth, channels));
        let filters = variable(&chain.dense, 9 * inputs);
        let norms = chain.norms.each_ref().map(|numbers| Var::new(&numbers[..], &Device::Cpu).unwrap());
        let maps = Maps { n, height, width };
        let mut running = [Moments::standard(channels), Moments::standard(channels)];
        let mut norm = |y: &candle_core::Tensor, which: usize| {
            let moments = Arc::new(Moments::of(y).unwrap());
            running[which].follow(&moments, 0.1);
            batch_norm(y, &norms[2 * which], &norms[2 * which + 1], &moments, activation).unwrap()
        };
        let (down, window) = (Window { kernel: 3, stride: 2 }, Window { kernel, stride });
        let y = norm(&dense(&x, &filters, maps, down).unwrap(), 0);
        let maps = maps.through(down);
        let y = norm(&depthwise(&y, &deep, maps, window).unwrap(), 1);
        let y = upsample(&y, maps.through(window)).unwrap();
        close(&what, &list(&y), &chain.out, 2e-5);
        let gradients = weighted(&y).backward().unwrap();
        let of = |variable: &Var| list(gradients.get(variable).unwrap());
        close(&format!("{what}: x"), &of(&x), &chain.of_x, 1e-4);
        close(&format!("{what}: dense"), &of(&filters), &chain.of_dense, 1e-4);
        close(&format!("{what}: depthwise"), &of(&deep), &chain.of_depth, 1e-4);
        for (norm, expected) in norms.iter().zip(&chain.of_norms) {
            close(&format!("{what}: norms"), &of(norm), expected, 1e-4);
        }
        for (moments, expected) in running.iter().zip(chain.running.chunks_exact(2)) {
            let wide = |numbers: &[f32]| numbers.iter().map(|&x| x.into()).collect::<Vec<f64>>();
            close(&format!("{what}: means"), &wide(&moments.mean), &expected[0], 1e-5);
            close(&format!("{what}: variances"), &wide(&moments.variance), &expected[1], 1e-5);
        }
    }
}

/// Two pictures of 32 x 32 in cells of 8 and 16, two classes and four bins; the first picture has labels.
#[derive(Deserialize)]
struct Case {
    beta: f32,
    temperature: f32,
    floor: f32,
    rows: Vec<f32>,
    boxes: Vec<f64>,
    classes: Vec<usize>,
    /// Row, class, IoU, left, top, right, bottom.
    targets: Vec<[f64; 7]>,
    parts: Parts,
    gradient: Vec<f64>,
    teacher: Option<Vec<f32>>,
    teacher_bins: Option<Vec<f32>>,
    teacher_rects: Option<Vec<f32>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parts {
    classes: f64,
    boxes: f64,
    bins: f64,
    kd_classes: f64,
    kd_boxes: f64,
}

#[test]
fn assignments_and_losses() {
    for case in vectors().losses {
        let anchors = Arc::new(anchors([32, 32], &[8, 16], 0.5));
        let variable = variable(&case.rows, 2 + 4 * 4);
        let outputs = Outputs { rows: variable.as_tensor().clone(), pictures: 2, anchors, classes: 2, bins: 4 };
        let boxes = case.boxes.as_chunks::<4>().0;
        let truths: Vec<Truth> =
            case.classes.iter().zip(boxes).map(|(&class, &rect)| Truth::new(class, rect)).collect();
        let targets = assign(&outputs, &[Some(&truths), None]).unwrap();
        let found: Vec<[f64; 7]> = targets
            .iter()
            .enumerate()
            .filter_map(|(row, target)| match *target {
                Target::Object { class, rect: [x0, y0, x1, y1], quality } => {
                    Some([row as f64, class as f64, quality.into(), x0, y0, x1, y1])
                }
                _ => None,
            })
            .collect();
        close("targets", found.as_flattened(), case.targets.as_flattened(), 1e-6);

        let soft = case.teacher.map(|classes| {
            let rects = |numbers: Vec<f32>| SoftBoxes::Rects(numbers.as_chunks().0.to_vec());
            let bins = case.teacher_bins.map(SoftBoxes::Bins);
            Soft { classes, boxes: bins.or(case.teacher_rects.map(rects)).unwrap() }
        });
        let Case { beta, temperature, floor, .. } = case;
        let objective = Objective { beta, temperature, floor, ..Objective::default() };
        let (total, lost) = loss(&outputs, &targets, soft.as_ref(), &objective).unwrap();
        assert_eq!(lost.objects, found.len());
        let parts = |lost: Lost| [lost.classes, lost.boxes, lost.bins, lost.kd_classes, lost.kd_boxes];
        let Parts { classes, boxes, bins, kd_classes, kd_boxes } = case.parts;
        let expected = Lost { objects: 0, classes, boxes, bins, kd_classes, kd_boxes };
        close("parts", &parts(lost), &parts(expected), 5e-6);
        let gradients = total.backward().unwrap();
        close("gradient", &list(gradients.get(&variable).unwrap()), &case.gradient, 2e-6);
    }
}
