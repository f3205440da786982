//! Teachers that write.

use super::Answer;
use crate::{error::Result, eval::chat::Reader};
use pupil::{Chat, ChatOptions, Finish, Model, Translator, text::Message};
use std::ops::ControlFlow;

/// A teacher that answers prompts.
pub trait Talker {
    /// Prompts that are best answered together.
    fn batch(&self) -> usize;

    /// The answers; nothing for a prompt that is too long, or if the teacher was told to stop.
    ///
    /// # Errors
    /// What the network refuses.
    fn answer(&mut self, prompts: &[String]) -> Result<Vec<Option<Answer>>>;
}

/// A chat model that answers each prompt in a new conversation. An answer depends on its prompt and the sampler's seed
/// only.
pub struct Writer<'m> {
    chat: Chat,
    reader: Reader<'m>,
    system: Option<String>,
    stop: fn() -> bool,
}

impl<'m> Writer<'m> {
    /// A writer that breaks off when `stop` says so.
    ///
    /// # Errors
    /// `Input` for options that make no sense.
    pub fn new(model: &'m Model, options: ChatOptions, stop: fn() -> bool) -> Result<Self> {
        let (context, threads, system) = (options.context, options.threads, options.system.clone());
        Ok(Self { chat: Chat::new(model, options)?, reader: Reader::new(model, context, threads)?, system, stop })
    }
}

impl Talker for Writer<'_> {
    fn batch(&self) -> usize {
        1
    }

    fn answer(&mut self, prompts: &[String]) -> Result<Vec<Option<Answer>>> {
        let stop = self.stop;
        let mut answer = |prompt: &String| -> Result<Option<Answer>> {
            self.chat.reset();
            let listen = |_: &str| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let said = match self.chat.say(prompt, listen) {
                Err(error) if error.kind() == pupil::ErrorKind::ContextFull => return Ok(None),
                said => said?,
            };
            if said.finish == Finish::Cancelled {
                return Ok(None);
            }
            let mut turns: Vec<Message> = self.system.iter().map(Message::system).collect();
            turns.push(Message::user(prompt));
            let Some(cost) = self.reader.cost(&turns, &said.text)? else { return Ok(None) };
            Ok(Some(Answer {
                prompt: prompt.clone(),
                answer: said.text,
                finished: matches!(said.finish, Finish::End | Finish::Stop),
                score: -cost.nats / cost.tokens.max(1) as f64,
            }))
        };
        prompts.iter().map(&mut answer).collect()
    }
}

impl Talker for Translator {
    fn batch(&self) -> usize {
        self.options().batch
    }

    fn answer(&mut self, prompts: &[String]) -> Result<Vec<Option<Answer>>> {
        let texts: Vec<&str> = prompts.iter().map(String::as_str).collect();
        let translations = self.translate_batch(&texts)?;
        let answer = |(prompt, translation): (&String, pupil::Translation)| {
            Some(Answer {
                prompt: prompt.clone(),
                answer: translation.text,
                finished: translation.finish == pupil::translate::Finish::End,
                score: translation.score.into(),
            })
        };
        Ok(prompts.iter().zip(translations).map(answer).collect())
    }
}
