//! Text as the token ids that a student reads and should say.

use super::{Item, Kind, Role, Turn};
use crate::{
    batch::IGNORE,
    error::{Error, Result},
};
use pupil::text::{Specials, Tokenizer};
use serde::{Deserialize, Serialize};

/// What a student learns from at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Example {
    /// What an encoder reads; nothing for decoder-only students.
    pub source: Vec<u32>,
    /// What the decoder reads.
    pub input: Vec<u32>,
    /// As long as `input`: the token that should follow each of its tokens, or [`IGNORE`].
    pub labels: Vec<u32>,
}

/// Examples, and what was too long.
#[derive(Debug, Clone, Default)]
pub struct Examples {
    /// In the order of the items.
    pub examples: Vec<Example>,
    /// Items of which nothing fits, or with lengths that no translation has.
    pub left_out: usize,
}

/// Turns items into examples.
///
/// - A pair: the encoder reads the source and its end token; the decoder reads the padding token and the target, and
///   should say the target and the end token, as in T5.
/// - A dialogue: written in ChatML; only what the assistant says counts, and the token that ends its turn. A dialogue that
///   is too long becomes several, each of which begins with a turn of the user. Turns that are too long by themselves are
///   left out, and so are the answers to them.
/// - A text: every token counts, and the one that ends the text. One that is too long becomes several.
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    kind: Kind,
    max_tokens: usize,
    max_ratio: f64,
    pad: u32,
    end: u32,
    turn: Option<u32>,
}

impl<'t> Encoder<'t> {
    /// An encoder for examples of up to `max_tokens` tokens (of each language), with up to `max_ratio` times as many in
    /// one language as in the other.
    ///
    /// # Errors
    /// `Input` if the vocabulary lacks the special tokens that this takes.
    pub fn new(tokenizer: &'t Tokenizer, kind: Kind, max_tokens: usize, max_ratio: f64) -> Result<Self> {
        let special = |id: Option<u32>, what: &str| {
            id.ok_or_else(|| Error::input(format!("the tokenizer has no {what} token, expected one")))
        };
        let (pad, end, turn) = match kind {
            Kind::Translate => (special(tokenizer.pad(), "padding")?, special(tokenizer.eos(), "end")?, None),
            Kind::Chat => {
                let end = special(tokenizer.id("<|im_end|>"), "<|im_end|>")?;
                let turn = special(tokenizer.id("<|im_start|>"), "<|im_start|>")?;
                (special(tokenizer.pad().or(tokenizer.bos()), "padding")?, end, Some(turn))
            }
        };
        Ok(Self { tokenizer, kind, max_tokens, max_ratio, pad, end, turn })
    }

    /// What fills up batches.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// What ends a translation or a turn.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The examples of items.
    ///
    /// # Errors
    /// `Input` for items of another kind.
    pub fn encode(&self, items: &[Item]) -> Result<Examples> {
        let mut all = Examples::default();
        for item in items {
            let before = all.examples.len();
            match (self.kind, item) {
                (Kind::Translate, Item::Pair { source, target }) => all.examples.extend(self.pair(source, target)?),
                (Kind::Chat, Item::Dialogue(turns)) => self.dialogue(turns, &mut all.examples)?,
                (Kind::Chat, Item::Text(text)) => self.text(text, &mut all.examples)?,
                _ => return Err(Error::input("text of another kind than the student's, expected one kind")),
            }
            all.left_out += usize::from(all.examples.len() == before);
        }
        Ok(all)
    }

