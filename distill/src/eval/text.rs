//! How alike texts are, and how varied.

use std::collections::HashSet;

/// Words as Google's `rouge-score` sees them, without stemming: runs of a–z and 0–9 after everything is lower case.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// ROUGE-L of two texts: the harmonic mean of what part of each their longest common subsequence of words is, 0 to 1
/// (Lin 2004).
pub fn rouge_l(reference: &str, candidate: &str) -> f64 {
    let (reference, candidate) = (words(reference), words(candidate));
    let common = longest_common(&reference, &candidate) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / candidate.len() as f64, common / reference.len() as f64);
    2.0 * precision * recall / (precision + recall)
}

/// The length of the longest common subsequence.
fn longest_common(a: &[String], b: &[String]) -> usize {
    // Of what was read of `a` and each beginning of `b`.
    let mut lengths = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = lengths[j + 1];
            lengths[j + 1] = if x == y { diagonal + 1 } else { above.max(lengths[j]) };
            diagonal = above;
        }
    }
    lengths[b.len()]
}

/// How many of the sequences of n words in texts are different ones, 0 to 1; 0 without any (Li et al. 2016).
pub fn distinct<S: AsRef<str>>(texts: &[S], n: usize) -> f64 {
    let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text.as_ref())).collect();
    let all: Vec<&[String]> = texts.iter().flat_map(|words| words.windows(n)).collect();
    let different: HashSet<&[String]> = all.iter().copied().collect();
    if all.is_empty() { 0.0 } else { different.len() as f64 / all.len() as f64 }
}

/// How many of the sequences of n words in a text came before in it, 0 to 1; 0 without any (seq-rep-n of Welleck et al.
/// 2020).
pub fn repetition(text: &str, n: usize) -> f64 {
    let words = words(text);
    match words.len() >= n && n > 0 {
        true => 1.0 - distinct(&[text], n),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Case {
        reference: String,
        candidate: String,
        rouge_l: f64,
    }

    #[test]
    fn rouge_l_is_googles() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/vectors/rouge.json")).unwrap();
        assert!(cases.len() > 100);
        for Case { reference, candidate, rouge_l: expected } in cases {
            let found = rouge_l(&reference, &candidate);
            assert!((found - expected).abs() < 1e-9, "{reference:?}, {candidate:?}: {found}, expected {expected}");
        }
    }

    #[test]
    fn variety_is_counted_over_all_texts() {
        assert_eq!(distinct(&["a b a b", "A, b!"], 1), 2.0 / 6.0);
        assert_eq!(distinct(&["a b a b", "A, b!"], 2), 2.0 / 4.0);
        assert_eq!(distinct(&["a"], 2), 0.0);
        assert_eq!(distinct::<&str>(&[], 1), 0.0);
    }

    #[test]
    fn repetition_is_counted_within_a_text() {
        assert_eq!(repetition("one two three four five", 4), 0.0);
        assert_eq!(repetition("no no no no no no", 4), 1.0 - 1.0 / 3.0);
        assert_eq!(repetition("no no", 4), 0.0);
    }
}
