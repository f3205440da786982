//! Splits text into words before byte-level BPE, as each family of models does it.
//!
//! The families define their splits by regular expressions with look-ahead. Here each is a scanner that finds the next
//! word in one pass, so that no text can make it backtrack; the tests compare it with the expression itself.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A family of splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// GPT-2: contractions, and runs of letters, numbers or others, each with the space before it.
    Gpt2,
    /// Every digit by itself, then GPT-2.
    Starcoder,
    /// Llama 3: as GPT-2, but any character may lead a run of letters, and numbers go by up to three digits.
    Llama3,
    /// Qwen 2: as Llama 3 with every digit by itself.
    Qwen2,
    /// What llama.cpp does for files that name no split: punctuation first, then GPT-2, then digits by three.
    Default,
}

/// The names that files use (`tokenizer.ggml.pre`).
const NAMES: [(Split, &[&str]); 5] = [
    (Split::Default, &["default"]),
    (Split::Gpt2, &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "a.x-4.0", "mellum", "exaone4"]),
    (Split::Starcoder, &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"]),
    (
        Split::Llama3,
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "dbrx",
            "smaug-bpe",
        ],
    ),
    (Split::Qwen2, &["qwen2", "deepseek-r1-qwen", "kormo", "stablelm2", "hunyuan", "megrez", "solar-open"]),
];

/// Those of Llama 3's family whose words, when they are tokens, are not merged at all, and whose texts begin with BOS.
const WHOLE_WORDS: [&str; 8] =
    ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"];

impl Split {
    /// The split that a file's name stands for.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, names)| names.contains(&name)).map(|&(split, _)| split)
    }

    /// Whether files with this name take whole words from the vocabulary before merging, and begin texts with BOS.
    pub(super) fn whole_words(name: &str) -> bool {
        WHOLE_WORDS.contains(&name)
    }

    /// All known names, for messages.
    pub(super) fn names() -> String {
        let names: Vec<&str> = NAMES.iter().flat_map(|(_, names)| *names).copied().collect();
        names.join(", ")
    }

    /// Calls `each` with the words of `text`, in order; joined they are the text.
    pub(super) fn words<'t>(self, text: &'t str, each: impl FnMut(&'t str)) {
        match self {
            Self::Gpt2 => pieces(text, gpt2).for_each(each),
            Self::Starcoder => pieces(text, digit).flat_map(|part| pieces(part, gpt2)).for_each(each),
            Self::Llama3 => pieces(text, |rest| llama3(rest, 3)).for_each(each),
            Self::Qwen2 => pieces(text, |rest| llama3(rest, 1)).for_each(each),
            Self::Default => pieces(text, punctuation)
                .flat_map(|part| pieces(part, gpt2))
                .flat_map(|part| pieces(part, numbers))
                .flat_map(|part| pieces(part, three_digits))
                .for_each(each),
        }
    }
}

/// Cuts `text` into pieces; `next` gives the length in bytes of the first piece of a text that is not empty.
fn pieces(text: &str, next: impl Fn(&str) -> usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(next(rest));
        rest = after;
        Some(piece)
    })
}

/// The classes that the expressions tell apart: `\p{L}`, `\p{N}`, `\s` and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        _ if c.is_whitespace() => Class::Space,
        _ if c.is_ascii() => Class::Other,
        _ => match c.general_category_group() {
            GeneralCategoryGroup::Letter => Class::Letter,
            GeneralCategoryGroup::Number => Class::Number,
            _ => Class::Other,
        },
    }
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn run_of(text: &str, wanted: Class) -> usize {
    run(text, |c| class(c) == wanted)
}

/// Bytes of the contraction that `text` begins with, like `'s` or `'ll`.
fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let after = text.strip_prefix('\'')?.as_bytes();
    let is = |ending: &&str| match after.get(..ending.len()) {
        Some(found) if any_case => found.eq_ignore_ascii_case(ending.as_bytes()),
        Some(found) => found == ending.as_bytes(),
        None => false,
    };
    ["s", "t", "re", "ve", "m", "ll", "d"].iter().find(|ending| is(ending)).map(|ending| 1 + ending.len())
}