    fn plain(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode(text, Specials::NONE)?)
    }

    fn pair(&self, source: &str, target: &str) -> Result<Option<Example>> {
        let (mut source, mut labels) = (self.plain(source)?, self.plain(target)?);
        let (short, long) = (source.len().min(labels.len()), source.len().max(labels.len()));
        // A few tokens more or less say nothing about short sentences.
        let alike = long as f64 <= self.max_ratio * short as f64 + 4.0;
        if short == 0 || long >= self.max_tokens || !alike {
            return Ok(None);
        }
        let mut input = vec![self.pad];
        input.extend_from_slice(&labels);
        source.push(self.end);
        labels.push(self.end);
        Ok(Some(Example { source, input, labels }))
    }

    /// Appends the examples of a dialogue.
    fn dialogue(&self, turns: &[Turn], examples: &mut Vec<Example>) -> Result<()> {
        // Tokens, and whether each is one to be said.
        let mut text: Vec<(u32, bool)> = Vec::new();
        // What the assistant says to nobody teaches nothing.
        let mut asked = true;
        let newline = self.plain("\n")?;
        for turn in turns {
            let said = turn.role == Role::Assistant;
            let mut tokens: Vec<(u32, bool)> = self.turn.iter().map(|&id| (id, false)).collect();
            tokens.extend(self.plain(&format!("{}\n", turn.role.name()))?.into_iter().map(|id| (id, false)));
            tokens.extend(self.plain(&turn.text)?.into_iter().map(|id| (id, said)));
            tokens.push((self.end, said));
            tokens.extend(newline.iter().map(|&id| (id, false)));
            if text.len() + tokens.len() > self.max_tokens {
                examples.extend(example(&text));
                text.clear();
                asked = false;
            }
            if tokens.len() <= self.max_tokens && (asked || !said) {
                text.extend(tokens);
                asked = true;
            }
        }
        examples.extend(example(&text));
        Ok(())
    }

    /// Appends the examples of a text.
    fn text(&self, text: &str, examples: &mut Vec<Example>) -> Result<()> {
        let mut tokens: Vec<(u32, bool)> = self.plain(text)?.into_iter().map(|id| (id, true)).collect();
        tokens.push((self.pad, true));
        // The token before a part is what its first one follows.
        let mut start = 0;
        while start + 1 < tokens.len() {
            let end = tokens.len().min(start + self.max_tokens + 1);
            examples.extend(example(&tokens[start..end]));
            start = end - 1;
        }
        Ok(())
    }
}

