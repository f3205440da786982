//! Conversations: text in, text out as it is made.

use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::nets::decoder::{BATCH, Logits, Session};
use crate::nets::kv::CacheType;
use crate::text::{Message, RenderOptions, Sampler, SamplerOptions, Specials, StopMatcher, StreamDecoder};
use crate::threads::{all_threads, check_threads};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How a [`Chat`] goes about it.
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// What the model is told before the first turn.
    pub system: Option<String>,
    /// Continues text as it stands, without the chat template.
    pub raw: bool,
    /// Tokens that fit into the conversation; by default what the model was trained for, but at most 4096.
    pub context: Option<usize>,
    /// How keys and values are stored.
    pub cache: CacheType,
    /// Threads to compute with, 1 to 1024.
    pub threads: usize,
    /// Tokens of an answer, at most.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// When the context is full, forgets the oldest turns (or, within one answer, the older half of the text) instead
    /// of ending the answer.
    pub shift: bool,
    /// How tokens are chosen; by default [as the file recommends](Model::sampling).
    pub sampler: Option<SamplerOptions>,
}

impl Default for ChatOptions {
    fn default() -> Self {
        Self {
            system: None,
            raw: false,
            context: None,
            cache: CacheType::default(),
            threads: all_threads(),
            max_tokens: None,
            stop: Vec::new(),
            shift: false,
            sampler: None,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it.
    End,
    /// A stop string came.
    Stop,
    /// It reached `max_tokens`.
    Length,
    /// The context is full.
    ContextFull,
    /// The listener broke off.
    Cancelled,
}

/// An answer and what it took.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The text, as it was streamed.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the conversation up to the answer.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache already.
    pub reused_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Time until the first token could be chosen.
    pub prompt_time: Duration,
    /// Time from then to the end.
    pub decode_time: Duration,
}

/// A conversation with a model. What was computed for earlier turns is kept and used again.
///
/// ```no_run
/// use pupil::{Chat, ChatOptions, Model};
/// use std::ops::ControlFlow;
///
/// let model = Model::open("student.gguf")?;
/// let mut chat = Chat::new(&model, ChatOptions::default())?;
/// let answer = chat.say("Why is the sky blue?", |piece| {
///     print!("{piece}");
///     ControlFlow::Continue(())
/// })?;
/// println!("\n{} tokens", answer.tokens);
/// # Ok::<(), pupil::Error>(())
/// ```
pub struct Chat {
    model: Model,
    options: ChatOptions,
    session: Session,
    sampler: Sampler,
    turns: Vec<Message>,
    /// The tokens whose keys and values are in the session's cache.
    cached: Vec<u32>,
    /// In raw mode, the text so far.
    raw: Vec<u32>,
}

impl Chat {
    /// A new conversation.
    ///
    /// # Errors
    /// `Input` for options that make no sense.
    pub fn new(model: &Model, options: ChatOptions) -> Result<Self> {
        let trained = model.decoder().config.context;
        let context = options.context.unwrap_or(trained.min(4096));
        if context == 0 {
            return Err(Error::input("a context of 0 tokens: expected at least 1"));
        }
        check_threads(options.threads)?;
        // Refuses empty stop strings before anything is computed.
        StopMatcher::new(options.stop.iter().cloned())?;
        let session = model.decoder().session(context, options.cache, options.threads)?;
        let sampler = Sampler::new(options.sampler.clone().unwrap_or_else(|| model.sampling().clone()))?;
        let mut chat = Self {
            model: model.clone(),
            options,
            session,
            sampler,
            turns: Vec::new(),
            cached: Vec::new(),
            raw: Vec::new(),
        };
        chat.reset();
        Ok(chat)
    }

    /// Forgets the conversation; the system prompt stays.
    pub fn reset(&mut self) {
        self.turns = self.options.system.iter().map(Message::system).collect();
        self.raw.clear();
        self.sampler.reset();
    }

    /// Sets what the model is told before the first turn, and forgets the conversation.
    pub fn set_system(&mut self, system: Option<String>) {
        self.options.system = system;
        self.reset();
    }

    /// The turns so far.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// Tokens that fit into the conversation.
    pub fn context(&self) -> usize {
        self.session.cache.capacity()
    }

    /// Says `text` and streams the answer to `listen`, in pieces of whole characters; an empty piece only asks whether to
    /// go on. If `listen` breaks, the answer ends there.
    ///
    /// # Errors
    /// `ContextFull` if the conversation up to the answer does not fit (and, with `shift`, even `text` alone does not);
    /// `Input` if the template refuses the turns. The conversation is then as it was.
    pub fn say(&mut self, text: &str, mut listen: impl FnMut(&str) -> ControlFlow<()>) -> Result<Answer> {
        let start = Instant::now();
        let turns = self.turns.len();
        let raw = self.raw.len();
        let prompt = match if self.options.raw { self.raw_prompt(text) } else { self.chat_prompt(text) } {
            Ok(prompt) => prompt,
            Err(error) => {
                self.turns.truncate(turns);
                self.raw.truncate(raw);
                return Err(error);
            }
        };
        let reused = self.reuse(&prompt);
        for &token in &prompt {
            self.sampler.accept(token);
        }
        let mut answer = Answer {
            text: String::new(),
            finish: Finish::Cancelled,
            prompt_tokens: prompt.len(),
            reused_tokens: reused,
            tokens: 0,
            prompt_time: Duration::ZERO,
            decode_time: Duration::ZERO,
        };
        let mut logits = Vec::new();
        for batch in prompt[reused..].chunks(BATCH) {
            if listen("").is_break() {
                return Ok(self.close(answer, start, None));
            }
            logits.clear();
            logits.extend_from_slice(self.model.decoder().forward(&mut self.session, batch, Logits::Last)?);
            self.cached.extend_from_slice(batch);
        }
        answer.prompt_time = start.elapsed();
        let decoding = Instant::now();
        answer.finish = self.generate(&mut answer, logits, &mut listen)?;
        Ok(self.close(answer, start, Some(decoding)))
    }

