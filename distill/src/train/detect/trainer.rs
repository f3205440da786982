//! The training of a detector: its steps, measurements, checkpoints.

use super::{begin, exam::Exam, prepare::Prepared, sheet};
use crate::{
    data::detect::{Item, Truth, batches::Loader, queue::Queue},
    detector::{
        Detector, Lesson, Lost, Teacher,
        assign::assign,
        export::{Export, geometry},
        features::{features, projectors},
        loss::loss,
    },
    error::{Error, Result},
    optimizer::{self, AdamW},
    recipe::detect::{Recipe, TrainRecipe},
    train::{
        Options, Watch, checkpoint,
        course::{self, Course},
        files,
        metrics::{Metrics, Record},
        plots::{self, Captions},
        schedule::{Moment, Part, Phase, Schedule},
        standing::{Best, Judge, Standing, Window},
        weights::{check_all_reached, named, set},
    },
};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

/// How many measurements there are, if the recipe does not say.
const MEASUREMENTS: u64 = 20;

/// What a checkpoint holds besides tensors. What is drawn by chance at a step depends on the seed and the step alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    /// What must be the same for a training to go on.
    made_for: String,
    step: u64,
    standing: Standing,
    seconds: f64,
}

/// A training.
pub struct Trainer<'r> {
    pub(super) recipe: &'r Recipe,
    pub(super) data: &'r Prepared,
    pub(super) folder: PathBuf,
    pub(super) student: Detector,
    pub(super) threads: usize,
    teacher: Option<Teacher>,
    /// What the student's features go through on their way to the teacher's.
    projectors: BTreeMap<String, Var>,
    /// The part of the training, 0 to 1, in which it teaches.
    taught_until: f64,
    /// All variables, the student's and the projectors.
    learnt: BTreeMap<String, Var>,
    optimizer: AdamW,
    /// Running means of the running moments, as the optimiser keeps them of the weights.
    statistics: BTreeMap<String, Tensor>,
    schedule: Schedule,
    queue: Queue,
    epoch: usize,
    state: State,
    metrics: Metrics,
    window: Window,
    /// Sums of the parts of the loss since the last record, and their steps.
    lost: (Lost, u64),
}

impl<'r> Trainer<'r> {
    /// A training that begins, or goes on where the checkpoint in the folder was made.
    ///
    /// # Errors
    /// `Input` if the checkpoint was made by another recipe.
    pub fn new(
        recipe: &'r Recipe,
        options: &Options,
        data: &'r Prepared,
        mut student: Detector,
        teacher: Option<Teacher>,
    ) -> Result<Self> {
        let train = &recipe.train;
        let theirs = teacher.as_ref().map(Teacher::feature_channels).unwrap_or_default();
        if !theirs.is_empty() {
            student.give_features();
        }
        let projectors = projectors(&theirs, student.config().neck, train.seed, student.device())?;
        let learnt =
            student.variables().iter().chain(&projectors).map(|(name, var)| (name.clone(), var.clone())).collect();
        let size = recipe.student.size;
        let loader = Loader::new(data.album.clone(), geometry(size), train.batch, recipe.data.repeat, train.seed);
        let epoch = loader.epoch();
        let per_epoch = epoch as f64 / train.batch as f64;
        let steps = train.steps.unwrap_or_else(|| (train.epochs.unwrap_or(1.0) * per_epoch).ceil().max(1.0) as u64);
        let part = Part { phase: Phase::Pictures, steps, rate: train.learning_rate, warmup: train.warmup };
        let checkpoint = options.folder.join(files::CHECKPOINT);
        let earlier: Option<(_, State)> = checkpoint.exists().then(|| checkpoint::load(&checkpoint)).transpose()?;
        let step = earlier.as_ref().map_or(0, |(_, state)| state.step);
        let (augment, taught_until) = (recipe.augment, taught_until(recipe, loader.has_labels()));
        let make = move |step: u64| {
            let done = step as f64 / steps as f64;
            loader.batch(step, &augment.at(done), done < taught_until)
        };
        let mut trainer = Self {
            schedule: Schedule::new(vec![part], train.floor),
            optimizer: optimizer(recipe, &learnt)?,
            statistics: student.statistics()?,
            queue: Queue::new(train.workers, step, steps, make)?,
            folder: options.folder.clone(),
            metrics: Metrics::open(&options.folder.join(files::METRICS), step)?,
            state: State { made_for: made_for(recipe, data)?, step: 0, standing: Standing::default(), seconds: 0.0 },
            window: Window::new(),
            lost: (Lost::default(), 0),
            threads: options.threads,
            epoch,
            recipe,
            data,
            student,
            teacher,
            projectors,
            learnt,
            taught_until,
        };
        if let Some((tensors, state)) = earlier {
            trainer.resume(&tensors, state).map_err(|error| error.at(checkpoint.display()))?;
        }
        Ok(trainer)
    }

