//! `pupil translate`: a text, a file, or the lines of stdin as they come.

use crate::{
    args::TranslateArgs,
    bundled,
    counted::counted,
    failure::{Failure, Outcome},
    input, interrupt, memory, progress, terminal,
};
use pupil::{
    Translation, Translator,
    output::{self, Output},
    translate::Finish,
};
use serde_json::json;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

/// Lines that are translated together, for each sentence of a batch: so that sentences of like length come together.
const LINES: usize = 8;

/// Translates what `args` name.
pub fn run(args: &TranslateArgs) -> Outcome {
    let start = Instant::now();
    if let Some(path) = &args.output {
        output::check(path, args.input.iter().chain(&args.translator.model))?;
    }
    let name = args.input.as_ref().map_or("stdin".into(), |path| path.display().to_string());
    let unreadable = |error: io::Error| Failure::Message(format!("{name}: {error}"));
    let file = args.input.as_ref().map(File::open).transpose().map_err(unreadable)?;
    let mut translator = bundled::translator(args.translator.model.as_deref(), args.options())?;
    if args.verbose {
        eprintln!("loaded in {:.1} ms", 1000.0 * start.elapsed().as_secs_f64());
    }
    interrupt::install()?;
    let mut to = Translated::new(args)?;
    if let Some(text) = args.text.as_deref().filter(|text| *text != "-") {
        to.write(&[text], &translate(&mut translator, &[text])?, "\n")?;
        return to.finish();
    }
    let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    let bar = progress::bytes(bytes);
    let lines = match file {
        Some(file) => Lines::of(file),
        None => Lines::of(io::stdin()),
    };
    let mut at = 0;
    loop {
        let batch = lines.next(args.translator.batch * LINES).map_err(unreadable)?;
        if batch.is_empty() {
            break;
        }
        let mut texts = Vec::with_capacity(batch.len());
        for line in &batch {
            let text = std::str::from_utf8(line).map_err(|error| {
                let at = at + error.valid_up_to();
                Failure::Message(format!("{name}: byte {at} is not UTF-8, expected text in UTF-8"))
            })?;
            texts.push(if at == 0 { input::without_mark(text) } else { text });
            at += line.len();
        }
        to.write(&texts, &translate(&mut translator, &texts)?, "")?;
        bar.inc(batch.iter().map(|line| line.len() as u64).sum());
    }
    bar.finish_and_clear();
    to.finish()
}

/// Translates unless Ctrl-C was pressed.
fn translate(translator: &mut Translator, texts: &[&str]) -> Outcome<Vec<Translation>> {
    let translated = interrupt::during(|| {
        let batches = texts.chunks(translator.options().batch * LINES);
        let mut all = Vec::with_capacity(texts.len());
        for batch in batches {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            all.extend(translator.translate_batch(batch)?);
        }
        Ok(all)
    })?;
    Ok(translated)
}

/// Lines with their ends, read while others are translated.
struct Lines(Receiver<io::Result<Vec<u8>>>);

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel(1024);
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            loop {
                let mut line = Vec::new();
                let read = source.read_until(b'\n', &mut line).map(|_| line);
                let ended = matches!(&read, Ok(line) if line.is_empty());
                let failed = read.is_err();
                if ended || sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// At least one line, if there is one, and those that are there already, up to `most`.
    fn next(&self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        self.0.recv().into_iter().chain(self.0.try_iter().take(most - 1)).collect()
    }
}

/// Where translations go.
enum Place {
    Stdout,
    File(PathBuf, Output),
}

impl Place {
    /// Writes text at once.
    fn write(&mut self, text: &str) -> Outcome {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                Ok(out.write_all(terminal::shown(text).as_bytes()).and_then(|()| out.flush())?)
            }
            Self::File(path, out) => {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                written.map_err(|error| Failure::Message(format!("{}: {error}", path.display())))
            }
        }
    }
}

/// What was translated, and what it took.
struct Translated {
    place: Place,
    json: bool,
    verbose: bool,
    start: Instant,
    lines: usize,
    words: usize,
    tokens: usize,
    cut: usize,
}

impl Translated {
    fn new(args: &TranslateArgs) -> Outcome<Self> {
        let place = match &args.output {
            Some(path) => Place::File(path.clone(), Output::create(path)?),
            None => Place::Stdout,
        };
        let (json, verbose, start) = (args.json, args.verbose, Instant::now());
        Ok(Self { place, json, verbose, start, lines: 0, words: 0, tokens: 0, cut: 0 })
    }

    fn write(&mut self, sources: &[&str], translations: &[Translation], end: &str) -> Outcome {
        let mut text = String::new();
        for (source, translation) in sources.iter().zip(translations) {
            self.lines += 1;
            self.words += source.split_whitespace().count();
            self.tokens += translation.tokens;
            if translation.finish != Finish::End {
                self.cut += 1;
                let why = match translation.finish {
                    Finish::Repeats => "it began to repeat itself and was cut",
                    _ => "it grew too long and was cut; see --max-ratio",
                };
                eprintln!("pupil: the translation of line {} is not whole: {why}", self.lines);
            }
            text += &match self.json {
                true => format!("{}\n", as_json(source, translation)),
                false => format!("{}{end}", translation.text),
            };
        }
        self.place.write(&text)
    }

    fn finish(self) -> Outcome {
        if let Place::File(_, out) = self.place {
            out.finish()?;
        }
        if self.verbose {
            let seconds = self.start.elapsed().as_secs_f64();
            let peak = memory::peak_mib().map_or("?".into(), |mib| format!("{mib:.0}"));
            eprintln!(
                "{}, {} in {seconds:.2} s: {:.0} words/s, {:.0} tokens/s; {} cut; peak memory {peak} MiB",
                counted(self.lines, "line"),
                counted(self.words, "word"),
                self.words as f64 / seconds,
                self.tokens as f64 / seconds,
                self.cut
            );
        }
        Ok(())
    }
}

fn as_json(source: &str, translation: &Translation) -> serde_json::Value {
    let finish = match translation.finish {
        Finish::End => "end",
        Finish::Length => "length",
        Finish::Repeats => "repeats",
    };
    json!({
        "source": source.trim_end_matches(['\n', '\r']),
        "text": translation.text.trim_end_matches(['\n', '\r']),
        "score": translation.score,
        "finish": finish,
        "sentences": translation.sentences,
        "source_tokens": translation.source_tokens,
        "tokens": translation.tokens,
    })
}
