//! The command line, read and checked.

use crate::{
    failure::{Failure, Outcome},
    synthetic::Synthetic,
};
use clap::{Args, Parser, Subcommand, error::ErrorKind};
use std::{path::PathBuf, thread};

/// Runs small language models from one GGUF file.
#[derive(Parser)]
#[command(name = "pupil", version, about, disable_help_subcommand = true)]
pub struct Pupil {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Show what a GGUF file holds
    Inspect(InspectArgs),
    /// Show the tokens of a text
    Tokenize(TokenizeArgs),
    /// Measure the speed of a model on this machine
    Bench(BenchArgs),
}

/// `pupil inspect`
#[derive(Args)]
pub struct InspectArgs {
    /// The GGUF file
    pub file: PathBuf,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Print everything as one JSON object; of long arrays only type and length
    #[arg(long)]
    pub json: bool,
}

/// `pupil tokenize`
#[derive(Args)]
pub struct TokenizeArgs {
    /// The GGUF file whose tokenizer to use
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// The text; without it, or as -, all of stdin
    pub text: Option<String>,
    /// Print only the ids, on one line
    #[arg(long, conflicts_with_all = ["json", "decode"])]
    pub ids: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The other way round: TEXT is ids, print their text
    #[arg(long, conflicts_with_all = ["bare", "special"])]
    pub decode: bool,
    /// Leave out the tokens that begin and end a text
    #[arg(long)]
    pub bare: bool,
    /// Take what is spelled like a special token, e.g. <|im_end|>, for that token
    #[arg(long)]
    pub special: bool,
}

/// `pupil bench`
#[derive(Args)]
#[command(after_help = "\
Prefill is one prompt that goes through the model at once. Decode is one token at a time, after that prompt, without \
choosing among the words. Before the first of the runs there is one that does not count; of the others, the median \
does. Loading is from opening the file to being ready for the first token. Memory is the peak of the whole process, \
with the pages of the file that were read.")]
pub struct BenchArgs {
    /// The GGUF file to measure
    #[arg(short, long, value_name = "FILE", required_unless_present = "synthetic", conflicts_with = "synthetic")]
    pub model: Option<PathBuf>,
    /// Random weights in the shape of a well-known model instead, e.g. smollm2-135m:q4_k_m
    #[arg(long, value_name = "SHAPE:TYPE")]
    pub synthetic: Option<Synthetic>,
    /// Write the model of random weights to a file, and measure that
    #[arg(long, value_name = "FILE", requires = "synthetic")]
    pub save: Option<PathBuf>,
    /// Numbers of threads to measure, one after the other [default: one for each core]
    #[arg(short, long, value_name = "N,N,…", value_delimiter = ',', value_parser = threads)]
    pub threads: Vec<usize>,
    /// Tokens in the prompt
    #[arg(long, value_name = "N", default_value = "128", value_parser = tokens)]
    pub prompt: usize,
    /// Tokens to decode after it
    #[arg(long, value_name = "N", default_value = "64", value_parser = tokens)]
    pub decode: usize,
    /// How often to measure
    #[arg(long, value_name = "N", default_value = "3", value_parser = |s: &str| number(s, 1, 1000))]
    pub reps: usize,
    /// Print one JSON object for each number of threads
    #[arg(long)]
    pub json: bool,
}

/// As many threads as the machine has cores for us.
pub fn all_threads() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
}

fn threads(text: &str) -> Result<usize, String> {
    number(text, 1, 256)
}

fn tokens(text: &str) -> Result<usize, String> {
    number(text, 1, 1 << 20)
}

fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from {min} to {max}")),
    }
}

/// What to do about arguments that make no sense: help if that was asked for, one line otherwise.
pub fn refused(error: &clap::Error) -> Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.print()?),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err(Failure::Message("what shall I do? See pupil --help".into()))
        }
        _ => Err(Failure::Message(one_line(&error.render().to_string()))),
    }
}

/// What clap says over several lines, without the usage that it adds.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
