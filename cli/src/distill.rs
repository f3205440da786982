//! `pupil distill`: trains a student as a recipe says.

use crate::{
    args::{all_threads, number, threads},
    failure::{Failure, Outcome},
    interrupt, progress,
};
use clap::Args;
use indicatif::ProgressBar;
use pupil_distill::{
    device::Place,
    recipe::{InitRecipe, Recipe},
    train::{Options, Outcome as Trained, Progress, Report, Watch, distill, use_threads},
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
    /// Where the recipe's text is [default: beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,
    /// Where checkpoints, records and curves go [default: beside the student's file, with the ending .run]
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Begin anew, whatever an earlier run left
    #[arg(long)]
    pub fresh: bool,
    /// Begin with the weights of this student, instead of the one that the recipe names
    #[arg(long, value_name = "FILE")]
    pub init_from: Option<PathBuf>,
    /// Train for N steps instead of what the recipe says
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1, 1_000_000_000).map(|n| n as u64))]
    pub steps: Option<u64>,
    /// What to train on: cpu, or cuda for an NVIDIA card
    #[arg(long, value_name = "NAME", value_parser = place, default_value = "cpu")]
    pub device: Place,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// Trains the student of the recipe that `args` name, and says what came of it.
pub fn run(args: &DistillArgs) -> Outcome {
    let mut recipe = Recipe::open(&args.recipe, args.data_root.as_deref())?;
    if let Some(steps) = args.steps {
        (recipe.train.steps, recipe.train.epochs) = (Some(steps), None);
    }
    if let Some(file) = &args.init_from {
        let named = recipe.init.take().unwrap_or_default();
        recipe.init = Some(InitRecipe { file: file.clone(), ..named });
    }
    let threads = args.threads.unwrap_or_else(all_threads);
    use_threads(threads);
    let folder = args.run.clone().unwrap_or_else(|| recipe.output.file.with_extension("run"));
    let options = Options { folder, fresh: args.fresh, threads, place: args.device };
    interrupt::install()?;
    let mut show = Show { bar: progress::steps() };
    let trained = interrupt::during(|| distill(&recipe, &options, &mut show));
    show.bar.finish_and_clear();
    match trained? {
        Trained::Stopped(step) => {
            eprintln!("pupil: stopped after step {step}; the same command goes on from there");
            Err(Failure::Interrupted)
        }
        Trained::Done(report) => {
            describe(&report, &recipe.output.file, &options.folder);
            Ok(())
        }
    }
}

/// The device that `--device` names. The third one is for those who work on the operations of other devices.
fn place(name: &str) -> Result<Place, String> {
    match name {
        "cpu" => Ok(Place::Cpu),
        "cuda" => Ok(Place::Cuda),
        "composed" => Ok(Place::Composed),
        _ => Err("expected cpu or cuda".into()),
    }
}

fn describe(report: &Report, file: &Path, folder: &Path) {
    let Report { parameters, bytes, step, validation, score_name, score } = report;
    println!("student     {:.2} M parameters, best after step {step}", *parameters as f64 / 1e6);
    println!("validation  {validation:.4} nats a token, perplexity {:.2}", validation.exp());
    if let Some(score) = score {
        println!("{score_name:<11} {score:.2} of the file, on what was held out");
    }
    println!("file        {}, {:.2} MB", file.display(), *bytes as f64 / 1e6);
    println!("curves      {}", folder.display());
}

/// Shows a training at the terminal.
struct Show {
    bar: ProgressBar,
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
        self.bar.set_message(format!("{} loss {loss:.3}  {speed:.0} tokens/s  {left} left", phase.name()));
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}
