//! `pupil label soft`, `merge` and `inspect`: label stores.

use super::args::{InspectArgs, MergeArgs, SoftArgs};
use crate::{
    args::all_threads,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil_distill::{
    data::text::{
        Corpus, Kind,
        examples::{Encoder, Examples},
    },
    labels::{
        record::Layout,
        soft::{self, Settings},
        store::{Header, Labels},
        write,
    },
    teacher::Runtime,
};
use serde_json::json;
use std::{
    io::{self, Write},
    ops::ControlFlow,
};

/// Records of a store whose kept mass `inspect` looks at.
const LOOKED_AT: u64 = 100_000;

/// Writes a store, or goes on with it.
pub fn write(args: &SoftArgs) -> Outcome {
    let mut teacher = Runtime::open(&args.model, args.threads.unwrap_or_else(all_threads))?;
    let kind = if teacher.translates() { Kind::Translate } else { Kind::Chat };
    let corpus = Corpus::read(&args.data, kind)?;
    if corpus.bad.count > 0 {
        eprintln!("pupil: {}", corpus.bad.summary("lines"));
    }
    let settings = Settings {
        teacher: args.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        layout: Layout { vocab: teacher.vocab(), k: args.k, samples: args.samples },
        temperature: args.temperature,
        seed: args.seed,
        shard: args.shard,
    };
    let (examples, pad) = {
        let encoder = Encoder::new(teacher.tokenizer(), kind, args.max_tokens, args.max_ratio)
            .map_err(|error| Failure::Message(format!("{}: {error}", args.model.display())))?;
        let Examples { examples, .. } = encoder.encode(&corpus.items)?;
        (examples, encoder.pad())
    };
    interrupt::install()?;
    let bar = progress::bar(2);
    let mut each = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let complete = interrupt::during(|| soft::write(&mut teacher, &examples, pad, settings, &args.output, &mut each))?;
    bar.finish_and_clear();
    if !complete {
        return Err(Failure::Interrupted);
    }
    show(&Labels::open(&args.output)?, false)
}

/// Puts shards together.
pub fn merge(args: &MergeArgs) -> Outcome {
    write::merge(&args.shards, &args.output)?;
    show(&Labels::open(&args.output)?, false)
}

/// Prints what a store holds.
pub fn inspect(args: &InspectArgs) -> Outcome {
    show(&Labels::open(&args.file)?, args.json)
}

fn show(labels: &Labels, as_json: bool) -> Outcome {
    let Header { teacher, tokenizer, data, rows, temperature, layout, seed, shard } = labels.header();
    let Layout { vocab, k, samples } = *layout;
    let kept = labels.kept(LOOKED_AT)?;
    let mut out = io::stdout().lock();
    if as_json {
        let line = json!({
            "teacher": teacher, "tokenizer": format!("{tokenizer:016x}"), "vocab": vocab, "data": format!("{data:016x}"),
            "examples": rows, "shard": shard, "tokens": labels.records(), "temperature": temperature, "k": k,
            "samples": samples, "seed": seed, "bytes_per_token": layout.bytes(), "kept": kept,
        });
        return Ok(writeln!(out, "{line}")?);
    }
    writeln!(out, "teacher      {teacher}")?;
    writeln!(out, "vocabulary   {vocab} tokens, {tokenizer:016x}")?;
    writeln!(out, "data         {rows} examples, {data:016x}")?;
    if shard[1] > 1 {
        writeln!(out, "shard        {} of {}", shard[0], shard[1])?;
    }
    writeln!(out, "temperature  {temperature}")?;
    writeln!(out, "a token      the {k} likeliest and {samples} drawn (seed {seed}), {} bytes", layout.bytes())?;
    writeln!(out, "tokens       {}", labels.records())?;
    let kept = kept.map_or("-".into(), |kept| format!("{kept:.4}"));
    writeln!(out, "kept mass    {kept} in the {k} likeliest, on average")?;
    Ok(())
}
