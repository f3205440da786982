//! The training of a language student: its steps, measurements, checkpoints.

use super::{
    Options, Report, Watch, checkpoint,
    course::{self, Course},
    evaluate::{self, Exam, cross_entropy},
    file::{self, Scores},
    files,
    made_for::MadeFor,
    metrics::{Metrics, Record},
    plots::{self, Captions},
    prepare::Prepared,
    rollout::{self, Writing},
    schedule::{Moment, Phase, Schedule},
    standing::{Best, Judge, Kept, Standing, Window},
    step::{Part, step},
    weights::{check_all_reached, named, set, swap},
};
use crate::{
    batch::Batch,
    data::text::{
        Kind,
        batches::{Cursor, Stream},
        examples::Example,
    },
    error::{Error, Result},
    export::Export,
    loss::Objective,
    optimizer::{self, AdamW},
    recipe::Recipe,
    student::{Student, Types},
    teacher::Teacher,
};
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Instant};

/// What a checkpoint holds besides tensors. What is drawn by chance at a step depends on the seed and the step alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    made_for: MadeFor,
    step: u64,
    /// Steps of the optimiser, which begins anew with each phase.
    optimizer_steps: u64,
    cursor: Cursor,
    #[serde(flatten)]
    standing: Standing,
    seconds: f64,
    /// What the student wrote, the oldest first.
    replay: Vec<Example>,
}

