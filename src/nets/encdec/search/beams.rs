//! The hypotheses of one sentence.

use super::{Request, SearchOptions, repeats, top::Top};
use crate::nets::encdec::Row;

/// When a sentence is done, once as many hypotheses have ended as the beam is wide. Sentences also end when every
/// hypothesis has reached the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStop {
    /// As soon as the best open hypothesis scores, at its present length, no better than the worst ended one.
    #[default]
    Likely,
    /// At once.
    Always,
    /// Only if no open hypothesis can get better than the ended ones, whatever its length.
    Never,
}

/// Why a translation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    End,
    /// It reached the limit of its length.
    Length,
    /// It began to repeat itself, and was cut.
    Repeats,
}

/// A translation.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its tokens, without the one that ends it.
    pub tokens: Vec<u32>,
    /// Its log-probability over `length ^ length_penalty`; the token that ends it counts in both.
    pub score: f32,
    /// Why it ended.
    pub finish: Finish,
}

/// The search for one sentence's translation.
pub(super) struct Beams {
    /// Its number in the batch.
    pub(super) sentence: usize,
    limit: usize,
    may_repeat: bool,
    /// All tokens of all hypotheses, each with the number of the one before it; the first is what decoders start with.
    tokens: Vec<(u32, usize)>,
    open: Vec<Open>,
    /// The best ones that have ended, the best first.
    ended: Vec<Ended>,
    /// Tokens that each open hypothesis has.
    length: usize,
}

/// A hypothesis that goes on.
#[derive(Clone, Copy)]
struct Open {
    /// Its last token, in `tokens`.
    last: usize,
    score: f32,
    slot: usize,
}

struct Ended {
    last: usize,
    score: f32,
    finish: Finish,
}

/// A hypothesis and a token that may follow it.
struct Candidate {
    parent: usize,
    token: u32,
    score: f32,
}

impl Beams {
    pub(super) fn new(sentence: usize, request: &Request<'_>, start: u32, options: &SearchOptions) -> Self {
        Self {
            sentence,
            limit: request.limit,
            may_repeat: !options.cut_repeats || repeats::anywhere(request.tokens),
            tokens: vec![(start, 0)],
            open: vec![Open { last: 0, score: 0.0, slot: sentence * options.beam }],
            ended: Vec::new(),
            length: 0,
        }
    }

