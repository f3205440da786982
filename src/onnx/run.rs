//! Running a graph in tract: the oracle for what is lowered, and the way for what cannot be.

use super::{
    guard::guarded,
    lower::Output,
    read::{Graph, dims},
};
use crate::{
    error::{Error, Result},
    gguf::Gguf,
    nets::convnet::program::{MAX_ELEMENTS, Shape},
};
use tract_core::internal::DimLike;
use tract_onnx::prelude::*;

/// A graph ready to be run by tract.
pub struct Runner {
    plan: Arc<TypedSimplePlan>,
    input: super::Input,
    outputs: Vec<Output>,
}

impl Runner {
    /// Prepares a graph. Results lie as `outputs` says, or where that is `None` as the dimensions suggest.
    ///
    /// # Errors
    /// `Unsupported` if tract cannot run the graph, or if a tensor of it is no f32 or too large.
    pub fn new(graph: Graph, outputs: Option<Vec<Output>>) -> Result<Self> {
        bounded(&graph.model)?;
        let natural = || {
            let outputs = graph.outputs()?.into_iter();
            Ok::<_, Error>(outputs.map(|(name, dims)| Output::natural(name, dims)).collect())
        };
        let outputs = match outputs {
            Some(outputs) => outputs,
            None => natural()?,
        };
        let input = graph.input();
        let plan = guarded(|| graph.model.into_decluttered()?.into_optimized()?.into_runnable());
        let plan = plan.map_err(|e| Error::unsupported(format!("tract cannot run the graph: {e}")))?;
        Ok(Self { plan, input, outputs })
    }

    /// What the results are.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// What the graph takes.
    pub fn input(&self) -> super::Input {
        self.input
    }

    /// Runs a picture, `[height][width][channels]` and normalised, and returns the results as [`outputs`](Self::outputs)
    /// describes them.
    ///
    /// # Errors
    /// `Input` if the picture has another size, and `Unsupported` if tract fails.
    pub fn run(&self, picture: &[f32]) -> Result<Vec<Vec<f32>>> {
        let dims = self.input.dims();
        if picture.len() != dims.iter().product::<usize>() {
            return Err(Error::input(format!("{} numbers for a picture of {dims:?}", picture.len())));
        }
        let results = guarded(|| {
            let tensor = tract_core::internal::Tensor::from_shape(&dims, &self.to_graph(picture))?;
            let results = self.plan.run(tvec!(tensor.into()))?;
            let values = |tensor: TValue| {
                let tensor = tensor.cast_to::<f32>()?.into_owned();
                Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
            };
            results.into_iter().map(values).collect::<TractResult<Vec<_>>>()
        });
        let results = results.map_err(|e| Error::unsupported(format!("tract cannot run the graph: {e}")))?;
        if results.len() != self.outputs.len() {
            return Err(Error::unsupported(format!("tract gave {} of {} results", results.len(), self.outputs.len())));
        }
        self.outputs.iter().zip(results).map(|(output, values)| ordered(output, &values)).collect()
    }

    /// The picture's numbers as the graph wants them.
    fn to_graph(&self, picture: &[f32]) -> Vec<f32> {
        let channels = self.input.channels;
        if self.input.channels_last {
            return picture.to_vec();
        }
        (0..channels).flat_map(|c| picture.iter().skip(c).step_by(channels).copied()).collect()
    }
}

fn ordered(output: &Output, values: &[f32]) -> Result<Vec<f32>> {
    let expected = output.dims.iter().product::<usize>();
    if values.len() != expected {
        let (name, found) = (&output.name, values.len());
        return Err(Error::unsupported(format!("output `{name}` has {found} numbers, expected {expected}")));
    }
    Ok(output.to_program(values))
}

/// Refuses graphs whose tensors have no known or no reasonable size.
fn bounded(model: &TypedModel) -> Result<()> {
    for node in model.nodes() {
        for slot in 0..node.outputs.len() {
            let fact = &node.outputs[slot].fact;
            let known = fact.shape.iter().all(|dim| dim.to_usize().is_ok());
            let sizes = if known { dims(model, OutletId::new(node.id, slot))? } else { vec![usize::MAX] };
            let elements = sizes.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
            if elements.is_none_or(|n| n > MAX_ELEMENTS) {
                let (name, shape) = (&node.name, &fact.shape);
                return Err(Error::unsupported(format!("node `{name}` makes {shape:?}, expected a bounded size")));
            }
        }
    }
    for &outlet in &model.outputs {
        let dt = model.outlet_fact(outlet).map_err(|e| Error::format(e.to_string()))?.datum_type;
        if dt != f32::datum_type() {
            let name = &model.node(outlet.node).name;
            return Err(Error::unsupported(format!("node `{name}` makes {dt:?}, expected f32")));
        }
    }
    Ok(())
}

/// A graph with room for its picture and results: a [`Session`](crate::nets::convnet::Session) in tract.
pub(crate) struct GraphSession {
    runner: Runner,
    input: Vec<f32>,
    results: Vec<Vec<f32>>,
}

impl GraphSession {
    pub(crate) fn load(file: &Gguf) -> Result<Self> {
        let runner = Runner::load(file)?;
        let input = vec![0.0; runner.input().shape().len()];
        let results = runner.outputs().iter().map(|output| vec![0.0; output.shape.len()]).collect();
        Ok(Self { runner, input, results })
    }

    pub(crate) fn shapes(&self) -> (Shape, Vec<Shape>) {
        (self.runner.input().shape(), self.runner.outputs().iter().map(|output| output.shape).collect())
    }

    pub(crate) fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        self.results = self.runner.run(&self.input)?;
        Ok(())
    }

    pub(crate) fn output(&self, i: usize) -> &[f32] {
        &self.results[i]
    }
}
