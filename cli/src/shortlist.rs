//! `pupil shortlist`: adds to a translator's file which words each word may become.

use crate::{
    args::ShortlistArgs,
    failure::{Failure, Outcome},
};
use pupil::{
    gguf::{Gguf, Writer},
    output,
    text::{Specials, Tokenizer},
};
use pupil_distill::{
    data::parallel::{Pair, read_tsv},
    shortlist::{Ids, Shortlist},
};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The keys of a shortlist begin so.
const PREFIX: &str = "pupil.shortlist.";

/// One sentence of so many is kept to measure with.
const HELD_OUT: u64 = 50;

/// Learns the shortlist, measures it on sentences that it has not seen, and writes the file with it.
pub fn run(args: &ShortlistArgs) -> Outcome {
    output::check(&args.output, [&args.data])?;
    let file = Gguf::open(&args.model)?;
    let architecture = file.keys().str("general.architecture")?;
    if architecture != "t5" {
        let place = args.model.display();
        return Err(Failure::Message(format!("{place}: the architecture is '{architecture}', expected t5")));
    }
    let vocab = file.tensor("token_embd.weight")?.rows();
    let tokenizer = Tokenizer::from_gguf(&file)?;
    let pairs = read_tsv(&args.data, args.limit.unwrap_or(usize::MAX))?;
    let (mut seen, mut held_out) = (Vec::new(), Vec::new());
    for pair in &pairs {
        let ids = encode(&tokenizer, pair, args.swap)?;
        // A sentence with several translations is on one side with all of them.
        let mut hasher = DefaultHasher::new();
        ids.0.hash(&mut hasher);
        if hasher.finish().is_multiple_of(HELD_OUT) {
            held_out.push(ids)
        } else {
            seen.push(ids)
        };
    }
    if seen.is_empty() {
        return Err(Failure::Message(format!("{}: no pairs to learn from", args.data.display())));
    }
    let list = Shortlist::learn(&seen, vocab, &args.options());
    write(args, &file, &list)?;

    let coverage = list.coverage(&held_out);
    println!("learned     from {} pairs; {} held out", seen.len(), held_out.len());
    println!("list        {} always, {} targets of {vocab} tokens", list.frequent.len(), list.targets.len());
    if !held_out.is_empty() {
        println!("size        {:.0} tokens for a sentence, on average", coverage.size);
        println!("coverage    {:.2}% of the tokens of translations", 100.0 * coverage.tokens);
        println!("            {:.2}% of translations as a whole", 100.0 * coverage.sentences);
    }
    let bytes = fs::metadata(&args.output).map_or(0, |meta| meta.len());
    let more = bytes.saturating_sub(file.file_len() as u64);
    println!("file        {}, {:.1} MB, {:.1} MB more", args.output.display(), bytes as f64 / 1e6, more as f64 / 1e6);
    Ok(())
}

fn encode(tokenizer: &Tokenizer, pair: &Pair, swap: bool) -> Outcome<Ids> {
    let source = tokenizer.encode(&pair.source, Specials::ADD)?;
    let target = tokenizer.encode(&pair.target, Specials::ADD)?;
    Ok(if swap { (target, source) } else { (source, target) })
}

/// The file as it is, with the list in place of another that it may have.
fn write(args: &ShortlistArgs, file: &Gguf, list: &Shortlist) -> Outcome {
    let tensors = file.tensors().iter().map(|info| file.tensor(&info.name)).collect::<Result<Vec<_>, _>>()?;
    let mut writer = Writer::new();
    let kept = |name: &str| name != "general.alignment" && !name.starts_with(PREFIX);
    for (name, value) in file.keys().iter().filter(|(name, _)| kept(name)) {
        writer.key(name, value);
    }
    for (name, numbers) in [("frequent", &list.frequent), ("offsets", &list.offsets), ("targets", &list.targets)] {
        writer.key(format!("{PREFIX}{name}"), numbers.as_slice());
    }
    for (info, tensor) in file.tensors().iter().zip(&tensors) {
        writer.tensor(&info.name, tensor.dtype(), tensor.dims(), tensor.data());
    }
    Ok(writer.write_file(&args.output)?)
}
