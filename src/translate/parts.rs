//! Texts as sentences that fit, and what stands between them.

use crate::error::Result;
use crate::text::sentences::{Piece, shorten, split};
use std::cell::RefCell;
use std::ops::Range;

/// What goes through the network at once: a sentence, or a part of one that is too long.
pub(super) struct Part {
    pub(super) tokens: Vec<u32>,
    pub(super) translation: String,
}

/// Several texts, in parts.
pub(super) struct Parts<'t> {
    /// Of all texts, one after the other.
    pub(super) parts: Vec<Part>,
    /// For each text, what to put together.
    texts: Vec<Vec<Element<'t>>>,
}

enum Element<'t> {
    /// Copied as it is.
    Layout(&'t str),
    /// The next part's translation.
    Part,
}

impl<'t> Parts<'t> {
    /// Cuts `texts` into parts of at most `longest` tokens, which `encode` counts and gives.
    pub(super) fn of(texts: &[&'t str], longest: usize, encode: impl Fn(&str) -> Result<Vec<u32>>) -> Result<Self> {
        let mut all = Self { parts: Vec::new(), texts: Vec::new() };
        for text in texts {
            let mut elements = Vec::new();
            for piece in split(text) {
                match piece {
                    Piece::Layout(layout) => elements.push(Element::Layout(layout)),
                    Piece::Sentence(sentence) => all.sentence(sentence, longest, &encode, &mut elements)?,
                }
            }
            all.texts.push(elements);
        }
        Ok(all)
    }

    fn sentence(
        &mut self,
        sentence: &'t str,
        longest: usize,
        encode: impl Fn(&str) -> Result<Vec<u32>>,
        elements: &mut Vec<Element<'t>>,
    ) -> Result<()> {
        // The last text that was asked about and fits is the next part.
        let fitting = RefCell::new(Ok(Vec::new()));
        let tokens = |part: &str| {
            // A token is rarely longer than 16 bytes; what is much longer need not be encoded to know.
            if part.len() > longest * 32 {
                return None;
            }
            let tokens = encode(part.trim());
            match tokens {
                Ok(tokens) if tokens.len() > longest => None,
                tokens => Some(tokens),
            }
        };
        for part in shorten(sentence, |part| tokens(part).is_some()) {
            *fitting.borrow_mut() = tokens(part).unwrap_or_else(|| Ok(Vec::new()));
            let (start, end) = (part.len() - part.trim_start().len(), part.trim_end().len());
            if start >= end {
                elements.push(Element::Layout(part));
                continue;
            }
            elements.push(Element::Layout(&part[..start]));
            elements.push(Element::Part);
            elements.push(Element::Layout(&part[end..]));
            self.parts.push(Part { tokens: fitting.replace(Ok(Vec::new()))?, translation: String::new() });
        }
        Ok(())
    }

    /// Each text's translation, and the range of its parts.
    pub(super) fn texts(&self) -> impl Iterator<Item = (String, Range<usize>)> {
        let mut at = 0;
        self.texts.iter().map(move |elements| {
            let start = at;
            let mut text = String::new();
            for element in elements {
                match element {
                    Element::Layout(layout) => text.push_str(layout),
                    Element::Part => {
                        text.push_str(self.parts[at].translation.trim());
                        at += 1;
                    }
                }
            }
            (text, start..at)
        })
    }
}
