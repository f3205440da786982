//! Translators: tokens and sentences a second.

use super::{median, milliseconds};
use crate::{
    args::BenchArgs,
    failure::{Failure, Outcome},
    memory,
};
use pupil::{
    bytes::Bytes,
    gguf::Gguf,
    kernels::Kernels,
    nets::{
        encdec::{EncDec, Request, SearchOptions, Session},
        kv::CacheType,
    },
};
use serde_json::json;
use std::{
    io::{self, Write},
    time::Instant,
};

/// A token that never comes, so that translations are as long as was asked for.
const NEVER: u32 = u32::MAX;

/// Measures the translator that was `made`, or that `args` name.
pub fn run(made: Option<(Bytes, String)>, args: &BenchArgs) -> Outcome {
    let start = Instant::now();
    let file = match (made, args.model.as_ref().or(args.save.as_ref())) {
        (Some((bytes, name)), _) => Gguf::from_bytes(bytes, &name)?,
        (None, Some(path)) => Gguf::open(path)?,
        (None, None) => return Err(Failure::Message("which model?".into())),
    };
    let net = EncDec::load(&file)?;
    let opened = milliseconds(start);
    if let Some(words) = args.shortlist.filter(|words| *words > net.config.vocab) {
        let vocab = net.config.vocab;
        return Err(Failure::Message(format!("--shortlist is {words}, expected at most the model's {vocab} words")));
    }
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "threads  batch  beam  encode tok/s  decode tok/s  sentences/s  load ms  peak MiB  ISA")?;
    }
    let (batch, beam, [prompt, decode]) = (args.batch.unwrap_or(1), args.beam.unwrap_or(1), args.lengths());
    for threads in args.threads() {
        let start = Instant::now();
        let mut session = net.session(CacheType::F32, threads)?;
        let load = opened + milliseconds(start);
        let [encode, search] = measure(&net, &mut session, args)?;
        let encode_tps = (batch * prompt) as f64 / encode;
        // What takes no longer than encoding alone was not measured.
        let decode_tps = (search > encode).then(|| (batch * decode) as f64 / (search - encode));
        let sentences = batch as f64 / search;
        let (peak, isa) = (memory::peak_mib(), Kernels::get()?.isa);
        if args.json {
            let line = json!({
                "threads": threads, "batch": batch, "beam": beam, "encode_tps": encode_tps, "decode_tps": decode_tps,
                "sentences_per_second": sentences, "load_ms": load, "peak_mib": peak, "isa": isa,
            });
            writeln!(out, "{line}")?;
        } else {
            let peak = peak.map_or("?".into(), |mib| format!("{mib:.0}"));
            let decode_tps = decode_tps.map_or("-".into(), |tps| format!("{tps:.1}"));
            writeln!(
                out,
                "{threads:>7} {batch:>6} {beam:>5} {encode_tps:>13.1} {decode_tps:>13} {sentences:>12.2} {load:>8.1} \
                 {peak:>9}  {isa}"
            )?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Median seconds of encoding a batch, and of translating it, which encodes it too.
fn measure(net: &EncDec, session: &mut Session, args: &BenchArgs) -> Outcome<[f64; 2]> {
    // The same tokens each time, all over the vocabulary (Knuth's multiplicative hash).
    let vocab = net.config.vocab;
    let token = |i: usize| ((i as u64 * 2_654_435_761) % vocab as u64) as u32;
    let (batch, beam, [prompt, decode]) = (args.batch.unwrap_or(1), args.beam.unwrap_or(1), args.lengths());
    let tokens: Vec<u32> = (1..=batch * prompt).map(token).collect();
    let sentences: Vec<&[u32]> = tokens.chunks(prompt).collect();
    // As a translator does for each batch.
    let choose = |n: usize| net.choose((0..n).map(|i| (i * vocab / n) as u32).collect());
    let requests: Vec<Request<'_>> = sentences.iter().map(|tokens| Request { tokens, limit: decode }).collect();
    let options = SearchOptions { beam, cut_repeats: false, ..SearchOptions::default() };
    let mut seconds = [const { Vec::new() }; 2];
    for rep in 0..=args.reps {
        let start = Instant::now();
        net.encode(session, &sentences)?;
        let encode = start.elapsed();
        let start = Instant::now();
        let chosen = args.shortlist.map(choose);
        net.search(session, &requests, NEVER, chosen.as_ref(), &options)?;
        let search = start.elapsed();
        if rep > 0 {
            seconds[0].push(encode.as_secs_f64());
            seconds[1].push(search.as_secs_f64());
        }
    }
    Ok(seconds.map(|mut seconds| median(&mut seconds)))
}
