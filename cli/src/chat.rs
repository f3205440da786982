//! `pupil chat`: one answer, answers to the lines of stdin, or a conversation at the terminal.

use crate::{
    args::ChatArgs,
    bundled,
    failure::{Failure, Outcome},
    input, interrupt, memory, prompt, terminal,
};
use pupil::{Answer, Chat, ErrorKind, Finish};
use serde_json::json;
use std::{
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    time::{Duration, Instant},
};

/// Answers what `args` ask.
pub fn run(args: &ChatArgs) -> Outcome {
    let start = Instant::now();
    let model = bundled::model(args.model.as_deref())?;
    let options = args.options(&model);
    if let (true, Some(sampler)) = (args.verbose, &options.sampler) {
        eprintln!("temperature {}, seed {}", sampler.temperature, sampler.seed);
    }
    let chat = Chat::new(&model, options)?;
    let mut talk = Talk { chat, raw: args.raw, json: args.json, shift: args.shift };
    if args.verbose {
        eprintln!("loaded in {:.1} ms", 1000.0 * start.elapsed().as_secs_f64());
    }
    interrupt::install()?;
    let turn = |talk: &mut Talk, text: &str| -> Outcome<Finish> {
        let answer = talk.turn(text)?;
        if args.verbose {
            report(&answer);
        }
        Ok(answer.finish)
    };

    match args.prompt.as_deref() {
        Some("-") => finished(turn(&mut talk, input::without_end(&input::all()?))?),
        Some(text) => finished(turn(&mut talk, text)?),
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => prompt::run(&mut talk, turn),
        None => {
            while let Some(line) = input::line()? {
                if !line.trim().is_empty() {
                    finished(turn(&mut talk, &line)?)?;
                }
            }
            Ok(())
        }
    }
}

fn finished(finish: Finish) -> Outcome {
    match finish {
        Finish::Cancelled => Err(Failure::Interrupted),
        Finish::ContextFull => {
            eprintln!("pupil: the answer ends here because the context is full; see --context and --shift");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A conversation whose answers go to stdout.
pub struct Talk {
    /// The conversation.
    pub chat: Chat,
    raw: bool,
    json: bool,
    shift: bool,
}

impl Talk {
    /// Says `text` and prints the answer as it comes, or as a JSON object when it is complete.
    pub fn turn(&mut self, text: &str) -> Outcome<Answer> {
        let mut out = Printer::new();
        // What is continued belongs to the text.
        let echo = if self.raw && !self.json { text } else { "" };
        let mut written = Ok(());
        let answer = interrupt::during(|| {
            let mut first = true;
            self.chat.say(text, |piece| {
                if !self.json && !piece.is_empty() {
                    let echo = if std::mem::take(&mut first) { echo } else { "" };
                    written = out.print(echo).and_then(|()| out.print(piece));
                }
                match written.is_err() || interrupt::requested() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::ContextFull => {
                Failure::Message(format!("{error} ({})", if self.shift { "--context" } else { "--context, --shift" }))
            }
            _ => error.into(),
        })?;
        written?;
        if self.json {
            out.print(&format!("{}\n", as_json(&answer)))?;
        } else {
            out.end()?;
        }
        Ok(answer)
    }
}

/// Writes text to stdout at once, and ends its last line.
struct Printer {
    out: io::StdoutLock<'static>,
    in_line: bool,
}

impl Printer {
    fn new() -> Self {
        Self { out: io::stdout().lock(), in_line: false }
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.in_line = !text.ends_with('\n');
        self.out.write_all(terminal::shown(text).as_bytes())?;
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        if self.in_line { self.print("\n") } else { Ok(()) }
    }
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::End => "end",
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ContextFull => "context full",
        Finish::Cancelled => "cancelled",
        _ => "other",
    }
}

fn as_json(answer: &Answer) -> serde_json::Value {
    json!({
        "text": answer.text,
        "finish": finish(answer),
        "prompt_tokens": answer.prompt_tokens,
        "reused_tokens": answer.reused_tokens,
        "tokens": answer.tokens,
        "prompt_ms": 1000.0 * answer.prompt_time.as_secs_f64(),
        "decode_ms": 1000.0 * answer.decode_time.as_secs_f64(),
        "prompt_tokens_per_second": per_second(computed(answer), answer.prompt_time),
        "tokens_per_second": per_second(answer.tokens, answer.decode_time),
    })
}

/// What an answer took, on stderr.
fn report(answer: &Answer) {
    let peak = memory::peak_mib().map_or("?".into(), |mib| format!("{mib:.0}"));
    eprintln!(
        "prompt {} tokens ({} kept) at {:.1} tok/s, answer {} tokens at {:.1} tok/s ({}), peak memory {peak} MiB",
        answer.prompt_tokens,
        answer.reused_tokens,
        per_second(computed(answer), answer.prompt_time),
        answer.tokens,
        per_second(answer.tokens, answer.decode_time),
        finish(answer),
    );
}

/// Tokens of the prompt that were not kept from earlier turns.
fn computed(answer: &Answer) -> usize {
    answer.prompt_tokens - answer.reused_tokens
}

fn per_second(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}
