//! A teacher in a GGUF file.

use super::{Teacher, same_vocabulary};
use crate::{
    batch::{Batch, IGNORE},
    error::{Error, Result},
    loss::Soft,
};
use candle_core::{Device, Tensor};
use pupil::{
    gguf::Gguf,
    nets::{
        decoder::{self, Decoder, Logits},
        encdec::{self, EncDec, Row},
        kv::CacheType,
    },
    text::Tokenizer,
};
use std::path::Path;

/// A language model, decoder-only or encoder-decoder, run by the runtime.
///
/// Sentences go through an encoder-decoder together, a token of each at a time. Texts go through a decoder one after the
/// other, each in one go: its cache is of one text, and the products of a whole text have rows enough.
pub struct Runtime {
    name: String,
    net: Net,
    tokenizer: Tokenizer,
    /// The student's vocabulary; what the teacher has beyond it is padding.
    vocab: usize,
    threads: usize,
}

enum Net {
    /// The session is as long as the longest text so far.
    Decoder(Box<Decoder>, Option<Box<decoder::Session>>),
    EncDec(Box<EncDec>, Box<encdec::Session>),
}

impl Runtime {
    /// Opens a GGUF file.
    ///
    /// # Errors
    /// As [`pupil::Model::open`].
    pub fn open(path: &Path, threads: usize) -> Result<Self> {
        let file = Gguf::open(path)?;
        let tokenizer = Tokenizer::from_gguf(&file)?;
        let net = match file.keys().opt_str("general.architecture")? {
            Some("t5") => {
                let net = EncDec::load(&file)?;
                let session = net.session(CacheType::F32, threads)?;
                Net::EncDec(Box::new(net), Box::new(session))
            }
            _ => Net::Decoder(Box::new(Decoder::load(&file)?), None),
        };
        let vocab = tokenizer.len().min(match &net {
            Net::Decoder(net, _) => net.config.vocab,
            Net::EncDec(net, _) => net.config.vocab,
        });
        Ok(Self { name: file.name().to_string(), net, tokenizer, vocab, threads })
    }

    /// Teaches a student with this tokenizer.
    ///
    /// # Errors
    /// `Input` if its vocabulary is another one.
    pub fn for_student(mut self, student: &Tokenizer) -> Result<Self> {
        same_vocabulary(&self.tokenizer, student).map_err(|error| error.at(&self.name))?;
        self.vocab = self.vocab.min(student.len());
        Ok(self)
    }

    /// The teacher's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether it reads one text and writes another.
    pub fn translates(&self) -> bool {
        matches!(self.net, Net::EncDec(..))
    }

    /// Tokens of its logits.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Logits `[n][vocab]` of the valid positions of a batch, in their order.
    ///
    /// # Errors
    /// `Input` for a batch that does not fit the network.
    pub fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let logits = match &mut self.net {
            Net::Decoder(net, session) => of_decoder(net, session, batch, self.vocab, self.threads),
            Net::EncDec(net, session) => of_encdec(net, session, batch, self.vocab),
        };
        logits.map_err(|error| error.at(&self.name))
    }
}

impl Teacher for Runtime {
    fn expect(&mut self, batch: &Batch) -> Result<Soft> {
        let logits = self.logits(batch)?;
        let n = logits.len() / self.vocab;
        Ok(Soft::Dense(Tensor::from_vec(logits, (n, self.vocab), &Device::Cpu)?))
    }
}

fn of_decoder(
    net: &Decoder,
    session: &mut Option<Box<decoder::Session>>,
    batch: &Batch,
    vocab: usize,
    threads: usize,
) -> Result<Vec<f32>> {
    if batch.source.is_some() {
        return Err(Error::input("a decoder-only teacher and examples with sources, expected examples without"));
    }
    let width = batch.input.width;
    if session.as_ref().is_none_or(|session| session.cache.capacity() < width) {
        *session = Some(Box::new(net.session(width.next_power_of_two(), CacheType::F32, threads)?));
    }
    let Some(session) = session else { return Ok(Vec::new()) };
    let mut out = Vec::with_capacity(batch.valid().len() * vocab);
    for (row, &length) in batch.input.lengths.iter().enumerate() {
        let labels = &batch.labels[row * width..][..length];
        // What comes after the last position that counts says nothing about it.
        let Some(last) = labels.iter().rposition(|&label| label != IGNORE) else { continue };
        session.cache.truncate(0);
        let logits = net.forward(session, &batch.input.ids[row * width..][..=last], Logits::All)?;
        for (logits, &label) in logits.chunks_exact(net.config.vocab).zip(labels) {
            if label != IGNORE {
                out.extend_from_slice(&logits[..vocab]);
            }
        }
    }
    Ok(out)
}

fn of_encdec(net: &EncDec, session: &mut encdec::Session, batch: &Batch, vocab: usize) -> Result<Vec<f32>> {
    let Some(source) = &batch.source else {
        return Err(Error::input("an encoder-decoder teacher and examples without sources, expected some with"));
    };
    let row = |row: usize| &source.ids[row * source.width..][..source.lengths[row]];
    let sentences: Vec<&[u32]> = (0..source.rows()).map(row).collect();
    net.encode(session, &sentences)?;
    let width = batch.input.width;
    net.reserve(session, sentences.len(), width)?;
    // Logits come position by position, and go where their row is.
    let mut place = vec![0; batch.labels.len()];
    batch.valid().iter().enumerate().for_each(|(i, &position)| place[position as usize] = i);
    let mut out = vec![0.0; batch.valid().len() * vocab];
    for position in 0..width {
        let rows = (0..sentences.len()).filter(|&row| position < batch.input.lengths[row]);
        let rows = rows.map(|row| Row { token: batch.input.ids[row * width + position], sentence: row, slot: row });
        let rows: Vec<Row> = rows.collect();
        let logits = net.step(session, &rows, position, None)?;
        for (row, logits) in rows.iter().zip(logits.chunks_exact(net.config.vocab)) {
            let at = row.sentence * width + position;
            if batch.labels[at] != IGNORE {
                out[place[at] * vocab..][..vocab].copy_from_slice(&logits[..vocab]);
            }
        }
    }
    Ok(out)
}
