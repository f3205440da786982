//! SentencePiece's compiled text normalisation: rules that replace the start of a text, such as NFKC.
//!
//! ```text
//! u32 n, then n bytes: a double array of u32 units (Darts); each rule's value is an offset into
//! the replacements: UTF-8, each ended by a NUL
//! ```
//! All numbers are little-endian, and none of them is trusted.

use crate::error::{Error, Result};

/// Longer replacements are refused, so that a file cannot turn a short text into a huge one. Unicode's longest, that
/// of U+FDFA, takes 33 bytes.
const MAX_REPLACEMENT: usize = 256;

/// Rules for longer texts never match, so that a trie that leads in circles costs no more than one that does not.
const MAX_RULE: usize = 256;

/// The rules. Without any, every text stays as it is.
#[derive(Default)]
pub(super) struct Charsmap {
    units: Vec<Unit>,
    replacements: String,
}

impl Charsmap {
    /// Reads what SentencePiece has compiled; no bytes mean no rules.
    ///
    /// # Errors
    /// `Format` if the lengths contradict each other, or if the replacements are not UTF-8, not ended or too long.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (units, replacements) = parts(bytes).ok_or_else(|| {
            let len = bytes.len();
            Error::format(format!("its {len} bytes contradict its length field, expected a trie and replacements"))
        })?;
        let replacements = std::str::from_utf8(replacements)
            .map_err(|_| Error::format("its replacements are not UTF-8, expected strings that end with a NUL"))?;
        if !replacements.is_empty() && !replacements.ends_with('\0') {
            return Err(Error::format("its last replacement has no end, expected strings that end with a NUL"));
        }
        let longest = replacements.split('\0').map(str::len).max().unwrap_or(0);
        if longest > MAX_REPLACEMENT {
            let message = format!("a replacement of {longest} bytes, expected at most {MAX_REPLACEMENT}");
            return Err(Error::format(message));
        }
        Ok(Self { units, replacements: replacements.into() })
    }

    /// The longest rule for how `text` begins: how many bytes it replaces, and by what.
    pub(super) fn prefix(&self, text: &str) -> Option<(usize, &str)> {
        let mut node = Node::ROOT;
        let mut found = None;
        for (at, &byte) in text.as_bytes().iter().enumerate().take(MAX_RULE) {
            let Some(next) = self.child(node, byte) else { break };
            // A rule that ends within a character is no rule.
            if next.is_rule && text.is_char_boundary(at + 1) {
                found = Some((at + 1, next));
            }
            node = next;
        }
        let (len, rule) = found?;
        Some((len, self.replacement(rule)?))
    }

    /// ASCII characters that stay as they are if no other than ASCII follows.
    pub(super) fn plain(&self) -> [bool; 128] {
        let ascii = 1..128u8;
        std::array::from_fn(|byte| match self.child(Node::ROOT, byte as u8) {
            Some(node) => !node.is_rule && ascii.clone().all(|next| self.child(node, next).is_none()),
            None => true,
        })
    }

    fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let base = match node {
            Node::ROOT => self.units.first()?.offset(),
            node => node.base,
        };
        let at = base ^ usize::from(byte);
        let unit = *self.units.get(at)?;
        // NUL marks the ends of rules.
        (byte != 0 && unit.label() == u32::from(byte))
            .then(|| Node { base: at ^ unit.offset(), is_rule: unit.has_value() })
    }

    fn replacement(&self, rule: Node) -> Option<&str> {
        let text = self.replacements.get(self.units.get(rule.base)?.value()..)?;
        text.split_once('\0').map(|(text, _)| text)
    }
}

/// Where the children of a node are, and whether a rule ends there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    base: usize,
    is_rule: bool,
}

impl Node {
    const ROOT: Self = Self { base: usize::MAX, is_rule: false };
}

/// An entry of the double array, as Darts packs it.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    fn has_value(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    fn value(self) -> usize {
        (self.0 & !(1 << 31)) as usize
    }

    /// The byte that leads here; no byte if this is a value.
    fn label(self) -> u32 {
        self.0 & (1 << 31 | 0xff)
    }

    fn offset(self) -> usize {
        ((self.0 >> 10) << ((self.0 & 1 << 9) >> 6)) as usize
    }
}

fn parts(bytes: &[u8]) -> Option<(Vec<Unit>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (units, replacements) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let (units, []) = units.as_chunks() else { return None };
    Some((units.iter().map(|&unit| Unit(u32::from_le_bytes(unit))).collect(), replacements))
}
