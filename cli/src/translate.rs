//! `pupil translate`: a text, a file, or the lines of stdin as they come.

use crate::{
    args::TranslateArgs,
    bundled,
    failure::{Failure, Outcome},
    interrupt, memory, progress,
};
use pupil::{Translation, Translator, translate::Finish};
use serde_json::json;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

/// Lines that are translated together, for each sentence of a batch: so that sentences of like length come together.
const LINES: usize = 8;

/// Translates what `args` name.
pub fn run(args: &TranslateArgs) -> Outcome {
    let start = Instant::now();
    let mut translator = bundled::translator(args.model.as_deref(), args.options())?;
    if args.verbose {
        eprintln!("loaded in {:.1} ms", 1000.0 * start.elapsed().as_secs_f64());
    }
    interrupt::install()?;
    let mut to = Output::new(args)?;
    if let Some(text) = args.text.as_deref().filter(|text| *text != "-") {
        to.write(&[text], &translate(&mut translator, &[text])?, "\n")?;
        return to.finish();
    }
    let name = args.input.as_ref().map_or("stdin".into(), |path| path.display().to_string());
    let unreadable = |error: io::Error| Failure::Message(format!("{name}: {error}"));
    let (source, bytes): (Box<dyn Read + Send>, u64) = match &args.input {
        Some(path) => {
            let file = File::open(path).map_err(unreadable)?;
            let bytes = file.metadata().map_or(0, |meta| meta.len());
            (Box::new(file), bytes)
        }
        None => (Box::new(io::stdin()), 0),
    };
    let bar = progress::bytes(bytes);
    let lines = Lines::of(source);
    let mut at = 0;
    loop {
        let batch = lines.next(args.batch * LINES).map_err(unreadable)?;
        if batch.is_empty() {
            break;
        }
        let mut texts = Vec::with_capacity(batch.len());
        for line in &batch {
            let text = std::str::from_utf8(line).map_err(|error| {
                let at = at + error.valid_up_to();
                Failure::Message(format!("{name}: byte {at} is not UTF-8, expected text in UTF-8"))
            })?;
            at += line.len();
            texts.push(text);
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
    fn of(source: Box<dyn Read + Send>) -> Self {
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

/// Where translations go, and what they took.
struct Output {
    out: Box<dyn Write>,
    json: bool,
    verbose: bool,
    start: Instant,
    lines: usize,
    words: usize,
    tokens: usize,
    cut: usize,
}

impl Output {
    fn new(args: &TranslateArgs) -> Outcome<Self> {
        let out: Box<dyn Write> = match &args.output {
            Some(path) => {
                let file = File::create(path).map_err(|e| Failure::Message(format!("{}: {e}", path.display())))?;
                Box::new(BufWriter::new(file))
            }
            None => Box::new(io::stdout().lock()),
        };
        let (json, verbose, start) = (args.json, args.verbose, Instant::now());
        Ok(Self { out, json, verbose, start, lines: 0, words: 0, tokens: 0, cut: 0 })
    }

    fn write(&mut self, sources: &[&str], translations: &[Translation], end: &str) -> Outcome {
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
            if self.json {
                writeln!(self.out, "{}", as_json(source, translation))?;
            } else {
                write!(self.out, "{}{end}", translation.text)?;
            }
        }
        Ok(self.out.flush()?)
    }

    fn finish(mut self) -> Outcome {
        self.out.flush()?;
        if self.verbose {
            let seconds = self.start.elapsed().as_secs_f64();
            let peak = memory::peak_mib().map_or("?".into(), |mib| format!("{mib:.0}"));
            eprintln!(
                "{} lines, {} words in {seconds:.2} s: {:.0} words/s, {:.0} tokens/s; {} cut; peak memory {peak} MiB",
                self.lines,
                self.words,
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
