//! The hypotheses of one sentence.

use super::{Request, SearchOptions, repeats, top::Top};
use crate::nets::encdec::Row;
use std::ops::Range;

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
    beam: usize,
    limit: usize,
    may_repeat: bool,
    /// All tokens of all hypotheses; the first is what decoders start with.
    links: Vec<Link>,
    open: Vec<Open>,
    /// The best ones that have ended, the best first.
    ended: Vec<Ended>,
    /// Tokens that each open hypothesis has.
    length: usize,
}

/// A token of a hypothesis.
struct Link {
    token: u32,
    /// The one before it, in `links`.
    before: usize,
    /// The log-probability of all up to here.
    score: f32,
}

/// A hypothesis that goes on.
struct Open {
    /// Its last token, in `links`.
    last: usize,
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
            beam: options.beam,
            limit: request.limit,
            may_repeat: !options.cut_repeats || repeats::anywhere(request.tokens),
            links: vec![Link { token: start, before: 0, score: 0.0 }],
            open: vec![Open { last: 0, slot: sentence * options.beam }],
            ended: Vec::new(),
            length: 0,
        }
    }

    /// The slots of all its hypotheses.
    pub(super) fn slots(&self) -> Range<usize> {
        self.sentence * self.beam..(self.sentence + 1) * self.beam
    }

    /// The tokens to run next.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = Row> {
        self.open.iter().map(|open| Row {
            token: self.links[open.last].token,
            sentence: self.sentence,
            slot: open.slot,
        })
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
            let link = &self.links[at?];
            at = (at != Some(0)).then_some(link.before);
            Some(link.token)
        });
        let mut tokens: Vec<u32> = back.take(most).collect();
        tokens.reverse();
        tokens
    }

    /// Goes one token further with what each open hypothesis can be followed by. Returns the translation if that is all,
    /// and otherwise adds the slots that get the past of others, from and to, to `shares`.
    pub(super) fn advance(
        &mut self,
        tops: &[Top],
        end: u32,
        options: &SearchOptions,
        shares: &mut Vec<(usize, usize)>,
    ) -> Option<Found> {
        self.length += 1;
        let length = (self.length as f32).powf(options.length_penalty);
        let opens = self.open.iter().zip(tops).enumerate();
        let mut candidates: Vec<Candidate> = opens
            .flat_map(|(parent, (open, top))| {
                let score = self.links[open.last].score;
                top.tokens.iter().map(move |&(token, log)| Candidate { parent, token, score: score + log })
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
            self.links.push(Link { token, before: before[parent].last, score });
            let last = self.links.len() - 1;
            if over {
                let finish = if ends { Finish::End } else { Finish::Length };
                let score = score / length;
                let at = self.ended.partition_point(|ended| ended.score >= score);
                self.ended.insert(at, Ended { last, score, finish });
                self.ended.truncate(options.beam);
            } else {
                self.open.push(Open { last, slot: before[parent].slot });
            }
        }
        if self.is_done(length, options) {
            return Some(self.found());
        }
        if let Some(cut) = self.stuck(options) {
            // What has ended is whole, unless it is worse than even the part that is left of this one.
            let whole = self.ended.first().is_some_and(|best| best.score >= cut.score);
            return Some(if whole { self.found() } else { cut });
        }
        self.share_slots(shares);
        None
    }

    /// The best open hypothesis without its end, if that repeats itself. Its score is that of what is left: repeats, once
    /// they have begun, are likely, and would make it look better than it is.
    fn stuck(&self, options: &SearchOptions) -> Option<Found> {
        let best = self.open.first().filter(|_| !self.may_repeat)?;
        // Without what decoders start with.
        let surplus = repeats::surplus(&self.sequence(best.last, repeats::WINDOW.min(self.length)));
        if surplus == 0 {
            return None;
        }
        let last = (0..surplus).fold(best.last, |at, _| self.links[at].before);
        let tokens = self.sequence(last, self.length - surplus);
        let score = self.links[last].score / (tokens.len() as f32).powf(options.length_penalty);
        Some(Found { tokens, score, finish: Finish::Repeats })
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
        self.links[best.last].score / length <= self.ended[options.beam - 1].score
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

    /// Gives each open hypothesis a slot of its own: the first child of a hypothesis keeps its slot, others share.
    fn share_slots(&mut self, shares: &mut Vec<(usize, usize)>) {
        let free = self.slots().rev().filter(|slot| self.open.iter().all(|open| open.slot != *slot));
        let mut free: Vec<usize> = free.collect();
        for i in 1..self.open.len() {
            let slot = self.open[i].slot;
            if self.open[..i].iter().any(|open| open.slot == slot) {
                let to = free.pop().expect("as many slots as hypotheses");
                shares.push((slot, to));
                self.open[i].slot = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 1;

    /// A search of which each step is told what may follow each open hypothesis, the best first, until it is over.
    fn search(beam: usize, mut follow: impl FnMut(&[u32]) -> Vec<(u32, f32)>) -> Found {
        let options = SearchOptions { beam, ..SearchOptions::default() };
        let mut beams = Beams::new(0, &Request { tokens: &[5, END], limit: 50 }, 0, &options);
        loop {
            let mut tops = Vec::new();
            for open in &beams.open {
                let mut top = Top::default();
                top.tokens = follow(&beams.sequence(open.last, usize::MAX)[1..]);
                tops.push(top);
            }
            if let Some(found) = beams.advance(&tops, END, &options, &mut Vec::new()) {
                return found;
            }
        }
    }

    /// The log-probability of a token that is next to certain.
    const SURE: f32 = -0.01;

    #[test]
    fn greedy_search_keeps_what_ends_while_the_second_best_repeats() {
        // Eleven times is no repeat yet; then the end is the likeliest, and a twelfth time comes after it.
        let found = search(1, |tokens| match tokens.len() {
            0..11 => vec![(7, SURE), (END, -9.0)],
            _ => vec![(END, -0.5), (7, -1.0)],
        });
        assert_eq!((found.tokens, found.finish), (vec![7; 11], Finish::End));
    }

    #[test]
    fn repeats_are_cut_and_do_not_count() {
        let found = search(1, |tokens| vec![(7, if tokens.is_empty() { -2.0 } else { SURE }), (8, -9.0)]);
        assert_eq!((found.tokens, found.score, found.finish), (vec![7], -2.0, Finish::Repeats));
        // Those of what decoders start with, too, leave one.
        assert_eq!(search(1, |_| vec![(0, SURE), (8, -9.0)]).tokens, [0]);
    }

    #[test]
    fn what_has_ended_is_preferred_to_repeats_unless_it_is_worse() {
        for (end, expected) in [(-0.4, Finish::End), (-9.0, Finish::Repeats)] {
            // Either `3 END` or `3 7 7 7 …`, which looks better the longer it gets.
            let found = search(2, |tokens| match tokens {
                [] => vec![(3, -1.0)],
                [3] => vec![(7, -0.5), (END, end)],
                _ => vec![(7, SURE), (8, -20.0)],
            });
            let tokens = if expected == Finish::End { vec![3] } else { vec![3, 7] };
            assert_eq!((found.tokens, found.finish), (tokens, expected));
        }
    }
}