/// A training.
pub struct Trainer<'r> {
    recipe: &'r Recipe,
    folder: PathBuf,
    data: &'r Prepared,
    stream: Stream<'r>,
    student: Box<dyn Student>,
    teacher: Option<Box<dyn Teacher>>,
    optimizer: AdamW,
    schedule: Schedule,
    exam: Exam,
    threads: usize,
    state: State,
    metrics: Metrics,
    window: Window,
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
        student: Box<dyn Student>,
        teacher: Option<Box<dyn Teacher>>,
    ) -> Result<Self> {
        let train = &recipe.train;
        let per_epoch = data.train.plan(0).len() as f64 / train.accumulate as f64;
        let steps = train.steps.unwrap_or_else(|| (train.epochs.unwrap_or(1.0) * per_epoch).ceil().max(1.0) as u64);
        let exam = |items, limit| Exam::new(items, recipe.kind, limit, recipe.data.max_tokens, options.threads);
        let checkpoint = options.folder.join(files::CHECKPOINT);
        let earlier: Option<(_, State)> = checkpoint.exists().then(|| checkpoint::load(&checkpoint)).transpose()?;
        let step = earlier.as_ref().map_or(0, |(_, state)| state.step);
        let mut trainer = Self {
            schedule: Schedule::of_text(recipe, steps),
            optimizer: optimizer(recipe, &*student)?,
            exam: exam(&data.parts.validation, train.eval_items),
            threads: options.threads,
            folder: options.folder.clone(),
            metrics: Metrics::open(&options.folder.join(files::METRICS), step)?,
            stream: data.train.stream(Cursor::default()),
            state: State {
                made_for: MadeFor::new(recipe, data),
                step: 0,
                optimizer_steps: 0,
                cursor: Cursor::default(),
                standing: Standing::default(),
                seconds: 0.0,
                replay: Vec::new(),
            },
            window: Window::new(),
            recipe,
            data,
            student,
            teacher,
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes up what a checkpoint holds.
    fn resume(&mut self, tensors: &BTreeMap<String, Tensor>, state: State) -> Result<()> {
        self.state.made_for.check(&state.made_for)?;
        self.enter(self.schedule.at(state.step.saturating_sub(1)).phase)?;
        self.optimizer.restore(tensors, state.optimizer_steps)?;
        set(self.student.variables(), tensors, "student.")?;
        self.stream = self.data.train.stream(state.cursor);
        // What it was made for is said anew, in the words of today.
        self.state = State { made_for: self.state.made_for.clone(), ..state };
        Ok(())
    }

    /// Trains until the end, or until `watch` says stop; then it is false. The checkpoint is there in both cases.
    ///
    /// # Errors
    /// As [`distill`](super::distill).
    pub fn run(&mut self, watch: &mut dyn Watch) -> Result<bool> {
        let eval_every = self.recipe.train.eval_every;
        self.window = Window::new();
        course::run(self, eval_every, watch)
    }

    /// The next part of a step: a batch of the text or, sometimes, of what the student wrote.
    fn part(&mut self, moment: Moment, random: &mut ChaCha8Rng) -> Part {
        let (loss, number) = (&self.recipe.loss, self.state.step + 1);
        let objective = Objective {
            alpha: loss.alpha().at(&moment),
            divergence: loss.divergence(),
            temperature: loss.temperature(),
            label_smoothing: loss.label_smoothing,
            tokens: 1,
        };
        if let Some(on_policy) = self.recipe.on_policy.as_ref().filter(|_| moment.phase == Phase::OnPolicy)
            && random.random::<f64>() < on_policy.fraction
            && !self.state.replay.is_empty()
        {
            // Only the teacher knows whether it is any good.
            let objective = Objective { alpha: 0.0, divergence: on_policy.divergence, ..objective };
            let name = format!("step {number}, a batch that the student wrote");
            return Part { batch: self.written(random), objective, name };
        }
        let batch = self.data.train.batch(&self.stream.next_batch());
        let Cursor { epoch, batch: at } = self.stream.cursor();
        Part { batch, objective, name: format!("step {number}, batch {at} of epoch {}", epoch + 1) }
    }

    /// A batch of what the student wrote.
    fn written(&self, random: &mut ChaCha8Rng) -> Batch {
        let (mut examples, mut rows, mut longest) = (Vec::new(), 0, 0);
        loop {
            let example = &self.state.replay[random.random_range(0..self.state.replay.len())];
            longest = longest.max(example.source.len() + example.input.len());
            rows += 1;
            if rows > 1 && rows * longest > self.recipe.train.batch_tokens {
                return Batch::of(&examples, self.data.train.pad());
            }
            examples.push(example);
        }
    }

    /// Has the student write about some of the text.
    fn write(&mut self, random: &mut ChaCha8Rng) -> Result<()> {
        let Some(on_policy) = &self.recipe.on_policy else { return Ok(()) };
        let all = self.data.train.examples();
        let chosen: Vec<&Example> = (0..on_policy.items).map(|_| &all[random.random_range(0..all.len())]).collect();
        let how = Writing {
            temperature: on_policy.temperature,
            max_tokens: on_policy.max_new_tokens,
            end: self.data.end,
            seed: random.random(),
            threads: self.threads,
        };
        let written = rollout::write(&self.file("f32")?, self.recipe.kind, &chosen, how)?;
        self.state.replay.extend(written);
        let old = self.state.replay.len().saturating_sub(on_policy.replay);
        self.state.replay.drain(..old);
        Ok(())
    }

    /// Sees to it that weights are rounded if they are to be.
    fn enter(&mut self, phase: Phase) -> Result<()> {
        if phase == Phase::Quantize {
            self.student.store_as(Some(Types::named(&self.recipe.output.dtype)?));
        }
        Ok(())
    }

    /// Measures the student as it is, and keeps it if it is the best.
    fn measured(&mut self, phase: Phase) -> Result<Best> {
        let validation = cross_entropy(&*self.student, &self.data.validation)?;
        if !validation.is_finite() {
            let at = self.state.step;
            return Err(Error::input(format!(
                "step {at}: the loss on the validation part is {validation}, expected a number"
            )));
        }
        let score = match self.exam.is_empty() {
            true => None,
            false if phase == Phase::Quantize => Some(self.exam.score(&self.file(&self.recipe.output.dtype)?)?),
            false => Some(self.exam.score(&self.file("f32")?)?),
        };
        let now = Best { step: self.state.step, validation, score };
        // On-policy, a student learns to say what is likely, not to find likely all that people say.
        let of_text = phase == Phase::Text || self.recipe.on_policy.is_none();
        let judge = if self.recipe.kind == Kind::Chat && of_text { Judge::Loss } else { Judge::Score };
        if self.state.standing.is_best(now, judge) {
            let student = self.recipe.dimensions(self.data.vocabulary.tokenizer().len());
            let tensors = named(self.student.variables(), "student.")?;
            checkpoint::save(&self.path(files::BEST), &tensors, &Kept { best: now, student })?;
        }
        Ok(now)
    }

    /// Puts the mean of the weights in their place and returns them, if a mean is kept.
    fn swap_in_average(&self) -> Result<Option<BTreeMap<String, Tensor>>> {
        if self.recipe.train.ema == 0.0 {
            return Ok(None);
        }
        let averages = self.optimizer.averages(self.student.variables())?;
        swap(self.student.variables(), &averages).map(Some)
    }

    /// The student's file, with matrices stored as `dtype`, for the runtime.
    fn file(&self, dtype: &str) -> Result<Vec<u8>> {
        let path = self.path(files::NOW);
        self.export(dtype, &[]).and_then(|export| export.write(&path))?;
        std::fs::read(&path).map_err(|error| Error::io(&path, &error))
    }

    fn export(&self, dtype: &str, card: &[file::Key]) -> Result<Export<'_>> {
        let keys = [card, self.data.vocabulary.keys()].concat();
        Ok(Export { student: &*self.student, weights: None, types: Types::named(dtype)?, keys })
    }

    /// Writes the best student's file and the curves.
    ///
    /// # Errors
    /// `Io` if they cannot be written.
    pub fn finish(&mut self) -> Result<Report> {
        self.draw()?;
        let (tensors, best): (_, Best) = checkpoint::load(&self.path(files::BEST))?;
        set(self.student.variables(), &tensors, "student.")?;
        let recipe = self.recipe;
        let (items, on) = match self.data.parts.test.is_empty() {
            true => (&self.data.parts.validation, "validation"),
            false => (&self.data.parts.test, "test"),
        };
        let score = evaluate::finished(&self.file(&recipe.output.dtype)?, items, recipe, self.threads)?;
        let scores = Scores { validation: best.validation, name: self.exam.name(), score, on };
        self.export(&recipe.output.dtype, &file::card(recipe, &scores))?.write(&recipe.output.file)?;
        Ok(Report {
            parameters: super::parameters(&*self.student),
            bytes: std::fs::metadata(&recipe.output.file).map_or(0, |file| file.len() as usize),
            step: best.step,
            validation: best.validation,
            score_name: scores.name,
            score,
        })
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

    /// A later phase begins with the best student so far.
    fn begin(&mut self, phase: Phase) -> Result<()> {
        let best = self.path(files::BEST);
        if best.exists() {
            let (tensors, _): (_, Best) = checkpoint::load(&best)?;
            set(self.student.variables(), &tensors, "student.")?;
        }
        self.enter(phase)?;
        self.optimizer = optimizer(self.recipe, &*self.student)?;
        self.state.standing.waited = 0;
        // Students in f32 are no measure for those that are rounded; this one is, before it learns.
        if phase == Phase::Quantize {
            self.state.standing.best = None;
            self.measured(phase)?;
        }
        Ok(())
    }

    fn step(&mut self, moment: Moment) -> Result<(f64, f64)> {
        let started = Instant::now();
        let (recipe, number) = (self.recipe, self.state.step + 1);
        let mut random = ChaCha8Rng::seed_from_u64(recipe.train.seed);
        random.set_stream(u64::MAX - number);
        if let Some(on_policy) = recipe.on_policy.as_ref().filter(|_| moment.phase == Phase::OnPolicy)
            && moment.since.is_multiple_of(on_policy.refresh)
        {
            self.write(&mut random)?;
        }
        let mut parts: Vec<Part> = (0..recipe.train.accumulate).map(|_| self.part(moment, &mut random)).collect();
        let tokens: usize = parts.iter().map(|part| part.batch.valid().len()).sum();
        let read: usize = parts.iter().map(|part| read(&part.batch)).sum();
        parts.iter_mut().for_each(|part| part.objective.tokens = tokens);

        let dropout = (recipe.train.dropout > 0.0).then_some((recipe.train.dropout, &mut random));
        let teacher = &mut self.teacher;
        let mut teach = |part: &Part| match teacher {
            Some(teacher) if part.objective.alpha < 1.0 => teacher.expect(&part.batch).map(Some),
            _ => Ok(None),
        };
        let stepped = step(&*self.student, &parts, &mut teach, dropout)?;
        if self.optimizer.steps() == 0 {
            check_all_reached(self.student.variables(), &stepped.gradients)?;
        }
        let norm = self.optimizer.step(self.student.variables(), &stepped.gradients, moment.rate);
        let norm = norm.map_err(|error| error.at(&parts[0].name))?;

        let seconds = started.elapsed().as_secs_f64();
        self.state.step = number;
        self.state.cursor = self.stream.cursor();
        self.state.seconds += seconds;
        self.window.loss += stepped.loss * tokens as f64;
        self.window.count += tokens;
        self.window.read += read;
        self.window.norm = norm;
        Ok((stepped.loss, read as f64 / seconds))
    }

    /// The student is measured with the mean of its weights.
    fn measure(&mut self, moment: Moment, watch: &mut dyn Watch) -> Result<()> {
        let raw = self.swap_in_average()?;
        let measured = self.measured(moment.phase);
        if let Some(raw) = raw {
            set(self.student.variables(), &raw, "")?;
        }
        let best = measured?;
        let window = std::mem::replace(&mut self.window, Window::new());
        let record = Record {
            step: self.state.step,
            phase: moment.phase.name().into(),
            epoch: self.state.cursor.epoch,
            loss: window.mean(),
            rate: moment.rate,
            speed: window.speed(),
            seconds: self.state.seconds,
            norm: window.norm,
            validation: Some(best.validation),
            score: best.score,
            ..Record::default()
        };
        let score = best.score.map_or(String::new(), |score| format!(", {} {score:.2}", self.exam.name()));
        watch.say(&format!(
            "step {}: loss {:.4}, validation {:.4}{score}, {:.0} tokens/s",
            record.step, record.loss, best.validation, record.speed
        ));
        self.metrics.add(record)?;
        let patience = self.recipe.train.patience;
        if patience > 0 && self.state.standing.waited >= patience && moment.phase == Phase::Text {
            watch.say(&format!("no better measurement in {patience}: this phase ends here"));
            self.state.step = self.schedule.end_of(self.state.step - 1);
        }
        self.window.started = Instant::now();
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let (mut tensors, _) = self.optimizer.state()?;
        tensors.extend(named(self.student.variables(), "student.")?);
        let state = State { optimizer_steps: self.optimizer.steps(), ..self.state.clone() };
        let saved = checkpoint::save(&self.path(files::CHECKPOINT), &tensors, &state);
        saved.map_err(|error| error.at(format!("the checkpoint of step {}", state.step)))
    }

    fn draw(&self) -> Result<()> {
        let (loss, validation) = ("loss a token", "validation, cross-entropy");
        let captions = Captions { loss, validation, score: self.exam.name() };
        plots::draw(&self.folder, self.metrics.records(), captions)
    }
}

fn optimizer(recipe: &Recipe, student: &dyn Student) -> Result<AdamW> {
    let train = &recipe.train;
    let config = optimizer::Config {
        weight_decay: train.weight_decay,
        clip: if train.clip == 0.0 { f64::INFINITY } else { train.clip },
        ema: train.ema,
        // What transformers are usually trained with: noise of few tokens fades sooner.
        beta2: 0.98,
        ..optimizer::Config::default()
    };
    AdamW::new(config, student.variables(), |name| student.rate(name))
}

/// Tokens of a batch that are no padding.
fn read(batch: &Batch) -> usize {
    let source: usize = batch.source.iter().flat_map(|source| &source.lengths).sum();
    source + batch.input.lengths.iter().sum::<usize>()
}
