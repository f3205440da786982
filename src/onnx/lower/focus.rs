//! A convolution over every second row and column, side by side as channels, reads them where they are.
//!
//! Detectors begin so (YOLOv5's and YOLOX's "Focus", space to depth): the four slices of a picture and their concatenation
//! cost as much as a convolution. One of `2 kh × 2 kw` over the picture itself, which moves twice as far, computes the same.

use super::simplify::{Change, Pass};
use crate::nets::convnet::{
    program::{Axis, Op, Shape, Window},
    weights::{FilterShape, Weights},
};

/// Every so many rows and columns of a map. Pairs are height and width.
#[derive(Clone, Copy, PartialEq)]
struct Grid {
    map: usize,
    first: [usize; 2],
    step: [usize; 2],
}

impl Pass {
    /// A convolution of slices that together are a map becomes one of the map.
    pub(super) fn focus(&mut self, op: &Op) -> Option<Change> {
        let Op::Conv { x, name, groups: 1, window, .. } = op else { return None };
        let Some(Op::Concat { xs, axis: Axis::C }) = self.sole(*x) else { return None };
        let grids: Vec<Grid> = xs.iter().map(|&x| self.grid(x)).collect();
        let Grid { map, step: [height, width], .. } = grids[0];
        if grids.len() == 1 || grids.len() != height.saturating_mul(width) || window.dilation != [1, 1] {
            return None;
        }
        let alike = |grid: &Grid| {
            (grid.map, grid.step) == (map, [height, width]) && grid.first[0] < height && grid.first[1] < width
        };
        let distinct = (1..grids.len()).all(|i| !grids[..i].contains(&grids[i]));
        let (whole, slice) = (self.shapes[map], self.shapes[xs[0]]);
        if !grids.iter().all(alike) || !distinct || whole != Shape::new(slice.h * height, slice.w * width, slice.c) {
            return None;
        }
        let times = |[y, x]: [usize; 2]| [y * height, x * width];
        let [top, left, bottom, right] = window.pads;
        let wider = Window {
            stride: times(window.stride),
            pads: [top * height, left * width, bottom * height, right * width],
            ..Window::new(times(window.kernel))
        };
        let mut wide = op.clone();
        if let Op::Conv { x, window, .. } = &mut wide {
            (*x, *window) = (map, wider);
        }
        let made = |op: &Op| op.infer(|x| Ok(self.shapes[x])).ok();
        if made(&wide) != made(op) {
            return None;
        }
        let shape = FilterShape::of(op, self.shapes[*x].c)?;
        let Weights::F32(weights) = &mut self.filters.get_mut(name)?.weights else { return None };
        *weights = spread(weights, shape, window.kernel, &grids, whole.c);
        Some(Change::Become(wide))
    }

    /// The map that a value is part of, and which part.
    fn grid(&self, mut value: usize) -> Grid {
        let (mut first, mut step) = ([0; 2], [1; 2]);
        while let Some(&Op::Slice { x, axis: axis @ (Axis::H | Axis::W), from, step: every, .. }) = self.op(value) {
            let axis = axis as usize;
            first[axis] = every.saturating_mul(first[axis]).saturating_add(from);
            step[axis] = every.saturating_mul(step[axis]);
            value = x;
        }
        Grid { map: value, first, step }
    }
}

/// Weights `[output channel][ky][kx][grid][channel]` of a kernel over grids as those of one over their map.
fn spread(weights: &[f32], shape: FilterShape, kernel: [usize; 2], grids: &[Grid], channels: usize) -> Vec<f32> {
    let [height, width] = grids[0].step;
    let row = kernel[1] * width * channels;
    let mut spread = vec![0.0; weights.len()];
    let filters = spread.chunks_exact_mut(shape.per_channel()).zip(weights.chunks_exact(shape.per_channel()));
    for (to, from) in filters {
        let mut parts = from.chunks_exact(channels);
        for ky in 0..kernel[0] {
            for kx in 0..kernel[1] {
                for (grid, part) in grids.iter().zip(&mut parts) {
                    let (y, x) = (ky * height + grid.first[0], kx * width + grid.first[1]);
                    to[y * row + x * channels..][..channels].copy_from_slice(part);
                }
            }
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bytes::Bytes,
        gguf::{Gguf, Writer},
        nets::convnet::{
            ConvNet, Session,
            program::{Activation, Program},
            weights::{Draft, Filter},
        },
        onnx::lower::simplify::simplify,
    };
    use std::{collections::BTreeMap, sync::Arc};

    const MAP: Shape = Shape { h: 12, w: 18, c: 3 };

    /// A convolution of slices that begin at these rows and columns, every second and third one.
    fn network(firsts: &[[usize; 2]], pads: [usize; 4]) -> Draft {
        let (mut ops, mut xs) = (Vec::new(), Vec::new());
        for [y, x] in firsts {
            ops.push(Op::Slice { x: 0, axis: Axis::H, from: *y, len: 6, step: 2 });
            ops.push(Op::Slice { x: ops.len(), axis: Axis::W, from: *x, len: 6, step: 3 });
            xs.push(ops.len());
        }
        ops.push(Op::Concat { xs, axis: Axis::C });
        let window = Window { stride: [1, 2], pads, ..Window::new([3, 2]) };
        let name = "conv".to_string();
        ops.push(Op::Conv { x: ops.len(), name: name.clone(), channels: 5, groups: 1, window, then: Activation::Relu });
        let shape = FilterShape::of(&ops[ops.len() - 1], MAP.c * firsts.len()).unwrap();
        let weights = Weights::F32((0..shape.len()).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect());
        let filters = BTreeMap::from([(name, Filter { weights, bias: vec![0.5; 5], gain: vec![] })]);
        let output = ops.len();
        Draft { program: Program::new(MAP, ops, vec![], vec![output]).unwrap(), filters, constants: BTreeMap::new() }
    }

    fn run(draft: &Draft) -> Vec<f32> {
        let (mut writer, mut file) = (Writer::new(), Vec::new());
        draft.write(&mut writer);
        writer.write(&mut file).unwrap();
        let net = ConvNet::load(&Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap()).unwrap();
        let mut session = Session::new(Arc::new(net), 1).unwrap();
        session.input().iter_mut().enumerate().for_each(|(i, x)| *x = (i * 29 % 97) as f32 / 97.0);
        session.run();
        session.output(0).to_vec()
    }

    const ALL: [[usize; 2]; 6] = [[0, 0], [1, 0], [1, 2], [0, 2], [0, 1], [1, 1]];

    #[test]
    fn slices_in_any_order_are_read_where_they_are() {
        for pads in [[0; 4], [1, 1, 1, 1], [2, 0, 1, 1]] {
            let before = network(&ALL, pads);
            let expected = run(&before);
            let after = simplify(before).unwrap();
            assert_eq!(after.program.ops().len(), 1, "{:?}", after.program.ops());
            for (x, y) in run(&after).iter().zip(&expected) {
                assert!((x - y).abs() < 1e-5, "{x} for {y}");
            }
        }
    }

    #[test]
    fn slices_that_are_not_the_whole_map_stay() {
        let twice = [[0, 0], [1, 0], [1, 2], [0, 2], [0, 1], [0, 1]];
        for firsts in [&ALL[..5], &twice] {
            let before = network(firsts, [0; 4]);
            let expected = run(&before);
            let after = simplify(before).unwrap();
            assert!(after.program.ops().len() > 1);
            assert_eq!(run(&after), expected);
        }
    }
}
