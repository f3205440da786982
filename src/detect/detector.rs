//! A detector's file, opened and checked, and what it finds in pictures.

use super::candidates::Candidates;
use super::names;
use super::part::Map;
use super::spec::{Spec, check_fraction, check_max};
use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::image::{Detection, Picture, Placement, Resampler, nms};
use crate::nets::convnet::program::Shape;
use crate::nets::convnet::{ConvNet, Session};
#[cfg(feature = "onnx")]
use crate::onnx::GraphSession;
use crate::threads::{all_threads, check_threads};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a caller wants otherwise than the file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetectOptions {
    /// The least score, from 0 to 1.
    pub confidence: Option<f32>,
    /// By how much boxes of a class may overlap, from 0 to 1.
    pub iou: Option<f32>,
    /// The most objects in a picture.
    pub max: Option<usize>,
    /// The classes to look for, by number; all if there are none.
    pub classes: Vec<usize>,
}

/// How long the three phases of the last picture took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Resizing and normalising the picture.
    pub place: Duration,
    /// The network.
    pub net: Duration,
    /// From the network's outputs to objects.
    pub decode: Duration,
}

impl Times {
    /// All three.
    pub fn total(&self) -> Duration {
        self.place + self.net + self.decode
    }
}

/// What computes the outputs.
enum Engine {
    Net(Box<Session>),
    /// An ONNX graph, in tract.
    #[cfg(feature = "onnx")]
    Graph(Box<GraphSession>),
}

impl Engine {
    fn new(file: &Gguf, threads: usize) -> Result<Self> {
        if let Ok(Some(engine)) = file.keys().opt_str("convnet.engine") {
            return Self::other(file, engine);
        }
        let session = Session::new(Arc::new(ConvNet::load(file)?), threads)?;
        Ok(Self::Net(Box::new(session)))
    }

    /// What runs a file that is no network of this library.
    fn other(file: &Gguf, engine: &str) -> Result<Self> {
        #[cfg(feature = "onnx")]
        if engine == "onnx" {
            return Ok(Self::Graph(Box::new(GraphSession::load(file)?)));
        }
        Err(Error::unsupported(format!(
            "{}: the network is for the engine {engine:.20?}, which this build lacks",
            file.name()
        )))
    }

    fn with_threads(self, threads: usize) -> Result<Self> {
        match self {
            #[cfg(feature = "onnx")]
            Self::Graph(session) => Ok(Self::Graph(session)),
            Self::Net(session) => Ok(Self::Net(Box::new(Session::new(session.net().clone(), threads)?))),
        }
    }

    /// The shapes of the input and of the outputs.
    fn shapes(&self) -> (Shape, Vec<Shape>) {
        match self {
            Self::Net(session) => {
                let program = session.net().program();
                (program.shapes()[0], program.outputs().iter().map(|&x| program.shapes()[x]).collect())
            }
            #[cfg(feature = "onnx")]
            Self::Graph(session) => session.shapes(),
        }
    }

    fn input(&mut self) -> &mut [f32] {
        match self {
            Self::Net(session) => session.input(),
            #[cfg(feature = "onnx")]
            Self::Graph(session) => session.input(),
        }
    }

    fn run(&mut self) -> Result<()> {
        match self {
            Self::Net(session) => session.run(),
            #[cfg(feature = "onnx")]
            Self::Graph(session) => session.run()?,
        }
        Ok(())
    }

    fn output(&self, i: usize) -> &[f32] {
        match self {
            Self::Net(session) => session.output(i),
            #[cfg(feature = "onnx")]
            Self::Graph(session) => session.output(i),
        }
    }
}

/// A detector: finds objects in pictures.
///
/// ```no_run
/// use pupil::{Detector, Picture};
///
/// let mut detector = Detector::open("detector.gguf")?;
/// let picture = Picture::open("street.jpg")?;
/// for found in detector.detect(&picture)? {
///     let name = &detector.spec().classes[found.class];
///     println!("{name} {:.0} % at {:?}", 100.0 * found.score, found.rect);
/// }
/// # Ok::<(), pupil::Error>(())
/// ```
pub struct Detector {
    name: String,
    spec: Spec,
    engine: Engine,
    threads: usize,
    input: Shape,
    outputs: Vec<Shape>,
    /// Those of the outputs that are features.
    pub(super) features: Vec<usize>,
    resampler: Resampler,
    candidates: Candidates,
    confidence: f32,
    iou: f32,
    max: usize,
    times: Times,
}

