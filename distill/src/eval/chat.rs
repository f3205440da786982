//! How good a chat model is: how likely it finds what people said, and how alike and varied is what it says instead.

use super::text::{distinct, repetition, rouge_l};
use crate::{
    data::text::{Role, Turn},
    error::{Error, Result},
};
use pupil::{
    Model,
    nets::{
        decoder::{Logits, Session},
        kv::CacheType,
    },
    text::{Message, RenderOptions, Specials},
};
use serde_json::{Value, json};
use std::{fmt, ops::ControlFlow};

/// Tokens of an answer, at most, where nothing else is said.
pub const MAX_TOKENS: usize = 64;

/// What a text cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// Negative log-probability, in nats.
    pub nats: f64,
    /// Its tokens, and the one that ends it.
    pub tokens: usize,
}

/// Reads conversations with a model. What conversations begin with in common is computed once.
pub struct Reader<'m> {
    model: &'m Model,
    session: Session,
    /// The tokens in the session's cache.
    cached: Vec<u32>,
}

impl<'m> Reader<'m> {
    /// A reader of conversations of up to `context` tokens; by default what the model was trained for, but at most 4096.
    ///
    /// # Errors
    /// `Input` if there is no memory for so many.
    pub fn new(model: &'m Model, context: Option<usize>, threads: usize) -> Result<Self> {
        let context = context.unwrap_or(model.decoder().config.context.min(4096));
        let session = model.decoder().session(context, CacheType::F32, threads)?;
        Ok(Self { model, session, cached: Vec::new() })
    }

    /// The conversation up to where the model is to answer.
    fn prompt(&self, turns: &[Message]) -> Result<Vec<u32>> {
        let text = self.model.template().render(turns, &RenderOptions::prompt())?;
        Ok(self.model.tokenizer().encode(&text, Specials::PARSE)?)
    }

    /// Runs a prompt, of which the cache may hold a beginning, and returns the logits after it.
    fn run(&mut self, prompt: &[u32]) -> Result<&[f32]> {
        let common = prompt.iter().zip(&self.cached).take_while(|(a, b)| a == b).count();
        let common = common.min(prompt.len().saturating_sub(1));
        self.session.cache.truncate(common);
        self.cached.truncate(common);
        let logits = self.model.decoder().forward(&mut self.session, &prompt[common..], Logits::Last)?;
        self.cached.extend_from_slice(&prompt[common..]);
        Ok(logits)
    }

    /// What `answer` costs after `turns`; nothing if both are too long together.
    ///
    /// # Errors
    /// `Input` if the template refuses the turns.
    pub fn cost(&mut self, turns: &[Message], answer: &str) -> Result<Option<Cost>> {
        let tokenizer = self.model.tokenizer();
        let prompt = self.prompt(turns)?;
        let all = [turns, &[Message::assistant(answer)]].concat();
        let all = self.model.template().render(&all, &RenderOptions::default())?;
        let all = tokenizer.encode(&all, Specials::PARSE)?;
        let mut answer = match all.strip_prefix(&prompt[..]) {
            Some(answer) => answer.to_vec(),
            // Some templates write answers in the past differently.
            None => tokenizer.encode(answer, Specials::NONE)?,
        };
        let end = answer.iter().position(|&token| tokenizer.is_end(token));
        answer.truncate(end.map_or(answer.len(), |end| end + 1));
        if end.is_none() {
            answer.extend(tokenizer.eot().or(tokenizer.eos()));
        }
        let Some((first, others)) = answer.split_first() else { return Ok(Some(Cost::default())) };
        if prompt.is_empty() || prompt.len() + answer.len() > self.session.cache.capacity() {
            return Ok(None);
        }
        let mut nats = surprise(self.run(&prompt)?, *first);
        if !others.is_empty() {
            let read = &answer[..others.len()];
            let vocab = self.model.decoder().config.vocab;
            let logits = self.model.decoder().forward(&mut self.session, read, Logits::All)?;
            nats += logits.chunks_exact(vocab).zip(others).map(|(logits, &token)| surprise(logits, token)).sum::<f64>();
            self.cached.extend_from_slice(read);
        }
        Ok(Some(Cost { nats, tokens: answer.len() }))
    }

