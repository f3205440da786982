//! Detectors.

use crate::error::raise;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pupil::{DetectOptions, Picture, image::Rect};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Mutex;

/// An object in a picture.
#[pyclass(frozen, get_all, module = "pupil")]
pub struct Detection {
    /// The name of its class.
    name: String,
    /// The number of its class, a place in Detector.classes.
    class_id: usize,
    /// How sure the model is, usually from 0 to 1.
    score: f32,
    /// The left, top, right and bottom edges in the picture's pixels.
    r#box: (f32, f32, f32, f32),
}

impl From<&Detection> for pupil::Detection {
    fn from(found: &Detection) -> Self {
        let (x0, y0, x1, y1) = found.r#box;
        Self { class: found.class_id, score: found.score, rect: Rect { x0, y0, x1, y1 } }
    }
}

#[pymethods]
impl Detection {
    fn __repr__(&self) -> String {
        let (x0, y0, x1, y1) = self.r#box;
        format!("Detection({:?}, score={:.2}, box=({x0:.1}, {y0:.1}, {x1:.1}, {y1:.1}))", self.name, self.score)
    }
}

/// A detector: one GGUF file, mapped.
///
/// What is None is as the file says: confidence, the least score; iou, by how much boxes of a class may overlap; at_most,
/// the most objects in a picture. classes are the names of those to look for, all if there are none. It computes with
/// a thread for each core, or with as many as threads says.
#[pyclass(frozen, module = "pupil")]
pub struct Detector {
    detector: Mutex<pupil::Detector>,
    path: PathBuf,
    /// The names of the classes that the model knows.
    #[pyo3(get)]
    classes: Vec<String>,
}

/// What a detector finds, as NumPy arrays: boxes, scores and classes.
type Arrays<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<i64>>);

#[pymethods]
impl Detector {
    #[new]
    #[pyo3(signature = (path, *, confidence=None, iou=None, at_most=None, classes=vec![], threads=None))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        confidence: Option<f32>,
        iou: Option<f32>,
        at_most: Option<usize>,
        classes: Vec<String>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let open = || {
            let mut detector = match threads {
                Some(threads) => pupil::Detector::open_with_threads(&path, threads),
                None => pupil::Detector::open(&path),
            }?;
            let classes = classes.iter().map(|name| detector.class(name)).collect::<pupil::Result<_>>()?;
            detector.configure(&DetectOptions { confidence, iou, max: at_most, classes })?;
            Ok(detector)
        };
        let detector = py.detach(open).map_err(raise)?;
        let classes = detector.spec().classes.clone();
        Ok(Self { detector: Mutex::new(detector), path, classes })
    }

    /// The objects in a picture, those of the highest scores first.
    ///
    /// The picture is an array of uint8, height x width x 3, red first (turn OpenCV's around: frame[..., ::-1]); or the
    /// path of a JPEG, PNG, BMP or WebP file; or the bytes of one.
    fn detect(&self, py: Python<'_>, picture: Source) -> PyResult<Vec<Detection>> {
        let found = self.find(py, picture)?.into_iter().map(|found| Detection {
            name: self.classes[found.class].clone(),
            class_id: found.class,
            score: found.score,
            r#box: (found.rect.x0, found.rect.y0, found.rect.x1, found.rect.y1),
        });
        Ok(found.collect())
    }

    /// As detect, but as arrays: boxes of n x 4 (float32), n scores (float32) and n numbers of classes (int64).
    fn detect_arrays<'py>(&self, py: Python<'py>, picture: Source) -> PyResult<Arrays<'py>> {
        let found = self.find(py, picture)?;
        let boxes = found.iter().flat_map(|found| [found.rect.x0, found.rect.y0, found.rect.x1, found.rect.y1]);
        let boxes = boxes.collect::<Vec<f32>>().into_pyarray(py).reshape([found.len(), 4])?;
        let scores = found.iter().map(|found| found.score).collect::<Vec<f32>>().into_pyarray(py);
        let classes = found.iter().map(|found| found.class as i64).collect::<Vec<i64>>().into_pyarray(py);
        Ok((boxes, scores, classes))
    }

    /// The picture with boxes, names and scores drawn on it: an array of uint8, height x width x 3, red first.
    ///
    /// The objects are those that detect found in it, or some of them.
    fn draw<'py>(
        &self,
        py: Python<'py>,
        picture: Source,
        found: Vec<Py<Detection>>,
    ) -> PyResult<Bound<'py, PyArray3<u8>>> {
        let found: Vec<pupil::Detection> = found.iter().map(|found| found.get().into()).collect();
        if let Some(stranger) = found.iter().find(|found| found.class >= self.classes.len()) {
            let (class, classes) = (stranger.class, self.classes.len());
            return Err(PyValueError::new_err(format!("class_id is {class}, expected less than {classes}")));
        }
        let label = |found: &pupil::Detection| format!("{} {:.0} %", self.classes[found.class], 100.0 * found.score);
        let picture = py.detach(|| {
            let mut picture = picture.load()?;
            pupil::image::draw(&mut picture, &found, label);
            Ok(picture)
        });
        let picture = picture.map_err(raise)?;
        let size = [picture.height(), picture.width(), 3];
        picture.rgb().to_vec().into_pyarray(py).reshape(size)
    }

    fn __repr__(&self) -> String {
        format!("Detector({:?})", self.path)
    }
}

impl Detector {
    fn find(&self, py: Python<'_>, picture: Source) -> PyResult<Vec<pupil::Detection>> {
        let broken = |_| PyRuntimeError::new_err("an earlier call failed within the library: open the detector again");
        py.detach(|| {
            let picture = picture.load().map_err(raise)?;
            self.detector.lock().map_err(broken)?.detect(&picture).map_err(raise)
        })
    }
}

/// What a picture is given as.
enum Source {
    Picture(Picture),
    Encoded(PyBackedBytes),
    File(PathBuf),
}

impl Source {
    fn load(self) -> pupil::Result<Picture> {
        match self {
            Self::Picture(picture) => Ok(picture),
            Self::Encoded(bytes) => Picture::decode(&bytes),
            Self::File(path) => Picture::open(path),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Source {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if given.is_instance_of::<PyBytes>() {
            return Ok(Self::Encoded(given.extract()?));
        }
        if let Ok(path) = given.extract() {
            return Ok(Self::File(path));
        }
        let Ok(array) = given.cast::<PyUntypedArray>() else {
            let kind = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!("a picture is an array, a path or bytes, not {kind}")));
        };
        match given.cast::<PyArray3<u8>>() {
            Ok(pixels) if pixels.dims()[2] == 3 => {
                let pixels = pixels.try_readonly()?;
                let pixels = pixels.as_array();
                let (height, width, _) = pixels.dim();
                // Views that are turned around, transposed or cut out do not lie as they are seen.
                let rgb = match pixels.as_slice() {
                    Some(rgb) => rgb.to_vec(),
                    None => pixels.iter().copied().collect(),
                };
                Ok(Self::Picture(Picture::from_rgb(width, height, rgb).map_err(raise)?))
            }
            _ => {
                let (kind, shape) = (array.dtype(), array.shape());
                Err(PyTypeError::new_err(format!("an array of {kind} {shape:?}: expected uint8, height x width x 3")))
            }
        }
    }
}
