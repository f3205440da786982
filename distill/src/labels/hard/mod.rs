//! Hard labels: what teachers with any vocabulary write, as text to learn from.
//!
//! Three stages, each of which appends lines to a file and goes on where it stopped:
//!
//! ```text
//! text, dialogues, tables ──prompts──▶ {"prompt"} ──answers──▶ {"prompt", "answer", "finished", "score"}
//!     ──dataset──▶ {"turns": [user, assistant]} or {"source", "target"}
//! ```

mod answers;
pub mod lines;

pub use answers::{Talker, Writer};

use crate::{
    data::text::{Role, Turn, lines::Lines},
    error::{Error, Result},
    eval::text::repetition,
};
use lines::{Growing, Whole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    ops::{ControlFlow, RangeInclusive},
    path::{Path, PathBuf},
};

/// How the lines of the first two stages begin, and those of data sets of pairs and of dialogues.
const PROMPT: &str = r#"{"prompt":"#;
const PAIR: &str = r#"{"source":"#;
const DIALOGUE: &str = r#"{"turns":"#;

/// A line of the first stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// What the teacher is asked, or is to translate.
    pub prompt: String,
}

/// A line of the second stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What the teacher was asked.
    pub prompt: String,
    /// What it wrote.
    pub answer: String,
    /// Whether it came to an end by itself.
    pub finished: bool,
    /// The mean log-probability of the answer's tokens, as the teacher sees it: 0 is certain.
    pub score: f64,
}

/// What became of a stage's lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Lines there were before.
    pub before: usize,
    /// Lines that were added.
    pub added: usize,
    /// Lines that were the same as others.
    pub repeated: usize,
    /// Lines that could not be used, or were filtered out.
    pub left_out: usize,
}

/// Collects prompts of `lengths` characters from files: the lines of `.txt`, the first column of `.tsv`, and of `.jsonl`
/// the first turn of the user, or `prompt`, `instruction`, `source` or `text`.
///
/// # Errors
/// `Io`; `Input` for another kind of file.
pub fn prompts(
    files: &[PathBuf],
    out: &Path,
    lengths: &RangeInclusive<usize>,
    limit: usize,
    each: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    // Opened before the output is begun: a mistake leaves nothing.
    let open = |file: &PathBuf| Ok((extractor(file)?, Lines::open(file)?));
    let inputs = files.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut known = HashSet::new();
    let mut growing = Growing::open(out, files, PROMPT, &mut |line: Prompt| {
        counts.before += 1;
        known.insert(line.prompt);
        Ok(())
    })?;
    'files: for (extract, mut lines) in inputs {
        while let Some((_, line)) = lines.next()? {
            if known.len() >= limit || each().is_break() {
                break 'files;
            }
            match line.ok().and_then(extract).filter(|prompt| lengths.contains(&prompt.chars().count())) {
                None => counts.left_out += 1,
                Some(prompt) if known.contains(&prompt) => counts.repeated += 1,
                Some(prompt) => {
                    growing.push(&Prompt { prompt: prompt.clone() })?;
                    known.insert(prompt);
                    counts.added += 1;
                }
            }
        }
    }
    // Going on, what was added before is found again.
    counts.repeated = counts.repeated.saturating_sub(counts.before);
    Ok(counts)
}

type Extract = fn(&str) -> Option<String>;

fn extractor(file: &Path) -> Result<Extract> {
    let tidy = |text: &str| Some(text.trim().to_string()).filter(|text| !text.is_empty());
    let of: Extract = match file.extension().and_then(|extension| extension.to_str()) {
        Some("txt") => tidy,
        Some("tsv") => |line| Some(line.split('\t').next()?.trim().to_string()).filter(|text| !text.is_empty()),
        Some("jsonl") => {
            |line| Some(of_json(&serde_json::from_str(line).ok()?)?.trim().to_string()).filter(|text| !text.is_empty())
        }
        _ => return Err(Error::input(format!("{}: expected .txt, .tsv or .jsonl", file.display()))),
    };
    Ok(of)
}

