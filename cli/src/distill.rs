//! `pupil distill`: trains a student as a recipe says.

use crate::{
    args::{all_threads, number, threads},
    failure::{Failure, Outcome},
    interrupt, progress,
};
use clap::Args;
use indicatif::ProgressBar;
use pupil_distill::{
    device::DeviceKind,
    recipe::{AnyRecipe, Recipe, detect},
    train::{self, Options, Outcome as Trained, Progress, Watch, distill, use_threads},
};
use std::path::{Path, PathBuf};

/// What to train, and how.
#[derive(Args)]
#[command(after_help = "\
The recipe says what the student is, what it learns from and who teaches it; its own module in the documentation of \
pupil-distill lists all keys. Ctrl-C writes a checkpoint; the same command goes on from it.")]
pub struct DistillArgs {
    /// The recipe, a TOML file
    pub recipe: PathBuf,
    /// Where the recipe's text or pictures are [default: beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Where checkpoints, records and curves go [default: beside the student's file, with the ending .run]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Begin anew, whatever an earlier run left
    #[arg(long)]
    pub fresh: bool,
    /// Begin with the weights of this student, a GGUF file or a detector's best.safetensors, instead of the one that the
    /// recipe names
    #[arg(long, value_name = "FILE")]
    pub init_from: Option<PathBuf>,
    /// Train for N steps instead of what the recipe says
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=1_000_000_000).map(|n| n as u64))]
    pub steps: Option<u64>,
    /// What to train on: cpu, or cuda for an NVIDIA card
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: DeviceKind,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// Trains the student of the recipe that `args` name, and says what came of it.
pub fn run(args: &DistillArgs) -> Outcome {
    match AnyRecipe::open(&args.recipe, args.data_root.as_deref())? {
        AnyRecipe::Language(recipe) => language(*recipe, args),
        AnyRecipe::Detect(recipe) => detector(*recipe, args),
    }
}

fn language(mut recipe: Recipe, args: &DistillArgs) -> Outcome {
    if let Some(steps) = args.steps {
        (recipe.train.steps, recipe.train.epochs) = (Some(steps), None);
    }
    if let Some(file) = &args.init_from {
        recipe.init_from(file)?;
    }
    let options = options(args, &recipe.output.file);
    let report = train("tokens", |show| distill(&recipe, &options, show))?;
    let train::Report { parameters, bytes, step, validation, score_name, score } = report;
    println!("student     {:.2} M parameters, best after step {step}", parameters as f64 / 1e6);
    println!("validation  {validation:.4} nats a token, perplexity {:.2}", validation.exp());
    if let Some(score) = score {
        println!("{score_name:<11} {score:.2} of the file, on what was held out");
    }
    println!("file        {}, {:.2} MB", recipe.output.file.display(), bytes as f64 / 1e6);
    println!("curves      {}", options.folder.display());
    Ok(())
}

fn detector(mut recipe: detect::Recipe, args: &DistillArgs) -> Outcome {
    if let Some(steps) = args.steps {
        (recipe.train.steps, recipe.train.epochs) = (Some(steps), None);
    }
    if let Some(file) = &args.init_from {
        recipe.init_from(file)?;
    }
    let options = options(args, &recipe.output.file);
    let report = train("pictures", |show| train::detect::distill(&recipe, &options, show))?;
    let train::detect::Report { parameters, step, files, measured_on } = report;
    println!("student     {:.2} M parameters, best after step {step}", parameters as f64 / 1e6);
    for file in &files {
        println!("\n{} of {measured_on}\n{}\n", file.arithmetic, file.scores);
    }
    for file in &files {
        let (megabytes, path) = (file.bytes as f64 / 1e6, file.path.display());
        println!("{:<11} {path}, {megabytes:.2} MB, {:.2} ms a picture", file.arithmetic, file.milliseconds);
    }
    println!("curves      {}", options.folder.display());
    Ok(())
}

fn options(args: &DistillArgs, output: &Path) -> Options {
    let threads = args.threads.unwrap_or_else(all_threads);
    use_threads(threads);
    let folder = args.run.clone().unwrap_or_else(|| output.with_extension("run"));
    Options { folder, fresh: args.fresh, threads, device: args.device }
}

/// Runs a training that can be interrupted, with a bar in which `unit` are read.
fn train<R>(unit: &'static str, distill: impl FnOnce(&mut Show) -> pupil_distill::Result<Trained<R>>) -> Outcome<R> {
    interrupt::install()?;
    let mut show = Show { bar: progress::steps(), unit };
    let trained = interrupt::during(|| distill(&mut show));
    show.bar.finish_and_clear();
    match trained? {
        Trained::Done(report) => Ok(report),
        Trained::Stopped(step) => {
            eprintln!("pupil: stopped after step {step}; the same command goes on from there");
            Err(Failure::Interrupted)
        }
    }
}

/// Shows a training at the terminal.
struct Show {
    bar: ProgressBar,
    unit: &'static str,
}

impl Watch for Show {
    fn say(&mut self, line: &str) {
        // The bar's own printing is lost where there is no terminal.
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn step(&mut self, progress: &Progress) {
        let Progress { step, steps, phase, loss, speed, left } = *progress;
        self.bar.set_length(steps);
        self.bar.set_position(step);
        let left = indicatif::HumanDuration(std::time::Duration::from_secs_f64(left.min(1e9)));
        let unit = self.unit;
        self.bar.set_message(format!("{} loss {loss:.3}  {speed:.0} {unit}/s  {left} left", phase.name()));
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}
