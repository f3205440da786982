//! The encoder.

use super::{EncDec, Session, Source, of_layer};
use crate::error::{Error, Result};
use crate::kernels::KEYS;
use crate::nets::attention::{Place, Sight, Span};

/// Tokens that go through the encoder together, unless one sentence alone has more: enough to spread the cost of
/// unpacking weights, and few enough that their activations stay in the second-level cache.
const BATCH: usize = 256;

impl EncDec {
    /// Encodes a batch of sentences, which replace those before. Returns the encoder's states, `[tokens][embedding]`,
    /// one sentence after the other.
    ///
    /// # Errors
    /// `Input` for an empty sentence, a token outside of the vocabulary, or if there is no memory for so many.
    pub fn encode<'s>(&self, session: &'s mut Session, sentences: &[&[u32]]) -> Result<&'s [f32]> {
        if sentences.iter().any(|tokens| tokens.is_empty()) {
            return Err(Error::input("a sentence without tokens cannot be encoded"));
        }
        self.check(sentences.iter().copied().flatten())?;
        session.sentences.clear();
        let (mut row, mut block) = (0, 0);
        for tokens in sentences {
            session.sentences.push(Source { rows: row..row + tokens.len(), block });
            row += tokens.len();
            block += tokens.len().div_ceil(KEYS);
        }
        let longest = sentences.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        for (relative, table) in self.encoder_relative.iter().zip(&mut session.encoder_tables) {
            relative.reach(longest, table);
        }
        self.make_room(&mut session.cross, session.kind, self.decoder.len(), block * KEYS)?;
        session.states.resize(row * self.config.embedding, 0.0);

        let mut start = 0;
        while start < sentences.len() {
            let (mut end, mut rows) = (start + 1, sentences[start].len());
            while end < sentences.len() && rows + sentences[end].len() <= BATCH {
                rows += sentences[end].len();
                end += 1;
            }
            self.encode_together(session, &sentences[start..end], start)?;
            start = end;
        }
        Ok(&session.states)
    }

    /// Encodes some of the batch's sentences, of which `first` is the first one, and computes the keys and values that
    /// the decoder will look at.
    fn encode_together(&self, session: &mut Session, sentences: &[&[u32]], first: usize) -> Result<()> {
        let epsilon = self.config.epsilon;
        let sources = &session.sentences[first..][..sentences.len()];
        let (first_row, first_block) = (sources[0].rows.start, sources[0].block);
        let spans: Vec<Span> = sources
            .iter()
            .flat_map(|source| {
                let rows = source.rows.start - first_row..source.rows.end - first_row;
                let (place, sight) = (Place::From(source.block - first_block), Sight::All(rows.len()));
                Span { rows, place, position: 0, sight }.parts(1)
            })
            .collect();
        // Where each row's key and value go.
        let places: Vec<usize> =
            sources.iter().flat_map(|source| (0..source.rows.len()).map(|i| source.block * KEYS + i)).collect();
        let end = places.last().map_or(0, |place| place + 1) - first_block * KEYS;
        self.make_room(&mut session.encoder, session.kind, 1, end)?;

        let Session { work, encoder, cross, states, encoder_tables, .. } = session;
        work.start(places.len(), &self.config);
        self.embed(sentences.iter().copied().flatten(), &mut work.hidden);
        for (i, layer) in self.encoder.iter().enumerate() {
            let attention = &layer.attention;
            work.project(&attention.norm, epsilon, &[&attention.query, &attention.key, &attention.value]);
            work.remember(encoder.layer_mut(0), attention.query.rows(), |t| places[t] - first_block * KEYS);
            let bias = of_layer(encoder_tables, i).bias();
            work.attend(encoder.layer(0), &spans, Some(bias), &attention.output);
            work.feed_forward(&layer.feed_forward, epsilon);
        }

        let width = self.config.embedding;
        let states = &mut states[first_row * width..][..places.len() * width];
        for (state, hidden) in states.chunks_exact_mut(width).zip(work.hidden.chunks_exact(width)) {
            work.compute.kernels.rms_norm(hidden, &self.encoder_norm, epsilon, state);
        }
        for (i, layer) in self.decoder.iter().enumerate() {
            work.project_rows(states, width, &[&layer.cross.key, &layer.cross.value]);
            work.remember(cross.layer_mut(i), 0, |t| places[t]);
        }
        Ok(())
    }
}