    /// The tokens to run next.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = Row> {
        self.open.iter().map(|open| Row { token: self.tokens[open.last].0, sentence: self.sentence, slot: open.slot })
    }

    /// Says what is wanted of each row's logits: twice as many tokens as the beam is wide, because up to that many may
    /// end their hypotheses.
    pub(super) fn prepare<'t>(&self, tops: &mut impl Iterator<Item = &'t mut Top>, options: &SearchOptions) {
        for (open, top) in self.open.iter().zip(tops) {
            top.wanted = 2 * options.beam;
            top.banned.clear();
            if options.no_repeat_ngram > 0 {
                self.ban(open.last, options.no_repeat_ngram, &mut top.banned);
            }
        }
    }

    /// Adds to `banned` what would complete a sequence of `n` tokens that the hypothesis has already.
    fn ban(&self, last: usize, n: usize, banned: &mut Vec<u32>) {
        let tokens = self.sequence(last, usize::MAX);
        let end = &tokens[(tokens.len() + 1).saturating_sub(n)..];
        if end.len() + 1 == n {
            banned.extend(tokens.windows(n).filter(|window| window.starts_with(end)).map(|window| window[n - 1]));
        }
    }

    /// The last tokens of a hypothesis, at most `most`, with the one that it started with.
    fn sequence(&self, last: usize, most: usize) -> Vec<u32> {
        let mut at = Some(last);
        let back = std::iter::from_fn(|| {
            let (token, before) = self.tokens[at?];
            at = (at != Some(0)).then_some(before);
            Some(token)
        });
        let mut tokens: Vec<u32> = back.take(most).collect();
        tokens.reverse();
        tokens
    }

    /// Goes one token further with what each open hypothesis can be followed by. Returns the translation if that is all,
    /// and otherwise adds the slots to copy, from and to, to `copies`.
    pub(super) fn advance(
        &mut self,
        tops: &[Top],
        end: u32,
        options: &SearchOptions,
        copies: &mut Vec<(usize, usize)>,
    ) -> Option<Found> {
        self.length += 1;
        let length = (self.length as f32).powf(options.length_penalty);
        let opens = self.open.iter().zip(tops).enumerate();
        let mut candidates: Vec<Candidate> = opens
            .flat_map(|(parent, (open, top))| {
                top.tokens.iter().map(move |&(token, log)| Candidate { parent, token, score: open.score + log })
            })
            .collect();
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(2 * options.beam);

        let before = std::mem::take(&mut self.open);
        for (rank, Candidate { parent, token, score }) in candidates.into_iter().enumerate() {
            let ends = token == end;
            let over = ends || self.length == self.limit;
            // What is not among the best is only there to go on with if the best end.
            if over && rank >= options.beam || !over && self.open.len() == options.beam {
                continue;
            }
            self.tokens.push((token, before[parent].last));
            let last = self.tokens.len() - 1;
            if over {
                let finish = if ends { Finish::End } else { Finish::Length };
                let score = score / length;
                let at = self.ended.partition_point(|ended| ended.score >= score);
                self.ended.insert(at, Ended { last, score, finish });
                self.ended.truncate(options.beam);
            } else {
                self.open.push(Open { last, score, slot: before[parent].slot });
            }
        }
        if let Some(found) = self.stuck(length) {
            return Some(found);
        }
        if self.is_done(length, options) {
            return Some(self.found());
        }
        self.share_slots(options.beam, copies);
        None
    }

    /// The best open hypothesis without its end, if that repeats itself.
    fn stuck(&self, length: f32) -> Option<Found> {
        let best = self.open.first().filter(|_| !self.may_repeat)?;
        let surplus = repeats::surplus(&self.sequence(best.last, repeats::WINDOW));
        if surplus == 0 {
            return None;
        }
        let mut tokens = self.sequence(best.last, usize::MAX).split_off(1);
        tokens.truncate(tokens.len() - surplus);
        Some(Found { tokens, score: best.score / length, finish: Finish::Repeats })
    }

    fn is_done(&self, length: f32, options: &SearchOptions) -> bool {
        let Some(best) = self.open.first() else { return true };
        if self.ended.len() < options.beam {
            return false;
        }
        let length = match options.early_stop {
            // One hypothesis that has ended is what greedy search finds.
            _ if options.beam == 1 => return true,
            EarlyStop::Always => return true,
            EarlyStop::Never if options.length_penalty > 0.0 => (self.limit as f32).powf(options.length_penalty),
            EarlyStop::Never | EarlyStop::Likely => length,
        };
        best.score / length <= self.ended[options.beam - 1].score
    }

    /// The best hypothesis that has ended. If none could, because the model computes no numbers, nothing.
    fn found(&self) -> Found {
        let Some(best) = self.ended.first() else {
            return Found { tokens: vec![], score: f32::NEG_INFINITY, finish: Finish::End };
        };
        let mut tokens = self.sequence(best.last, usize::MAX).split_off(1);
        if best.finish == Finish::End {
            tokens.pop();
        }
        Found { tokens, score: best.score, finish: best.finish }
    }

    /// Gives each open hypothesis a slot of its own: the first child of a hypothesis keeps its slot, others get copies.
    fn share_slots(&mut self, beam: usize, copies: &mut Vec<(usize, usize)>) {
        let first = self.sentence * beam;
        let mut free: Vec<usize> =
            (first..first + beam).rev().filter(|slot| self.open.iter().all(|open| open.slot != *slot)).collect();
        for i in 1..self.open.len() {
            let slot = self.open[i].slot;
            if self.open[..i].iter().any(|open| open.slot == slot) {
                let to = free.pop().expect("as many slots as hypotheses");
                copies.push((slot, to));
                self.open[i].slot = to;
            }
        }
    }
}
