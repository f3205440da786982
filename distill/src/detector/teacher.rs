//! Detectors that teach: whatever the runtime runs, an ONNX graph or a GGUF file.
//!
//! It is shown what the student is shown. If it sees the same cells, it says of each which classes and which box it sees
//! there, and the student can learn its bins if both have as many and count from the same points. If not, what it finds is
//! given to cells as labels would be, with its scores. A teacher of the same cells can also give its features of them.

use super::assign::{Target, assign};
use super::{Config, Outputs, Soft, SoftBoxes};
use crate::data::detect::{Truth, classes};
use crate::error::{Error, Result};
use candle_core::Tensor;
use pupil::detect::Cells;
use pupil::{DetectOptions, Detection, Picture};
use std::collections::BTreeMap;
use std::path::Path;

/// The most objects of a picture that are labels.
const MAX: usize = 100;
/// The logit of what is not seen.
const NEVER: f32 = -12.0;

/// A detector that teaches.
pub struct Teacher {
    detector: pupil::Detector,
    /// For each class of the student, the teacher's.
    classes: Vec<Option<usize>>,
    route: Route,
}

/// What a teacher says of some pictures.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Of each cell.
    pub soft: Soft,
    /// Its features, for each level `[rows, channels]`, if it gives them.
    pub features: Vec<Tensor>,
}

/// What a student learns from its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Classes and bins of each cell.
    Bins,
    /// Classes and the box of each cell.
    Boxes,
    /// What is found.
    Objects,
}

impl Route {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Bins => "classes and bins of each cell",
            Self::Boxes => "classes and the box of each cell",
            Self::Objects => "the objects that it finds",
        }
    }
}

impl Teacher {
    /// Opens a teacher of a student of `config` that calls its classes by `names`. `map` says what the teacher calls them,
    /// where the names differ. Objects must have scores above `floor`. With `features`, it gives these as well.
    ///
    /// # Errors
    /// Those of [`pupil::Detector::open`] and [`pupil::Detector::with_features`]; `Input` for a map that names unknown classes,
    /// if the teacher knows none of the student's classes, or if it is to give features of other cells than the student's.
    pub fn open(
        path: &Path,
        config: &Config,
        names: &[String],
        map: &BTreeMap<String, String>,
        floor: f32,
        features: bool,
        threads: usize,
    ) -> Result<Self> {
        let mut detector = pupil::Detector::open_with_threads(path, threads)?;
        let geometry = &detector.spec().geometry;
        if [geometry.width, geometry.height] != [config.width, config.height] {
            // One that is for one size only still finds objects.
            detector = match detector.with_size([config.width, config.height]) {
                Ok(detector) => detector,
                Err(_) => pupil::Detector::open_with_threads(path, threads)?,
            };
        }
        let map: Vec<(String, String)> = map.clone().into_iter().collect();
        let matched = classes::check(names, map.iter().map(|(ours, _)| ours))
            .and_then(|()| classes::matched(names, &map, &detector))
            .map_err(|error| error.at("teacher.classes"));
        let (classes, route) = (matched?, route(&detector, config));
        if route == Route::Objects {
            classes::distinct(names, &classes).map_err(|error| error.at("teacher.classes"))?;
        }
        if classes.iter().all(Option::is_none) {
            let (path, names) = (path.display(), names.join(", "));
            return Err(Error::input(format!("{path} knows none of the classes {names}, expected teacher.classes")));
        }
        let wanted: Vec<usize> = classes.iter().flatten().copied().collect();
        detector.configure(&DetectOptions { confidence: Some(floor), iou: None, max: Some(MAX), classes: wanted })?;
        if features && route == Route::Objects {
            let path = path.display();
            return Err(Error::input(format!(
                "{path} sees other cells than the student, expected loss.kd_features of 0"
            )));
        }
        if features {
            detector = detector.with_features()?;
        }
        Ok(Self { detector, classes, route })
    }

    /// What the student learns.
    pub fn route(&self) -> Route {
        self.route
    }

    /// Channels of its features on each level; none, if it gives no features.
    pub fn feature_channels(&self) -> Vec<usize> {
        self.detector.feature_channels()
    }

    /// The student's classes that the teacher does not know, by number.
    pub fn strangers(&self) -> impl Iterator<Item = usize> {
        self.classes.iter().enumerate().filter(|(_, theirs)| theirs.is_none()).map(|(ours, _)| ours)
    }

    /// What the teacher says of the pictures that the student said `outputs` of.
    ///
    /// # Errors
    /// What the runtime refuses; `Input` for pictures of another size than the teacher was opened for.
    pub fn look(&mut self, pictures: &[Picture], outputs: &Outputs) -> Result<Lesson> {
        match self.route {
            Route::Objects => Ok(Lesson { soft: self.objects(pictures, outputs)?, features: Vec::new() }),
            route => self.cells(pictures, outputs, route),
        }
    }

