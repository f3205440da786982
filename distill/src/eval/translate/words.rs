//! Cutting sentences into words, as sacrebleu does for BLEU.

use std::str::FromStr;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// How sentences are cut into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenize {
    /// As NIST's `mteval-v13a`: the usual one.
    #[default]
    V13a,
    /// As NIST's `mteval-v14` for all scripts: at every punctuation mark and symbol.
    International,
    /// Every character by itself.
    Characters,
    /// At spaces only: the sentences are cut already.
    None,
}

impl Tokenize {
    const NAMES: [(Self, &str); 4] =
        [(Self::V13a, "13a"), (Self::International, "intl"), (Self::Characters, "char"), (Self::None, "none")];

    /// The words of `text`.
    pub(super) fn words(self, text: &str) -> Vec<String> {
        let text = text.trim_end_matches(is_space);
        let spaced = match self {
            Self::V13a => v13a(text),
            Self::International => international(text),
            Self::Characters => return text.chars().filter(|c| !is_space(*c)).map(String::from).collect(),
            Self::None => text.to_owned(),
        };
        split(&spaced).map(String::from).collect()
    }
}

impl FromStr for Tokenize {
    type Err = String;

    /// Reads sacrebleu's name: `13a`, `intl`, `char` or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.into_iter().find(|(_, name)| *name == text).map(|(tokenize, _)| tokenize);
        found.ok_or_else(|| format!("expected {}", Self::NAMES.map(|(_, name)| name).join(", ")))
    }
}

/// What Python's `str.split` splits at.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What lies between spaces.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

fn v13a(text: &str) -> String {
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if text.contains('&') {
        text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    let apart = |c: char| matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
    let mark = |c: char| c == '.' || c == ',';
    let digit = |c: char| c.is_ascii_digit();
    let text = space_around(&format!(" {text} "), apart);
    let text = space_in_pairs(&text, |a, b| !digit(a) && mark(b), Side::Second);
    let text = space_in_pairs(&text, |a, b| mark(a) && !digit(b), Side::First);
    space_in_pairs(&text, |a, b| digit(a) && b == '-', Side::Second)
}

fn international(text: &str) -> String {
    let is = |c: char, group| c.general_category_group() == group;
    let number = |c| is(c, GeneralCategoryGroup::Number);
    let mark = |c| is(c, GeneralCategoryGroup::Punctuation);
    let text = space_in_pairs(text, |a, b| !number(a) && mark(b), Side::Second);
    let text = space_in_pairs(&text, |a, b| mark(a) && !number(b), Side::First);
    space_around(&text, |c| is(c, GeneralCategoryGroup::Symbol))
}

/// Puts spaces around each character that is to stand `apart`.
fn space_around(text: &str, apart: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if apart(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// The character of a pair that gets a space on both sides.
#[derive(Clone, Copy)]
enum Side {
    First,
    Second,
}

/// Puts spaces around one character of each pair that is `wanted`. From left to right, and a character is in one pair
/// only, as when a regular expression replaces.
fn space_in_pairs(text: &str, wanted: impl Fn(char, char) -> bool, side: Side) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let mut chars = text.chars().peekable();
    while let Some(a) = chars.next() {
        match (chars.next_if(|&b| wanted(a, b)), side) {
            (None, _) => out.push(a),
            (Some(b), Side::First) => out.extend([' ', a, ' ', b]),
            (Some(b), Side::Second) => out.extend([a, ' ', b, ' ']),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        assert_eq!(
            Tokenize::V13a.words("It's 3,000.50 (U.S.), &quot;5-6&quot;."),
            ["It's", "3,000.50", "(", "U", ".", "S", ".", ")", ",", "\"", "5", "-", "6", "\"", "."]
        );
        assert_eq!(Tokenize::International.words("„Ja“, 1.5 €"), ["„", "Ja", "“", ",", "1.5", "€"]);
        assert_eq!(Tokenize::Characters.words(" a 中 "), ["a", "中"]);
        assert_eq!(Tokenize::None.words(" a,\u{1f}b "), ["a,", "b"]);
        assert_eq!("intl".parse(), Ok(Tokenize::International));
        assert!("zh".parse::<Tokenize>().is_err());
    }
}