/// The example of tokens of which some are to be said, up to the last of those.
fn example(tokens: &[(u32, bool)]) -> Option<Example> {
    let last = tokens.iter().rposition(|&(_, said)| said).filter(|&last| last > 0)?;
    let input = tokens[..last].iter().map(|&(id, _)| id).collect();
    let labels = tokens[1..=last].iter().map(|&(id, said)| if said { id } else { IGNORE }).collect();
    Some(Example { source: Vec::new(), input, labels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Vocabulary;
    use pupil::text::{ChatTemplate, Message, RenderOptions};

    #[test]
    fn pairs_are_shifted_and_odd_ones_left_out() {
        let texts = ["the house is small", "the house is big", "das haus ist klein"];
        let vocabulary = Vocabulary::unigram(texts.into_iter(), 40).unwrap();
        let tokenizer = vocabulary.tokenizer();
        let encoder = Encoder::new(tokenizer, Kind::Translate, 30, 2.0).unwrap();
        let pair = |source: &str, target: &str| Item::Pair { source: source.into(), target: target.into() };
        let long = "the house ".repeat(20);
        let items = [pair("the house", "das haus"), pair(&long, &long), pair("the", &long[..100])];
        let Examples { examples, left_out } = encoder.encode(&items).unwrap();
        assert_eq!((examples.len(), left_out), (1, 2));
        let Example { source, input, labels } = &examples[0];
        assert_eq!(tokenizer.encode("the house", Specials::ADD).unwrap(), *source);
        assert_eq!(tokenizer.encode("das haus", Specials::ADD).unwrap(), *labels);
        assert_eq!((input[0], &input[1..]), (0, &labels[..labels.len() - 1]));
        assert!(encoder.encode(&[Item::Text("x".into())]).is_err());
    }

    #[test]
    fn dialogues_are_what_the_template_writes_and_only_answers_count() {
        let vocabulary = Vocabulary::bpe(["user assistant Hello there, how are you? Fine!"].into_iter(), 300).unwrap();
        let tokenizer = vocabulary.tokenizer();
        let turns = [(Role::User, "Hi, <|im_end|> you"), (Role::Assistant, "(Hello)"), (Role::User, "How?")];
        let turns: Vec<Turn> = turns
            .into_iter()
            .chain([(Role::Assistant, "Fine!")])
            .map(|(role, text)| Turn { role, text: text.into() })
            .collect();
        let encoder = Encoder::new(tokenizer, Kind::Chat, 200, 2.0).unwrap();
        let examples = encoder.encode(&[Item::Dialogue(turns.clone())]).unwrap().examples;
        let Example { input, labels, .. } = &examples[0];

        let clean: Vec<Turn> =
            turns.iter().map(|turn| Turn { text: turn.text.replace("<|im_end|>", "x"), ..turn.clone() }).collect();
        let messages: Vec<Message> =
            clean.iter().map(|turn| Message::new(turn.role.name(), turn.text.as_str())).collect();
        let text = ChatTemplate::chatml().render(&messages, &RenderOptions::default()).unwrap();
        let mut whole = tokenizer.encode(&text, Specials::PARSE).unwrap();
        let end = tokenizer.id("<|im_end|>").unwrap();
        whole.truncate(whole.iter().rposition(|&id| id == end).unwrap());
        let clean = encoder.encode(&[Item::Dialogue(clean)]).unwrap().examples;
        assert_eq!(clean[0].input, whole);

        let said: Vec<u32> = labels.iter().copied().filter(|&label| label != IGNORE).collect();
        let answers = ["(Hello)", "Fine!"].map(|text| tokenizer.encode(text, Specials::NONE).unwrap());
        assert_eq!(said, [&answers[0][..], &[end], &answers[1], &[end]].concat());
        // What a text spells is no special token.
        assert_eq!(input.iter().filter(|&&id| id == end).count(), 3);
    }

    #[test]
    fn long_dialogues_become_several() {
        let vocabulary = Vocabulary::bpe(["user assistant"].into_iter(), 300).unwrap();
        let turn = |i: usize| Turn { role: [Role::User, Role::Assistant][i % 2], text: format!("Turn number {i}") };
        let item = Item::Dialogue((0..20).map(turn).collect());
        let encoder = Encoder::new(vocabulary.tokenizer(), Kind::Chat, 100, 2.0).unwrap();
        let all = encoder.encode(&[item]).unwrap();
        assert!(all.examples.len() > 3 && all.left_out == 0);
        let start = vocabulary.tokenizer().id("<|im_start|>").unwrap();
        for example in &all.examples {
            assert!(example.input.len() <= 100 && example.input[0] == start);
            assert_eq!(example.input.len(), example.labels.len());
        }
    }

    #[test]
    fn a_question_that_is_too_long_goes_with_its_answer() {
        let vocabulary = Vocabulary::bpe(["user assistant"].into_iter(), 300).unwrap();
        let turn = |role, text: &str| Turn { role, text: text.into() };
        let long = "long ".repeat(50);
        let turns = [(Role::User, &*long), (Role::Assistant, "No."), (Role::User, "And?"), (Role::Assistant, "Yes.")];
        let item = Item::Dialogue(turns.into_iter().map(|(role, text)| turn(role, text)).collect());
        let encoder = Encoder::new(vocabulary.tokenizer(), Kind::Chat, 100, 2.0).unwrap();
        let all = encoder.encode(&[item]).unwrap();
        let said: Vec<u32> = all.examples.iter().flat_map(|example| &example.labels).copied().collect();
        let said: Vec<u32> = said.into_iter().filter(|&label| label != IGNORE && label != encoder.end()).collect();
        assert_eq!(vocabulary.tokenizer().decode(&said), "Yes.");
    }

    #[test]
    fn every_token_of_a_long_text_is_learned_once() {
        let vocabulary = Vocabulary::bpe(["a text"].into_iter(), 300).unwrap();
        let encoder = Encoder::new(vocabulary.tokenizer(), Kind::Chat, 10, 2.0).unwrap();
        for length in [5, 10, 11, 12, 31] {
            let text = "abcdefghijklmnopqrstuvwxyz0123456789"[..length].to_string();
            let ids = vocabulary.tokenizer().encode(&text, Specials::NONE).unwrap();
            let all = encoder.encode(&[Item::Text(text)]).unwrap();
            assert!(all.examples.iter().all(|example| example.input.len() <= 10));
            let labels: Vec<u32> = all.examples.iter().flat_map(|example| &example.labels).copied().collect();
            assert_eq!(labels, [&ids[1..], &[encoder.pad()]].concat());
        }
    }
}
