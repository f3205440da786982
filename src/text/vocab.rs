//! The tokens of a vocabulary: their bytes where they lie in the file, and the way back from bytes to ids.

use crate::{
    bytes::Bytes,
    error::{Error, Result},
};
use foldhash::fast::RandomState;
use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

/// Byte strings of a file, in place: only where each one lies is stored.
pub(super) struct Pool {
    bytes: Arc<Bytes>,
    base: usize,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

impl Pool {
    /// Notes where `strings` lie; they must be slices of `bytes`.
    ///
    /// # Errors
    /// `Unsupported` if there are 2³¹ strings or if they span more than 4 GiB.
    pub(super) fn new<'a>(bytes: &'a Arc<Bytes>, strings: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<Self> {
        let too_large = || Error::unsupported("more than 4 GiB of strings, expected less");
        if strings.len() > i32::MAX as usize {
            return Err(too_large());
        }
        let origin = bytes.as_ptr().addr();
        let mut base = None;
        let mut spans = Vec::with_capacity(strings.len());
        for string in strings {
            let at = string.as_ptr().addr().wrapping_sub(origin);
            let base = *base.get_or_insert(at);
            let span = match string.len() {
                0 => Span { start: 0, len: 0 },
                len => Span {
                    start: at.checked_sub(base).and_then(|start| start.try_into().ok()).ok_or_else(too_large)?,
                    len: len.try_into().map_err(|_| too_large())?,
                },
            };
            spans.push(span);
        }
        Ok(Self { bytes: bytes.clone(), base: base.unwrap_or(0), spans })
    }

    /// A pool with its own copy of `strings`.
    #[cfg(any(test, feature = "hf-tokenizer"))]
    pub(super) fn copied(strings: &[impl AsRef<[u8]>]) -> Result<Self> {
        let all: Vec<u8> = strings.iter().flat_map(|s| s.as_ref()).copied().collect();
        let bytes = Arc::new(Bytes::from(&all[..]));
        let mut at = 0;
        let slices = strings.iter().map(|s| {
            let from = at;
            at += s.as_ref().len();
            &bytes[from..at]
        });
        Self::new(&bytes, slices)
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The string with this index; nothing if there is none.
    pub(super) fn get(&self, index: u32) -> &[u8] {
        let Some(span) = self.spans.get(index as usize) else { return &[] };
        let start = self.base + span.start as usize;
        self.bytes.get(start..start + span.len as usize).unwrap_or_default()
    }
}

/// A flat hash table of indices; who asks brings the hash and says whether an index is the one meant.
///
/// A slot holds 32 bits of the hash and the index plus one, so that a probe seldom has to look at the strings.
/// Hashes are seeded at random: a file cannot be made to collide.
pub(super) struct Table {
    slots: Vec<u64>,
}

impl Table {
    pub(super) fn with_capacity(len: usize) -> Self {
        Self { slots: vec![0; (len + len / 3 + 1).next_power_of_two()] }
    }

    /// Adds `index`, unless the table has what is the `same`. No more may be added than the capacity given.
    pub(super) fn insert(&mut self, hash: u64, index: u32, same: impl Fn(u32) -> bool) {
        let slot = self.probe(hash, same);
        if self.slots[slot] == 0 {
            self.slots[slot] = (hash >> 32 << 32) | u64::from(index + 1);
        }
    }

    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        (self.slots[self.probe(hash, same)] as u32).checked_sub(1)
    }

    /// The slot that holds what is the `same`, or the empty one where it would be. There always is an empty one.
    fn probe(&self, hash: u64, same: impl Fn(u32) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 || (slot >> 32 == hash >> 32 && same(slot as u32 - 1)) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }
}

pub(super) fn hash(state: &RandomState, string: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(string);
    hasher.finish()
}

/// What a token is for, by its GGUF number (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Undefined,
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    pub(super) fn from_gguf(number: i32) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Undefined,
        }
    }

    /// Whether text never is this token, unless special tokens are asked for.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Control | Self::Unknown)
    }
}

/// How the tokens of a vocabulary are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// SentencePiece: `▁` is a space and `<0x0A>` a byte.
    Pieces,
    /// GPT-2: every byte is a printable character.
    ByteLevel,
}

/// The tokens, by id and by spelling.
pub(super) struct Vocab {
    tokens: Pool,
    kinds: Vec<Kind>,
    spelling: Spelling,
    table: Table,
    state: RandomState,
    longest: usize,
}

