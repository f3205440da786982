//! `pupil eval translate`: BLEU and chrF of a translator, or of translations that are there already.

use crate::{
    args::EvalTranslateArgs,
    bundled,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::{Translator, translate::Finish};
use pupil_distill::{
    data::{
        parallel::{Pair, read_files, read_tsv},
        text::split::hash,
    },
    eval::translate::{Evaluation, Scores, Tokenize},
};
use serde_json::{Value, json};
use std::{
    fmt,
    io::{self, Write},
    path::Path,
    time::Instant,
};

/// Sentences that are given to the translator at once, for each of a batch: it puts those of like length together.
const BATCHES: usize = 8;

/// Measures what `args` name and prints its scores.
pub fn run(args: &EvalTranslateArgs) -> Outcome {
    let limit = args.limit.unwrap_or(usize::MAX);
    let measured = if let (Some(output), Some(reference)) = (&args.output, &args.reference) {
        let mut evaluation = Evaluation::new(args.tokenize);
        for Pair { source, target } in read_files(output, reference, limit)? {
            evaluation.add(&source, &[&target]);
        }
        Measured { scores: evaluation.finish(), work: None }
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
        measure(&mut translator, &sentences, args.tokenize)?
    };
    if measured.scores.sentences == 0 {
        return Err(Failure::Message("there are no sentences to score, expected at least one".into()));
    }
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", measured.to_json())?,
        false => writeln!(out, "{measured}")?,
    }
    Ok(())
}

/// The scores of translations and, of a translator's, what became of its work.
pub struct Measured {
    scores: Scores,
    work: Option<Work>,
}

/// How a translator went about it.
struct Work {
    /// Texts whose translations grew too long and were cut.
    cut_length: usize,
    /// Texts whose translations began to repeat themselves and were cut.
    cut_repeats: usize,
    sentences_per_second: f64,
}

impl Measured {
    /// All of it as a JSON object.
    pub fn to_json(&self) -> Value {
        let mut line = self.scores.to_json();
        if let Some(Work { cut_length, cut_repeats, sentences_per_second }) = self.work {
            line["cut_length"] = json!(cut_length);
            line["cut_repeats"] = json!(cut_repeats);
            line["sentences_per_second"] = json!(sentences_per_second);
        }
        line
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scores)?;
        if let Some(Work { cut_length, cut_repeats, sentences_per_second }) = self.work {
            write!(f, "\ncut         {cut_length} for their length, {cut_repeats} for repeating themselves")?;
            write!(f, "\n{sentences_per_second:.1} sentences/s")?;
        }
        Ok(())
    }
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

/// Measures a translator.
pub fn measure(translator: &mut Translator, sentences: &[Sentence], words: Tokenize) -> Outcome<Measured> {
    let mut evaluation = Evaluation::new(words);
    let (mut cut_length, mut cut_repeats) = (0, 0);
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
                match translation.finish {
                    Finish::End => {}
                    Finish::Length => cut_length += 1,
                    Finish::Repeats => cut_repeats += 1,
                }
            }
            bar.inc(chunk.len() as u64);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let sentences_per_second = sentences.len() as f64 / start.elapsed().as_secs_f64();
    Ok(Measured { scores: evaluation.finish(), work: Some(Work { cut_length, cut_repeats, sentences_per_second }) })
}
