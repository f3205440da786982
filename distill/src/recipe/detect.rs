//! Recipes of detectors.
//!
//! ```toml
//! kind = "detect"
//!
//! [student]
//! size = [320, 320]             # width and height of its pictures
//! channels = 24                 # of the first layer: 12, 24, 40 make about 0.25, 0.9, 2.5 million weights
//!
//! [data]
//! folder = "vehicles"           # YOLO, COCO or VOC, relative to this file, or to --data-root
//! train = "train"               # splits of it, or { folder = "…", split = "…" }
//! validation = "val"
//! test = "test"
//!
//! [augment]                     # none of its keys must be there
//! mosaic = 0.5
//!
//! [init]                        # none: the student begins with random weights
//! file = "boxes.run/best.safetensors" # of a training of the same [student]
//!
//! [teacher]                     # none: the student learns from the labels alone
//! file = "nanodet.onnx"         # or a detector's GGUF file
//! classes = { Motorcycle = "motorcycle" }
//!
//! [loss]
//! kd_classes = { from = 8.0, to = 1.0 } # or a number
//! kd_features = 4.0             # of a teacher that sees the same cells, also what it makes of a picture before its heads
//!
//! [train]
//! epochs = 100
//! learning_rate = 1e-2          # smaller ones of AdamW take several times as long to get anywhere
//!
//! [quantize]                    # none: the file is in f32
//! pictures = 200
//!
//! [output]
//! file = "vehicles.gguf"
//! ```
//!
//! Everything else has a default, and is described at its field.

use super::{Rules, Weight, above_zero, check_output, check_there, check_train, folder_of, of, read};
use crate::{
    data::detect::{Dataset, Options, augment::Augment},
    detector::{Config, Objective, Stage},
    error::{Error, Result, within},
    nn::maps::Activation,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A detector's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the student is for.
    pub kind: Detect,
    /// The network.
    pub student: StudentRecipe,
    /// What it begins with.
    pub init: Option<InitRecipe>,
    /// What it learns from.
    pub data: DataRecipe,
    /// How pictures are changed.
    #[serde(default)]
    pub augment: Augment,
    /// Who teaches it, besides the labels.
    pub teacher: Option<TeacherRecipe>,
    /// How much the parts of the loss weigh.
    #[serde(default)]
    pub loss: LossRecipe,
    /// How.
    pub train: TrainRecipe,
    /// At last, it is made to compute in bytes.
    pub quantize: Option<QuantizeRecipe>,
    /// What comes out.
    pub output: OutputRecipe,
    /// The file that all of this was read from.
    #[serde(skip)]
    pub file: PathBuf,
}

/// The only kind of such recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Detect {
    Detect,
}

/// `[student]`: what is left out is as [`Config::of_width`] has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "they are those of the configuration")]
pub struct StudentRecipe {
    /// Width and height of its pictures in pixels, multiples of 32.
    pub size: [usize; 2],
    /// Channels of its first layer, by which all others go.
    pub channels: usize,
    pub stages: Option<[Stage; 4]>,
    pub neck: Option<usize>,
    pub neck_kernel: Option<usize>,
    pub levels: Option<usize>,
    pub head_units: Option<usize>,
    pub bins: Option<usize>,
    pub centre: Option<f32>,
    pub activation: Option<Activation>,
}

impl StudentRecipe {
    /// The network for this many classes.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn config(&self, classes: usize) -> Result<Config> {
        within("channels", self.channels as f64, 1.0, 256.0).map_err(|error| error.at("[student]"))?;
        let plain = Config::of_width(self.channels, classes, self.size);
        let config = Config {
            stages: self.stages.unwrap_or(plain.stages),
            neck: self.neck.unwrap_or(plain.neck),
            neck_kernel: self.neck_kernel.unwrap_or(plain.neck_kernel),
            levels: self.levels.unwrap_or(plain.levels),
            head_units: self.head_units.unwrap_or(plain.head_units),
            bins: self.bins.unwrap_or(plain.bins),
            centre: self.centre.unwrap_or(plain.centre),
            activation: self.activation.unwrap_or(plain.activation),
            ..plain
        };
        config.check().map_err(|error| error.at("[student]"))?;
        Ok(config)
    }
}

