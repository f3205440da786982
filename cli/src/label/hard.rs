//! `pupil label prompts`, `answers` and `dataset`: text that a teacher writes, in three stages.

use super::args::{AnswersArgs, DatasetArgs, Lengths, PromptsArgs};
use crate::{
    args::all_threads,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::{ChatOptions, Model, TranslateOptions, Translator, gguf::Gguf};
use pupil_distill::{
    Result,
    labels::hard::{self, Counts, Filter, Talker, Writer},
};
use std::{
    io::{self, Write},
    ops::{ControlFlow, RangeInclusive},
};

/// Collects prompts.
pub fn prompts(args: &PromptsArgs) -> Outcome {
    let lengths = range(&args.lengths)?;
    let limit = args.limit.unwrap_or(usize::MAX);
    interrupt::install()?;
    run("prompts", || hard::prompts(&args.files, &args.output, &lengths, limit, &mut go_on))
}

/// Has the teacher answer.
pub fn answers(args: &AnswersArgs) -> Outcome {
    let threads = args.threads.unwrap_or_else(all_threads);
    let file = Gguf::open(&args.model)?;
    if file.keys().opt_str("general.architecture")? == Some("t5") {
        let (from, to, beam) = (args.from.clone(), args.to.clone(), args.beam);
        let options = TranslateOptions { from, to, beam, threads, ..TranslateOptions::default() };
        return talk(args, &mut Translator::open(&args.model, options)?);
    }
    args.sampler.check()?;
    let model = Model::open(&args.model)?;
    let options = ChatOptions {
        system: args.system.clone(),
        context: args.context,
        threads,
        max_tokens: Some(args.max_tokens),
        sampler: Some(args.sampler.options(&model, || 0)?),
        ..ChatOptions::default()
    };
    talk(args, &mut Writer::new(&model, options, interrupt::requested)?)
}

fn talk(args: &AnswersArgs, teacher: &mut dyn Talker) -> Outcome {
    interrupt::install()?;
    let bar = progress::bar(2);
    let mut each = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        go_on()
    };
    run("answers", || {
        let counts = hard::answers(&args.prompts, &args.output, teacher, &mut each);
        bar.finish_and_clear();
        counts
    })
}

/// Forms a data set.
pub fn dataset(args: &DatasetArgs) -> Outcome {
    if !(0.0..=1.0).contains(&args.max_repetition) {
        return Err(Failure::Message(format!("--max-repetition is {}, expected 0 to 1", args.max_repetition)));
    }
    let filter = Filter {
        lengths: range(&args.lengths)?,
        max_repetition: args.max_repetition,
        min_score: args.min_score.unwrap_or(f64::NEG_INFINITY),
        unfinished: args.unfinished,
        translation: args.translation,
    };
    run("examples", || hard::dataset(&args.answers, &args.output, &filter))
}

fn range(lengths: &Lengths) -> Outcome<RangeInclusive<usize>> {
    let Lengths { min_chars, max_chars } = *lengths;
    match min_chars <= max_chars {
        true => Ok(min_chars..=max_chars),
        false => {
            Err(Failure::Message(format!("--min-chars is {min_chars}, expected at most --max-chars, {max_chars}")))
        }
    }
}

fn go_on() -> ControlFlow<()> {
    if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Does a stage, and says what was done. What Ctrl-C left for another time is no success.
fn run(what: &str, stage: impl FnOnce() -> Result<Counts>) -> Outcome {
    let (counts, stopped) = interrupt::during(|| (stage(), interrupt::requested()));
    let Counts { before, added, repeated, left_out } = counts?;
    let mut line = format!("{} {what}, {added} of them new", before + added);
    for (count, how) in [(repeated, "repeated"), (left_out, "left out")] {
        if count > 0 {
            line += &format!("; {count} {how}");
        }
    }
    writeln!(io::stdout().lock(), "{line}")?;
    if stopped { Err(Failure::Interrupted) } else { Ok(()) }
}
