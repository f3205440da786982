//! Special tokens: finding them in a text, and those that end an answer.

use super::vocab::{Kind, Vocab};
use std::collections::BTreeSet;

/// A stretch of a text: plain text, or a special token that stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

struct Special {
    id: u32,
    text: Box<str>,
    /// Only found if special tokens are asked for.
    control: bool,
    /// White space after it belongs to it.
    strip_right: bool,
}

/// The special tokens of a vocabulary, the longest first.
pub(super) struct SpecialTokens {
    tokens: Vec<Special>,
    /// The bytes that special tokens begin with.
    first_bytes: Box<[bool; 256]>,
}

impl SpecialTokens {
    /// Collects control, unknown and user-defined tokens. `strip_right` says, for the text of each, whether it takes
    /// the white space after it.
    pub(super) fn new(vocab: &Vocab, strip_right: impl Fn(&str) -> bool) -> Self {
        let special = |id| {
            let kind = vocab.kind(id);
            if !kind.is_control() && kind != Kind::UserDefined {
                return None;
            }
            // A token that is not UTF-8 occurs in no text.
            let text = std::str::from_utf8(vocab.text(id)).ok().filter(|text| !text.is_empty())?;
            Some(Special { id, text: text.into(), control: kind.is_control(), strip_right: strip_right(text) })
        };
        let mut tokens: Vec<Special> = (0..vocab.len() as u32).filter_map(special).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let mut first_bytes = Box::new([false; 256]);
        for token in &tokens {
            first_bytes[token.text.as_bytes()[0] as usize] = true;
        }
        Self { tokens, first_bytes }
    }

    /// Cuts `text` at its special tokens: all places of the longest token first, then those of the next in what is
    /// left. Control tokens count only if `parse` is set; user-defined ones always do.
    pub(super) fn partition<'t>(&self, text: &'t str, parse: bool) -> Vec<Fragment<'t>> {
        let mut fragments: Vec<Fragment> = if text.is_empty() { vec![] } else { vec![Fragment::Text(text)] };
        for at in self.occurring(text) {
            let token = &self.tokens[at];
            if token.control && !parse {
                continue;
            }
            let mut cut = Vec::with_capacity(fragments.len() + 2);
            for fragment in fragments {
                match fragment {
                    Fragment::Text(text) => token.cut(text, &mut cut),
                    Fragment::Token(_) => cut.push(fragment),
                }
            }
            fragments = cut;
        }
        fragments
    }

    /// Which of the tokens occur in `text` at all: most texts hold few of them or none.
    fn occurring(&self, text: &str) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let bytes = text.as_bytes();
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| self.first_bytes[**byte as usize]) {
            let here = &bytes[at..];
            found.extend((0..self.tokens.len()).filter(|&t| here.starts_with(self.tokens[t].text.as_bytes())));
        }
        found
    }
}

impl Special {
    fn cut<'t>(&self, text: &'t str, out: &mut Vec<Fragment<'t>>) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(&*self.text) {
            if !before.is_empty() {
                out.push(Fragment::Text(before));
            }
            out.push(Fragment::Token(self.id));
            rest = if self.strip_right { after.trim_start_matches(is_ascii_space) } else { after };
        }
        if !rest.is_empty() {
            out.push(Fragment::Text(rest));
        }
    }
}

/// C's `isspace`.
fn is_ascii_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Tokens that end an answer by their text alone, as files seldom name all of theirs (llama.cpp keeps the same list).
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens of code models that also end an answer; of each group the first that the vocabulary has.
const FILL_IN_ENDS: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// The tokens that end an answer: those that the file names in `named` and those known by their text, which become
/// control tokens whatever the file says.
pub(super) fn find_ends(vocab: &mut Vocab, named: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let mut ends: BTreeSet<u32> = named.into_iter().collect();
    let groups = FILL_IN_ENDS.iter().filter_map(|texts| texts.iter().find_map(|text| vocab.find(text.as_bytes())));
    let known: Vec<u32> = ENDS.iter().filter_map(|text| vocab.find(text.as_bytes())).chain(groups).collect();
    for &id in &known {
        vocab.set_kind(id, Kind::Control);
    }
    ends.extend(known);
    for text in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
        if let Some(id) = vocab.find(text.as_bytes()) {
            vocab.set_kind(id, Kind::UserDefined);
        }
    }
    let id_of = |text: &str| vocab.find(text.as_bytes()).filter(|id| ends.contains(id));
    let has = |text| id_of(text).is_some();
    // With tool calls of their own, models use `<|end|>` between the parts of one answer, and `</s>` as a word.
    let call = has("<|call|>") || has("<|calls|>");
    let inner = id_of("<|end|>").filter(|_| call && (has("<|return|>") || has("<|flush|>")));
    let word = id_of("</s>").filter(|_| has("<|tool_response>") || has("<|plamo:eos|>"));
    for (id, kind) in [(inner, Kind::UserDefined), (word, Kind::Normal)] {
        if let Some(id) = id {
            ends.remove(&id);
            vocab.set_kind(id, kind);
        }
    }
    ends
}
