//! `pupil eval chat`: how good a chat model is on dialogues.

use crate::{
    args::{EvalChatArgs, EvalChatHow, all_threads},
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::Model;
use pupil_distill::{
    data::text::{Corpus, Item, Kind, Turn},
    eval::chat::{Reader, Scores, evaluate},
};
use std::{
    fmt::Display,
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

/// Measures the model that `args` name and prints its scores.
pub fn run(args: &EvalChatArgs) -> Outcome {
    let dialogues = dialogues(&args.how)?;
    interrupt::install()?;
    let scores = measure(&args.model, &dialogues, &args.how)?;
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", scores.to_json())?,
        false => writeln!(out, "{scores}")?,
    }
    Ok(())
}

/// The dialogues of a file.
pub fn dialogues(how: &EvalChatHow) -> Outcome<Vec<Vec<Turn>>> {
    let corpus = Corpus::read(&[&how.data], Kind::Chat)?;
    if corpus.bad.count > 0 {
        eprintln!("pupil: {}", corpus.bad.summary("lines"));
    }
    let dialogue = |item| match item {
        Item::Dialogue(turns) => Some(turns),
        _ => None,
    };
    let mut dialogues: Vec<_> = corpus.items.into_iter().filter_map(dialogue).collect();
    dialogues.truncate(how.limit.unwrap_or(usize::MAX));
    match dialogues.is_empty() {
        true => Err(Failure::Message(format!("{}: no dialogues, expected some in .jsonl", how.data.display()))),
        false => Ok(dialogues),
    }
}

/// The scores of a model.
pub fn measure(model: &Path, dialogues: &[Vec<Turn>], how: &EvalChatHow) -> Outcome<Scores> {
    let opened = Model::open(model)?;
    let mut reader = Reader::new(&opened, how.context, how.threads.unwrap_or_else(all_threads))?;
    let bar = progress::bar(dialogues.len());
    let mut each = || {
        bar.inc(1);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let scores = interrupt::during(|| evaluate(&mut reader, dialogues, how.max_tokens, &mut each));
    bar.finish_and_clear();
    let bad = |what: &dyn Display| Failure::Message(format!("{}: {what}", model.display()));
    match scores.map_err(|error| bad(&error))? {
        None => Err(Failure::Interrupted),
        Some(Scores { turns: 0, .. }) => Err(bad(&"no turn of the assistant fits the context, expected one at least")),
        Some(scores) => Ok(scores),
    }
}
