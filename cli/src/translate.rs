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
    io::{self, Read, Write},
    path::PathBuf,
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

/// Lines that are translated together, for each sentence of a batch: so that sentences of like length come together.
const LINES: usize = 8;
/// Lines of more bytes than these are not translated together.
const BATCH_BYTES: usize = 1 << 20;
/// The longest line.
const MAX_LINE: usize = 16 << 20;
/// How much is read at once, and how often ahead of what is translated.
const PIECE: usize = 1 << 16;
const PIECES: usize = 16;

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
    let mut lines = match file {
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
        let mut wrong = None;
        for line in &batch {
            match std::str::from_utf8(line) {
                Ok(text) => texts.push(if at == 0 { input::without_mark(text) } else { text }),
                Err(error) => {
                    wrong = Some((at + error.valid_up_to(), to.lines + texts.len() + 1));
                    break;
                }
            }
            at += line.len();
        }
        let translations = translate(&mut translator, &texts)?;
        bar.suspend(|| to.write(&texts, &translations, ""))?;
        if let Some((byte, line)) = wrong {
            let message = format!("{name}: byte {byte}, in line {line}, is not UTF-8, expected text in UTF-8");
            return Err(Failure::Message(message));
        }
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

/// Lines with their ends, read while others are translated. What waits to be translated is bounded, whatever comes.
struct Lines {
    /// What was read, piece by piece.
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// The last of them, and how much of it is in lines already.
    piece: Vec<u8>,
    used: usize,
    /// The beginning of a line whose end is still to come.
    open: Vec<u8>,
    /// Lines that were given out.
    count: usize,
    /// What went wrong behind them.
    failed: Option<io::Error>,
}

impl Lines {
    fn of(mut source: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = sync_channel(PIECES);
        thread::spawn(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = match source.read(&mut piece) {
                    Ok(0) => return,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let failed = read.is_err();
                let read = read.map(|len| {
                    piece.truncate(len);
                    piece
                });
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        Self { pieces, piece: Vec::new(), used: 0, open: Vec::new(), count: 0, failed: None }
    }

    /// At least one line, if there is one, and those that are there already, up to `most`. An error comes after the lines
    /// before it.
    fn next(&mut self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < most && bytes < BATCH_BYTES && self.failed.is_none() {
            if self.used == self.piece.len() {
                let wait = lines.is_empty();
                match if wait { self.pieces.recv().ok() } else { self.pieces.try_recv().ok() } {
                    Some(Ok(piece)) => (self.piece, self.used) = (piece, 0),
                    Some(Err(error)) => self.failed = Some(error),
                    None => {
                        // The last line may have no end.
                        if wait && !self.open.is_empty() {
                            lines.push(std::mem::take(&mut self.open));
                        }
                        break;
                    }
                }
                continue;
            }
            let rest = &self.piece[self.used..];
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
            self.open.extend_from_slice(&rest[..end]);
            self.used += end;
            if self.open.len() > MAX_LINE {
                let (line, most) = (self.count + lines.len() + 1, MAX_LINE >> 20);
                self.failed = Some(io::Error::other(format!("line {line} is longer than {most} MiB")));
            } else if self.open.ends_with(b"\n") {
                bytes += self.open.len();
                lines.push(std::mem::take(&mut self.open));
            }
        }
        self.count += lines.len();
        if lines.is_empty() { self.failed.take().map_or(Ok(lines), Err) } else { Ok(lines) }
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
