//! Operations on two tensors, of which one may be constant.

use super::{
    Lowering, Numbers,
    moves::Operand,
    numbers,
    view::{View, refine},
};
use crate::{
    error::{Error, Result},
    nets::convnet::program::{Activation, Arithmetic, Op, Shape},
};
use tract_core::{
    internal::*,
    ops::{binary::TypedBinOp, logic::Iff},
};

impl Lowering<'_> {
    pub(super) fn binary(&mut self, op: &TypedBinOp, x: OutletId, y: OutletId) -> Result<View> {
        let with = match op.0.name() {
            "Add" => Arithmetic::Add,
            "Sub" => Arithmetic::Sub,
            "Mul" => Arithmetic::Mul,
            "Div" => Arithmetic::Div,
            "Max" => Arithmetic::Max,
            "Min" => Arithmetic::Min,
            "Pow" => return self.power(x, y),
            other => return Err(Error::unsupported(format!("no operation of a convnet is {other}"))),
        };
        match (self.operand(x)?, self.operand(y)?) {
            (Operand::Map(x), Operand::Map(y)) => self.combine(x, y, with),
            (Operand::Map(x), Operand::Numbers(y)) => self.with_constant(x, y, with),
            (Operand::Numbers(x), Operand::Map(y)) => self.constant_first(x, y, with),
            _ => Err(Error::unsupported("both of its inputs are constants")),
        }
    }

    /// `x` and numbers that are repeated along their axes of 1.
    pub(super) fn with_constant(&mut self, x: View, y: Numbers, with: Arithmetic) -> Result<View> {
        let (with, y) = simpler(with, y);
        if let Some(then) = clip(with, &y.values) {
            return self.activate(x, then);
        }
        let x = self.widened(x, &y.dims)?;
        let order: Vec<_> = (0..y.dims.len()).collect();
        let value = self.builder.constant(Shape::new(1, 1, y.values.len()).flat(), y.values)?;
        self.combine(x, View::new(value, &y.dims, &order), with)
    }

    fn constant_first(&mut self, x: Numbers, y: View, with: Arithmetic) -> Result<View> {
        match with {
            Arithmetic::Sub => {
                let negated = self.scaled(y, -1.0)?;
                self.with_constant(negated, x, Arithmetic::Add)
            }
            Arithmetic::Div => {
                let quotient = self.reciprocal(&y)?;
                self.with_constant(quotient, x, Arithmetic::Mul)
            }
            _ => self.with_constant(y, x, with),
        }
    }

    /// `x` repeated where the other side has more than one element.
    fn widened(&mut self, x: View, dims: &[usize]) -> Result<View> {
        let own = x.dims();
        if own.len() != dims.len() {
            return Err(Error::unsupported(format!("has inputs of {own:?} and {dims:?}")));
        }
        let wide: Vec<_> = own.iter().zip(dims).map(|(&a, &b)| a.max(b)).collect();
        self.broadcast(x, &wide)
    }

    pub(super) fn scaled(&mut self, x: View, by: f32) -> Result<View> {
        let dims = vec![1; x.axes.len()];
        self.with_constant(x, Numbers { dims, values: vec![by] }, Arithmetic::Mul)
    }

    pub(super) fn squared(&mut self, x: View) -> Result<View> {
        let op = Op::Combine { x: x.value, y: x.value, with: Arithmetic::Mul, then: Activation::None };
        Ok(View { value: self.builder.push(op)?, ..x })
    }

    pub(super) fn reciprocal(&mut self, x: &View) -> Result<View> {
        let shape = self.builder.shapes[x.value];
        let ones = self.builder.constant(shape, vec![1.0; shape.len()])?;
        let op = Op::Combine { x: ones, y: x.value, with: Arithmetic::Div, then: Activation::None };
        Ok(View { value: self.builder.push(op)?, ..x.clone() })
    }

    fn power(&mut self, x: OutletId, y: OutletId) -> Result<View> {
        let exponent = self.numbers(y)?.values;
        let x = self.map(x)?;
        match exponent[..] {
            [1.0] => Ok(x),
            [2.0] => self.squared(x),
            [0.5] => self.activate(x, Activation::Sqrt),
            [-1.0] => self.reciprocal(&x),
            _ => Err(Error::unsupported("raises to a power that is none of 1, 2, 0.5 and -1")),
        }
    }

    /// Two computed tensors, of which one may have axes of 1 that are repeated.
    pub(super) fn combine(&mut self, x: View, y: View, with: Arithmetic) -> Result<View> {
        let (dims, other) = (x.dims(), y.dims());
        if dims.len() != other.len() {
            return Err(Error::unsupported(format!("has inputs of {dims:?} and {other:?}")));
        }
        let covers = |a: &[usize], b: &[usize]| a.iter().zip(b).all(|(&a, &b)| a == b || b == 1);
        let commutes = !matches!(with, Arithmetic::Sub | Arithmetic::Div);
        if covers(&dims, &other) {
            self.combine_within(x, y, with)
        } else if covers(&other, &dims) && commutes {
            self.combine_within(y, x, with)
        } else {
            let x = self.widened(x, &other)?;
            self.combine_within(x, y, with)
        }
    }

    /// As [`combine`](Self::combine), `x` having all axes that `y` has.
    fn combine_within(&mut self, x: View, y: View, with: Arithmetic) -> Result<View> {
        let (mut x, mut y) = (x.joined(), y.joined());
        if !refine(&mut x, &mut y) {
            (x, y) = (self.in_order(&x)?, self.in_order(&y)?);
        }
        let repeated: Vec<bool> = owners(&x).into_iter().map(|axis| y.axes[axis].is_empty()).collect();
        let fitting = fit(&x, &repeated, self.builder.shapes[x.value]).or_else(|| regroup(&x, &repeated));
        let Some((shape, smaller)) = fitting else {
            let wide = self.broadcast(y, &x.dims())?;
            return self.combine_within(x, wide, with);
        };
        let value = self.builder.reshape(x.value, shape)?;
        let y = self.builder.order(&y, &partners(&x, &y), smaller)?;
        let value = self.builder.push(Op::Combine { x: value, y, with, then: Activation::None })?;
        Ok(View { value, ..x })
    }

    /// The tensor as one row in its own order.
    fn in_order(&mut self, x: &View) -> Result<View> {
        let axes: Vec<_> = (0..x.axes.len()).collect();
        let value = self.builder.order(x, &x.atoms_of(&axes), self.builder.shapes[x.value])?;
        Ok(View::new(value, &x.dims(), &axes))
    }

    /// `x` and its slope, if a node is a leaky ReLU with a slope for each channel as tract writes it: a choice between
    /// `x` times the slope, where 0 is greater than `x`, and `x`.
    pub(super) fn sloped(&self, node: &TypedNode) -> Option<(OutletId, OutletId)> {
        node.op_as::<Iff>()?;
        let [test, product, x] = node.inputs[..] else { return None };
        let (test, product) = (self.model.node(test.node), self.model.node(product.node));
        let is = |node: &TypedNode, name: &str| node.op_as::<TypedBinOp>().is_some_and(|op| op.0.name() == name);
        (is(test, "GT") && is(product, "Mul") && test.inputs[1] == x && product.inputs[0] == x)
            .then(|| (x, product.inputs[1]))
    }

    /// `max(x, 0) + slope × min(x, 0)`
    pub(super) fn prelu(&mut self, x: OutletId, slope: OutletId) -> Result<View> {
        let x = self.map(x)?;
        let slope = self.numbers(slope)?;
        if let [slope] = slope.values[..] {
            return self.activate(x, Activation::LeakyRelu(slope));
        }
        let positive = self.activate(x.clone(), Activation::Relu)?;
        let negative = self.activate(x, Activation::Clip(f32::MIN, 0.0))?;
        let negative = self.with_constant(negative, slope, Arithmetic::Mul)?;
        self.combine(positive, negative, Arithmetic::Add)
    }

    /// A constant input as numbers, if it is one.
    pub(super) fn optional_numbers(&self, outlet: OutletId) -> Option<Numbers> {
        self.constant(outlet).and_then(|tensor| numbers(&tensor).ok())
    }
}