    /// Puts the finished answer among the turns.
    fn close(&mut self, mut answer: Answer, start: Instant, decoding: Option<Instant>) -> Answer {
        match decoding {
            Some(decoding) => answer.decode_time = decoding.elapsed(),
            None => answer.prompt_time = start.elapsed(),
        }
        if !self.options.raw {
            self.turns.push(Message::assistant(&answer.text));
        }
        answer
    }

    /// Chooses tokens until something ends the answer.
    fn generate(
        &mut self,
        answer: &mut Answer,
        mut logits: Vec<f32>,
        listen: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Finish> {
        let model = self.model.clone();
        let tokenizer = model.tokenizer();
        let (mut decoder, mut stop) = (StreamDecoder::new(), StopMatcher::new(self.options.stop.iter().cloned())?);
        let mut say = |answer: &mut Answer, text: String| {
            answer.text.push_str(&text);
            listen(&text)
        };
        let finish = loop {
            if self.options.max_tokens.is_some_and(|max| answer.tokens >= max) {
                break Finish::Length;
            }
            let token = self.sampler.sample(&logits);
            self.sampler.accept(token);
            if tokenizer.is_end(token) {
                break Finish::End;
            }
            answer.tokens += 1;
            self.raw.push(token);
            let text = stop.push(&decoder.push(&tokenizer.piece(token)));
            let flow = say(answer, text);
            if stop.stopped() {
                return Ok(Finish::Stop);
            }
            if flow.is_break() {
                return Ok(Finish::Cancelled);
            }
            if self.cached.len() == self.context() {
                if !self.options.shift {
                    break Finish::ContextFull;
                }
                self.forget_older_half()?;
            }
            logits.clear();
            logits.extend_from_slice(self.model.decoder().forward(&mut self.session, &[token], Logits::Last)?);
            self.cached.push(token);
        };
        // What was held back because more might have followed.
        let mut rest = stop.push(&decoder.finish());
        rest.push_str(&stop.finish());
        if !rest.is_empty() {
            let _ = say(answer, rest);
        }
        Ok(finish)
    }

    /// In raw mode: everything so far and `text`.
    fn raw_prompt(&mut self, text: &str) -> Result<Vec<u32>> {
        let specials = Specials { add: self.raw.is_empty(), parse: true };
        let tokens = self.model.tokenizer().encode(text, specials)?;
        self.raw.extend(tokens);
        if self.raw.is_empty() {
            return Err(Error::input("the prompt is empty and the model has no token to begin with"));
        }
        let room = self.context();
        if self.raw.len() > room {
            if !self.options.shift {
                return Err(self.full(self.raw.len()));
            }
            // The end of the text matters most; half of the context is left for the continuation.
            self.raw.drain(..self.raw.len() - room.div_ceil(2));
        }
        Ok(self.raw.clone())
    }

    /// The conversation with `text` as its newest turn, up to where the model is to answer.
    fn chat_prompt(&mut self, text: &str) -> Result<Vec<u32>> {
        self.turns.push(Message::user(text));
        let first = usize::from(self.options.system.is_some());
        let mut forgotten = 0;
        loop {
            let turns: Vec<Message> =
                self.turns[..first].iter().chain(&self.turns[first + forgotten..]).cloned().collect();
            let prompt = self.model.template().render(&turns, &RenderOptions::prompt())?;
            let tokens = self.model.tokenizer().encode(&prompt, Specials::PARSE)?;
            if tokens.is_empty() {
                return Err(Error::input("the model's chat template makes no tokens of this conversation"));
            }
            // One token of room, so that there can be an answer.
            if tokens.len() < self.context() {
                self.turns = turns;
                return Ok(tokens);
            }
            // The oldest question and its answer go first; the newest turn always stays.
            forgotten += 2;
            if !self.options.shift || first + forgotten >= self.turns.len() {
                return Err(self.full(tokens.len()));
            }
        }
    }

    fn full(&self, needed: usize) -> Error {
        let more = if self.options.shift { "" } else { ", or allow it to shift" };
        let message = format!(
            "the context is full: the conversation takes {needed} tokens of {}; begin a new one, allow a larger \
             context{more}",
            self.context()
        );
        Error::new(ErrorKind::ContextFull, message)
    }

    /// Keeps as much of the cache as `prompt` begins with, and says how much that is. The last token is always left to
    /// be run, for its logits.
    fn reuse(&mut self, prompt: &[u32]) -> usize {
        let common = prompt.iter().zip(&self.cached).take_while(|(a, b)| a == b).count();
        let reused = common.min(prompt.len() - 1);
        self.cached.truncate(reused);
        self.session.cache.truncate(reused);
        reused
    }

    /// Drops the older half of what the cache holds, but not its first token, and computes the rest again at its new
    /// positions: exact, unlike moving the cached keys.
    fn forget_older_half(&mut self) -> Result<()> {
        let half = self.cached.len() / 2;
        let first = usize::from(self.cached.len() > 2);
        let kept: Vec<u32> = self.cached[..first].iter().chain(&self.cached[half + first..]).copied().collect();
        self.session.cache.truncate(first);
        self.cached.truncate(first);
        if kept.len() > first {
            self.model.decoder().forward(&mut self.session, &kept[first..], Logits::Last)?;
        }
        self.cached = kept;
        Ok(())
    }
}
