//! Language models and conversations.

use super::{
    Versioned, c_path, free, give, guard, handle, init, null, pupil_status, put, room, slice, utf8, versioned,
};
use crate::bytes::Bytes;
use crate::{Answer, Chat, ChatOptions, Finish, Model, text::SamplerOptions};
use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;

/// A language model: one file, mapped.
pub struct pupil_model(Model);

/// A conversation with a model.
pub struct pupil_chat {
    chat: Chat,
    /// The last answer, for `pupil_chat_text`.
    text: String,
}

/// How a conversation goes. Fill it with `pupil_chat_options_init` and change what you want otherwise. How tokens are chosen
/// goes by what the model's file recommends where a number is below 0, as it is at first.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pupil_chat_options {
    /// The size of this structure.
    pub size: usize,
    /// What the model is told before the first turn; NULL for nothing.
    pub system: *const c_char,
    /// Bytes of `system`.
    pub system_len: usize,
    /// Tokens that fit into the conversation; 0: what the model was trained for, but at most 4096.
    pub context: usize,
    /// Tokens of an answer, at most; 0: no limit.
    pub max_tokens: usize,
    /// Threads to compute with; 0: one for each core.
    pub threads: usize,
    /// The same seed gives the same answers.
    pub seed: u64,
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// Chooses among the likeliest tokens that together are this likely; 1 among all.
    pub top_p: f32,
    /// Chooses among tokens at least this fraction as likely as the likeliest; 0 among all.
    pub min_p: f32,
    /// Makes tokens that came lately less likely; 1 does not.
    pub repeat_penalty: f32,
    /// Chooses among the k likeliest tokens; 0 among all.
    pub top_k: i32,
    /// Not 0: continues text as it stands, without the model's chat template.
    pub raw: u32,
    /// Not 0: forgets the oldest turns when the context is full, instead of ending the answer.
    pub shift: u32,
    /// Keeps the size a multiple of that of a pointer.
    pub reserved: u32,
    /// Texts that end an answer and are no part of it, with a 0 between two of them; NULL for none.
    pub stop: *const c_char,
    /// Bytes of `stop`.
    pub stop_len: usize,
}

// SAFETY: plain old data whose first field is its size.
unsafe impl Versioned for pupil_chat_options {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        system: std::ptr::null(),
        system_len: 0,
        context: 0,
        max_tokens: 0,
        threads: 0,
        seed: 0,
        temperature: -1.0,
        top_p: -1.0,
        min_p: -1.0,
        repeat_penalty: -1.0,
        top_k: -1,
        raw: 0,
        shift: 0,
        reserved: 0,
        stop: std::ptr::null(),
        stop_len: 0,
    };
}

/// Why an answer or a translation ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum pupil_finish {
    /// The model ended it.
    PUPIL_FINISH_END = 0,
    /// A stop string came.
    PUPIL_FINISH_STOP = 1,
    /// It reached the most tokens allowed.
    PUPIL_FINISH_LENGTH = 2,
    /// The context is full.
    PUPIL_FINISH_CONTEXT_FULL = 3,
    /// The callback broke off.
    PUPIL_FINISH_CANCELLED = 4,
    /// It began to repeat itself, and was cut.
    PUPIL_FINISH_REPEATS = 5,
}

/// An answer and what it took.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pupil_answer {
    /// The size of this structure, set by the caller.
    pub size: usize,
    /// Tokens of the conversation up to the answer.
    pub prompt_tokens: usize,
    /// Those of them that were computed for earlier turns.
    pub reused_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Seconds until the first token could be chosen.
    pub prompt_seconds: f64,
    /// Seconds from then to the end.
    pub decode_seconds: f64,
    /// Why it ended: a `pupil_finish`.
    pub finish: u32,
    /// Keeps the size a multiple of that of a pointer.
    pub reserved: u32,
}

// SAFETY: plain old data whose first field is its size.
unsafe impl Versioned for pupil_answer {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        prompt_tokens: 0,
        reused_tokens: 0,
        tokens: 0,
        prompt_seconds: 0.0,
        decode_seconds: 0.0,
        finish: 0,
        reserved: 0,
    };
}

/// Gets a piece of an answer: whole characters, `len` bytes at `piece`, without a NUL; `user` is what the caller gave. An
/// empty piece only asks whether to go on. Anything but 0 ends the answer. It has to return, neither by an exception nor by
/// longjmp, and must not use or free the chat.
pub type pupil_listener = Option<unsafe extern "C" fn(piece: *const c_char, len: usize, user: *mut c_void) -> c_int>;

/// Maps the GGUF file at `path`. Takes milliseconds: weights are read when they are first used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_model_open(path: *const c_char, model: *mut *mut pupil_model) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { give(model, || Ok(pupil_model(Model::open(c_path(path)?)?))) }
}

/// A model whose file is in memory. It is used in place: the bytes must stay as they are until the model and all chats
/// made of it are freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_model_open_memory(
    data: *const u8,
    len: usize,
    model: *mut *mut pupil_model,
) -> pupil_status {
    // SAFETY: as the caller says, who also keeps the bytes for as long as anything refers to them.
    unsafe {
        give(model, || {
            let bytes: &'static [u8] = slice(data, len, "the file's bytes")?;
            Ok(pupil_model(Model::from_bytes(Bytes::Static(bytes), "the file in memory")?))
        })
    }
}

/// Frees a model. Chats made of it go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_model_free(model: *mut pupil_model) {
    // SAFETY: as the caller says.
    unsafe { free(model) }
}

/// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_options_init(options: *mut pupil_chat_options, size: usize) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { init(options, size) }
}

/// A new conversation. `options` may be NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_new(
    model: *const pupil_model,
    options: *const pupil_chat_options,
    chat: *mut *mut pupil_chat,
) -> pupil_status {
    // SAFETY: as the caller says; the model is only read.
    unsafe {
        give(chat, || {
            let model = model.as_ref().ok_or_else(|| null("the model"))?;
            let options = versioned(options)?;
            let system = utf8(options.system, options.system_len, "the system prompt")?;
            let stop = utf8(options.stop, options.stop_len, "the stop texts")?;
            let options = chat_options(&options, system, stop, model.0.sampling());
            Ok(pupil_chat { chat: Chat::new(&model.0, options)?, text: String::new() })
        })
    }
}

fn chat_options(options: &pupil_chat_options, system: &str, stop: &str, recommended: &SamplerOptions) -> ChatOptions {
    let some = |n: usize| (n > 0).then_some(n);
    let or = |number: f32, recommended| if number < 0.0 { recommended } else { number };
    let defaults = ChatOptions::default();
    ChatOptions {
        system: (!system.is_empty()).then(|| system.to_owned()),
        raw: options.raw != 0,
        context: some(options.context),
        threads: some(options.threads).unwrap_or(defaults.threads),
        max_tokens: some(options.max_tokens),
        stop: if stop.is_empty() { Vec::new() } else { stop.split('\0').map(String::from).collect() },
        shift: options.shift != 0,
        sampler: Some(SamplerOptions {
            temperature: or(options.temperature, recommended.temperature),
            top_k: usize::try_from(options.top_k).unwrap_or(recommended.top_k),
            top_p: or(options.top_p, recommended.top_p),
            min_p: or(options.min_p, recommended.min_p),
            repeat_penalty: or(options.repeat_penalty, recommended.repeat_penalty),
            repeat_last_n: recommended.repeat_last_n,
            seed: options.seed,
        }),
        ..defaults
    }
}

/// Says `text` and streams the answer to `listener`, which may be NULL. What the answer took goes to `answer`, which may
/// be NULL; its `size` must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_say(
    chat: *mut pupil_chat,
    text: *const c_char,
    len: usize,
    listener: pupil_listener,
    user: *mut c_void,
    answer: *mut pupil_answer,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let (chat, said) = unsafe { (handle(chat)?, utf8(text, len, "the text")?) };
        // If it fails, nobody shall take an earlier answer for this one.
        chat.text.clear();
        // SAFETY: as the caller says.
        unsafe { room(answer) }?;
        let made = chat.chat.say(said, |piece| match listener {
            // SAFETY: as the caller says; the piece lives through the call.
            Some(listener) if unsafe { listener(piece.as_ptr().cast(), piece.len(), user) } != 0 => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })?;
        let result = result(&made);
        chat.text = made.text;
        // SAFETY: as the caller says.
        unsafe { put(answer, result) }
    })
}

fn result(answer: &Answer) -> pupil_answer {
    let finish = match answer.finish {
        Finish::End => pupil_finish::PUPIL_FINISH_END,
        Finish::Stop => pupil_finish::PUPIL_FINISH_STOP,
        Finish::Length => pupil_finish::PUPIL_FINISH_LENGTH,
        Finish::ContextFull => pupil_finish::PUPIL_FINISH_CONTEXT_FULL,
        Finish::Cancelled => pupil_finish::PUPIL_FINISH_CANCELLED,
    };
    pupil_answer {
        prompt_tokens: answer.prompt_tokens,
        reused_tokens: answer.reused_tokens,
        tokens: answer.tokens,
        prompt_seconds: answer.prompt_time.as_secs_f64(),
        decode_seconds: answer.decode_time.as_secs_f64(),
        finish: finish as u32,
        ..pupil_answer::DEFAULT
    }
}

/// The last answer's text: `len` bytes at the returned pointer, without a NUL, until the chat is used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_text(chat: *const pupil_chat, len: *mut usize) -> *const c_char {
    // SAFETY: as the caller says.
    let (chat, len) = unsafe { (chat.as_ref(), len.as_mut()) };
    let text = chat.map_or("", |chat| &chat.text);
    if let Some(len) = len {
        *len = text.len();
    }
    text.as_ptr().cast()
}

/// Forgets the conversation; the system prompt stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_reset(chat: *mut pupil_chat) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let chat = unsafe { handle(chat) }?;
        chat.chat.reset();
        chat.text.clear();
        Ok(())
    })
}

/// Frees a chat.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_chat_free(chat: *mut pupil_chat) {
    // SAFETY: as the caller says.
    unsafe { free(chat) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_librarys_and_the_files() {
        let recommended = SamplerOptions { temperature: 0.5, top_k: 7, repeat_last_n: 9, ..SamplerOptions::default() };
        let made = chat_options(&pupil_chat_options::DEFAULT, "", "", &recommended);
        let expected = ChatOptions { sampler: Some(recommended), ..ChatOptions::default() };
        assert_eq!(format!("{made:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_is_said_goes_before_what_the_file_recommends() {
        let said = pupil_chat_options { temperature: 0.0, top_k: 0, seed: 3, ..pupil_chat_options::DEFAULT };
        let sampler = chat_options(&said, "", "", &SamplerOptions::default()).sampler;
        assert_eq!(sampler, Some(SamplerOptions { top_k: 0, seed: 3, ..SamplerOptions::greedy() }));
    }
}
