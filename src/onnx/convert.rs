//! From an ONNX file to a detector's GGUF file.

use super::{Graph, Input, Lowered, Output, Runner, Suppression, lower};
use crate::{
    detect::{Preset, Spec, boxes::Form, guess},
    error::{Error, Result},
    gguf::{Gguf, Writer},
    image::Fit,
    nets::convnet::{
        program::{Op, Program, Shape},
        read_input,
        weights::{Draft, FilterShape, Weights},
    },
    tensor::DType,
};

/// The key that says what runs the network.
const ENGINE: &str = "convnet.engine";
/// The tensor that is the ONNX file.
const GRAPH: &str = "onnx.graph";

/// What a caller knows of a detector. What is left open is as [its kind](crate::detect::PRESETS) has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConvertOptions {
    /// Height and width of the pictures, where the graph leaves them open.
    pub size: Option<[usize; 2]>,
    /// The name of the head.
    pub head: Option<String>,
    /// What the four numbers of a box are, where the graph decodes boxes.
    pub boxes: Option<Form>,
    /// The names of the classes.
    pub classes: Option<Vec<String>>,
    /// How pictures are brought to the input's size.
    pub fit: Option<Fit>,
    /// Whether the network sees blue, green, red.
    pub bgr: Option<bool>,
    /// Subtracted from each channel.
    pub mean: Option<[f32; 3]>,
    /// Divides the difference.
    pub std: Option<[f32; 3]>,
    /// The least score of an object.
    pub confidence: Option<f32>,
    /// By how much boxes of a class may overlap.
    pub iou: Option<f32>,
    /// Whether weights are stored as f16.
    pub half: bool,
}

/// What runs a converted network.
#[derive(Debug, Clone)]
pub enum Engine {
    /// The kernels of this library.
    Net(Draft),
    /// tract, because of what the message says.
    Graph {
        /// The ONNX file.
        bytes: Vec<u8>,
        /// Why it could not be lowered.
        why: String,
    },
}

/// A detector, and what was found out about it on the way.
#[derive(Debug, Clone)]
pub struct Converted {
    /// What the graph takes.
    pub input: Input,
    /// What it gives, as it lies for the head.
    pub outputs: Vec<Output>,
    /// The box suppression that was cut off at the graph's end, if any.
    pub cut: Option<Suppression>,
    /// The name of the head.
    pub head: &'static str,
    /// All that the file says besides the network.
    pub spec: Spec,
    /// The network.
    pub engine: Engine,
}

/// Turns the ONNX file in `bytes` into a detector. `name` stands for the file in messages.
///
/// # Errors
/// `Format` or `Unsupported` for a graph that makes no sense or no detector, and `Input` if the options do not fit it or
/// leave open what must be known.
pub fn convert(bytes: &[u8], name: &str, options: &ConvertOptions) -> Result<Converted> {
    try_convert(bytes, options).map_err(|e| e.at(name))
}

fn try_convert(bytes: &[u8], options: &ConvertOptions) -> Result<Converted> {
    let graph = Graph::read(bytes, options.size)?;
    let (input, cut) = (graph.input(), graph.cut());
    let (outputs, engine) = match lower(&graph) {
        Ok(Lowered { draft, outputs }) => (outputs, Engine::Net(if options.half { halved(draft) } else { draft })),
        Err(why) => {
            let runner = Runner::new(graph, None).map_err(|e| Error::unsupported(format!("{why}; and {e}")))?;
            (runner.outputs().to_vec(), Engine::Graph { bytes: bytes.to_vec(), why: why.to_string() })
        }
    };
    let shape = input.shape();
    if shape.c != 3 {
        return Err(Error::unsupported(format!("the input has {} channels, expected 3", shape.c)));
    }
    let (head, spec) = describe(&outputs, shape, cut, options)?;
    let shapes: Vec<Shape> = outputs.iter().map(|output| output.shape).collect();
    spec.check(shape, &shapes).map_err(|e| Error::input(e.to_string()))?;
    Ok(Converted { input, outputs, cut, head, spec, engine })
}

