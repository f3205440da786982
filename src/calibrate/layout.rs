//! Which values are stored in bytes, and which of them share a scale.

use crate::nets::convnet::program::{Op, Program};
use std::collections::BTreeSet;

/// Which values are stored in bytes.
pub(super) struct Layout {
    /// For each value, the group of values with one scale that it belongs to, if it is stored in bytes.
    pub(super) groups: Vec<Option<usize>>,
}

/// Convolutions that are not worth converting: the first ones, which see few channels and set the limit for all that
/// follow, and those of a single pixel.
pub(super) fn never(program: &Program) -> BTreeSet<usize> {
    let mut raw = vec![true];
    for op in program.ops() {
        raw.push(op.only_moves() && op.inputs().iter().any(|&x| raw[x]));
    }
    let ops = program.ops().iter().enumerate();
    let first = ops.filter(|(i, op)| match op {
        Op::Conv { x, .. } => raw[*x] || program.shapes()[i + 1].pixels() == 1,
        _ => false,
    });
    first.map(|(i, _)| i).collect()
}

/// All convolutions.
pub(super) fn convolutions(program: &Program) -> impl Iterator<Item = usize> {
    program.ops().iter().enumerate().filter(|(_, op)| matches!(op, Op::Conv { .. })).map(|(i, _)| i)
}

impl Layout {
    /// The layout if all convolutions but those at `kept` compute in bytes.
    pub(super) fn new(program: &Program, kept: &BTreeSet<usize>) -> Self {
        let values = program.shapes().len();
        // A value is stored in bytes if a convolution reads it so, directly or moved to another place.
        let mut bytes = vec![false; values];
        for (i, op) in program.ops().iter().enumerate().rev() {
            let wanted = match op {
                Op::Conv { .. } => !kept.contains(&i),
                _ => op.only_moves() && bytes[i + 1],
            };
            if wanted {
                op.inputs().into_iter().for_each(|x| bytes[x] = true);
            }
        }
        bytes[0] = false;
        for (i, op) in program.ops().iter().enumerate() {
            if matches!(op, Op::Constant { .. }) {
                bytes[i + 1] = false;
            }
        }
        // Moved elements keep their scale.
        let mut groups: Vec<usize> = (0..values).collect();
        for (i, op) in program.ops().iter().enumerate() {
            if op.only_moves() && bytes[i + 1] {
                for x in op.inputs().into_iter().filter(|&x| bytes[x]) {
                    let (from, to) = (groups[x], groups[i + 1]);
                    groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
                }
            }
        }
        Self { groups: groups.into_iter().zip(bytes).map(|(group, bytes)| bytes.then_some(group)).collect() }
    }

    /// Whether the value's bytes are made here, and not moved from values that are stored in the same way.
    pub(super) fn is_source(&self, program: &Program, value: usize) -> bool {
        let op = &program.ops()[value - 1];
        self.is_bytes(value) && !(op.only_moves() && op.inputs().iter().all(|&x| self.is_bytes(x)))
    }

    pub(super) fn is_bytes(&self, value: usize) -> bool {
        self.groups[value].is_some()
    }
}
