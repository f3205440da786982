//! `pupil tokenize`: text to tokens and back.

use crate::{
    args::TokenizeArgs,
    failure::{Failure, Outcome},
    input, terminal,
};
use pupil::{
    gguf::Gguf,
    text::{Specials, Tokenizer},
};
use serde_json::json;
use std::io::{self, BufWriter, Write};

/// Prints the tokens of a text, or the text of tokens.
pub fn run(args: &TokenizeArgs) -> Outcome {
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&args.model)?)?;
    let text = match args.text.as_deref() {
        None | Some("-") => input::all()?,
        Some(text) => text.to_owned(),
    };
    let ids = match args.decode {
        true => ids(&text, tokenizer.len())?,
        false => tokenizer.encode(&text, Specials { add: !args.bare, parse: args.special })?,
    };

    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let pieces: Vec<_> = ids.iter().map(|&id| spelled(&tokenizer, id)).collect();
        writeln!(out, "{}", json!({ "ids": ids, "pieces": pieces, "text": tokenizer.decode(&ids) }))?;
    } else if args.decode {
        writeln!(out, "{}", terminal::shown(&tokenizer.decode(&ids)))?;
    } else if args.ids {
        let ids: Vec<_> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>7}  {:?}", spelled(&tokenizer, id))?;
        }
    }
    Ok(out.flush()?)
}

/// What a token adds to a text, or its name if it is a mark for the model.
fn spelled(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = if tokenizer.is_control(id) { tokenizer.token(id).to_vec() } else { tokenizer.piece(id) };
    match String::from_utf8(bytes) {
        Ok(text) => text,
        // Part of a character: its bytes, as SentencePiece writes them.
        Err(error) => error.as_bytes().iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
    }
}

/// The ids in a text, with spaces or commas between them.
fn ids(text: &str, vocab: usize) -> Outcome<Vec<u32>> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty());
    words
        .map(|word| match word.parse() {
            Ok(id) if (id as usize) < vocab => Ok(id),
            _ => Err(Failure::Message(format!("'{word}' is no token, expected ids from 0 to {}", vocab - 1))),
        })
        .collect()
}
