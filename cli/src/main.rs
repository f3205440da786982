//! The command line program `pupil`.
//!
//! `args/` says what can be asked for, and each verb has a file of its own. Answers go to stdout; what went wrong goes
//! to stderr, in one line that starts with `pupil:`, and the exit code is then 1; or 2, with a line for each of them, if
//! only some of many pictures were bad.

mod args;
mod bench;
#[cfg(any(feature = "chat", feature = "translate", feature = "detect"))]
mod bundled;
#[cfg(feature = "chat")]
mod chat;
#[cfg(feature = "onnx")]
mod convert;
#[cfg(any(feature = "translate", feature = "detect"))]
mod counted;
#[cfg(feature = "detect")]
mod detect;
#[cfg(feature = "distill")]
mod distill;
#[cfg(feature = "eval")]
mod eval;
mod failure;
mod input;
mod inspect;
mod interrupt;
#[cfg(feature = "distill")]
mod label;
mod memory;
#[cfg(any(feature = "translate", feature = "detect"))]
mod progress;
#[cfg(feature = "chat")]
mod prompt;
#[cfg(feature = "eval")]
mod shortlist;
mod synthetic;
mod terminal;
mod tokenize;
#[cfg(feature = "translate")]
mod translate;

use args::Command;
use failure::{Failure, Outcome};
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match args::read() {
        Ok(pupil) => run(pupil.command),
        Err(error) => args::refused(&error),
    };
    match outcome {
        Ok(()) | Err(Failure::NobodyListens) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            eprintln!("pupil: {message}");
            ExitCode::FAILURE
        }
        #[cfg(feature = "detect")]
        Err(Failure::Partly) => ExitCode::from(2),
        Err(Failure::Interrupted) => ExitCode::from(interrupt::EXIT_CODE),
    }
}

fn run(command: Command) -> Outcome {
    match command {
        #[cfg(feature = "chat")]
        Command::Chat(args) => chat::run(&args),
        #[cfg(feature = "translate")]
        Command::Translate(args) => translate::run(&args),
        #[cfg(feature = "detect")]
        Command::Detect(args) => detect::run(&args),
        #[cfg(feature = "eval")]
        Command::Eval(args) => eval::run(&args.what),
        #[cfg(feature = "eval")]
        Command::Shortlist(args) => shortlist::run(&args),
        #[cfg(feature = "distill")]
        Command::Distill(args) => distill::run(&args),
        #[cfg(feature = "distill")]
        Command::Label(args) => label::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Bench(args) => bench::run(&args),
        #[cfg(feature = "onnx")]
        Command::Convert(args) => convert::run(&args),
    }
}