    /// The likeliest answer after `turns`, token by token, of up to `max_tokens`; nothing if the turns are too long.
    ///
    /// # Errors
    /// `Input` if the template refuses the turns.
    pub fn answer(&mut self, turns: &[Message], max_tokens: usize) -> Result<Option<String>> {
        let prompt = self.prompt(turns)?;
        let capacity = self.session.cache.capacity();
        if prompt.is_empty() || prompt.len() >= capacity {
            return Ok(None);
        }
        let mut answer = Vec::new();
        let mut token = likeliest(self.run(&prompt)?);
        while !self.model.tokenizer().is_end(token) {
            answer.push(token);
            if answer.len() == max_tokens || self.cached.len() == capacity {
                break;
            }
            let logits = self.model.decoder().forward(&mut self.session, &[token], Logits::Last)?;
            let next = likeliest(logits);
            self.cached.push(std::mem::replace(&mut token, next));
        }
        Ok(Some(self.model.tokenizer().decode(&answer).trim().to_string()))
    }
}

/// −ln softmax(logits)\[token\]
fn surprise(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&z| f64::from(z - max).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - max)
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
    best.map_or(0, |(token, _)| token as u32)
}

/// How a model does on dialogues.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Dialogues read.
    pub dialogues: usize,
    /// Turns of the assistant in them.
    pub turns: usize,
    /// Turns that were too long for the context, and do not count.
    pub left_out: usize,
    /// What the turns cost together.
    pub cost: Cost,
    /// UTF-8 bytes of the turns.
    pub bytes: usize,
    /// Mean ROUGE-L of the model's answers with the turns, given everything before.
    pub rouge_l: f64,
    /// Different words, and pairs of words, among all in the answers.
    pub distinct: [f64; 2],
    /// Mean part of the answers' sequences of four words that came before in the answer.
    pub repetition: f64,
}

impl Scores {
    /// `exp` of the mean surprise of a token.
    pub fn perplexity(&self) -> f64 {
        (self.cost.nats / self.cost.tokens.max(1) as f64).exp()
    }

    /// `exp` of the mean surprise of a byte, the same unit for every vocabulary.
    pub fn byte_perplexity(&self) -> f64 {
        (self.cost.nats / self.bytes.max(1) as f64).exp()
    }

    /// The scores by name.
    pub fn to_json(&self) -> Value {
        json!({
            "dialogues": self.dialogues, "turns": self.turns, "left_out": self.left_out,
            "tokens": self.cost.tokens, "bytes": self.bytes,
            "perplexity": self.perplexity(), "byte_perplexity": self.byte_perplexity(), "rouge_l": self.rouge_l,
            "distinct_1": self.distinct[0], "distinct_2": self.distinct[1], "repetition": self.repetition,
        })
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "perplexity     {:.3} a token, {:.4} a byte", self.perplexity(), self.byte_perplexity())?;
        writeln!(f, "ROUGE-L        {:.4}", self.rouge_l)?;
        writeln!(f, "distinct-1, -2 {:.4}, {:.4}", self.distinct[0], self.distinct[1])?;
        writeln!(f, "repetition     {:.4}", self.repetition)?;
        let Self { dialogues, turns, left_out, .. } = self;
        write!(f, "answers        {turns}, dialogues {dialogues}")?;
        if *left_out > 0 { write!(f, "; too long for the context {left_out}") } else { Ok(()) }
    }
}

/// Scores a model on dialogues: each turn of the assistant is read, and answered anew in up to `max_tokens` tokens.
/// `each` is told after every dialogue and may break off; there are no scores then.
///
/// # Errors
/// `Input` if the template refuses a dialogue.
pub fn evaluate(
    reader: &mut Reader<'_>,
    dialogues: &[Vec<Turn>],
    max_tokens: usize,
    each: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Scores>> {
    let mut scores = Scores::default();
    let mut answers = Vec::new();
    for (index, dialogue) in dialogues.iter().enumerate() {
        let messages: Vec<Message> = dialogue.iter().map(|turn| Message::new(turn.role.name(), &turn.text)).collect();
        let of_assistant = dialogue.iter().enumerate().filter(|(i, turn)| *i > 0 && turn.role == Role::Assistant);
        for (i, turn) in of_assistant {
            let at = |error: Error| error.at(format!("dialogue {}", index + 1));
            let before = &messages[..i];
            let Some(cost) = reader.cost(before, &turn.text).map_err(at)? else {
                scores.left_out += 1;
                continue;
            };
            let answer = reader.answer(before, max_tokens).map_err(at)?.unwrap_or_default();
            scores.turns += 1;
            scores.cost.nats += cost.nats;
            scores.cost.tokens += cost.tokens;
            scores.bytes += turn.text.len();
            scores.rouge_l += rouge_l(&turn.text, &answer);
            scores.repetition += repetition(&answer, 4);
            answers.push(answer);
        }
        scores.dialogues += 1;
        if each().is_break() {
            return Ok(None);
        }
    }
    scores.rouge_l /= scores.turns.max(1) as f64;
    scores.repetition /= scores.turns.max(1) as f64;
    scores.distinct = [distinct(&answers, 1), distinct(&answers, 2)];
    Ok(Some(scores))
}