    fn cells(&mut self, pictures: &[Picture], outputs: &Outputs, route: Route) -> Result<Lesson> {
        let theirs = self.detector.spec().classes.len();
        let (mut classes, mut bins, mut rects, mut features) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for picture in pictures {
            let seen = self.detector.look(picture)?;
            if seen.boxes.len() != outputs.anchors.len() {
                let (found, expected) = (seen.boxes.len(), outputs.anchors.len());
                return Err(Error::input(format!("the teacher sees {found} cells, expected {expected}")));
            }
            for scores in seen.scores.chunks_exact(theirs) {
                classes.extend(self.classes.iter().map(|class| class.map_or(f32::NAN, |class| logit(scores[class]))));
            }
            match route {
                Route::Bins => bins.extend(seen.bins),
                _ => rects.extend(seen.boxes),
            }
            features.resize(seen.features.len(), Vec::new());
            features.iter_mut().zip(seen.features).for_each(|(all, more)| all.extend(more));
        }
        let boxes = if route == Route::Bins { SoftBoxes::Bins(bins) } else { SoftBoxes::Rects(rects) };
        // Levels of the teacher are in the order of the student's.
        let cells = outputs.anchors.chunk_by(|a, b| a.stride == b.stride).map(|level| level.len() * pictures.len());
        let features = features.into_iter().zip(cells);
        let features = features.map(|(level, rows)| Ok(Tensor::from_vec(level, (rows, ()), outputs.rows.device())?));
        Ok(Lesson { soft: Soft { classes, boxes }, features: features.collect::<Result<_>>()? })
    }

    fn objects(&mut self, pictures: &[Picture], outputs: &Outputs) -> Result<Soft> {
        let mut found = Vec::new();
        for picture in pictures {
            found.push(self.detector.detect(picture)?);
        }
        let truths: Vec<Vec<Truth>> =
            found.iter().map(|found| found.iter().filter_map(|found| self.truth(found)).collect()).collect();
        let truths: Vec<Option<&[Truth]>> = truths.iter().map(|truths| Some(&truths[..])).collect();
        let targets = assign(outputs, &truths)?;
        let unseen: Vec<f32> = self.classes.iter().map(|class| class.map_or(f32::NAN, |_| NEVER)).collect();
        let mut classes = unseen.repeat(targets.len());
        let mut rects = vec![[0.0; 4]; targets.len()];
        for (cell, target) in targets.iter().enumerate() {
            let Target::Object { class, rect, .. } = *target else { continue };
            rects[cell] = rect.map(|edge| edge as f32);
            let score = self.score(&found[cell / outputs.anchors.len()], class, rects[cell]);
            classes[cell * unseen.len() + class] = logit(score);
        }
        Ok(Soft { classes, boxes: SoftBoxes::Rects(rects) })
    }

    /// A detection as a label, if the student knows its class.
    fn truth(&self, found: &Detection) -> Option<Truth> {
        let class = self.classes.iter().position(|theirs| *theirs == Some(found.class))?;
        Some(Truth::new(class, corners(found).map(f64::from)))
    }

    /// The score of what was found at a place.
    fn score(&self, found: &[Detection], class: usize, rect: [f32; 4]) -> f32 {
        let same = |found: &&Detection| Some(found.class) == self.classes[class] && corners(found) == rect;
        found.iter().find(same).map_or(0.0, |found| found.score)
    }
}

fn corners(found: &Detection) -> [f32; 4] {
    [found.rect.x0, found.rect.y0, found.rect.x1, found.rect.y1]
}

/// How a detector can teach a student.
fn route(detector: &pupil::Detector, config: &Config) -> Route {
    let geometry = &detector.spec().geometry;
    let same_size = (geometry.width, geometry.height) == (config.width, config.height);
    match detector.cells() {
        Some(Cells { strides, bins }) if same_size && strides == config.strides() => {
            if bins == Some((config.centre, config.bins)) { Route::Bins } else { Route::Boxes }
        }
        _ => Route::Objects,
    }
}