/// Division by constants becomes multiplication, subtraction addition, and equal numbers become one.
fn simpler(with: Arithmetic, mut y: Numbers) -> (Arithmetic, Numbers) {
    if y.values.windows(2).all(|pair| pair[0] == pair[1]) && y.values.len() > 1 {
        y.values.truncate(1);
        y.dims.fill(1);
    }
    match with {
        Arithmetic::Sub => {
            y.values.iter_mut().for_each(|x| *x = -*x);
            (Arithmetic::Add, y)
        }
        Arithmetic::Div if y.values.iter().all(|x| x.recip().is_normal()) => {
            y.values.iter_mut().for_each(|x| *x = x.recip());
            (Arithmetic::Mul, y)
        }
        _ => (with, y),
    }
}

/// The larger or smaller of an element and a number is an activation.
fn clip(with: Arithmetic, y: &[f32]) -> Option<Activation> {
    match (with, y) {
        (Arithmetic::Max, [0.0]) => Some(Activation::Relu),
        (Arithmetic::Max, [low]) if low.is_finite() => Some(Activation::Clip(*low, f32::MAX)),
        (Arithmetic::Min, [high]) if high.is_finite() => Some(Activation::Clip(f32::MIN, *high)),
        _ => None,
    }
}

/// The axis to which each atom belongs.
fn owners(x: &View) -> Vec<usize> {
    let mut owners = vec![0; x.atoms.len()];
    for (axis, atoms) in x.axes.iter().enumerate() {
        atoms.iter().for_each(|&atom| owners[atom] = axis);
    }
    owners
}

