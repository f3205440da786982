//! The same network for pictures of another size.

use super::ConvNet;
use super::program::{Axis, Op, Program, Shape};
use crate::error::{Error, Result};

impl Program {
    /// The program for pictures of another height and width. What it says of sizes follows: maps that are resized keep their
    /// ratio, and slices that reach to the end of a map still do.
    ///
    /// # Errors
    /// `Unsupported` if an operation is for one size only; `Format` for a size of 0, or of more than maps may have.
    pub fn resized(&self, [height, width]: [usize; 2]) -> Result<Self> {
        let input = Shape { h: height, w: width, ..self.shapes()[0] };
        let mut shapes = vec![input.checked().map_err(|e| e.at("the input"))?];
        let mut ops = Vec::with_capacity(self.ops().len());
        for (i, op) in self.ops().iter().enumerate() {
            let place = |e: Error| e.at(format_args!("operation {i}"));
            let op = follow(op, self.shapes(), &shapes).map_err(place)?;
            let made = op.infer(|x| Ok(shapes[x]));
            shapes.push(made.map_err(|e| place(Error::unsupported(e.to_string())))?);
            ops.push(op);
        }
        Self::new(shapes[0], ops, self.quants().to_vec(), self.outputs().to_vec())
    }
}

impl ConvNet {
    /// The network for pictures of another height and width.
    ///
    /// # Errors
    /// As [`Program::resized`].
    pub fn resized(self, size: [usize; 2]) -> Result<Self> {
        Ok(Self { program: self.program.resized(size)?, ..self })
    }
}

/// An operation on values whose shapes have become others.
fn follow(op: &Op, before: &[Shape], now: &[Shape]) -> Result<Op> {
    let mut op = op.clone();
    let fixed = |what: &str| Err(Error::unsupported(format!("{what}, which is for pictures of one size")));
    match &mut op {
        Op::Resize { x, size: [h, w], .. } => {
            for (side, before, now) in [(h, before[*x].h, now[*x].h), (w, before[*x].w, now[*x].w)] {
                match side.checked_mul(now) {
                    Some(scaled) if scaled.is_multiple_of(before) => *side = scaled / before,
                    _ => return fixed("makes a map of no whole size"),
                }
            }
        }
        Op::Slice { x, axis, from, len, step } if *axis != Axis::C => {
            let (before, now) = (side(before[*x], *axis), side(now[*x], *axis));
            if before != now {
                if *len != (before - *from).div_ceil(*step) {
                    return fixed("takes a part of a map");
                }
                *len = now.saturating_sub(*from).div_ceil(*step);
            }
        }
        Op::Reshape { x, .. } if before[*x] != now[*x] => return fixed("makes a map another shape"),
        _ => {}
    }
    Ok(op)
}

fn side(shape: Shape, axis: Axis) -> usize {
    match axis {
        Axis::H => shape.h,
        Axis::W => shape.w,
        Axis::C => shape.c,
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Sampling, Window};
    use super::*;
    use crate::kernels::Activation;

    fn program(last: Op) -> Program {
        let window = Window { stride: [2, 2], pads: [1; 4], ..Window::new([3, 3]) };
        let ops = vec![
            Op::Slice { x: 0, axis: Axis::H, from: 1, len: 4, step: 2 },
            Op::Slice { x: 1, axis: Axis::W, from: 0, len: 4, step: 2 },
            Op::Conv { x: 2, name: "a".into(), channels: 4, groups: 1, window, then: Activation::None },
            Op::Resize { x: 3, size: [4, 4], sampling: Sampling::Nearest },
            last,
        ];
        Program::new(Shape::new(8, 8, 3), ops, vec![], vec![5]).unwrap()
    }

    #[test]
    fn sizes_follow_the_picture() {
        let program = program(Op::Concat { xs: vec![4, 4], axis: Axis::C });
        let larger = program.resized([16, 24]).unwrap();
        let shapes: Vec<String> = larger.shapes().iter().map(Shape::to_string).collect();
        assert_eq!(shapes, ["16x24x3", "8x24x3", "8x12x3", "4x6x4", "8x12x4", "8x12x8"]);
        assert_eq!(larger.resized([8, 8]).unwrap(), program);
        assert!(program.resized([usize::MAX, 8]).is_err() && program.resized([0, 8]).is_err());
    }

    #[test]
    fn what_is_for_one_size_is_refused() {
        let refused = |last: Op| program(last).resized([16, 16]).unwrap_err().to_string();
        assert!(refused(Op::Reshape { x: 4, shape: Shape::new(1, 16, 4) }).starts_with("operation 4: "));
        assert!(refused(Op::Slice { x: 4, axis: Axis::H, from: 0, len: 2, step: 1 }).contains("a part of a map"));
    }
}
