//! `pupil eval compare`: several models on the same data, side by side.

use super::chat;
use crate::{args::EvalCompareArgs, failure::Outcome, interrupt};
use serde_json::json;
use std::io::{self, Write};

/// A column of the table: its heading, and the key of the score.
type Column = (&'static str, &'static str);

const CHAT: [Column; 7] = [
    ("perplexity", "perplexity"),
    ("per byte", "byte_perplexity"),
    ("ROUGE-L", "rouge_l"),
    ("distinct-1", "distinct_1"),
    ("distinct-2", "distinct_2"),
    ("repetition", "repetition"),
    ("turns", "turns"),
];

/// Measures the models that `args` name and prints a row for each.
pub fn run(args: &EvalCompareArgs) -> Outcome {
    let dialogues = chat::dialogues(&args.how)?;
    interrupt::install()?;
    let mut rows = Vec::new();
    for model in &args.models {
        let scores = chat::measure(model, &dialogues, &args.how)?.to_json();
        rows.push((model.display().to_string(), scores));
    }
    let mut out = io::stdout().lock();
    if args.how.json {
        for (model, mut scores) in rows {
            scores["model"] = json!(model);
            writeln!(out, "{scores}")?;
        }
        return Ok(());
    }
    table(&mut out, &CHAT, &rows)
}

/// Prints scores by name, a row for each model.
fn table(out: &mut impl Write, columns: &[Column], rows: &[(String, serde_json::Value)]) -> Outcome {
    let width = rows.iter().map(|(model, _)| model.chars().count()).max().unwrap_or(0).max("model".len());
    let headings: Vec<String> = columns.iter().map(|(heading, _)| format!("{heading:>11}")).collect();
    writeln!(out, "{:width$}{}", "model", headings.concat())?;
    for (model, scores) in rows {
        let cell = |(_, key): &Column| match &scores[key] {
            whole if whole.is_u64() => format!("{:>11}", whole.as_u64().unwrap_or(0)),
            score => format!("{:>11.4}", score.as_f64().unwrap_or(f64::NAN)),
        };
        writeln!(out, "{model:width$}{}", columns.iter().map(cell).collect::<String>())?;
    }
    Ok(())
}
