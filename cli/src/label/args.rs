//! The command line of `pupil label`.

use crate::args::{SamplerArgs, fitting, fraction, number, seed, threads, tokens};
use clap::{Args, Subcommand};
use pupil_distill::labels::record::Layout;
use std::path::PathBuf;

/// `pupil label`
#[derive(Args)]
pub struct LabelArgs {
    /// What to do
    #[command(subcommand)]
    pub what: LabelWhat,
}

/// What to do.
#[derive(Subcommand)]
pub enum LabelWhat {
    /// Collect what a teacher is to answer or translate, the first of three stages
    Prompts(PromptsArgs),
    /// Have a teacher answer, the second stage
    Answers(AnswersArgs),
    /// Form a data set of the answers, the third stage
    Dataset(DatasetArgs),
    /// Have a teacher with the student's vocabulary say how likely it finds each token
    Soft(SoftArgs),
    /// Put the shards of a label store together
    Merge(MergeArgs),
    /// Show what a label store holds
    Inspect(InspectArgs),
}

/// `pupil label prompts`
#[derive(Args)]
#[command(after_help = "\
What is in the output already stays there, and is not added again: a run that was stopped goes on.")]
pub struct PromptsArgs {
    /// .txt (a prompt a line), .tsv (the first column), .jsonl (the user's first turn; or prompt, instruction, source, text)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The JSONL file to append to
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub lengths: Lengths,
    /// Prompts in the output, at most
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=1 << 40))]
    pub limit: Option<usize>,
}

/// How long texts may be.
#[derive(Args)]
pub struct Lengths {
    /// Characters, at least
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = |s: &str| number(s, 0..=1 << 20))]
    pub min_chars: usize,
    /// Characters, at most
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = |s: &str| number(s, 0..=1 << 20))]
    pub max_chars: usize,
}

/// `pupil label answers`
#[derive(Args)]
#[command(after_help = "\
What has an answer in the output already is not answered again: a run that was stopped goes on. An answer depends on its \
prompt and the seed only.")]
pub struct AnswersArgs {
    /// The GGUF file of the teacher
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// What pupil label prompts wrote
    #[arg(value_name = "PROMPTS")]
    pub prompts: PathBuf,
    /// The JSONL file to append to
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// What to tell a chat model first
    #[arg(short, long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens of a chat model's answer, at most [default: 256]
    #[arg(short = 'n', long, value_name = "N", value_parser = tokens)]
    pub max_tokens: Option<usize>,
    /// Tokens of a prompt and its answer, at most [default: what the model was trained for, but at most 4096]
    #[arg(short, long, value_name = "N", value_parser = tokens)]
    pub context: Option<usize>,
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// Of a translator: hypotheses that are followed at once [default: 4]
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=64))]
    pub beam: Option<usize>,
    /// Of a translator: the language to translate from
    #[arg(long, value_name = "LANGUAGE")]
    pub from: Option<String>,
    /// Of a translator: the language to translate to
    #[arg(long, value_name = "LANGUAGE")]
    pub to: Option<String>,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// `pupil label dataset`
#[derive(Args)]
pub struct DatasetArgs {
    /// What pupil label answers wrote
    #[arg(value_name = "ANSWERS")]
    pub answers: PathBuf,
    /// The JSONL file to append to
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub lengths: Lengths,
    /// The most that sequences of four words may repeat in an answer, from 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.3, value_parser = fraction::<f64>)]
    pub max_repetition: f64,
    /// The least mean log-probability of an answer's tokens, as the teacher sees them [default: any]
    #[arg(long, value_name = "SCORE", value_parser = |s: &str| fitting(s, "a number", |x: &f64| x.is_finite()))]
    pub min_score: Option<f64>,
    /// Take answers that were broken off, too
    #[arg(long)]
    pub unfinished: bool,
    /// Write {"source", "target"}, for translators
    #[arg(long)]
    pub translation: bool,
}

/// `pupil label soft`
#[derive(Args)]
#[command(after_help = "\
The store is for students that have the teacher's vocabulary and recipes with the same longest example. A run that was \
stopped goes on where it was.")]
pub struct SoftArgs {
    /// The GGUF file of the teacher
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// Text to label: .jsonl or .txt for chat models, .tsv or .jsonl for translators
    #[arg(short, long, required = true, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// The label store to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Of the probabilities: that of the student's loss
    #[arg(long, value_name = "T", default_value_t = 2.0,
        value_parser = |s: &str| fitting(s, "a number from 0.01 to 100", |t: &f64| (0.01..=100.0).contains(t)))]
    pub temperature: f64,
    /// How many of the likeliest tokens are kept of each position
    #[arg(short, value_name = "N", default_value_t = 8, value_parser = |s: &str| number(s, 1..=Layout::MAX))]
    pub k: usize,
    /// How many of the other tokens are drawn
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = |s: &str| number(s, 1..=Layout::MAX))]
    pub samples: usize,
    /// Decides what is drawn
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// The longest example, in tokens, as in the recipe
    #[arg(long, value_name = "N", default_value = "128", value_parser = tokens)]
    pub max_tokens: usize,
    /// How many times longer than its source a translation may be, as in the recipe
    #[arg(long, value_name = "X", default_value_t = 3.0,
        value_parser = |s: &str| fitting(s, "a number from 1 up", |x: &f64| *x >= 1.0))]
    pub max_ratio: f64,
    /// Write one part of the store, e.g. 1/4
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard)]
    pub shard: [usize; 2],
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

/// `pupil label merge`
#[derive(Args)]
pub struct MergeArgs {
    /// All shards of a store
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// The label store to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `pupil label inspect`
#[derive(Args)]
pub struct InspectArgs {
    /// The label store
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn shard(text: &str) -> Result<[usize; 2], String> {
    let parts = text.split_once('/').and_then(|(shard, of)| Some([shard.parse().ok()?, of.parse().ok()?]));
    match parts {
        Some([shard, of]) if 1 <= shard && shard <= of && of <= 1 << 20 => Ok([shard, of]),
        _ => Err("expected I/N with I from 1 to N, e.g. 1/4".into()),
    }
}
