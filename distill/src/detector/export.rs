//! From a detector in training to the file that `pupil detect` opens.

use super::program::{Draft, draft};
use super::{Config, Detector};
use crate::error::Result;
use candle_core::Tensor;
use pupil::detect::distances::{DistanceLevel, Distances};
use pupil::detect::{Head, Scores, Spec, part::Part};
use pupil::gguf::{OwnedValue, Writer};
use pupil::image::{Fit, Geometry};
use std::collections::BTreeMap;
use std::path::Path;

/// How pictures become inputs of this size, width and height, of the students that are trained here: at their own aspect
/// ratio, and normalised by the colours of ImageNet.
pub fn geometry([width, height]: [usize; 2]) -> Geometry {
    let (mean, std) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    Geometry { width, height, fit: Fit::Letterbox { centre: true }, fill: 114, bgr: false, mean, std }
}

/// What goes into a detector's file.
pub struct Export<'a> {
    /// The network.
    pub student: &'a Detector,
    /// Other weights for it, as [the optimiser's running means](crate::optimizer::AdamW::averages); if running means of the
    /// [statistics](Detector::statistics) are among them, those as well.
    pub weights: Option<&'a BTreeMap<String, Tensor>>,
    /// How a picture becomes an input, as in training. The size is the student's own.
    pub geometry: Geometry,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The least score of an object, 0 to 1.
    pub confidence: f32,
    /// By how much two boxes of a class may overlap, 0 to 1.
    pub iou: f32,
    /// The most objects in a picture.
    pub max: usize,
    /// Further keys: where the student comes from, what it scores.
    pub keys: Vec<(String, OwnedValue)>,
}

impl Export<'_> {
    /// The network as a program in f32, and what the file says besides.
    ///
    /// # Errors
    /// `Input` for weights that are missing or not finite, or a number of names that is not that of the classes.
    pub fn draft(&self) -> Result<(Draft, Spec)> {
        let draft = draft(self.student, self.weights)?;
        let spec = self.spec(self.student.config());
        let (shapes, outputs) = (draft.program.shapes(), draft.program.outputs());
        spec.check(shapes[0], &outputs.iter().map(|&x| shapes[x]).collect::<Vec<_>>())?;
        Ok((draft, spec))
    }

    fn spec(&self, config: &Config) -> Spec {
        let level = |(i, &stride): (usize, &usize)| {
            let part = Part::of(i);
            DistanceLevel { classes: part, distances: part.from_channel(config.classes), stride }
        };
        let head = Distances {
            levels: config.strides().iter().enumerate().map(level).collect(),
            bins: config.bins,
            centre: config.centre,
            scores: Scores::Sigmoid,
            every: false,
        };
        Spec {
            geometry: Geometry { width: config.width, height: config.height, ..self.geometry.clone() },
            head: Head::Distances(head),
            classes: self.classes.clone(),
            confidence: self.confidence,
            iou: self.iou,
            max: self.max,
        }
    }

    /// Writes the file in f32, and opens it again as the runtime does.
    ///
    /// # Errors
    /// As [`draft`](Self::draft), and `Io`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (draft, spec) = self.draft()?;
        write(path, &draft, &spec, &self.keys)
    }
}

/// Writes the file of a network, in f32 or made to compute in bytes, and opens it again as the runtime does.
///
/// # Errors
/// `Io`; `Input` or `Format` if the parts do not make a file.
pub fn write(path: &Path, draft: &Draft, spec: &Spec, keys: &[(String, OwnedValue)]) -> Result<()> {
    let mut writer = Writer::new();
    writer.alignment(64).key("general.architecture", "convnet");
    for (name, value) in keys {
        writer.key(name, value.clone());
    }
    spec.write(&mut writer);
    draft.write(&mut writer);
    writer.write_file(path)?;
    pupil::Detector::open_with_threads(path, 1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::small;
    use super::*;
    use candle_core::Device;

    fn export(student: &Detector) -> Export<'_> {
        Export {
            student,
            weights: None,
            geometry: geometry([64, 32]),
            classes: (0..student.config().classes).map(|i| format!("class {i}")).collect(),
            confidence: 0.3,
            iou: 0.6,
            max: 100,
            keys: vec![("general.name".into(), "small".into())],
        }
    }

    #[test]
    fn a_detector_opens_the_file() {
        let student = Detector::new(small(), 3, &Device::Cpu).unwrap();
        let path = std::env::temp_dir().join(format!("pupil-detector-{}.gguf", std::process::id()));
        export(&student).write(&path).unwrap();
        let mut detector = pupil::Detector::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(detector.spec().classes[2], "class 2");
        let picture = pupil::Picture::from_rgb(50, 40, vec![90; 50 * 40 * 3]).unwrap();
        // Nothing is learnt yet: no score is far from 1 %.
        assert!(detector.detect(&picture).unwrap().is_empty());

        let mut wrong = export(&student);
        wrong.classes.pop();
        assert!(wrong.draft().unwrap_err().to_string().contains("2 class names"));
    }
}
