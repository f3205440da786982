//! The conversation at the terminal.

use crate::{
    chat::Talk,
    failure::{Failure, Outcome},
};
use pupil::Finish;
use rustyline::{Config, DefaultEditor, error::ReadlineError};

const HELP: &str = "\
/reset          begins a new conversation
/system [TEXT]  tells the model TEXT first, or nothing, and begins a new conversation
/help           shows this
/quit           ends the program, as Ctrl-D does

Ctrl-C stops an answer. Pasted text may have several lines. A space first lets a message begin with a /.";

/// Reads what the user types and has `turn` answer it, until the user ends it.
pub fn run(talk: &mut Talk, mut turn: impl FnMut(&mut Talk, &str) -> Outcome<Finish>) -> Outcome {
    let failed = |error: ReadlineError| Failure::Message(format!("terminal: {error}"));
    let mut editor = DefaultEditor::with_config(Config::builder().auto_add_history(true).build()).map_err(failed)?;
    eprintln!("A conversation of up to {} tokens. /help says more.", talk.chat.context());
    let mut interrupted = false;
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(ReadlineError::Interrupted) if interrupted => return Ok(()),
            Err(ReadlineError::Interrupted) => {
                interrupted = true;
                eprintln!("Ctrl-C again, or Ctrl-D, ends the program.");
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        interrupted = false;
        match line.split_once(char::is_whitespace).unwrap_or((&line, "")) {
            ("/quit" | "/exit", _) => return Ok(()),
            ("/help", _) => eprintln!("{HELP}"),
            ("/reset", _) => {
                talk.chat.reset();
                eprintln!("A new conversation.");
            }
            ("/system", text) => {
                let text = text.trim();
                talk.chat.set_system((!text.is_empty()).then(|| text.to_owned()));
                eprintln!("A new conversation.");
            }
            (word, _) if word.starts_with('/') => eprintln!("{word} is unknown; /help lists what there is."),
            _ if line.trim().is_empty() => {}
            _ => match turn(talk, line.trim()) {
                Ok(Finish::Cancelled) => eprintln!("(stopped)"),
                Ok(Finish::ContextFull) => eprintln!("(the context is full: /reset begins a new conversation)"),
                Ok(_) => {}
                // The conversation goes on as if this had not been said.
                Err(Failure::Message(message)) => eprintln!("pupil: {message}"),
                Err(other) => return Err(other),
            },
        }
    }
}