/// The atoms of `y` in the order in which those of `x` lie; axes that `y` lacks are left out.
fn partners(x: &View, y: &View) -> Vec<usize> {
    let mut order: Vec<(usize, usize)> = Vec::new();
    for (a, b) in x.axes.iter().zip(&y.axes) {
        order.extend(a.iter().copied().zip(b.iter().copied()));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, atom)| atom).collect()
}

/// The map's own shape and that of the smaller map, if each dimension is either repeated or not.
fn fit(x: &View, repeated: &[bool], shape: Shape) -> Option<(Shape, Shape)> {
    let mut atoms = x.atoms.iter().copied().zip(repeated.iter().copied());
    let mut next = atoms.next();
    let mut smaller = [1; 3];
    for (i, dim) in <[usize; 3]>::from(shape).into_iter().enumerate() {
        let (mut open, mut kind) = (dim, None);
        while open > 1 {
            let (size, repeated) = next?;
            if *kind.get_or_insert(repeated) != repeated {
                return None;
            }
            if open.is_multiple_of(size) {
                open /= size;
                next = atoms.next();
            } else if size.is_multiple_of(open) {
                next = Some((size / open, repeated));
                open = 1;
            } else {
                return None;
            }
        }
        smaller[i] = if kind == Some(false) { dim } else { 1 };
    }
    Some((shape, smaller.into()))
}

/// Another shape in which each dimension is either repeated or not.
fn regroup(x: &View, repeated: &[bool]) -> Option<(Shape, Shape)> {
    let mut runs: Vec<(usize, bool)> = Vec::new();
    for (&size, &repeated) in x.atoms.iter().zip(repeated) {
        match runs.last_mut() {
            Some(run) if run.1 == repeated => run.0 *= size,
            _ => runs.push((size, repeated)),
        }
    }
    if runs.len() > 3 {
        return None;
    }
    while runs.len() < 3 {
        runs.insert(0, (1, true));
    }
    let sizes = |smaller: bool| [0, 1, 2].map(|i| if smaller && runs[i].1 { 1 } else { runs[i].0 });
    Some((sizes(false).into(), sizes(true).into()))
}
