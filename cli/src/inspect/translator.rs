//! What a translator's file is about, in a few lines.

use pupil::{
    Result,
    gguf::Gguf,
    nets::encdec::{ARCHITECTURE, EncDec, Shortlist},
};
use serde_json::{Value, json};
use std::fmt;

/// A translator, or why its file makes none.
pub struct Summary(Result<Parts>);

struct Parts {
    net: EncDec,
    from: String,
    to: String,
    shortlist: bool,
}

impl Summary {
    /// Of a file, if it is a translator's.
    pub fn of(file: &Gguf) -> Option<Self> {
        let is_one = matches!(file.keys().str("general.architecture"), Ok(ARCHITECTURE));
        is_one.then(|| Self(Parts::read(file)))
    }

    pub fn to_json(&self) -> Value {
        match &self.0 {
            Ok(Parts { net, from, to, shortlist }) => json!({
                "encoder_layers": net.config.encoder_layers,
                "decoder_layers": net.config.decoder_layers,
                "embedding": net.config.embedding,
                "from": from,
                "to": to,
                "shortlist": shortlist,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        }
    }
}

impl Parts {
    fn read(file: &Gguf) -> Result<Self> {
        let net = EncDec::load(file)?;
        let shortlist = Shortlist::read(file, net.config.vocab)?.is_some();
        let language = |key: &str| Ok(file.keys().opt_str(key)?.unwrap_or("?").to_owned());
        Ok(Self { net, from: language("pupil.translate.from")?, to: language("pupil.translate.to")?, shortlist })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { net, from, to, shortlist } = match &self.0 {
            Ok(parts) => parts,
            Err(error) => return write!(f, "no translator: {error}"),
        };
        let config = &net.config;
        writeln!(f, "translator  from {from} to {to}{}", if *shortlist { ", with a shortlist" } else { "" })?;
        write!(
            f,
            "network     {} encoder and {} decoder layers of {}, {} heads of {}, {} tokens",
            config.encoder_layers, config.decoder_layers, config.embedding, config.heads, config.head_dim, config.vocab
        )
    }
}
