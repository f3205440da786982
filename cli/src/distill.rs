//! `pupil distill`: trains a student as a recipe says.

use crate::{
    args::{DistillArgs, all_threads},
    failure::{Failure, Outcome},
    interrupt, progress,
};
use indicatif::ProgressBar;
use pupil_distill::{
    recipe::{InitRecipe, Recipe},
    train::{Options, Outcome as Trained, Progress, Report, Watch, distill, use_threads},
};
use std::path::Path;

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
    let options = Options { folder, fresh: args.fresh, threads };
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
