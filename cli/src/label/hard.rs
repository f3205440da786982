//! `pupil label prompts`, `answers` and `dataset`: text that a teacher writes, in three stages.

use super::args::{AnswersArgs, DatasetArgs, Lengths, PromptsArgs};
use crate::{
    args::{all_threads, unused},
    counted::counted,
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
    run("prompt", || hard::prompts(&args.files, &args.output, &lengths, limit, &mut go_on))
}

/// Has the teacher answer.
pub fn answers(args: &AnswersArgs) -> Outcome {
    let threads = args.threads.unwrap_or_else(all_threads);
    let file = Gguf::open(&args.model)?;
    if file.keys().opt_str("general.architecture")? == Some("t5") {
        let more = [
            ("--system", args.system.is_some()),
            ("--max-tokens", args.max_tokens.is_some()),
            ("--context", args.context.is_some()),
        ];
        unused(args.sampler.given().into_iter().chain(more), "the model is a translator")?;
        let (from, to, beam) = (args.from.clone(), args.to.clone(), args.beam.unwrap_or(4));
        let options = TranslateOptions { from, to, beam, threads, ..TranslateOptions::default() };
        return talk(args, &mut Translator::open(&args.model, options)?);
    }
    let of_translators =
        [("--beam", args.beam.is_some()), ("--from", args.from.is_some()), ("--to", args.to.is_some())];
    unused(of_translators, "the model is a chat model")?;
    let model = Model::open(&args.model)?;
    let options = ChatOptions {
        system: args.system.clone(),
        context: args.context,
        threads,
        max_tokens: Some(args.max_tokens.unwrap_or(256)),
        sampler: Some(args.sampler.options(&model, || 0)),
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
    run("answer", || {
        let counts = hard::answers(&args.prompts, &args.output, teacher, &mut each);
        bar.finish_and_clear();
        counts
    })
}

/// Forms a data set.
pub fn dataset(args: &DatasetArgs) -> Outcome {
    let filter = Filter {
        lengths: range(&args.lengths)?,
        max_repetition: args.max_repetition,
        min_score: args.min_score.unwrap_or(f64::NEG_INFINITY),
        unfinished: args.unfinished,
        translation: args.translation,
    };
    run("example", || hard::dataset(&args.answers, &args.output, &filter))
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
    let mut line = format!("{}, {added} of them new", counted(before + added, what));
    for (count, how) in [(repeated, "repeated"), (left_out, "left out")] {
        if count > 0 {
            line += &format!("; {count} {how}");
        }
    }
    writeln!(io::stdout().lock(), "{line}")?;
    if stopped { Err(Failure::Interrupted) } else { Ok(()) }
}
