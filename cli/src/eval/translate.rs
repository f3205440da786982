//! `pupil eval translate`: BLEU and chrF of a translator, or of translations that are there already.

use crate::{
    args::EvalTranslateArgs,
    bundled,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::Translator;
use pupil_distill::{
    data::{
        parallel::{Pair, read_files, read_tsv},
        text::split::hash,
    },
    eval::translate::{Evaluation, Scores, Tokenize},
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

/// Sentences that are given to the translator at once, for each of a batch: it puts those of like length together.
const BATCHES: usize = 8;

/// Measures what `args` name and prints its scores.
pub fn run(args: &EvalTranslateArgs) -> Outcome {
    let limit = args.limit.unwrap_or(usize::MAX);
    let (scores, speed) = if let (Some(output), Some(reference)) = (&args.output, &args.reference) {
        let mut evaluation = Evaluation::new(args.tokenize);
        for Pair { source, target } in read_files(output, reference, limit)? {
            evaluation.add(&source, &[&target]);
        }
        (evaluation.finish(), None)
    } else {
        let sentences = match (&args.data, &args.source, &args.reference) {
            (Some(data), ..) => sentences(data, limit)?,
            (None, Some(source), Some(reference)) => {
                read_files(source, reference, limit)?.into_iter().map(Sentence::from).collect()
            }
            _ => return Err(Failure::Message("which sentences? --data, or --source and --reference".into())),
        };
        let mut translator = bundled::translator(args.translator.model.as_deref(), args.translator.options())?;
        interrupt::install()?;
        let (scores, speed) = measure(&mut translator, &sentences, args.tokenize)?;
        (scores, Some(speed))
    };
    if scores.sentences == 0 {
        return Err(Failure::Message("there are no sentences to score, expected at least one".into()));
    }
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

/// A sentence with all translations that people made of it.
pub struct Sentence {
    text: String,
    references: Vec<String>,
}

impl From<Pair> for Sentence {
    fn from(Pair { source, target }: Pair) -> Self {
        Self { text: source, references: vec![target] }
    }
}

/// Up to `limit` sentences of a file of pairs, where pairs of one sentence, whatever its signs, follow each other.
pub fn sentences(data: &Path, limit: usize) -> Outcome<Vec<Sentence>> {
    let mut sentences: Vec<Sentence> = Vec::new();
    for pair in read_tsv(data, usize::MAX)? {
        if let Some(last) = sentences.last_mut().filter(|last| hash(&last.text) == hash(&pair.source)) {
            last.references.push(pair.target);
        } else if sentences.len() == limit {
            break;
        } else {
            sentences.push(pair.into());
        }
    }
    Ok(sentences)
}

/// The scores of a translator, and how many sentences a second it translated.
pub fn measure(translator: &mut Translator, sentences: &[Sentence], words: Tokenize) -> Outcome<(Scores, f64)> {
    let mut evaluation = Evaluation::new(words);
    let bar = progress::bar(sentences.len());
    let start = Instant::now();
    interrupt::during(|| {
        for chunk in sentences.chunks(BATCHES * translator.options().batch) {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            let texts: Vec<&str> = chunk.iter().map(|sentence| sentence.text.as_str()).collect();
            for (translation, sentence) in translator.translate_batch(&texts)?.iter().zip(chunk) {
                let references: Vec<&str> = sentence.references.iter().map(String::as_str).collect();
                evaluation.add(&translation.text, &references);
            }
            bar.inc(chunk.len() as u64);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok((evaluation.finish(), sentences.len() as f64 / start.elapsed().as_secs_f64()))
}
