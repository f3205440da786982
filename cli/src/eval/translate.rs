//! `pupil eval translate`: BLEU and chrF of a translator, or of translations that are there already.

use crate::{
    args::EvalTranslateArgs,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::Translator;
use pupil_distill::{
    data::parallel::{Pair, read_files, read_tsv},
    eval::translate::Evaluation,
};
use serde_json::json;
use std::{
    io::{self, Write},
    time::Instant,
};

/// Sentences that are given to the translator at once, for each of a batch: it puts those of like length together.
const BATCHES: usize = 8;

/// Measures what `args` name and prints its scores.
pub fn run(args: &EvalTranslateArgs) -> Outcome {
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut evaluation = Evaluation::new(args.tokenize);
    let mut seconds = None;
    if let (Some(output), Some(reference)) = (&args.output, &args.reference) {
        for Pair { source, target } in read_files(output, reference, limit)? {
            evaluation.add(&source, &[&target]);
        }
    } else {
        let pairs = match (&args.data, &args.source, &args.reference) {
            (Some(data), ..) => read_tsv(data, limit),
            (None, Some(source), Some(reference)) => read_files(source, reference, limit),
            _ => return Err(Failure::Message("which sentences? --data, or --source and --reference".into())),
        };
        let pairs = pairs?;
        let Some(model) = &args.model else { return Err(Failure::Message("which model? --model FILE".into())) };
        let mut translator = Translator::open(model, args.options())?;
        interrupt::install()?;
        let start = Instant::now();
        interrupt::during(|| evaluate(&mut translator, &pairs, &mut evaluation))?;
        seconds = Some(start.elapsed().as_secs_f64());
    }
    let scores = evaluation.finish();
    if scores.sentences == 0 {
        return Err(Failure::Message("there are no sentences to score, expected at least one".into()));
    }
    let speed = seconds.map(|seconds| scores.sentences as f64 / seconds);
    let mut out = io::stdout().lock();
    if args.json {
        let mut line = scores.to_json();
        line["sentences_per_second"] = json!(speed);
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{scores}")?;
        if let Some(speed) = speed {
            writeln!(out, "{speed:.1} sentences/s")?;
        }
    }
    Ok(())
}

fn evaluate(translator: &mut Translator, pairs: &[Pair], evaluation: &mut Evaluation) -> Outcome {
    let bar = progress::bar(pairs.len());
    for pairs in pairs.chunks(BATCHES * translator.options().batch) {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        let sources: Vec<&str> = pairs.iter().map(|pair| pair.source.as_str()).collect();
        for (translation, pair) in translator.translate_batch(&sources)?.iter().zip(pairs) {
            evaluation.add(&translation.text, &[&pair.target]);
        }
        bar.inc(pairs.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}