impl Vocab {
    /// A vocabulary; where a token occurs twice, its spelling means the lower id.
    pub(super) fn new(tokens: Pool, kinds: Vec<Kind>, spelling: Spelling) -> Self {
        let state = RandomState::default();
        let mut table = Table::with_capacity(tokens.len());
        let mut longest = 0;
        for id in 0..tokens.len() as u32 {
            let token = tokens.get(id);
            longest = longest.max(token.len());
            if !token.is_empty() {
                table.insert(hash(&state, token), id, |other| tokens.get(other) == token);
            }
        }
        Self { tokens, kinds, spelling, table, state, longest }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token as the vocabulary spells it.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        self.tokens.get(id)
    }

    pub(super) fn find(&self, token: &[u8]) -> Option<u32> {
        if token.len() > self.longest {
            return None;
        }
        self.table.find(hash(&self.state, token), |id| self.tokens.get(id) == token)
    }

    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Undefined)
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(known) = self.kinds.get_mut(id as usize) {
            *known = kind;
        }
    }

    /// Appends the bytes that a token adds to a text.
    pub(super) fn write_piece(&self, id: u32, out: &mut Vec<u8>) {
        let text = self.text(id);
        match self.kind(id) {
            Kind::UserDefined => out.extend_from_slice(text),
            Kind::Byte => out.extend(byte_of(text)),
            Kind::Normal => match self.spelling {
                Spelling::Pieces => unescape_spaces(text, out),
                Spelling::ByteLevel => unmap_bytes(text, out),
            },
            Kind::Undefined | Kind::Unknown | Kind::Control | Kind::Unused => {}
        }
    }
}

/// U+2581 `▁`, which stands for a space in SentencePiece vocabularies.
pub(super) const SPACE: &str = "\u{2581}";

fn unescape_spaces(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(SPACE.as_bytes()) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(byte);
            rest = after;
        }
    }
}

/// The byte that a token like `<0x0A>` stands for.
fn byte_of(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The printable character that stands for each byte in GPT-2's vocabularies: printable bytes are themselves, the
/// others are U+0100 and up in order.
pub(super) const BYTE_CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let mut next = 0x100u32;
    let mut byte = 0;
    while byte < 256 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { byte as u32 } else { next };
        next += !printable as u32;
        chars[byte] = match char::from_u32(code) {
            Some(c) => c,
            None => unreachable!(),
        };
        byte += 1;
    }
    chars
};

/// The byte of each character up to U+0143.
const CHAR_BYTES: [Option<u8>; 0x144] = {
    let mut bytes = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        bytes[BYTE_CHARS[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    bytes
};

/// Characters back to bytes. What stands for no byte is taken as it is.
fn unmap_bytes(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match CHAR_BYTES.get(c as usize) {
                Some(&Some(byte)) => out.push(byte),
                _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_again_and_the_lower_id_wins() {
        let tokens: Vec<String> = (0..5000).map(|i| format!("t{}", i % 4000)).collect();
        let vocab = Vocab::new(Pool::copied(&tokens).unwrap(), vec![], Spelling::Pieces);
        assert!((0..4000).all(|id| vocab.find(format!("t{id}").as_bytes()) == Some(id)));
        assert_eq!(vocab.find(b"t4000"), None);
        assert_eq!(vocab.find(b""), None);
        assert_eq!(vocab.text(9999), b"");
    }

    #[test]
    fn an_empty_vocabulary_finds_nothing() {
        let vocab = Vocab::new(Pool::copied(&[""; 0]).unwrap(), vec![], Spelling::Pieces);
        assert_eq!((vocab.len(), vocab.find(b"a"), vocab.find(b"")), (0, None, None));
    }

    #[test]
    fn a_million_equal_tokens_take_no_quadratic_time() {
        let vocab = Vocab::new(Pool::copied(&vec!["a"; 1_000_000]).unwrap(), vec![], Spelling::Pieces);
        assert_eq!(vocab.find(b"a"), Some(0));
    }

    #[test]
    fn bytes_and_characters_are_one_to_one() {
        for byte in 0..=255u8 {
            let mut out = Vec::new();
            unmap_bytes(BYTE_CHARS[byte as usize].to_string().as_bytes(), &mut out);
            assert_eq!(out, [byte]);
            assert_eq!(byte_of(format!("<0x{byte:02X}>").as_bytes()), Some(byte));
        }
        assert_eq!((BYTE_CHARS[b' ' as usize], BYTE_CHARS[b'\n' as usize]), ('Ġ', 'Ċ'));
        assert_eq!(byte_of(b"<0x+1>"), None);
    }
}