impl Detector {
    /// Maps the GGUF file at `path` and checks everything in it that is structure. It computes with a thread for each core.
    ///
    /// # Errors
    /// `Io`, `Format` or `Unsupported`, with one line that names the file, the key or tensor, and what was expected.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with_threads(path, all_threads())
    }

    /// As [`Detector::open`], with this many threads.
    ///
    /// # Errors
    /// As [`Detector::open`], and `Input` unless there are 1 to 1024 threads.
    pub fn open_with_threads(path: impl AsRef<Path>, threads: usize) -> Result<Self> {
        let path = path.as_ref();
        #[cfg(feature = "onnx")]
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
            return Self::convert(path, threads);
        }
        Self::from_file(&Gguf::open(path)?, threads)
    }

    /// A detector whose file is in memory or embedded in the program; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Detector::open`].
    pub fn from_bytes(bytes: impl Into<Arc<Bytes>>, name: &str) -> Result<Self> {
        Self::from_bytes_with_threads(bytes, name, all_threads())
    }

    /// As [`Detector::from_bytes`], with this many threads.
    ///
    /// # Errors
    /// As [`Detector::open_with_threads`].
    pub fn from_bytes_with_threads(bytes: impl Into<Arc<Bytes>>, name: &str, threads: usize) -> Result<Self> {
        Self::from_file(&Gguf::from_bytes(bytes, name)?, threads)
    }

    /// The detector in an ONNX file, converted in memory, where its head leaves no doubt.
    #[cfg(feature = "onnx")]
    fn convert(path: &Path, threads: usize) -> Result<Self> {
        let name = path.display().to_string();
        let converted = crate::onnx::convert(&crate::onnx::read_file(path)?, &name, &Default::default())?;
        Self::from_file(&Gguf::from_bytes(Bytes::from(&converted.to_bytes()?[..]), &name)?, threads)
    }

    fn from_file(file: &Gguf, threads: usize) -> Result<Self> {
        names::expect_detector(file)?;
        let spec = Spec::read(file)?;
        check_threads(threads)?;
        let engine = Engine::new(file, threads)?;
        let (input, outputs) = engine.shapes();
        spec.check(input, &outputs).map_err(|e| e.at(file.name()))?;
        let (confidence, iou, max) = (spec.confidence, spec.iou, spec.max);
        Ok(Self {
            name: file.name().to_owned(),
            spec,
            engine,
            threads,
            input,
            outputs,
            features: Vec::new(),
            resampler: Resampler::default(),
            candidates: Candidates::default(),
            confidence,
            iou,
            max,
            times: Times::default(),
        })
    }

    /// The same detector with this many threads.
    ///
    /// # Errors
    /// `Input` unless there are 1 to 1024 threads.
    pub fn with_threads(self, threads: usize) -> Result<Self> {
        check_threads(threads)?;
        Ok(Self { engine: self.engine.with_threads(threads)?, threads, ..self })
    }

    /// The same detector for inputs of another width and height, where its network can see such.
    ///
    /// # Errors
    /// `Unsupported` if the network is for one size only; `Format` if its head is.
    pub fn with_size(self, [width, height]: [usize; 2]) -> Result<Self> {
        let mut made = self.with_net("see pictures of another size", |net| net.resized([height, width]))?;
        (made.spec.geometry.width, made.spec.geometry.height) = (width, height);
        made.spec.check(made.input, &made.outputs).map_err(|e| e.at(&made.name))?;
        Ok(made)
    }

    /// The same detector with another network, made of its own.
    pub(super) fn with_net(self, wish: &str, make: impl FnOnce(ConvNet) -> Result<ConvNet>) -> Result<Self> {
        let cannot = |why: &str| Error::unsupported(format!("{}: cannot {wish}: {why}", self.name));
        #[allow(irrefutable_let_patterns, reason = "there is another engine with the feature onnx")]
        let Engine::Net(session) = self.engine else { return Err(cannot("tract runs it")) };
        let net = session.into_net().ok_or_else(|| cannot("its network is in use"))?;
        let net = make(net).map_err(|e| e.at(&self.name))?;
        let engine = Engine::Net(Box::new(Session::new(Arc::new(net), self.threads)?));
        let (input, outputs) = engine.shapes();
        Ok(Self { engine, input, outputs, ..self })
    }

    /// Threads that it computes with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file says: classes, thresholds, and more.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// From now on does as `options` say; what they leave open is as the file says.
    ///
    /// # Errors
    /// `Input` for options that make no sense.
    pub fn configure(&mut self, options: &DetectOptions) -> Result<()> {
        let confidence = options.confidence.unwrap_or(self.spec.confidence);
        let iou = options.iou.unwrap_or(self.spec.iou);
        let max = options.max.unwrap_or(self.spec.max);
        let refused = |what: &str, e: Error| Error::input(e.to_string()).at(what);
        check_fraction(confidence).map_err(|e| refused("confidence", e))?;
        check_fraction(iou).map_err(|e| refused("IoU", e))?;
        check_max(max).map_err(|e| refused("at most", e))?;
        let mut wanted = vec![false; if options.classes.is_empty() { 0 } else { self.spec.classes.len() }];
        for &class in &options.classes {
            let classes = wanted.len();
            *wanted
                .get_mut(class)
                .ok_or_else(|| Error::input(format!("class {class}, expected less than {classes}")))? = true;
        }
        self.candidates = Candidates::new(confidence, wanted);
        (self.confidence, self.iou, self.max) = (confidence, iou, max);
        Ok(())
    }

    /// The number of the class of this name, upper or lower case.
    ///
    /// # Errors
    /// `Input`, with names that are alike, if there is none.
    pub fn class(&self, name: &str) -> Result<usize> {
        names::find(&self.spec.classes, name)
    }

    /// The objects in `picture`, those of the highest scores first, in its own pixels.
    ///
    /// # Errors
    /// `Unsupported` or `Format` if the network cannot be run; never so for one that this library runs itself.
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<Detection>> {
        let placement = self.place_and_run(picture)?;
        let ran = Instant::now();
        self.candidates.restart(self.confidence);
        let (engine, shapes) = (&self.engine, &self.outputs);
        let output = |i: usize| Map { shape: shapes[i], data: engine.output(i) };
        self.spec.head.decode(output, self.input, self.spec.classes.len(), &mut self.candidates);
        let found = self.candidates.list();
        // Without an NMS this only sorts.
        let iou = if self.spec.head.needs_nms() { self.iou } else { 1.0 };
        nms(found, iou, self.max);
        let in_picture = found.iter().map(|found| Detection { rect: placement.to_picture(found.rect), ..*found });
        let found = in_picture.filter(|found| found.rect.area() > 0.0).collect();
        self.times.decode = ran.elapsed();
        Ok(found)
    }

    /// Has the network look at a picture, and takes down how long that took.
    pub(super) fn place_and_run(&mut self, picture: &Picture) -> Result<Placement> {
        let start = Instant::now();
        let placement = self.spec.geometry.place_with(&mut self.resampler, picture, self.engine.input());
        let placed = Instant::now();
        self.engine.run().map_err(|e| e.at(&self.name))?;
        self.times = Times { place: placed - start, net: placed.elapsed(), decode: Duration::ZERO };
        Ok(placement)
    }

    /// The shapes of the network's outputs.
    pub(super) fn outputs(&self) -> &[Shape] {
        &self.outputs
    }

    /// The shape of its input.
    pub(super) fn input(&self) -> Shape {
        self.input
    }

    /// An output of the network.
    pub(super) fn output(&self, i: usize) -> Map<'_> {
        Map { shape: self.outputs[i], data: self.engine.output(i) }
    }

    /// Whether tract runs the network, an ONNX graph that no program of this library's operations could be made of.
    pub fn is_graph(&self) -> bool {
        !matches!(self.engine, Engine::Net(_))
    }

    /// How long the last picture took.
    pub fn times(&self) -> Times {
        self.times
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Detector({}: {}, {} classes)", self.name, self.input, self.spec.classes.len())
    }
}

// A detector may move to another thread.
const _: fn() = || {
    fn send<T: Send>() {}
    send::<Detector>();
};