/// `ln(p / (1 − p))`, finite.
fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::super::export::{Export, geometry};
    use super::super::tests::small;
    use super::super::{Detector, Objective, loss::loss};
    use super::*;
    use crate::nn::check::{close, list};
    use candle_core::Device;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    /// A teacher of three classes of which nothing is known but its seed.
    fn file(name: &str, config: &Config) -> std::path::PathBuf {
        let student = Detector::new(config.clone(), 3, &Device::Cpu).unwrap();
        let path = std::env::temp_dir().join(format!("pupil-teacher-{name}-{}.gguf", std::process::id()));
        let export = Export {
            student: &student,
            weights: None,
            geometry: geometry([config.width, config.height]),
            classes: names(&["cat", "dog", "cow"]),
            confidence: 0.3,
            iou: 0.6,
            max: 100,
            keys: vec![],
        };
        export.write(&path).unwrap();
        path
    }

    fn pictures(size: [usize; 2]) -> Vec<Picture> {
        let picture = |seed: usize| {
            let rgb = (0..size[0] * size[1] * 3).map(|i| ((i * 7919 + seed * 131) % 251) as u8).collect();
            Picture::from_rgb(size[0], size[1], rgb).unwrap()
        };
        vec![picture(1), picture(2)]
    }

    /// What the student of a seed says of pictures.
    fn outputs(config: &Config, seed: u64, pictures: &[Picture]) -> Outputs {
        let mut student = Detector::new(config.clone(), seed, &Device::Cpu).unwrap();
        student.give_features();
        let size = [config.width, config.height];
        let mut pixels = vec![0.0; pictures.len() * size[0] * size[1] * 3];
        let places = pixels.chunks_exact_mut(size[0] * size[1] * 3);
        pictures.iter().zip(places).for_each(|(picture, out)| _ = geometry(size).place(picture, out));
        let pixels = Tensor::from_vec(pixels, (pictures.len() * size[0] * size[1], 3), &Device::Cpu).unwrap();
        student.infer(&pixels, size).unwrap()
    }

    /// A teacher that is the student itself has nothing to teach; also where cells of 64 pixels reach beyond the edge.
    #[test]
    fn a_student_agrees_with_itself() {
        for (name, config) in [("itself", small()), ("beyond", Config { levels: 4, width: 96, centre: 0.0, ..small() })]
        {
            let path = file(name, &config);
            let pictures = pictures([config.width, config.height]);
            let ours = names(&["Cat", "Dog", "cow"]);
            let mut teacher = Teacher::open(&path, &config, &ours, &BTreeMap::new(), 0.1, true, 1).unwrap();
            assert_eq!((teacher.route(), teacher.strangers().count()), (Route::Bins, 0));
            let outputs = outputs(&config, 3, &pictures);
            let Lesson { soft, features } = teacher.look(&pictures, &outputs).unwrap();
            let targets = vec![Target::Ignored; 2 * outputs.anchors.len()];
            let objective = Objective { floor: 0.0, ..Objective::default() };
            let (_, lost) = loss(&outputs, &targets, Some(&soft), &objective).unwrap();
            assert!(lost.kd_classes.abs() < 1e-4 && lost.kd_boxes.abs() < 1e-3, "{lost:?}");
            assert_eq!(teacher.feature_channels(), vec![config.neck; config.levels]);
            for (ours, theirs) in outputs.features.iter().zip(&features).take(3) {
                close("features", &list(theirs), &list(ours), 1e-4);
            }
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn teachers_that_see_otherwise_teach_what_they_can() {
        let config = small();
        let path = file("others", &config);
        let pictures = pictures([config.width, config.height]);
        let map = BTreeMap::from([("kitten".to_string(), "cat".to_string())]);
        let ours = names(&["kitten", "horse"]);
        let open = |config: &Config| Teacher::open(&path, config, &ours, &map, 0.001, false, 1).unwrap();

        let other = Config { classes: 2, bins: 6, ..config.clone() };
        let mut teacher = open(&other);
        assert_eq!((teacher.route(), teacher.strangers().collect::<Vec<_>>()), (Route::Boxes, vec![1]));
        let seen = outputs(&other, 9, &pictures);
        let soft = teacher.look(&pictures, &seen).unwrap().soft;
        assert!(soft.classes.chunks(2).all(|row| row[0].is_finite() && row[1].is_nan()));
        assert!(matches!(&soft.boxes, SoftBoxes::Rects(rects) if rects.len() == 2 * seen.anchors.len()));
        // Where nobody knows, nobody loses: the gradient of strangers is 0.
        let targets = vec![Target::Ignored; 2 * seen.anchors.len()];
        let (total, lost) = loss(&seen, &targets, Some(&soft), &Objective::default()).unwrap();
        assert!(lost.kd_classes.is_finite() && total.to_scalar::<f32>().unwrap().is_finite());

        let other = Config { classes: 2, width: 96, height: 64, ..config.clone() };
        assert_eq!(open(&other).route(), Route::Bins);
        let other = Config { classes: 2, width: 64, height: 64, levels: 4, ..config.clone() };
        let mut teacher = open(&other);
        assert_eq!((teacher.route(), teacher.feature_channels().len()), (Route::Objects, 0));
        let refused = Teacher::open(&path, &other, &ours, &map, 0.001, true, 1).err().unwrap().to_string();
        assert!(refused.ends_with("sees other cells than the student, expected loss.kd_features of 0"), "{refused}");
        let shown: Vec<Picture> = self::pictures([64, 64]);
        let seen = outputs(&other, 9, &shown);
        let soft = teacher.look(&shown, &seen).unwrap().soft;
        let objects = soft.classes.chunks(2).filter(|row| row[0] > NEVER).count();
        assert!(objects > 0 && soft.classes.len() == 2 * 2 * seen.anchors.len());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn unknown_classes_are_refused() {
        let config = small();
        let path = file("unknown", &config);
        let refused = |ours: &[&str], map: &[(&str, &str)]| {
            let map = map.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            Teacher::open(&path, &config, &names(ours), &map, 0.1, false, 1).err().unwrap().to_string()
        };
        assert!(refused(&["horse"], &[]).contains("knows none of the classes horse"));
        assert!(
            refused(&["cat"], &[("kitten", "cat")]).contains("teacher.classes: no class 'kitten', expected one of cat")
        );
        assert!(refused(&["kitten"], &[("kitten", "kat")]).starts_with("teacher.classes: "));
        std::fs::remove_file(&path).unwrap();
    }
}
