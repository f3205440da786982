//! Resizing: of the ways in which a program samples, the one that takes the same pixels as ONNX does.

use super::{Lowering, view::View};
use crate::{
    error::{Error, Result},
    nets::convnet::program::{Op, Sampling},
    onnx::read::dims,
};
use tract_core::{
    internal::*,
    ops::nn::resize::{CoordTransformer, Interpolator},
};
use tract_onnx_opl::resize::{AspectRatio, CoordTransform, Nearest, Resize};

impl Lowering<'_> {
    pub(super) fn resize(&mut self, op: &Resize, node: &TypedNode, x: &View) -> Result<View> {
        let (from, to) = (x.dims(), dims(self.model, node.id.into())?);
        if op.antialias || op.exclude_outside || op.keep_aspect_ratio_policy != AspectRatio::Stretch {
            return Err(Error::unsupported("resizes with antialiasing, excluded borders or a kept aspect ratio"));
        }
        let CoordTransform::Plain(transform) = &op.coord_transformer else {
            return Err(Error::unsupported("resizes a region of interest"));
        };
        let mut changed: Vec<usize> = (0..from.len()).filter(|&axis| from[axis] != to[axis]).collect();
        if changed.is_empty() {
            return Ok(x.clone());
        }
        if let ([axis], 4) = (&changed[..], from.len()) {
            changed = if *axis == 3 { vec![2, 3] } else { vec![*axis, axis + 1] };
        }
        let [h, w] = changed[..] else {
            return Err(Error::unsupported(format!("resizes {from:?} to {to:?}, expected other height and width")));
        };
        let fits = |sampling: &Sampling| {
            [h, w].iter().all(|&axis| self.same_pixels(op, node, transform, *sampling, axis, from[axis], to[axis]))
        };
        let all = match op.interpolator {
            Interpolator::Nearest => &[Sampling::Nearest, Sampling::NearestCentre][..],
            Interpolator::Linear => &[Sampling::Bilinear, Sampling::BilinearAsymmetric, Sampling::BilinearCorners][..],
            _ => return Err(Error::unsupported("resizes with cubic interpolation")),
        };
        let Some(&sampling) = all.iter().find(|sampling| fits(sampling)) else {
            let (mode, nearest) = (transform.as_str(), op.nearest.as_str());
            return Err(Error::unsupported(format!("resizes {from:?} to {to:?} by {mode}, {nearest}")));
        };
        let mut rest = x.axis_order();
        rest.retain(|axis| !changed.contains(axis));
        let value = self.builder.arrange(x, [&[h], &[w], &rest])?;
        let value = self.builder.push(Op::Resize { x: value, size: [to[h], to[w]], sampling })?;
        Ok(View::new(value, &to, &[vec![h, w], rest].concat()))
    }

    /// Whether a way to sample takes the pixels along an axis that the node takes.
    #[allow(clippy::too_many_arguments)]
    fn same_pixels(
        &self,
        op: &Resize,
        node: &TypedNode,
        transform: &CoordTransformer,
        sampling: Sampling,
        axis: usize,
        from: usize,
        to: usize,
    ) -> bool {
        let given = op.optional_scales_input.and_then(|i| self.optional_numbers(node.inputs[i]));
        let axes = op.resized_axes(node_rank(self.model, node)).unwrap_or_default();
        let place = axes.iter().position(|&a| a == axis);
        let scale = given.zip(place).and_then(|(scales, i)| scales.values.get(i).copied());
        let scale = scale.unwrap_or(to as f32 / from as f32);
        (0..to).all(|i| {
            let position = transform.transform(i, scale, from, to);
            let taps = sampling.taps(from, to, i);
            match op.interpolator {
                Interpolator::Nearest => nearest(op.nearest, position, from) == taps.low,
                _ => {
                    let ours = taps.low as f32 + taps.weight;
                    (position.clamp(0.0, (from - 1) as f32) - ours).abs() < 1e-4
                }
            }
        })
    }
}

fn node_rank(model: &TypedModel, node: &TypedNode) -> usize {
    model.outlet_fact(node.inputs[0]).map_or(0, |fact| fact.rank())
}

fn nearest(mode: Nearest, position: f32, from: usize) -> usize {
    let rounded = match mode {
        Nearest::Floor => position.floor(),
        Nearest::Ceil => position.ceil(),
        Nearest::RoundPreferFloor => (position - 0.5).ceil(),
        Nearest::RoundPreferCeil => (position + 0.5).floor(),
    };
    (rounded.max(0.0) as usize).min(from - 1)
}
