//! Translations that got stuck: the same few tokens again and again.

/// The longest unit that is looked for.
const LONGEST: usize = 8;
/// Less often, or together shorter, may be meant.
const TIMES: usize = 4;
const TOKENS: usize = 12;

/// Tokens of the end of a sequence that are enough to see that it repeats itself.
pub(super) const WINDOW: usize = LONGEST * TIMES;

/// How many tokens at the end of `tokens` say again what stands before them; 0 if it is not that many. Only the last
/// [`WINDOW`] tokens are looked at.
pub(super) fn surplus(tokens: &[u32]) -> usize {
    (1..=LONGEST)
        .find_map(|unit| {
            let same = tokens.iter().rev().zip(tokens.iter().rev().skip(unit)).take_while(|(a, b)| a == b).count();
            // Whole units, of which the first one stays.
            let surplus = same / unit * unit;
            (surplus + unit >= (unit * TIMES).max(TOKENS)).then_some(surplus)
        })
        .unwrap_or(0)
}

/// Whether `tokens` repeats itself anywhere.
pub(super) fn anywhere(tokens: &[u32]) -> bool {
    (1..=tokens.len()).any(|end| surplus(&tokens[end.saturating_sub(WINDOW)..end]) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_without_the_first_unit() {
        assert_eq!(surplus(&[7; 12]), 11);
        assert_eq!(surplus(&[7; 11]), 0);
        assert_eq!(surplus(&[9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]), 9);
        assert_eq!(surplus(&[9, 1, 2, 3, 1, 2, 3, 1, 2, 3]), 0, "three times may be meant");
        let eight: Vec<u32> = (0..32).map(|i| i % 8).collect();
        assert_eq!(surplus(&eight), 24);
        assert_eq!(surplus(&[]), 0);
    }

    #[test]
    fn they_are_found_anywhere() {
        let mut tokens = vec![5; 12];
        assert!(anywhere(&tokens));
        tokens.extend(20..60);
        assert!(anywhere(&tokens));
        assert!(!anywhere(&tokens[1..]));
    }
}