/// `[init]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRecipe {
    /// `best.safetensors` of the training of a student of the same shape. Of another number of classes, its last layers are
    /// of no use. A GGUF file will not do: its norms are folded into its weights.
    pub file: PathBuf,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The data set that [parts](Part::Split) without a folder are splits of.
    pub folder: Option<PathBuf>,
    /// Pictures to learn from.
    pub train: Part,
    /// Pictures by which the best state of the student is chosen.
    pub validation: Part,
    /// Pictures on which, together with those of `validation`, the files are measured.
    pub test: Option<Part>,
    /// Folders of pictures of which only the teacher says what is on them.
    #[serde(default)]
    pub unlabelled: Vec<PathBuf>,
    /// How many of the training pictures' labels are used, 0 to 1. The others are only the teacher's, or nobody's.
    #[serde(default = "defaults::labelled")]
    pub labelled: f64,
    /// How often pictures with labels come in an epoch.
    #[serde(default = "defaults::repeat")]
    pub repeat: usize,
    /// MiB of decoded pictures that are kept in memory.
    #[serde(default = "defaults::cache")]
    pub cache: usize,
}

/// A part of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "expected a split, or { folder = \"…\", split = \"…\" }")]
pub enum Part {
    /// A split of the data set that `folder` names.
    Split(String),
    /// A data set of its own, or a split of it.
    Other {
        /// A folder, a `data.yaml` or a COCO JSON file.
        folder: PathBuf,
        /// The split; all of it, if there is none.
        split: Option<String>,
        /// Where COCO's pictures are, if not in a usual place.
        pictures: Option<PathBuf>,
    },
}

/// `[teacher]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherRecipe {
    /// A detector: an ONNX graph whose head leaves no doubt, or a GGUF file.
    pub file: PathBuf,
    /// What the teacher calls the student's classes. Those of equal names need not be there.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
    /// The part of the training, 0 to 1, after which only the labels teach.
    #[serde(default = "defaults::until")]
    pub until: f64,
}

/// `[loss]`: an [`Objective`] of which the teacher's part may change during the training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "they are those of the objective")]
pub struct LossRecipe {
    pub classes: f64,
    pub boxes: f64,
    pub bins: f64,
    pub kd_classes: Weight,
    pub kd_boxes: Weight,
    pub kd_features: Weight,
    pub beta: f32,
    pub temperature: f32,
    pub floor: f32,
}

impl Default for LossRecipe {
    fn default() -> Self {
        let Objective { classes, boxes, bins, kd_classes, kd_boxes, kd_features, beta, temperature, floor } =
            Objective::default();
        let [kd_classes, kd_boxes, kd_features] = [kd_classes, kd_boxes, kd_features].map(Weight::Fixed);
        Self { classes, boxes, bins, kd_classes, kd_boxes, kd_features, beta, temperature, floor }
    }
}

impl LossRecipe {
    /// The objective in which each of the teacher's weights is what `number` says.
    pub fn with(&self, number: impl Fn(Weight) -> f64) -> Objective {
        let Self { classes, boxes, bins, kd_classes, kd_boxes, kd_features, beta, temperature, floor } = *self;
        let [kd_classes, kd_boxes, kd_features] = [kd_classes, kd_boxes, kd_features].map(number);
        Objective { classes, boxes, bins, kd_classes, kd_boxes, kd_features, beta, temperature, floor }
    }