/// The head, named or guessed, and all that belongs to it.
fn describe(
    outputs: &[Output],
    input: Shape,
    cut: Option<Suppression>,
    options: &ConvertOptions,
) -> Result<(&'static str, Spec)> {
    let outputs: Vec<_> = outputs.iter().map(|output| (output.name.clone(), output.shape)).collect();
    let (preset, mut head) = match &options.head {
        Some(name) => {
            let preset = Preset::named(name)?;
            (preset, preset.head(&outputs, input)?)
        }
        None => guess(&outputs, input)?,
    };
    let centres = cut.filter(|cut| cut.centres).and(head.form()).map(|_| Form::Centre);
    if let Some(form) = options.boxes.or(centres) {
        head = head.with_form(form).ok_or_else(|| {
            let (form, head) = (form.name(), preset.name);
            Error::input(format!(
                "boxes as {form}: the head {head} makes boxes itself, expected one of a graph that does"
            ))
        })?;
    }
    let mut spec = preset.spec(head, &outputs, input, options.classes.clone());
    let geometry = &mut spec.geometry;
    geometry.fit = options.fit.unwrap_or(geometry.fit);
    geometry.bgr = options.bgr.unwrap_or(geometry.bgr);
    geometry.mean = options.mean.unwrap_or(geometry.mean);
    geometry.std = options.std.unwrap_or(geometry.std);
    spec.confidence = options.confidence.unwrap_or(spec.confidence);
    spec.iou = options.iou.unwrap_or(spec.iou);
    Ok((preset.name, spec))
}

/// The network with its weights in half precision.
fn halved(mut draft: Draft) -> Draft {
    for filter in draft.filters.values_mut() {
        if let Weights::F32(values) = &mut filter.weights {
            filter.weights = Weights::F16(std::mem::take(values));
        }
    }
    draft
}

impl Converted {
    /// Changes the network, if it is one of ours: quantizes it, say.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change(&mut self, change: impl FnOnce(Draft, &Spec) -> Result<Draft>) -> Result<()> {
        if let Engine::Net(draft) = &self.engine {
            self.engine = Engine::Net(change(draft.clone(), &self.spec)?);
        }
        Ok(())
    }

    /// The file.
    pub fn writer(&self) -> Writer<'_> {
        let mut writer = Writer::new();
        writer.alignment(64).key("general.architecture", "convnet");
        match &self.engine {
            Engine::Net(draft) => draft.write(&mut writer),
            Engine::Graph { bytes, .. } => {
                let Shape { h, w, c } = self.input.shape();
                writer.key(ENGINE, "onnx").key("convnet.input", [h, w, c].map(|n| n as u32).to_vec());
                writer.tensor(GRAPH, DType::I8, &[bytes.len()], &bytes[..]);
            }
        }
        self.spec.write(&mut writer);
        writer
    }

    /// The file in memory.
    ///
    /// # Errors
    /// `Input` if the parts do not make a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.writer().write(&mut bytes)?;
        Ok(bytes)
    }
}

impl Input {
    /// The picture as a program takes it.
    pub fn shape(&self) -> Shape {
        Shape::new(self.height, self.width, self.channels)
    }
}

/// Whether a file holds an ONNX graph for tract instead of a network of ours.
pub fn holds_graph(file: &Gguf) -> bool {
    matches!(file.keys().opt_str(ENGINE), Ok(Some("onnx")))
}

impl Runner {
    /// The graph that a file holds.
    ///
    /// # Errors
    /// `Format` if there is none, and those of [`Graph::read`] and [`Runner::new`].
    pub fn load(file: &Gguf) -> Result<Self> {
        let Shape { h, w, .. } = read_input(file)?;
        let tensor = file.tensor(GRAPH)?;
        let at = |e: Error| e.at(format_args!("{}: tensor `{GRAPH}`", file.name()));
        let graph = Graph::read(tensor.data(), Some([h, w])).map_err(at)?;
        Self::new(graph, None).map_err(at)
    }
}

/// Numbers of weights, and of multiplications with them for one picture.
pub fn cost(program: &Program) -> (usize, usize) {
    let shapes = program.shapes();
    program.ops().iter().enumerate().fold((0, 0), |(weights, products), (i, op)| match op {
        Op::Conv { x, .. } => {
            let Some(shape) = FilterShape::of(op, shapes[*x].c) else { return (weights, products) };
            let places = shapes[i + 1].pixels();
            (weights + shape.len() + shape.channels(), products + places * shape.len())
        }
        Op::Constant { shape, .. } => (weights + shape.len(), products),
        _ => (weights, products),
    })
}
