//! Turns the pieces of a token stream into whole characters.

/// Collects the bytes of tokens and gives out complete characters only: a character whose bytes are spread over
/// several tokens appears when its last byte has come.
///
/// Bytes that are no UTF-8 become U+FFFD, exactly as [`String::from_utf8_lossy`] of everything pushed would write them.
///
/// ```
/// # use pupil::text::StreamDecoder;
/// let mut stream = StreamDecoder::new();
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9"), "é");
/// assert_eq!(stream.finish(), "");
/// ```
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    /// The beginning of a character: at most three bytes between calls.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token's bytes and returns the characters that are now complete.
    pub fn push(&mut self, piece: &[u8]) -> String {
        self.pending.extend_from_slice(piece);
        let mut text = String::new();
        let mut rest = &self.pending[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(bad) = error.error_len() else {
                        self.pending = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[bad..];
                }
            }
        }
    }

    /// Ends the stream: what is left of an unfinished character, as U+FFFD. The decoder is then as new.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn never_gives_half_a_character() {
        let text = "a👩‍👩‍👧é한\u{301}z";
        let mut stream = StreamDecoder::new();
        let mut out = String::new();
        for byte in text.bytes() {
            let part = stream.push(&[byte]);
            assert!(!part.contains(char::REPLACEMENT_CHARACTER));
            out += &part;
        }
        assert_eq!(out + &stream.finish(), text);
    }

    #[test]
    fn an_unfinished_character_is_replaced_at_the_end() {
        let mut stream = StreamDecoder::new();
        assert_eq!(stream.push(b"x\xf0\x9f\x98"), "x");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        #[test]
        fn equals_lossy_decoding_of_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..12)) {
            let mut stream = StreamDecoder::new();
            let mut out: String = pieces.iter().map(|piece| stream.push(piece)).collect();
            out += &stream.finish();
            prop_assert_eq!(out, String::from_utf8_lossy(&pieces.concat()).into_owned());
        }
    }
}
