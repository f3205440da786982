//! A detector made by hand: finds white and red cells of 8 × 8 pixels in pictures of 64 × 64.

use pupil::{
    detect::{
        Head, Scores, Spec,
        distances::{DistanceLevel, Distances},
        part::Part,
    },
    gguf::Writer,
    image::{Fit, Geometry, Picture},
    nets::convnet::{
        program::{Activation, Op, Pooling, Program, Shape, Window},
        weights::{Draft, Filter, Weights},
    },
};
use std::collections::BTreeMap;

/// What the file says besides the network.
pub fn spec() -> Spec {
    let level = DistanceLevel { classes: Part::of(0), distances: Part::of(1), stride: 8 };
    Spec {
        geometry: Geometry {
            width: 64,
            height: 64,
            fit: Fit::Letterbox { centre: true },
            fill: 0,
            bgr: false,
            mean: [0.0; 3],
            std: [255.0; 3],
        },
        head: Head::Distances(Distances {
            levels: vec![level],
            bins: 1,
            centre: 0.5,
            scores: Scores::Probability,
            every: true,
        }),
        classes: vec!["white light".into(), "red light".into()],
        confidence: 0.5,
        iou: 0.5,
        max: 100,
    }
}

/// The file with this specification.
pub fn file(spec: &Spec) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.key("general.architecture", "convnet");
    spec.write(&mut writer);
    network().write(&mut writer);
    let mut bytes = Vec::new();
    writer.write(&mut bytes).unwrap();
    bytes
}

/// The mean of each cell, scores of both classes from that, and a box that is just the cell.
fn network() -> Draft {
    let cell = Window { stride: [8, 8], ..Window::new([8, 8]) };
    let conv = |name: &str, channels: usize, then: Activation| Op::Conv {
        x: 1,
        name: name.into(),
        channels,
        groups: 1,
        window: Window::new([1, 1]),
        then,
    };
    let ops = vec![
        Op::Pool { x: 0, pooling: Pooling::Mean, window: cell },
        conv("classes", 2, Activation::Sigmoid),
        conv("boxes", 4, Activation::None),
    ];
    let filter = |weights: &[f32], bias: &[f32]| Filter {
        weights: Weights::F32(weights.to_vec()),
        bias: bias.to_vec(),
        gain: vec![],
    };
    let classes = filter(&[0.0, 10.0, 10.0, 20.0, -10.0, -10.0], &[-16.0, -16.0]);
    let boxes = filter(&[0.0; 12], &[0.5; 4]);
    Draft {
        program: Program::new(Shape::new(64, 64, 3), ops, vec![], vec![2, 3]).unwrap(),
        filters: BTreeMap::from([("classes".into(), classes), ("boxes".into(), boxes)]),
        constants: BTreeMap::new(),
    }
}

/// A dark picture with coloured cells at these columns and rows.
pub fn picture(width: usize, height: usize, cell: usize, lights: &[(usize, usize, [u8; 3])]) -> Picture {
    let mut rgb = vec![10; width * height * 3];
    for (column, row, colour) in lights {
        for y in row * cell..(row + 1) * cell {
            for x in column * cell..(column + 1) * cell {
                rgb[(y * width + x) * 3..][..3].copy_from_slice(colour);
            }
        }
    }
    Picture::from_rgb(width, height, rgb).unwrap()
}
