//! The likeliest tokens of each row.

use crate::nets::encdec::{Chosen, Session};

/// A row's likeliest tokens.
#[derive(Debug, Default)]
pub(super) struct Top {
    /// How many are wanted.
    pub(super) wanted: usize,
    /// Tokens that may not come.
    pub(super) banned: Vec<u32>,
    /// Tokens and their log-probabilities, the likeliest first.
    pub(super) tokens: Vec<(u32, f32)>,
    /// Scratch: numbers of logits, and the logits.
    best: Vec<(u32, f32)>,
}

/// Finds each row's top in the logits of the session's last step.
pub(super) fn pick(session: &mut Session, chosen: Option<&Chosen>, tops: &mut [Top]) {
    let width = session.logits.len() / tops.len();
    let logits = &session.logits;
    let kernels = session.work.compute.kernels;
    session.work.compute.team.each(tops, |_, i, top| {
        let logits = &logits[i * width..][..width];
        select(logits, top.wanted + top.banned.len(), &mut top.best);
        let max = top.best.first().map_or(0.0, |best| best.1);
        let norm = max + kernels.sum_exp(logits, max).ln();
        let token = |i: u32| chosen.map_or(i, |chosen| chosen.tokens[i as usize]);
        let banned = &top.banned;
        let allowed = top.best.iter().map(|&(i, logit)| (token(i), logit - norm));
        top.tokens.clear();
        top.tokens.extend(allowed.filter(|(token, _)| !banned.contains(token)).take(top.wanted));
    });
}

/// The `k` largest of `logits`, the largest first, the first of equals first; NaN and −∞ are never among them.
fn select(logits: &[f32], k: usize, best: &mut Vec<(u32, f32)>) {
    best.clear();
    if k == 0 {
        return;
    }
    let mut threshold = f32::NEG_INFINITY;
    for (start, block) in (0..).step_by(64).zip(logits.chunks(64)) {
        // Nearly all blocks have nothing; this loop has no branches, so that it is computed in vectors.
        if !block.iter().fold(false, |any, &logit| any | (logit > threshold)) {
            continue;
        }
        for (i, &logit) in (start..).zip(block) {
            if logit > threshold {
                let at = best.partition_point(|other| other.1 >= logit);
                best.insert(at, (i, logit));
                best.truncate(k);
                if best.len() == k {
                    threshold = best[k - 1].1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn selecting_equals_sorting(logits in prop::collection::vec((-20i8..20).prop_map(f32::from), 0..400), k in 0usize..20) {
            let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            all.truncate(k);
            let mut best = Vec::new();
            select(&logits, k, &mut best);
            prop_assert_eq!(best, all);
        }
    }

    #[test]
    fn what_is_no_number_is_never_chosen() {
        let mut best = Vec::new();
        select(&[f32::NAN, f32::NEG_INFINITY, 1.0, f32::NAN, -2.0], 4, &mut best);
        assert_eq!(best, [(2, 1.0), (4, -2.0)]);
    }
}
