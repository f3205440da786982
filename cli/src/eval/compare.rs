//! `pupil eval compare`: several models on the same data, side by side.

use super::{chat, translate};
use crate::{
    args::{EvalCompareArgs, all_threads},
    failure::{Failure, Outcome},
    interrupt,
};
use pupil::{TranslateOptions, Translator};
use pupil_distill::eval::translate::Tokenize;
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A column of the table: its heading, the key of the score, and its digits after the point.
type Column = (&'static str, &'static str, usize);

const CHAT: [Column; 8] = [
    ("perplexity", "perplexity", 4),
    ("per byte", "byte_perplexity", 4),
    ("ROUGE-L", "rouge_l", 4),
    ("distinct-1", "distinct_1", 4),
    ("distinct-2", "distinct_2", 4),
    ("repetition", "repetition", 4),
    ("turns", "turns", 0),
    SIZE,
];

const TRANSLATION: [Column; 6] = [
    ("BLEU", "bleu", 2),
    ("chrF2", "chrf", 2),
    ("chrF++", "chrf_plus_plus", 2),
    ("sentences", "sentences", 0),
    ("a second", "sentences_per_second", 1),
    SIZE,
];

const SIZE: Column = ("MB", "megabytes", 2);

/// Measures the models that `args` name and prints a row for each.
pub fn run(args: &EvalCompareArgs) -> Outcome {
    let translators = args.how.data.extension().is_some_and(|ending| ending == "tsv");
    interrupt::install()?;
    let (columns, rows) = match translators {
        true => (&TRANSLATION[..], translations(args)?),
        false => (&CHAT[..], dialogues(args)?),
    };
    let mut out = io::stdout().lock();
    if !args.json {
        return table(&mut out, columns, &rows);
    }
    for (model, mut scores) in rows {
        scores["model"] = json!(model);
        writeln!(out, "{scores}")?;
    }
    Ok(())
}

/// Models with their scores.
type Rows = Vec<(String, Value)>;

fn dialogues(args: &EvalCompareArgs) -> Outcome<Rows> {
    let dialogues = chat::dialogues(&args.how)?;
    rows(args, |model| Ok(chat::measure(model, &dialogues, &args.how)?.to_json()))
}

fn translations(args: &EvalCompareArgs) -> Outcome<Rows> {
    let sentences = translate::sentences(&args.how.data, args.how.limit.unwrap_or(usize::MAX))?;
    if sentences.is_empty() {
        return Err(Failure::Message(format!("{}: no sentences, expected some", args.how.data.display())));
    }
    let threads = args.how.threads.unwrap_or_else(all_threads);
    rows(args, |model| {
        let mut translator = Translator::open(model, TranslateOptions { threads, ..TranslateOptions::default() })?;
        Ok(translate::measure(&mut translator, &sentences, Tokenize::V13a)?.to_json())
    })
}

fn rows(args: &EvalCompareArgs, mut measure: impl FnMut(&Path) -> Outcome<Value>) -> Outcome<Rows> {
    let row = |model: &PathBuf| {
        let mut scores = measure(model)?;
        scores["megabytes"] = json!(fs::metadata(model)?.len() as f64 / 1e6);
        Ok((model.display().to_string(), scores))
    };
    args.models.iter().map(row).collect()
}

/// Prints scores by name, a row for each model.
fn table(out: &mut impl Write, columns: &[Column], rows: &Rows) -> Outcome {
    let width = rows.iter().map(|(model, _)| model.chars().count()).max().unwrap_or(0).max("model".len());
    let headings: Vec<String> = columns.iter().map(|(heading, ..)| format!("{heading:>11}")).collect();
    writeln!(out, "{:width$}{}", "model", headings.concat())?;
    for (model, scores) in rows {
        let cell = |(_, key, digits): &Column| format!("{:>11.digits$}", scores[key].as_f64().unwrap_or(f64::NAN));
        writeln!(out, "{model:width$}{}", columns.iter().map(cell).collect::<String>())?;
    }
    Ok(())
}
