//! What a network knows of each cell before its heads say it: maps that others may learn from.

use super::ConvNet;
use super::program::{Op, Program};
use crate::error::Result;

impl Program {
    /// The map that the head which makes output `i` begins with: on the way back from there, through convolutions that keep
    /// height and width, the first one that something else reads as well, or that is made otherwise. `None` if no
    /// convolution makes the output.
    pub fn feature(&self, i: usize) -> Option<usize> {
        let mut x = *self.outputs().get(i)?;
        // What is left of the head's last convolution: a part of its channels, squashed, or beside others.
        let mut before = loop {
            match self.ops().get(x.checked_sub(1)?)? {
                Op::Conv { x, .. } => break *x,
                Op::Slice { x: from, .. } | Op::Activate { x: from, .. } | Op::Convert { x: from } => x = *from,
                Op::Concat { xs, .. } => x = *xs.last()?,
                _ => return None,
            }
        };
        let readers = |x: usize| self.ops().iter().flat_map(Op::inputs).filter(|&read| read == x).count();
        let side = |x: usize| (self.shapes()[x].h, self.shapes()[x].w);
        while let Some(Op::Conv { x, .. }) = before.checked_sub(1).map(|op| &self.ops()[op])
            && readers(before) == 1
            && side(*x) == side(before)
        {
            before = *x;
        }
        Some(before)
    }
}

impl ConvNet {
    /// The network with more outputs, behind those that it has.
    ///
    /// # Errors
    /// `Format` for values that do not exist.
    pub fn with_outputs(self, more: &[usize]) -> Result<Self> {
        let old = &self.program;
        let outputs = [old.outputs(), more].concat();
        let program = Program::new(old.shapes()[0], old.ops().to_vec(), old.quants().to_vec(), outputs)?;
        Ok(Self { program, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::{Activation, Arithmetic, Axis, Shape, Window};
    use super::*;

    fn conv(x: usize, kernel: usize, stride: usize) -> Op {
        let window = Window { stride: [stride; 2], pads: [kernel / 2; 4], ..Window::new([kernel; 2]) };
        Op::Conv { x, name: "conv".into(), channels: 4, groups: 1, window, then: Activation::None }
    }

    fn program(ops: Vec<Op>, outputs: Vec<usize>) -> Program {
        Program::new(Shape::new(8, 8, 3), ops, vec![], outputs).unwrap()
    }

    #[test]
    fn heads_begin_where_others_read_or_add_or_halve() {
        let add = |x, y| Op::Combine { x, y, with: Arithmetic::Add, then: Activation::None };
        let slice = |x, from| Op::Slice { x, axis: Axis::C, from, len: 2, step: 1 };
        let sigmoid = |x| Op::Activate { x, then: Activation::Sigmoid };
        // Made by a sum: 3. The head is 4 and 5, of which 6 and 8 are parts.
        let ops = vec![
            conv(0, 3, 2),
            conv(1, 3, 1),
            add(1, 2),
            conv(3, 3, 1),
            conv(4, 1, 1),
            slice(5, 0),
            sigmoid(6),
            slice(5, 2),
        ];
        let made = program(ops, vec![7, 8]);
        assert_eq!((made.feature(0), made.feature(1), made.feature(2)), (Some(3), Some(3), None));
        // Read by another level: 1. Where the size changes: 3.
        let ops = vec![conv(0, 3, 2), conv(1, 1, 1), conv(1, 3, 2), conv(3, 3, 1), conv(4, 1, 1)];
        let made = program(ops, vec![2, 5]);
        assert_eq!((made.feature(0), made.feature(1)), (Some(1), Some(3)));
        // The last part of several: its branch begins with 1.
        let ops = vec![
            conv(0, 3, 1),
            conv(1, 1, 1),
            conv(1, 3, 1),
            conv(3, 1, 1),
            Op::Concat { xs: vec![2, 4], axis: Axis::C },
        ];
        assert_eq!(program(ops, vec![5]).feature(0), Some(1));
        // The picture itself, and what no convolution makes.
        assert_eq!(program(vec![conv(0, 1, 1)], vec![1]).feature(0), Some(0));
        assert_eq!(program(vec![sigmoid(0)], vec![1]).feature(0), None);
    }
}