    fn check(&self) -> Result<()> {
        self.kd_classes.check("kd_classes", Objective::MOST)?;
        self.kd_boxes.check("kd_boxes", Objective::MOST)?;
        self.kd_features.check("kd_features", Objective::MOST)?;
        self.with(|_| 0.0).check()
    }
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecipe {
    /// Changes of the weights. Or `epochs`.
    pub steps: Option<u64>,
    /// How often all pictures are gone through.
    pub epochs: Option<f64>,
    /// Pictures of a batch.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// The highest rate.
    pub learning_rate: f64,
    /// Steps in which the rate rises from 0.
    #[serde(default = "defaults::warmup")]
    pub warmup: u64,
    /// What part of the highest rate is left at the end of the cosine.
    #[serde(default = "defaults::floor")]
    pub floor: f64,
    /// AdamW's decay, of matrices only.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// The largest norm of the gradient; 0 is any.
    #[serde(default = "defaults::clip")]
    pub clip: f64,
    /// Decay of the average of the weights and statistics that is kept, once there are many steps to average over; 0 keeps
    /// the weights themselves.
    #[serde(default = "defaults::ema")]
    pub ema: f64,
    /// Steps between measurements; none: one after each twentieth of the training.
    pub eval_every: Option<u64>,
    /// Measurements without a better one after which the training ends; 0 never.
    #[serde(default)]
    pub patience: u64,
    /// Decides the first weights, the order of the pictures and how they are changed.
    #[serde(default)]
    pub seed: u64,
    /// Threads that prepare batches.
    #[serde(default = "defaults::workers")]
    pub workers: usize,
}

/// `[quantize]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeRecipe {
    /// Training pictures by which ranges are chosen.
    #[serde(default = "defaults::pictures")]
    pub pictures: usize,
    /// Which share of the multiply-adds may stay in f32, 0 to 1.
    #[serde(default = "defaults::budget")]
    pub budget: f64,
}

/// `[output]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRecipe {
    /// The student's file.
    pub file: PathBuf,
    /// The student's name.
    pub name: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// What it was trained on, in words.
    pub data: Option<String>,
    /// The least score of an object.
    #[serde(default = "defaults::confidence")]
    pub confidence: f32,
    /// By how much two boxes of a class may overlap.
    #[serde(default = "defaults::iou")]
    pub iou: f32,
}

mod defaults {
    use super::super::defaults;

    defaults! {
        labelled: f64 = 1.0;
        repeat: usize = 1;
        cache: usize = 1024;
        until: f64 = 0.93;
        batch: usize = 8;
        warmup: u64 = 100;
        floor: f64 = 0.02;
        weight_decay: f64 = 0.05;
        clip: f64 = 10.0;
        ema: f64 = 0.998;
        workers: usize = 1;
        pictures: usize = 200;
        budget: f64 = 0.08;
        confidence: f32 = 0.3;
        iou: f32 = 0.6;
    }
}

impl Recipe {
    /// Reads a recipe. Pictures are relative to `data_root` if there is one; the other files, and without it all of them, to
    /// the recipe.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Format` if it is not TOML or has an unknown key or a value of another type; `Input`
    /// for values that make no sense and for files that are not there.
    pub fn open(path: &Path, data_root: Option<&Path>) -> Result<Self> {
        of(&read(path)?, path, data_root).map_err(|error| error.at(path.display()))
    }
}

impl Rules for Recipe {
    fn place(&mut self, file: &Path, data_root: Option<&Path>) {
        self.file = file.to_path_buf();
        let folder = folder_of(file);
        let DataRecipe { folder: data, train, validation, test, unlabelled, .. } = &mut self.data;
        let parts = [Some(train), Some(validation), test.as_mut()].into_iter().flatten().flat_map(Part::paths);
        let root = data_root.unwrap_or(folder);
        data.iter_mut().chain(parts).chain(unlabelled).for_each(|path| *path = root.join(&*path));
        let init = self.init.as_mut().map(|init| &mut init.file);
        let teacher = self.teacher.as_mut().map(|teacher| &mut teacher.file);
        let others = init.into_iter().chain(teacher).chain([&mut self.output.file]);
        others.for_each(|path| *path = folder.join(&*path));
    }

