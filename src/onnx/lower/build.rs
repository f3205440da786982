//! The program under construction.

use super::view::View;
use crate::{
    error::Result,
    nets::convnet::{
        program::{Axis, Op, Shape},
        weights::Filter,
    },
};
use std::collections::BTreeMap;

/// Operations so far, and what they hold.
pub struct Builder {
    pub ops: Vec<Op>,
    pub shapes: Vec<Shape>,
    pub filters: BTreeMap<String, Filter>,
    pub constants: BTreeMap<String, Vec<f32>>,
}

impl Builder {
    pub fn new(input: Shape) -> Self {
        Self { ops: Vec::new(), shapes: vec![input], filters: BTreeMap::new(), constants: BTreeMap::new() }
    }

    /// Adds an operation and returns the value that it makes.
    pub fn push(&mut self, op: Op) -> Result<usize> {
        let shape = op.infer(|x| Ok(self.shapes[x]))?;
        self.ops.push(op);
        self.shapes.push(shape);
        Ok(self.ops.len())
    }

    /// Adds a map of constants, or finds the same.
    pub fn constant(&mut self, shape: Shape, values: Vec<f32>) -> Result<usize> {
        let same = |op: &Op| match op {
            Op::Constant { name, shape: s } => *s == shape && self.constants[name] == values,
            _ => false,
        };
        if let Some(i) = self.ops.iter().position(same) {
            return Ok(i + 1);
        }
        let name = format!("const{}", self.constants.len());
        self.constants.insert(name.clone(), values);
        self.push(Op::Constant { name, shape })
    }

    /// The name of the next convolution.
    pub fn filter(&mut self, filter: Filter) -> String {
        let name = format!("conv{}", self.filters.len());
        self.filters.insert(name.clone(), filter);
        name
    }

    /// The same row of numbers as a map of another shape.
    pub fn reshape(&mut self, x: usize, shape: Shape) -> Result<usize> {
        if self.shapes[x] == shape { Ok(x) } else { self.push(Op::Reshape { x, shape }) }
    }

    /// A map whose three dimensions are these groups of the tensor's axes, in this order.
    pub fn arrange(&mut self, view: &View, groups: [&[usize]; 3]) -> Result<usize> {
        let size = |axes: &[usize]| axes.iter().map(|&axis| view.dim(axis)).product();
        let shape = Shape::from(groups.map(size));
        self.order(view, &view.atoms_of(&groups.concat()), shape)
    }

    /// A map of `shape` in which the tensor's atoms lie in this order.
    pub fn order(&mut self, view: &View, atoms: &[usize], shape: Shape) -> Result<usize> {
        let mut value = view.value;
        if let Some(Op::Constant { name, .. }) = value.checked_sub(1).map(|i| &self.ops[i]) {
            let values = gathered(&self.constants[name], &view.atoms, atoms);
            return self.constant(shape, values);
        }
        let mut blocks = blocks(view, atoms);
        for place in 0..blocks.len() {
            let from = (place..blocks.len()).find(|&i| blocks[i].0 == place).unwrap_or(place);
            if from != place {
                value = self.pull(value, &blocks.iter().map(|block| block.1).collect::<Vec<_>>(), place, from)?;
                blocks[place..=from].rotate_right(1);
            }
        }
        self.reshape(value, shape)
    }

    /// Moves block `from` of a value to an earlier `place`.
    fn pull(&mut self, x: usize, sizes: &[usize], place: usize, from: usize) -> Result<usize> {
        let size = |range: std::ops::Range<usize>| sizes[range].iter().product::<usize>();
        let (before, over, block, after) =
            (size(0..place), size(place..from), sizes[from], size(from + 1..sizes.len()));
        let shape = self.shapes[x];
        if after == 1 && over * block == shape.c {
            return self.push(Op::Shuffle { x, groups: over });
        }
        if after == 1 {
            let x = self.reshape(x, Shape::new(before, over, block))?;
            return self.push(Op::Transpose { x, order: [Axis::H, Axis::C, Axis::W] });
        }
        let x = self.reshape(x, Shape::new(before * over, block, after))?;
        let x = self.push(Op::Transpose { x, order: [Axis::W, Axis::H, Axis::C] })?;
        if before == 1 {
            return Ok(x);
        }
        let x = self.reshape(x, Shape::new(block, before, over * after))?;
        self.push(Op::Transpose { x, order: [Axis::W, Axis::H, Axis::C] })
    }
}

/// Numbers in another order of the atoms.
pub fn gathered(values: &[f32], sizes: &[usize], atoms: &[usize]) -> Vec<f32> {
    let mut from = vec![0];
    for &atom in atoms {
        let stride: usize = sizes[atom + 1..].iter().product();
        from = from.into_iter().flat_map(|at| (0..sizes[atom]).map(move |i| at + i * stride)).collect();
    }
    from.into_iter().map(|i| values[i]).collect()
}

/// The runs of atoms that stay together, as they lie now: the place that each has in the new order, and its size.
fn blocks(view: &View, atoms: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize, usize)> = Vec::new(); // first atom, atoms, elements
    for &atom in atoms {
        match runs.last_mut() {
            Some(run) if run.0 + run.1 == atom => {
                run.1 += 1;
                run.2 *= view.atoms[atom];
            }
            _ => runs.push((atom, 1, view.atoms[atom])),
        }
    }
    let mut places: Vec<_> = runs.iter().enumerate().map(|(place, run)| (run.0, place, run.2)).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, place, size)| (place, size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nets::convnet::{ConvNet, Session, program::Program, weights::Draft};
    use crate::{
        bytes::Bytes,
        gguf::{Gguf, Writer},
    };
    use std::sync::Arc;

    /// What the program gives for an input of 0, 1, 2, …
    fn run(builder: Builder, output: usize) -> Vec<f32> {
        let program = Program::new(builder.shapes[0], builder.ops, vec![], vec![output]).unwrap();
        let mut writer = Writer::new();
        Draft { program, filters: builder.filters, constants: builder.constants }.write(&mut writer);
        let mut bytes = Vec::new();
        writer.write(&mut bytes).unwrap();
        let file = Gguf::from_bytes(Bytes::from(bytes.as_slice()), "test").unwrap();
        let mut session = Session::new(Arc::new(ConvNet::load(&file).unwrap()), 1).unwrap();
        session.input().iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
        session.run();
        session.output(0).to_vec()
    }

    #[test]
    fn every_order_of_four_blocks() {
        let sizes = [2, 3, 4, 5];
        for code in 0..256 {
            let order = [code % 4, code / 4 % 4, code / 16 % 4, code / 64];
            if (0..4).any(|i| !order.contains(&i)) {
                continue;
            }
            let mut builder = Builder::new(Shape::new(6, 4, 5));
            let view = View::new(0, &sizes, &[0, 1, 2, 3]);
            let shape = Shape::new(1, 1, 120);
            let value = builder.order(&view, &order, shape).unwrap();
            let strides = [60, 20, 5, 1];
            let mut expected = Vec::new();
            let at = |i: usize| (0..sizes[order[i]]).map(move |n| n * strides[order[i]]);
            for a in at(0) {
                for b in at(1) {
                    for c in at(2) {
                        expected.extend(at(3).map(|d| (a + b + c + d) as f32));
                    }
                }
            }
            assert_eq!(run(builder, value), expected, "{order:?}");
        }
    }
}
