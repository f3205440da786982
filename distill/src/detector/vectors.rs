//! Operations, assignment and losses against PyTorch: `tests/vectors/detector.py`.

use super::anchors::anchors;
use super::assign::{Target, assign};
use super::loss::loss;
use super::*;
use crate::data::detect::Truth;
use crate::nn::check::{close, list, weighted};
use crate::nn::maps::composed::{Batch, dense, depthwise, norm_of_batch, upsample};
use crate::nn::maps::tape::{self, Filters, Then};
use crate::nn::maps::{Activation, Maps, Window, moments::Moments};
use candle_core::{Device, Tensor, Var};
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

/// The first window of all chains.
const DOWN: Window = Window { kernel: 3, stride: 2 };

impl Chain {
    fn maps(&self) -> Maps {
        Maps { n: self.n, height: self.height, width: self.width }
    }

    fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride }
    }

    /// Holds a result, what the norms saw, and the gradients of the parameters against PyTorch's.
    fn check(&self, form: &str, out: &Tensor, seen: &[Moments], gradients: [Vec<f64>; 6]) {
        let what = format!("{form} {:?} {} {}", self.activation, self.kernel, self.stride);
        close(&what, &list(out), &self.out, 2e-5);
        let expected = [&self.of_dense, &self.of_depth].into_iter().chain(&self.of_norms);
        for (found, expected) in gradients.iter().zip(expected) {
            close(&format!("{what}: gradients"), found, expected, 1e-4);
        }
        for (seen, expected) in seen.iter().zip(self.running.chunks_exact(2)) {
            let mut running = Moments::standard(self.channels);
            running.follow(seen, 0.1);
            let wide = |numbers: &[f32]| numbers.iter().map(|&x| x.into()).collect::<Vec<f64>>();
            close(&format!("{what}: means"), &wide(&running.mean), &expected[0], 1e-5);
            close(&format!("{what}: variances"), &wide(&running.variance), &expected[1], 1e-5);
        }
    }
}

#[test]
fn chains_of_operations() {
    for chain in vectors().chains {
        let (x, deep) = (variable(&chain.x, chain.inputs), variable(&chain.depth, chain.channels));
        let filters = variable(&chain.dense, 9 * chain.inputs);
        let norms = chain.norms.each_ref().map(|numbers| Var::new(&numbers[..], &Device::Cpu).unwrap());
        let norm = |y: &Tensor, which: usize| {
            norm_of_batch(y, &norms[2 * which], &norms[2 * which + 1], chain.activation).unwrap()
        };
        let (y, first) = norm(&dense(&x, &filters, chain.maps(), DOWN).unwrap(), 0);
        let maps = chain.maps().through(DOWN);
        let (y, second) = norm(&depthwise(&y, &deep, maps, chain.window()).unwrap(), 1);
        let y = upsample(&y, maps.through(chain.window())).unwrap();
        let gradients = weighted(&y).backward().unwrap();
        let of = |variable: &Var| list(gradients.get(variable).unwrap());
        close("the gradient of what goes in", &of(&x), &chain.of_x, 1e-4);
        let [a, b, c, d] = norms.each_ref().map(of);
        chain.check("composed", &y, &Batch::moments(&[first, second]).unwrap(), [of(&filters), of(&deep), a, b, c, d]);
    }
}

#[test]
fn chains_on_a_tape() {
    for chain in vectors().chains {
        let [a, b, c, d] = &chain.norms;
        let parts = [&chain.dense, &chain.depth, a, b, c, d];
        let mut end = 0;
        let places = parts.map(|part| {
            end += part.len();
            end - part.len()..end
        });
        let numbers: Vec<f32> = parts.into_iter().flatten().copied().collect();
        let parameters = Var::from_slice(&numbers, numbers.len(), &Device::Cpu).unwrap();
        let mut seen = Vec::new();
        let y = tape::run(&parameters, &Arc::default(), |tape, parameters| {
            let x = tape.input(&chain.x, chain.maps())?;
            let mut convolve = |x, which: usize, window| {
                let [weight, bias] = [2, 3].map(|part| places[2 * which + part].clone());
                let then = Then::Norm { weight, bias, activation: chain.activation };
                let filters = Filters { weight: places[which].clone(), depthwise: which == 1, window, then };
                let (y, moments) = tape.convolve(&[x], filters, parameters, None)?;
                seen.extend(moments);
                Ok::<_, candle_core::Error>(y)
            };
            let y = convolve(x, 0, DOWN)?;
            let y = convolve(y, 1, chain.window())?;
            Ok::<_, candle_core::Error>(vec![vec![tape.upsample(y)]])
        });
        let y = y.unwrap();
        let gradient = list(weighted(&y).backward().unwrap().get(&parameters).unwrap());
        chain.check("tape", &y, &seen, places.map(|place| gradient[place].to_vec()));
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
        let outputs = Outputs {
            rows: variable.as_tensor().clone(),
            pictures: 2,
            anchors,
            classes: 2,
            bins: 4,
            features: vec![],
            parameters: None,
        };
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
        let objective = Objective { beta, temperature, floor, kd_classes: 1.0, ..Objective::default() };
        let (total, lost) = loss(&outputs, &targets, soft.as_ref(), &objective).unwrap();
        assert_eq!(lost.objects, found.len());
        let parts = |lost: Lost| [lost.classes, lost.boxes, lost.bins, lost.kd_classes, lost.kd_boxes];
        let Parts { classes, boxes, bins, kd_classes, kd_boxes } = case.parts;
        let expected = Lost { objects: 0, classes, boxes, bins, kd_classes, kd_boxes, kd_features: 0.0 };
        close("parts", &parts(lost), &parts(expected), 5e-6);
        let gradients = total.backward().unwrap();
        close("gradient", &list(gradients.get(&variable).unwrap()), &case.gradient, 2e-6);
    }
}