/// `\s+(?!\S)|\s+`: white space, without its last character if a word follows that could take it.
fn spaces(text: &str) -> usize {
    let len = run_of(text, Class::Space);
    let last = text[..len].chars().next_back().map_or(0, char::len_utf8);
    if len == text.len() || len == last { len } else { len - last }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(text: &str) -> usize {
    if let Some(len) = contraction(text, false) {
        return len;
    }
    let after = text.strip_prefix(' ').unwrap_or(text);
    match after.chars().next().map(class) {
        None | Some(Class::Space) => spaces(text),
        Some(class) => text.len() - after.len() + run_of(after, class),
    }
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// with up to `digits` numbers together.
fn llama3(text: &str, digits: usize) -> usize {
    if let Some(len) = contraction(text, true) {
        return len;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after = chars.as_str();
    match class(first) {
        Class::Letter => return run_of(text, Class::Letter),
        Class::Number => {
            let numbers = text.chars().take(digits).take_while(|&c| class(c) == Class::Number);
            return numbers.map(char::len_utf8).sum();
        }
        Class::Space | Class::Other => {}
    }
    if !matches!(first, '\r' | '\n') && after.chars().next().is_some_and(|c| class(c) == Class::Letter) {
        return text.len() - after.len() + run_of(after, Class::Letter);
    }
    let others = text.strip_prefix(' ').unwrap_or(text);
    let len = run_of(others, Class::Other);
    if len > 0 {
        let ends = run(&others[len..], is_newline);
        return text.len() - others.len() + len + ends;
    }
    let white = &text[..run_of(text, Class::Space)];
    match white.rfind(is_newline) {
        Some(at) => at + 1,
        None => spaces(text),
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// `[\p{P}$+<=>^~|]+`, or what lies before it.
fn punctuation(text: &str) -> usize {
    let is = |c: char| match c {
        '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|' => true,
        _ if c.is_ascii_alphanumeric() => false,
        _ => c.general_category_group() == GeneralCategoryGroup::Punctuation,
    };
    same(text, is)
}

/// `\p{N}+`, or what lies before it.
fn numbers(text: &str) -> usize {
    same(text, |c| class(c) == Class::Number)
}

/// `\p{N}`, or what lies before it.
fn digit(text: &str) -> usize {
    let is = |c| class(c) == Class::Number;
    match text.chars().next() {
        Some(c) if is(c) => c.len_utf8(),
        _ => run(text, |c| !is(c)),
    }
}

/// `[0-9][0-9][0-9]`, or what lies before it.
fn three_digits(text: &str) -> usize {
    match text.as_bytes().windows(3).position(|three| three.iter().all(u8::is_ascii_digit)) {
        Some(0) => 3,
        Some(at) => at,
        None => text.len(),
    }
}

/// The run at the beginning of characters for which `is` says the same as for the first.
fn same(text: &str, is: impl Fn(char) -> bool) -> usize {
    let first = text.chars().next().is_some_and(&is);
    run(text, |c| is(c) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fancy_regex::Regex;
    use proptest::prelude::*;
    use std::{cell::RefCell, collections::HashMap, rc::Rc};

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// What the expressions give, one after the other; what lies between their matches counts as well.
    fn by_expression<'t>(text: &'t str, expressions: &[&str]) -> Vec<&'t str> {
        thread_local!(static COMPILED: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default());
        let mut parts = vec![text];
        for expression in expressions {
            let compile = || Rc::new(Regex::new(expression).unwrap());
            let expression =
                COMPILED.with_borrow_mut(|all| all.entry(expression.to_string()).or_insert_with(compile).clone());
            let split = |part: &'t str| {
                let mut out = Vec::new();
                let mut at = 0;
                for found in expression.find_iter(part) {
                    let found = found.unwrap();
                    out.extend([&part[at..found.start()], found.as_str()]);
                    at = found.end();
                }
                out.push(&part[at..]);
                out
            };
            parts = parts.into_iter().flat_map(split).filter(|part| !part.is_empty()).collect();
        }
        parts
    }

    fn words(split: Split, text: &str) -> Vec<&str> {
        let mut out = Vec::new();
        split.words(text, |word| out.push(word));
        out
    }

    fn compare(text: &str) {
        let qwen2 = LLAMA3.replace("{1,3}", "");
        let default = [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"];
        assert_eq!(words(Split::Gpt2, text), by_expression(text, &[GPT2]));
        assert_eq!(words(Split::Starcoder, text), by_expression(text, &[r"\p{N}", GPT2]));
        assert_eq!(words(Split::Llama3, text), by_expression(text, &[LLAMA3]));
        assert_eq!(words(Split::Qwen2, text), by_expression(text, &[&qwen2]));
        assert_eq!(words(Split::Default, text), by_expression(text, &default));
    }

    #[test]
    fn examples() {
        assert_eq!(words(Split::Gpt2, "I'll  go 12\n"), ["I", "'ll", " ", " go", " 12", "\n"]);
        assert_eq!(words(Split::Llama3, "12345 (x)\n\n y"), ["123", "45", " (", "x", ")\n\n", " y"]);
        assert_eq!(words(Split::Qwen2, "\t\tif 10"), ["\t", "\tif", " ", "1", "0"]);
        assert_eq!(words(Split::Starcoder, "a 10"), ["a", " ", "1", "0"]);
        assert_eq!(words(Split::Default, "$$5000"), ["$$", "500", "0"]);
        assert_eq!(words(Split::Llama3, ""), [""; 0]);
    }

    #[test]
    fn every_character_has_the_class_of_the_expressions() {
        let classes = [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)]
            .map(|(expression, class)| (Regex::new(&format!("^{expression}$")).unwrap(), class));
        // All of the planes that have more than a few characters, in steps that hit every block.
        for c in (0..0x33480).chain(0xe0000..0xe0200).filter_map(char::from_u32).filter(|c| !c.is_ascii()) {
            let text = c.to_string();
            let found =
                classes.iter().find(|(e, _)| e.is_match(&text).unwrap()).map_or(Class::Other, |&(_, class)| class);
            // Characters that are newer than the older of the two Unicode tables differ.
            let unassigned = c.general_category_group() == GeneralCategoryGroup::Other;
            assert!(class(c) == found || unassigned || found == Class::Other, "{c:?}: {:?}, {found:?}", class(c));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn equals_the_expressions(text in "([a-zA-Z]{0,3}|'[a-zA-Z]{1,2}|[ \t\r\n\u{a0}\u{3000}]{0,4}|[0-9½٣]{0,5}|[.,!$+<|'\"(¿–。]{0,3}|[éßЖ中語한ก\u{301}\u{fe0f}\u{200d}👩🏽🚀]){0,8}") {
            compare(&text);
        }
    }

    #[test]
    fn a_megabyte_of_anything_is_linear() {
        for text in
            [" ".repeat(1 << 20), "\n ".repeat(1 << 19), "a".repeat(1 << 20), "1".repeat(1 << 20), "'".repeat(1 << 20)]
        {
            for split in [Split::Gpt2, Split::Starcoder, Split::Llama3, Split::Qwen2, Split::Default] {
                let mut bytes = 0;
                split.words(&text, |word| bytes += word.len());
                assert_eq!(bytes, text.len());
            }
        }
    }
}
