//! `pupil bench`: tokens a second, time to load, and memory.

#[cfg(feature = "detect")]
mod detector;
#[cfg(feature = "detect")]
mod operations;
mod translator;

use crate::{
    args::{BenchArgs, unused},
    failure::{Failure, Outcome},
    memory,
};
use pupil::{
    Model,
    gguf::Gguf,
    kernels::Kernels,
    nets::{
        decoder::{Decoder, Logits, Session},
        kv::CacheType,
    },
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

/// What was measured on one number of threads.
struct Measured {
    threads: usize,
    prefill_tps: f64,
    decode_tps: f64,
    load_ms: f64,
    peak_mib: Option<f64>,
    isa: &'static str,
}

/// What kind of model is measured.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Decoder,
    Translator,
    #[cfg(feature = "detect")]
    Detector,
}

impl Kind {
    fn of(args: &BenchArgs) -> Self {
        match (args.synthetic, args.model.as_deref().and_then(architecture).as_deref()) {
            #[cfg(feature = "detect")]
            (None, Some("convnet")) => Self::Detector,
            (None, Some("t5")) => Self::Translator,
            (Some(synthetic), _) if synthetic.translates() => Self::Translator,
            _ => Self::Decoder,
        }
    }

    /// Refuses options that are of other kinds.
    fn check(self, args: &BenchArgs) -> Outcome {
        let of_translators = [
            ("--batch", args.batch.is_some()),
            ("--beam", args.beam.is_some()),
            ("--shortlist", args.shortlist.is_some()),
        ];
        let of_detectors = [("--ops", args.ops)];
        match self {
            Self::Decoder => unused(of_translators.into_iter().chain(of_detectors), "the model is a chat model"),
            Self::Translator => unused(of_detectors, "the model is a translator"),
            #[cfg(feature = "detect")]
            Self::Detector => {
                let of_language = [("--prompt", args.prompt.is_some()), ("--decode", args.decode.is_some())];
                unused(of_language.into_iter().chain(of_translators), "the model is a detector")
            }
        }
    }
}

/// Measures the model that `args` name and prints what came out.
pub fn run(args: &BenchArgs) -> Outcome {
    let kind = Kind::of(args);
    kind.check(args)?;
    let mut made = None;
    if let Some(synthetic) = args.synthetic {
        match &args.save {
            Some(path) => synthetic.save(path)?,
            None => made = Some((synthetic.bytes()?, synthetic.to_string())),
        }
        memory::reset_peak();
    }
    match kind {
        #[cfg(feature = "detect")]
        Kind::Detector => return detector::run(args),
        Kind::Translator => return translator::run(made, args),
        Kind::Decoder => {}
    }
    let start = Instant::now();
    let model = match (made, args.model.as_ref().or(args.save.as_ref())) {
        (Some((bytes, name)), _) => Model::from_bytes(bytes, &name)?,
        (None, Some(path)) => Model::open(path)?,
        (None, None) => return Err(Failure::Message("which model?".into())),
    };
    let opened_ms = milliseconds(start);

    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{:>7} {:>14} {:>13} {:>8} {:>9}  ISA",
            "threads", "prefill tok/s", "decode tok/s", "load ms", "peak MiB"
        )?;
    }
    for threads in args.threads() {
        let m = measure(model.decoder(), threads, opened_ms, args)?;
        if args.json {
            let line = json!({
                "threads": m.threads, "prefill_tps": m.prefill_tps, "decode_tps": m.decode_tps,
                "load_ms": m.load_ms, "peak_mib": m.peak_mib, "isa": m.isa,
            });
            writeln!(out, "{line}")?;
        } else {
            let peak = m.peak_mib.map_or("?".into(), |mib| format!("{mib:.0}"));
            writeln!(
                out,
                "{:>7} {:>14.1} {:>13.1} {:>8.1} {peak:>9}  {}",
                m.threads, m.prefill_tps, m.decode_tps, m.load_ms, m.isa
            )?;
        }
        out.flush()?;
    }
    Ok(())
}

/// What kind of network the file at `path` holds, if it can be opened.
fn architecture(path: &Path) -> Option<String> {
    Some(Gguf::open(path).ok()?.keys().str("general.architecture").ok()?.to_owned())
}

fn measure(decoder: &Decoder, threads: usize, opened_ms: f64, args: &BenchArgs) -> Outcome<Measured> {
    let start = Instant::now();
    let [prompt, decode] = args.lengths();
    let mut session = decoder.session(prompt + decode, CacheType::F16, threads)?;
    let load_ms = opened_ms + milliseconds(start);

    // The same tokens each time, all over the vocabulary (Knuth's multiplicative hash).
    let token = |i: usize| ((i as u64 * 2_654_435_761) % decoder.config.vocab as u64) as u32;
    let tokens: Vec<u32> = (1..=prompt + decode).map(token).collect();
    let (prompt, singles) = tokens.split_at(prompt);

    pass(decoder, &mut session, prompt, &singles[..singles.len().min(4)])?;
    let mut seconds = (Vec::new(), Vec::new());
    for _ in 0..args.reps {
        let (prefill, decode) = pass(decoder, &mut session, prompt, singles)?;
        seconds.0.push(prefill);
        seconds.1.push(decode);
    }
    Ok(Measured {
        threads,
        prefill_tps: prompt.len() as f64 / median(&mut seconds.0),
        decode_tps: singles.len() as f64 / median(&mut seconds.1),
        load_ms,
        peak_mib: memory::peak_mib(),
        isa: Kernels::get()?.isa,
    })
}

/// One conversation from its start: the prompt at once, then single tokens. Returns the seconds of both.
fn pass(decoder: &Decoder, session: &mut Session, prompt: &[u32], singles: &[u32]) -> Outcome<(f64, f64)> {
    session.cache.truncate(0);
    let start = Instant::now();
    decoder.forward(session, prompt, Logits::Last)?;
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for token in singles {
        decoder.forward(session, &[*token], Logits::Last)?;
    }
    Ok((prefill, start.elapsed().as_secs_f64()))
}

fn milliseconds(start: Instant) -> f64 {
    1000.0 * start.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}