fn of_json(line: &Value) -> Option<&str> {
    if let Some(turns) = line.get("turns").and_then(Value::as_array) {
        let of_user = turns.iter().find(|turn| turn.is_string() || turn["role"] == "user")?;
        return of_user.as_str().or(of_user["text"].as_str()).or(of_user["content"].as_str());
    }
    ["prompt", "instruction", "source", "text"].iter().find_map(|key| line.get(key)?.as_str())
}

/// Has the teacher answer the prompts that have no answer yet. `each` is told how many of how many are answered.
///
/// # Errors
/// `Io`; `Format` for files of something else; what the teacher refuses.
pub fn answers(
    prompts: &Path,
    out: &Path,
    teacher: &mut dyn Talker,
    each: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    let (mut left, mut known) = (Vec::new(), HashSet::new());
    Whole::open(prompts)?.each(&mut |line: Prompt| {
        match known.insert(line.prompt.clone()) {
            true => left.push(line.prompt),
            false => counts.repeated += 1,
        }
        Ok(())
    })?;
    let all = left.len();
    let mut answered = HashSet::new();
    let mut growing = Growing::open(out, &[prompts], PROMPT, &mut |line: Answer| {
        counts.before += 1;
        answered.insert(line.prompt);
        Ok(())
    })?;
    left.retain(|prompt| !answered.contains(prompt));
    let mut done = all - left.len();
    for batch in left.chunks(teacher.batch()) {
        if each(done, all).is_break() {
            return Ok(counts);
        }
        for answer in teacher.answer(batch)? {
            match answer {
                Some(answer) => {
                    growing.push(&answer)?;
                    counts.added += 1;
                }
                None => counts.left_out += 1,
            }
        }
        done += batch.len();
    }
    let _ = each(done, all);
    Ok(counts)
}

/// What answers a data set takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Characters of an answer.
    pub lengths: RangeInclusive<usize>,
    /// The most that sequences of four words may repeat in an answer, 0 to 1.
    pub max_repetition: f64,
    /// The least mean log-probability of a token.
    pub min_score: f64,
    /// Takes answers that were broken off, too.
    pub unfinished: bool,
    /// Writes `source` and `target` instead of turns.
    pub translation: bool,
}

impl Filter {
    fn takes(&self, answer: &Answer) -> bool {
        self.lengths.contains(&answer.answer.trim().chars().count())
            && (answer.finished || self.unfinished)
            && answer.score >= self.min_score
            && repetition(&answer.answer, 4) <= self.max_repetition
    }

    fn line(&self, answer: &Answer) -> Value {
        let (prompt, answer) = (answer.prompt.trim(), answer.answer.trim());
        match self.translation {
            true => json!({ "source": prompt, "target": answer }),
            false => {
                let turn = |role, text: &str| Turn { role, text: text.into() };
                json!({ "turns": [turn(Role::User, prompt), turn(Role::Assistant, answer)] })
            }
        }
    }
}

/// Forms a data set of the answers that pass a filter.
///
/// # Errors
/// `Io`; `Format` for files of something else.
pub fn dataset(answers: &Path, out: &Path, filter: &Filter) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut known = HashSet::new();
    let begin = if filter.translation { PAIR } else { DIALOGUE };
    let lines = Whole::open(answers)?;
    let mut growing = Growing::open(out, &[answers], begin, &mut |line: Value| {
        counts.before += 1;
        known.insert(line.to_string());
        Ok(())
    })?;
    lines.each(&mut |answer: Answer| {
        if !filter.takes(&answer) {
            counts.left_out += 1;
            return Ok(());
        }
        let line = filter.line(&answer);
        match known.insert(line.to_string()) {
            false => counts.repeated += 1,
            true => {
                growing.push(&line)?;
                counts.added += 1;
            }
        }
        Ok(())
    })?;
    counts.repeated = counts.repeated.saturating_sub(counts.before);
    Ok(counts)
}

#[cfg(test)]
mod tests;
