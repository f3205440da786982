//! Greedy and beam search, over all sentences of a batch at once.
//!
//! What is found equals what `generate()` of Hugging Face transformers finds with the same options.

mod beams;
mod repeats;
mod top;

pub use beams::{EarlyStop, Finish, Found};

use super::{Chosen, EncDec, Row, Session};
use crate::error::{Error, Result};
use beams::Beams;
use top::Top;

/// How translations are searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// Hypotheses that are followed at once; with 1, always the likeliest token.
    pub beam: usize,
    /// A hypothesis counts by its log-probability over `length ^ length_penalty`: above 0, longer ones gain.
    pub length_penalty: f32,
    /// When a sentence is done.
    pub early_stop: EarlyStop,
    /// No sequence of so many tokens comes twice; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Ends and cuts translations that say the same again and again, where the source does not.
    pub cut_repeats: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { beam: 1, length_penalty: 1.0, early_stop: EarlyStop::default(), no_repeat_ngram: 0, cut_repeats: true }
    }
}

/// A sentence to translate.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its tokens, with the one that ends a text.
    pub tokens: &'a [u32],
    /// Tokens of its translation, at most; the one that ends it counts.
    pub limit: usize,
}

impl EncDec {
    /// Translates a batch of sentences, whose translations end with `end` and are made of the `chosen` tokens or, without
    /// them, of all.
    ///
    /// # Errors
    /// As [`EncDec::encode`]; and `Input` for a beam of 0 or a limit of 0.
    pub fn search(
        &self,
        session: &mut Session,
        requests: &[Request<'_>],
        end: u32,
        chosen: Option<&Chosen>,
        options: &SearchOptions,
    ) -> Result<Vec<Found>> {
        if options.beam == 0 || requests.iter().any(|request| request.limit == 0) {
            return Err(Error::input("a beam or a limit of 0 finds nothing: expected at least 1"));
        }
        let sentences: Vec<&[u32]> = requests.iter().map(|request| request.tokens).collect();
        self.encode(session, &sentences)?;
        let longest = requests.iter().map(|request| request.limit).max().unwrap_or(0);
        self.reserve(session, requests.len() * options.beam, longest)?;

        let beams = requests.iter().enumerate().map(|(i, request)| Beams::new(i, request, self.config.start, options));
        let mut beams: Vec<Beams> = beams.collect();
        let mut found: Vec<Option<Found>> = vec![None; requests.len()];
        let (mut rows, mut tops, mut shares): (Vec<Row>, Vec<Top>, Vec<_>) = Default::default();
        for position in 0.. {
            rows.clear();
            beams.iter().for_each(|beams| rows.extend(beams.rows()));
            if rows.is_empty() {
                break;
            }
            tops.resize_with(rows.len().max(tops.len()), Top::default);
            let mut slots = tops.iter_mut();
            beams.iter().for_each(|beams| beams.prepare(&mut slots, options));
            self.step(session, &rows, position, chosen)?;
            top::pick(session, chosen, &mut tops[..rows.len()]);

            let mut tops = &tops[..];
            shares.clear();
            beams.retain_mut(|beams| {
                let (own, rest) = tops.split_at(beams.rows().len());
                tops = rest;
                let done = beams.advance(own, end, options, &mut shares);
                if let Some(done) = done {
                    found[beams.sentence] = Some(done);
                    beams.slots().for_each(|slot| self.clear_slot(session, slot));
                    return false;
                }
                true
            });
            for &(from, to) in &shares {
                self.share_slot(session, from, to);
            }
        }
        Ok(found.into_iter().map(|found| found.expect("every sentence ends")).collect())
    }
}