    /// Steps that were done.
    pub fn steps_done(&self) -> u64 {
        self.state.step
    }

    /// Trains until the end, or until `watch` says stop; then it is false. The checkpoint is there in both cases.
    ///
    /// # Errors
    /// As [`distill`](super::distill).
    pub fn run(&mut self, watch: &mut dyn Watch) -> Result<bool> {
        let steps = self.schedule.steps();
        let eval_every = self.recipe.train.eval_every.unwrap_or(steps.div_ceil(MEASUREMENTS));
        self.window = Window::new();
        course::run(self, eval_every, watch)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes up what a checkpoint holds.
    fn resume(&mut self, tensors: &BTreeMap<String, Tensor>, state: State) -> Result<()> {
        if state.made_for != self.state.made_for {
            let what = "made by another recipe or of other pictures, expected the same, or --fresh to begin anew";
            return Err(Error::input(what));
        }
        let behind = |prefix: &str| -> BTreeMap<String, Tensor> {
            let named = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.into(), tensor.clone()));
            tensors.iter().filter_map(named).collect()
        };
        self.optimizer.restore(tensors, state.step)?;
        set(&self.learnt, tensors, "student.")?;
        self.student.set_statistics(&behind("running."))?;
        self.statistics = behind("mean_running.");
        self.state = state;
        Ok(())
    }

    /// Takes up the running moments into their mean. `ema` is how much of it stays.
    fn average_statistics(&mut self, ema: f64) -> Result<()> {
        for (name, now) in self.student.statistics()? {
            let mean = match self.statistics.get(&name) {
                Some(mean) => ((mean * ema)? + (now * (1.0 - ema))?)?,
                None => now,
            };
            self.statistics.insert(name, mean);
        }
        Ok(())
    }

    /// The weights and statistics that are measured: their means, if these are kept.
    fn measured_weights(&self) -> Result<BTreeMap<String, Tensor>> {
        let variables = self.student.variables();
        if self.recipe.train.ema == 0.0 {
            return Ok(named(variables, "")?.into_iter().chain(self.student.statistics()?).collect());
        }
        Ok(self.optimizer.averages(variables)?.into_iter().chain(self.statistics.clone()).collect())
    }

    /// The student as a file.
    pub(super) fn export<'a>(&'a self, weights: &'a BTreeMap<String, Tensor>) -> Export<'a> {
        let output = &self.recipe.output;
        Export {
            student: &self.student,
            weights: Some(weights),
            geometry: geometry(self.recipe.student.size),
            classes: self.data.classes.clone(),
            confidence: output.confidence,
            iou: output.iou,
            max: 100,
            keys: Vec::new(),
        }
    }

    /// An exam about some pictures.
    pub(super) fn exam<'a>(&'a self, items: impl IntoIterator<Item = &'a Item>) -> Exam<'a> {
        Exam { classes: &self.data.classes, items: items.into_iter().collect(), threads: self.threads }
    }

    /// The best state, and when it was.
    pub(super) fn best(&self) -> Result<(BTreeMap<String, Tensor>, u64)> {
        let (tensors, best): (_, Best) = checkpoint::load(&self.path(files::BEST))?;
        Ok((tensors, best.step))
    }
}