    fn check(&self) -> Result<()> {
        let Self { student, data, augment, teacher, loss, train, quantize, output, .. } = self;
        student.config(1)?;
        for part in [Some(&data.train), Some(&data.validation), data.test.as_ref()].into_iter().flatten() {
            if data.folder.is_none() && matches!(part, Part::Split(_)) {
                return Err(Error::input("data.folder is missing, expected the folder that has the splits"));
            }
        }
        within("data.labelled", data.labelled, 0.0, 1.0)?;
        within("data.repeat", data.repeat as f64, 1.0, 1e6)?;
        if teacher.is_none() && !data.unlabelled.is_empty() {
            return Err(Error::input("data.unlabelled is set, expected a [teacher] that says what is on the pictures"));
        }
        if teacher.is_none() && data.labelled == 0.0 {
            return Err(Error::input("data.labelled is 0, expected more, or a [teacher]"));
        }
        augment.check().map_err(|error| error.at("[augment]"))?;
        within("teacher.until", teacher.as_ref().map_or(0.0, |teacher| teacher.until), 0.0, 1.0)?;
        loss.check().map_err(|error| error.at("[loss]"))?;

        check_train!(train);
        // Norms go by the batch.
        within("train.batch", train.batch as f64, 2.0, 4096.0)?;
        within("train.eval_every", train.eval_every.unwrap_or(1) as f64, 1.0, 1e9)?;
        within("train.workers", train.workers as f64, 1.0, 64.0)?;
        if let Some(quantize) = quantize {
            within("quantize.pictures", quantize.pictures as f64, 1.0, 1e6)?;
            within("quantize.budget", quantize.budget, 0.0, 1.0)?;
        }
        within("output.confidence", output.confidence.into(), 0.0, 1.0)?;
        within("output.iou", output.iou.into(), 0.0, 1.0)
    }

    fn check_files(&self) -> Result<()> {
        let DataRecipe { folder, train, validation, test, unlabelled, .. } = &self.data;
        let mut named: Vec<(&str, &Path)> = folder.iter().map(|path| ("data.folder", path.as_path())).collect();
        for (key, part) in
            [("data.train", Some(train)), ("data.validation", Some(validation)), ("data.test", test.as_ref())]
        {
            if let Some(Part::Other { folder, .. }) = part {
                named.push((key, folder));
            }
        }
        named.extend(unlabelled.iter().map(|path| ("data.unlabelled", path.as_path())));
        named.extend(self.init.iter().map(|init| ("init.file", init.file.as_path())));
        named.extend(self.teacher.iter().map(|teacher| ("teacher.file", teacher.file.as_path())));
        for (key, path) in &named {
            check_there(key, path)?;
        }
        if let Some(init) = self.init.as_ref().filter(|init| init.file.extension().is_some_and(|end| end == "gguf")) {
            let (file, expected) = (init.file.display(), "expected best.safetensors in the folder of its training");
            return Err(Error::input(format!("init.file: {file} has its norms folded into its weights, {expected}")));
        }
        check_output(&self.output.file, named.iter().map(|(_, path)| *path))
    }
}

impl Recipe {
    /// Has the student begin with the weights in `file`, instead of those that the recipe names.
    ///
    /// # Errors
    /// `Input` if it is not there, or would be replaced by the student.
    pub fn init_from(&mut self, file: &Path) -> Result<()> {
        self.init = Some(InitRecipe { file: file.to_path_buf() });
        self.check_files()
    }

    /// Opens a part of the data.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn dataset(&self, part: &Part) -> Result<Dataset> {
        match part {
            Part::Split(split) => {
                let folder = self.data.folder.as_deref().unwrap_or(Path::new(""));
                Dataset::open(folder, &Options { split: Some(split.clone()), pictures: None })
            }
            Part::Other { folder, split, pictures } => {
                Dataset::open(folder, &Options { split: split.clone(), pictures: pictures.clone() })
            }
        }
    }
}

