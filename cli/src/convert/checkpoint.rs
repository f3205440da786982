//! A language model's file out of a Hugging Face checkpoint.

use crate::{
    args::{ConvertArgs, unused},
    failure::{Failure, Outcome},
};
use pupil::{
    convert::{Converted, convert},
    output,
};
use std::{collections::BTreeMap, fs};

pub fn run(args: &ConvertArgs) -> Outcome {
    unused(args.of_detectors(), "the model is a language model")?;
    // A file that an earlier run made there may be replaced.
    let files = fs::read_dir(&args.model).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    output::check(&args.output, files.filter(|path| path.extension().is_none_or(|ending| ending != "gguf")))?;
    let mix = args.dtype.as_deref().unwrap_or("q8_0").parse();
    let mix = mix.map_err(|e| Failure::Message(format!("--type of a language model: {e}")))?;
    let converted = convert(&args.model, mix)?;
    converted.write_file(&args.output)?;
    report(args, &converted);
    Ok(())
}

fn report(args: &ConvertArgs, converted: &Converted) {
    println!("model       {}", converted.architecture);
    println!("tokenizer   {}, {} tokens", converted.tokenizer, converted.tokens);
    let types = converted.types().into_iter();
    let types: Vec<_> = types.map(|(dtype, n, bytes)| format!("{n} {dtype} ({:.1} MB)", bytes as f64 / 1e6)).collect();
    println!("tensors     {}", types.join(", "));
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, why) in &converted.fallbacks {
        reasons.entry(why).or_default().push(name);
    }
    for (why, names) in reasons {
        let more = names.len() - 1;
        let names = if more == 0 { names[0].to_owned() } else { format!("{} and {more} more", names[0]) };
        println!("not as asked {names}: {why}");
    }
    let bytes = fs::metadata(&args.output).map_or(0, |meta| meta.len());
    println!("file        {}, {:.1} MB", args.output.display(), bytes as f64 / 1e6);
}