impl Course for Trainer<'_> {
    fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    fn step_number(&self) -> u64 {
        self.state.step
    }

    fn seconds(&self) -> f64 {
        self.state.seconds
    }

    fn begin(&mut self, _: Phase) -> Result<()> {
        Ok(())
    }

    fn over(&self) -> Option<String> {
        let patience = self.recipe.train.patience;
        let over = patience > 0 && self.state.standing.waited >= patience;
        over.then(|| format!("no better measurement in {patience}: the training ends here"))
    }

    fn step(&mut self, moment: Moment) -> Result<(f64, f64)> {
        let started = Instant::now();
        let number = self.state.step + 1;
        let batch = self.queue.next_batch()?;
        let (count, size) = (batch.pictures.len(), self.recipe.student.size);
        let pixels = Tensor::from_vec(batch.pixels, (count * size[0] * size[1], 3), self.student.device())?;
        let outputs = self.student.train(&pixels, size)?;
        let truths: Vec<Option<&[Truth]>> = batch.truths.iter().map(Option::as_deref).collect();
        let targets = assign(&outputs, &truths)?;
        let lesson = match &mut self.teacher {
            Some(teacher) if moment.done() < self.taught_until => Some(teacher.look(&batch.pictures, &outputs)?),
            _ => None,
        };
        let objective = self.recipe.loss.with(|weight| weight.at(&moment));
        let soft = lesson.as_ref().map(|lesson| &lesson.soft);
        let (mut loss, mut lost) = loss(&outputs, &targets, soft, &objective)?;
        if let Some(Lesson { features: theirs, .. }) = lesson.filter(|lesson| !lesson.features.is_empty()) {
            let more = features(&outputs.features, self.projectors.values(), &theirs)?;
            lost.kd_features = more.to_scalar::<f32>()?.into();
            loss = (loss + (more * objective.kd_features)?)?;
        }
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            return Err(Error::input(format!("the loss is {value} at step {number}, expected a number")));
        }
        let all = loss.backward()?;
        let mut gradients = self.student.gradients(&outputs, &all)?;
        for (name, projector) in &self.projectors {
            // There is none where the teacher does not teach any more.
            let gradient = all.get(projector).cloned();
            gradients.insert(name.clone(), gradient.map_or_else(|| projector.zeros_like(), Ok)?);
        }
        if self.state.step == 0 {
            check_all_reached(&self.learnt, &gradients)?;
        }
        let ema = self.optimizer.ema();
        let norm = self.optimizer.step(&self.learnt, &gradients, moment.rate);
        let norm = norm.map_err(|error| error.at(format!("step {number}")))?;
        self.average_statistics(ema)?;

        let seconds = started.elapsed().as_secs_f64();
        self.state.step = number;
        self.state.seconds += seconds;
        self.window.loss += value;
        self.window.count += 1;
        self.window.read += count;
        self.window.norm = norm;
        self.lost.0 += lost;
        self.lost.1 += 1;
        Ok((value, count as f64 / seconds))
    }

    /// The student is measured with the mean of its weights.
    fn measure(&mut self, moment: Moment, watch: &mut dyn Watch) -> Result<()> {
        let weights = self.measured_weights()?;
        let path = self.path(files::NOW);
        self.export(&weights).write(&path)?;
        let answers = self.exam(&self.data.validation).take(&path)?;
        let (step, total) = (self.state.step, &answers.scores.total);
        let (ap, ap50) = (total.ap.unwrap_or(0.0), total.ap50.unwrap_or(0.0));
        // What is shown is what a user would see.
        let sheet = self.path(&sheet::name(step));
        sheet::save(&sheet, &self.data.validation, &answers.found, &self.data.classes, self.recipe.output.confidence)?;
        let now = Best { step, validation: 1.0 - ap, score: Some(100.0 * ap) };
        if self.state.standing.is_best(now, Judge::Score) {
            checkpoint::save(&self.path(files::BEST), &weights, &now)?;
        }
        let window = std::mem::replace(&mut self.window, Window::new());
        let (lost, steps) = std::mem::take(&mut self.lost);
        let record = Record {
            step,
            phase: moment.phase.name().into(),
            epoch: (step - 1) * self.recipe.train.batch as u64 / self.epoch as u64,
            loss: window.mean(),
            parts: parts(&lost, steps),
            rate: moment.rate,
            speed: window.speed(),
            seconds: self.state.seconds,
            norm: window.norm,
            validation: None,
            score: now.score,
        };
        let (loss, speed) = (record.loss, record.speed);
        watch.say(&format!("step {step}: loss {loss:.4}, mAP {ap:.4}, AP50 {ap50:.4}, {speed:.1} pictures/s"));
        self.metrics.add(record)?;
        self.window.started = Instant::now();
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let (mut tensors, _) = self.optimizer.state()?;
        tensors.extend(named(&self.learnt, "student.")?);
        let behind = |prefix: &str, all: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
            all.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
        };
        tensors.extend(behind("running.", self.student.statistics()?));
        tensors.extend(behind("mean_running.", self.statistics.clone()));
        checkpoint::save(&self.path(files::CHECKPOINT), &tensors, &self.state)
    }

    fn draw(&self) -> Result<()> {
        draw(&self.folder, &self.metrics)
    }
}