impl Part {
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let (folder, pictures) = match self {
            Self::Split(_) => (None, None),
            Self::Other { folder, pictures, .. } => (Some(folder), pictures.as_mut()),
        };
        folder.into_iter().chain(pictures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
kind = "detect"
[student]
size = [320, 256]
channels = 16
[data]
folder = "src"
train = "train"
validation = { folder = "src", split = "val" }
[augment]
mosaic = 0.25
[teacher]
file = "Cargo.toml"
classes = { Car = "car" }
[loss]
kd_boxes = 0.25
[train]
epochs = 3
learning_rate = 1e-3
[quantize]
[output]
file = "out.gguf"
"#;

    fn of(text: &str) -> Result<Recipe> {
        super::of(text, &Path::new(env!("CARGO_MANIFEST_DIR")).join("recipe.toml"), None)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let recipe = of(RECIPE).unwrap();
        let config = recipe.student.config(5).unwrap();
        assert_eq!((config.width, config.height, config.stem, config.neck), (320, 256, 16, 64));
        assert_eq!((recipe.train.batch, recipe.quantize.unwrap().pictures, recipe.loss.boxes), (8, 200, 2.0));
        assert_eq!((recipe.loss.kd_boxes, recipe.loss.kd_classes), (Weight::Fixed(0.25), Weight::Fixed(8.0)));
        assert_eq!((recipe.augment.at(0.5).mosaic, recipe.augment.at(0.9).mosaic), (0.25, 0.0));
        let Part::Other { folder, .. } = recipe.data.validation else { panic!("{:?}", recipe.data.validation) };
        assert!(folder.ends_with("distill/src"), "{folder:?}");
        assert!(recipe.file.ends_with("recipe.toml"), "{:?}", recipe.file);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (from, to, expected) in [
            ("mosaic = 0.25", "mosaik = 0.25", "line 11 `mosaik = 0.25`: unknown field `mosaik`, expected"),
            ("mosaic = 0.25", "mosaic = 1.5", "[augment]: mosaic is 1.5, expected 0 to 1"),
            ("[320, 256]", "[320, 250]", "[student]: height is 250, expected a multiple of 32"),
            ("channels = 16", "channels = 16\nlevels = 5", "[student]: levels is 5, expected 3 or 4"),
            ("channels = 16", "channels = 16\ncentre = 2.0", "[student]: centre is 2"),
            ("channels = 16", "", "missing field `channels`"),
            ("folder = \"src\"\ntrain", "train", "data.folder is missing"),
            ("folder = \"src\", split", "folder = \"nowhere\", split", "data.validation: "),
            ("{ folder = \"src\", split = \"val\" }", "3", "expected a split, or { folder"),
            ("kd_boxes = 0.25", "kd_boxes = -1.0", "[loss]: kd_boxes is -1"),
            ("kd_boxes = 0.25", "kd_boxes = { from = 1, to = -1 }", "[loss]: kd_boxes.to is -1, expected 0 to 1000000"),
            ("kd_boxes = 0.25", "kd_boxes = { from = 1 }", "expected a number, or { from = a number, to = a number }"),
            ("kd_boxes = 0.25", "beta = 0.5", "[loss]: beta is 0.5, expected 1 to 10"),
            ("[teacher]", "[init]\nfile = \"no.safetensors\"\n[teacher]", "init.file: "),
            ("[teacher]", "[init]\nfile = \"Cargo.toml\"\nlayers = [0]\n[teacher]", "unknown field `layers`"),
            ("Cargo.toml", "no.onnx", "no.onnx is not there, expected a file"),
            ("[teacher]\nfile = \"Cargo.toml\"\nclasses = { Car = \"car\" }", "", ""),
            ("epochs = 3", "", "[train] takes steps or epochs"),
            ("epochs = 3", "epochs = 3\nbatch = 1", "train.batch is 1, expected 2 to 4096"),
            ("[quantize]", "[quantize]\nbudget = 2.0", "quantize.budget is 2, expected 0 to 1"),
        ] {
            let text = RECIPE.replacen(from, to, 1);
            assert_ne!(text, RECIPE, "{from}");
            let outcome = of(&text);
            if expected.is_empty() {
                outcome.unwrap();
                continue;
            }
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{to}: {error}");
        }
        let without = RECIPE.replace("[teacher]\nfile = \"Cargo.toml\"\nclasses = { Car = \"car\" }", "");
        let with = |key: &str| of(&without.replace("[augment]", &format!("{key}\n[augment]"))).unwrap_err().to_string();
        assert!(with("unlabelled = [\"src\"]").contains("expected a [teacher]"));
        assert!(with("labelled = 0.0").contains("expected more, or a [teacher]"));
    }
}
