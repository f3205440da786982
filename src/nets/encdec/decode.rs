//! The decoder, one token of each hypothesis at a time.

use super::{EncDec, Session, of_layer, shortlist::Chosen};
use crate::error::{Error, Result};
use crate::kernels::KEYS;
use crate::nets::attention::{Place, Sight, Span};

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
        session.reserved = tokens.next_multiple_of(KEYS);
        session.slots.reset(slots);
        self.make_room(&mut session.own, session.kind, self.decoder.len(), slots.saturating_mul(session.reserved))?;
        for (relative, table) in self.decoder_relative.iter().zip(&mut session.decoder_tables) {
            relative.reach(session.reserved, table);
        }
        Ok(())
    }

    /// Gives slot `to` the past of slot `from`, which it then goes on from by itself.
    ///
    /// # Panics
    /// If there are no such slots, or they are the same.
    pub fn share_slot(&self, session: &mut Session, from: usize, to: usize) {
        session.slots.share(from, to);
    }

    /// Forgets what a slot holds, so that others can have the memory.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn clear_slot(&self, session: &mut Session, slot: usize) {
        session.slots.clear(slot);
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
        if rows.is_empty() || position >= session.reserved {
            return Err(Error::input(format!(
                "{} rows at position {position}: nothing is reserved for them",
                rows.len()
            )));
        }
        if let Some(row) =
            rows.iter().find(|row| row.slot >= session.slots.len() || row.sentence >= session.sentences.len())
        {
            return Err(Error::input(format!("{row:?}: there is no such slot or sentence")));
        }

        let epsilon = self.config.epsilon;
        let Session { work, sentences, cross, own, slots, decoder_tables, logits, .. } = session;
        for row in rows {
            if let Some((from, to)) = slots.own(row.slot, position / KEYS) {
                for i in 0..self.decoder.len() {
                    own.layer_mut(i).iter_mut().for_each(|head| head.copy_block(from, to));
                }
            }
        }
        let past = rows.iter().enumerate().map(|(i, row)| Span {
            rows: i..i + 1,
            place: Place::Blocks(slots.blocks(row.slot)),
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
            source.push(Span { rows: i..i + 1, place: Place::From(sentence.block), position: 0, sight });
        }

        work.start(rows.len(), &self.config);
        self.embed(rows.iter().map(|row| &row.token), &mut work.hidden);
        for (i, layer) in self.decoder.iter().enumerate() {
            let attention = &layer.attention;
            work.project(&attention.norm, epsilon, &[&attention.query, &attention.key, &attention.value]);
            let place = |t: usize| slots.blocks(rows[t].slot)[position / KEYS] * KEYS + position % KEYS;
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
