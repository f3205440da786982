//! SentencePiece's model file, which is a protocol buffer (`sentencepiece_model.proto`).

use super::{Base, Kind, Model, Token};
use crate::error::{Error, Result};

/// Reads a model of the kinds unigram and BPE.
///
/// # Errors
/// `Format` if `bytes` are no such model; `Unsupported` for other kinds.
pub(super) fn read(bytes: &[u8]) -> Result<Base> {
    let mut tokens = Vec::new();
    let mut kind = UNIGRAM;
    let (mut charsmap, mut space_before, mut remove_extra_spaces) = (Vec::new(), true, true);
    let mut file = Message(bytes);
    while let Some((number, field)) = file.next()? {
        match (number, field) {
            (1, Field::Bytes(piece)) => tokens.push(token(Message(piece))?),
            (2, Field::Bytes(trainer)) => {
                let mut trainer = Message(trainer);
                while let Some((number, field)) = trainer.next()? {
                    match (number, field) {
                        (3, Field::Number(n)) => kind = n,
                        (24, Field::Number(1)) => {
                            return Err(Error::unsupported("spaces belong to the word before them, expected after"));
                        }
                        _ => {}
                    }
                }
            }
            (3, Field::Bytes(normalizer)) => {
                let mut normalizer = Message(normalizer);
                while let Some((number, field)) = normalizer.next()? {
                    match (number, field) {
                        (2, Field::Bytes(map)) => charsmap = map.to_vec(),
                        (3, Field::Number(n)) => space_before = n != 0,
                        (4, Field::Number(n)) => remove_extra_spaces = n != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if tokens.is_empty() {
        return Err(Error::format("no pieces, expected a SentencePiece model"));
    }
    let model = match kind {
        UNIGRAM => Model::Unigram { charsmap, remove_extra_spaces },
        BPE => Model::Spm,
        other => return Err(Error::unsupported(format!("a SentencePiece model of kind {other}, expected 1 or 2"))),
    };
    Ok(Base { model, tokens, space_before: Some(space_before) })
}

/// `TrainerSpec.ModelType`
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

fn token(mut piece: Message<'_>) -> Result<Token> {
    let mut token = Token::new("", 0.0, Kind::Normal);
    while let Some((number, field)) = piece.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => token.text = text.to_vec(),
            (2, Field::Float(score)) => token.score = score,
            (3, Field::Number(n)) => {
                let kinds = [Kind::Normal, Kind::Unknown, Kind::Control, Kind::UserDefined, Kind::Unused, Kind::Byte];
                let kind = kinds.into_iter().find(|kind| *kind as u64 == n);
                token.kind = kind.ok_or_else(|| Error::format(format!("a piece of type {n}, expected 1 to 6")))?;
            }
            _ => {}
        }
    }
    Ok(token)
}

/// What is left of a message.
struct Message<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    /// Of a type that we have no use for.
    Other,
}

impl<'a> Message<'a> {
    /// The next field and its number.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let field = self.field();
        field.map(Some).ok_or_else(|| Error::format("no protocol buffer, expected a SentencePiece model"))
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(usize::try_from(len).ok()?)?)
            }
            5 => Field::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for i in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A unigram model of three pieces, as `protoc` would encode it.
    const SMALL: &[u8] =
        b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02\x0a\x09\x0a\x02ab\x15\0\0\x80\xbf\x0a\x0d\x0a\x04</s>\x15\0\0\0\0\x18\x03\
        \x12\x02\x18\x01\x1a\x07\x12\x03xyz\x18\0";

    #[test]
    fn a_model_by_hand() {
        let base = read(SMALL).unwrap();
        let Model::Unigram { charsmap, remove_extra_spaces } = base.model else { panic!("another kind") };
        assert_eq!((&charsmap[..], remove_extra_spaces, base.space_before), (&b"xyz"[..], true, Some(false)));
        let tokens: Vec<_> = base.tokens.iter().map(|t| (&t.text[..], t.score, t.kind)).collect();
        let expected =
            [(&b"<unk>"[..], 0.0, Kind::Unknown), (&b"ab"[..], -1.0, Kind::Normal), (&b"</s>"[..], 0.0, Kind::Control)];
        assert_eq!(tokens, expected);
    }

    #[test]
    fn parts_of_a_model_are_refused_or_read() {
        for len in 0..SMALL.len() {
            let _ = read(&SMALL[..len]);
        }
        assert!(read(b"{\"version\": 1}").is_err() && read(b"").is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
