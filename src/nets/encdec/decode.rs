//! The decoder, one token of each hypothesis at a time.

use super::{EncDec, Session, of_layer, shortlist::Chosen};
use crate::error::{Error, Result};
use crate::kernels::KEYS;
use crate::nets::attention::{Sight, Span};

/// The next token of a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The token.
    pub token: u32,
    /// The number of its sentence in the batch that was encoded.
    pub sentence: usize,
    /// Where the keys and values of its past are.
    pub slot: usize,
}

impl EncDec {
    /// Makes room for `slots` hypotheses of up to `tokens` tokens. Those before are forgotten.
    ///
    /// # Errors
    /// `Input` if there is no memory for so many.
    pub fn reserve(&self, session: &mut Session, slots: usize, tokens: usize) -> Result<()> {
        session.slot_blocks = tokens.div_ceil(KEYS);
        let positions = slots.checked_mul(session.slot_blocks * KEYS).unwrap_or(usize::MAX);
        self.make_room(&mut session.own, session.kind, self.decoder.len(), positions)?;
        for (relative, table) in self.decoder_relative.iter().zip(&mut session.decoder_tables) {
            relative.reach(session.slot_blocks * KEYS, table);
        }
        Ok(())
    }

    /// Copies what slot `from` holds in its first `positions` positions to slot `to`.
    ///
    /// # Panics
    /// If there are no such slots.
    pub fn copy_slot(&self, session: &mut Session, from: usize, to: usize, positions: usize) {
        let (blocks, slot) = (positions.div_ceil(KEYS), session.slot_blocks);
        for layer in 0..self.decoder.len() {
            session.own.layer_mut(layer).iter_mut().for_each(|head| head.copy(from * slot, to * slot, blocks));
        }
    }

    /// Runs the tokens of `rows`, each the one at `position` of its hypothesis, and returns logits
    /// `[rows][vocab]`, or `[rows][chosen tokens]`. Rows of a sentence stand together.
    ///
    /// # Errors
    /// `Input` for no rows, and for rows that ask for what there is not: a token outside of the vocabulary, a sentence
    /// that was not encoded, a slot or a position that was not reserved.
    pub fn step<'s>(
        &self,
        session: &'s mut Session,
        rows: &[Row],
        position: usize,
        chosen: Option<&Chosen>,
    ) -> Result<&'s [f32]> {
        self.check(rows.iter().map(|row| &row.token))?;
        let slots = session.own.capacity() / (session.slot_blocks * KEYS).max(1);
        if rows.is_empty() || position >= session.slot_blocks * KEYS {
            return Err(Error::input(format!(
                "{} rows at position {position}: nothing is reserved for them",
                rows.len()
            )));
        }
        if let Some(row) = rows.iter().find(|row| row.slot >= slots || row.sentence >= session.sentences.len()) {
            return Err(Error::input(format!("{row:?}: there is no such slot or sentence")));
        }

        let epsilon = self.config.epsilon;
        let Session { work, sentences, cross, own, slot_blocks, decoder_tables, logits, .. } = session;
        let past = rows.iter().enumerate().map(|(i, row)| Span {
            rows: i..i + 1,
            block: row.slot * *slot_blocks,
            position,
            sight: Sight::Past,
        });
        let past: Vec<Span> = past.collect();
        let mut source: Vec<Span> = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            if i > 0 && rows[i - 1].sentence == row.sentence {
                source.last_mut().expect("one for the row before").rows.end = i + 1;
                continue;
            }
            let sentence = &sentences[row.sentence];
            let sight = Sight::All(sentence.rows.len());
            source.push(Span { rows: i..i + 1, block: sentence.block, position: 0, sight });
        }

        work.start(rows.len(), &self.config);
        self.embed(rows.iter().map(|row| &row.token), &mut work.hidden);
        for (i, layer) in self.decoder.iter().enumerate() {
            let attention = &layer.attention;
            work.project(&attention.norm, epsilon, &[&attention.query, &attention.key, &attention.value]);
            let place = |t: usize| rows[t].slot * *slot_blocks * KEYS + position;
            work.remember(own.layer_mut(i), attention.query.rows(), place);
            let bias = of_layer(decoder_tables, i).bias();
            work.attend(own.layer(i), &past, Some(bias), &attention.output);

            work.project(&layer.cross.norm, epsilon, &[&layer.cross.query]);
            work.attend(cross.layer(i), &source, None, &layer.cross.output);

            work.feed_forward(&layer.feed_forward, epsilon);
        }
        let output = chosen.map_or(&self.output, |chosen| &chosen.output);
        work.logits(&self.decoder_norm, epsilon, output, logits);
        Ok(logits)
    }
}