/// Draws the curves.
fn draw(folder: &Path, metrics: &Metrics) -> Result<()> {
    let captions = Captions { loss: "loss", validation: "validation", score: "mAP@[.5:.95], %" };
    plots::draw(folder, metrics.records(), captions)
}

/// The part of the training, 0 to 1, in which a teacher teaches. Where nobody else does, it is all of it.
fn taught_until(recipe: &Recipe, has_labels: bool) -> f64 {
    match &recipe.teacher {
        None => 0.0,
        Some(_) if !has_labels => f64::INFINITY,
        Some(teacher) => teacher.until,
    }
}

fn optimizer(recipe: &Recipe, variables: &BTreeMap<String, Var>) -> Result<AdamW> {
    let train = &recipe.train;
    let config = optimizer::Config {
        weight_decay: train.weight_decay,
        clip: if train.clip == 0.0 { f64::INFINITY } else { train.clip },
        ema: train.ema,
        ..optimizer::Config::default()
    };
    AdamW::new(config, variables, |_| 1.0)
}

/// What a checkpoint is good for: the same student, pictures and losses. How long and how it is measured may change.
fn made_for(recipe: &Recipe, data: &Prepared) -> Result<String> {
    let train = recipe.train.clone();
    let train = TrainRecipe { steps: None, epochs: None, eval_every: None, patience: 0, workers: 1, ..train };
    let Recipe { student, augment, teacher, loss, data: part, .. } = recipe;
    let (pictures, boxes, repeat) = (data.album.photos().len(), data.boxes(), part.repeat);
    let teacher = teacher.as_ref().map(|teacher| (teacher.file.file_name(), &teacher.classes, teacher.until));
    let (init, classes) = (begin::hash(recipe)?, &data.classes);
    Ok(format!(
        "{student:?} {init:x?} {augment:?} {teacher:?} {loss:?} {train:?} {pictures} {boxes} {repeat} {classes:?}"
    ))
}

/// The parts of the loss by their names, each a mean over steps.
fn parts(lost: &Lost, steps: u64) -> BTreeMap<String, f64> {
    let mean = |sum: f64| sum / steps.max(1) as f64;
    let Lost { objects, classes, boxes, bins, kd_classes, kd_boxes, kd_features } = *lost;
    let all = [("classes", classes), ("boxes", boxes), ("bins", bins), ("objects", objects as f64)];
    let taught = [("kd_classes", kd_classes), ("kd_boxes", kd_boxes), ("kd_features", kd_features)]
        .into_iter()
        .filter(|(_, sum)| *sum > 0.0);
    all.into_iter().chain(taught).map(|(name, sum)| (name.to_string(), mean(sum))).collect()
}
