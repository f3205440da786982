//! Language models and conversations.

use crate::error::raise;
use pupil::text::SamplerOptions;
use pupil::{ChatOptions, Finish};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A language model: one GGUF file, mapped.
///
/// Opening takes milliseconds whatever the file's size. A model may serve any number of chats.
#[pyclass(frozen, module = "pupil")]
pub struct Model {
    model: pupil::Model,
    path: PathBuf,
}

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let model = py.detach(|| pupil::Model::open(&path)).map_err(raise)?;
        Ok(Self { model, path })
    }

    fn __repr__(&self) -> String {
        format!("Model({:?})", self.path)
    }
}

/// An answer and what it took. str() gives its text.
#[pyclass(frozen, get_all, module = "pupil")]
#[derive(Clone)]
pub struct Answer {
    /// The text, as it was streamed.
    text: String,
    /// Why it ended: "end" (the model ended it), "stop" (a stop text came), "length" (it reached max_tokens),
    /// "context_full" or "cancelled" (the listener ended it).
    finish: &'static str,
    /// Tokens of the conversation up to the answer.
    prompt_tokens: usize,
    /// Those of them that were computed for earlier turns.
    reused_tokens: usize,
    /// Tokens of the answer.
    tokens: usize,
    /// Seconds until the first token could be chosen.
    prompt_seconds: f64,
    /// Seconds from then to the end.
    decode_seconds: f64,
}

impl From<pupil::Answer> for Answer {
    fn from(answer: pupil::Answer) -> Self {
        let finish = match answer.finish {
            Finish::End => "end",
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ContextFull => "context_full",
            _ => "cancelled",
        };
        Self {
            text: answer.text,
            finish,
            prompt_tokens: answer.prompt_tokens,
            reused_tokens: answer.reused_tokens,
            tokens: answer.tokens,
            prompt_seconds: answer.prompt_time.as_secs_f64(),
            decode_seconds: answer.decode_time.as_secs_f64(),
        }
    }
}

#[pymethods]
impl Answer {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Answer({:?}, finish={:?}, tokens={})", self.text, self.finish, self.tokens)
    }
}

/// A conversation with a model. What was computed for earlier turns is kept and used again.
///
/// What is None is as the library has it: no system prompt; what the model was trained for, but at most 4096 tokens of
/// context; no limit of max_tokens; a thread for each core; tokens chosen as the model's file
/// recommends, or with temperature 0.8 (0 always takes the likeliest token), top_k 40, top_p 0.95, min_p 0.05 and
/// repeat_penalty 1; seed 0. With raw, text is continued as it stands, without the model's
/// chat template. With shift, the oldest turns are forgotten when the context is full, instead of ending the answer.
#[pyclass(frozen, module = "pupil")]
pub struct Chat(Arc<Mutex<pupil::Chat>>);

#[pymethods]
impl Chat {
    #[new]
    #[pyo3(signature = (model, *, system=None, raw=false, context=None, max_tokens=None, stop=vec![], shift=false,
        threads=None, temperature=None, top_k=None, top_p=None, min_p=None, repeat_penalty=None, seed=None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn new(
        model: &Model,
        system: Option<String>,
        raw: bool,
        context: Option<usize>,
        max_tokens: Option<usize>,
        stop: Vec<String>,
        shift: bool,
        threads: Option<usize>,
        temperature: Option<f32>,
        top_k: Option<usize>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repeat_penalty: Option<f32>,
        seed: Option<u64>,
    ) -> PyResult<Self> {
        let defaults = ChatOptions::default();
        let recommended = model.model.sampling();
        let sampler = Some(SamplerOptions {
            temperature: temperature.unwrap_or(recommended.temperature),
            top_k: top_k.unwrap_or(recommended.top_k),
            top_p: top_p.unwrap_or(recommended.top_p),
            min_p: min_p.unwrap_or(recommended.min_p),
            repeat_penalty: repeat_penalty.unwrap_or(recommended.repeat_penalty),
            seed: seed.unwrap_or(recommended.seed),
            repeat_last_n: recommended.repeat_last_n,
        });
        let threads = threads.unwrap_or(defaults.threads);
        let options = ChatOptions { system, raw, context, threads, max_tokens, stop, shift, sampler, ..defaults };
        let chat = pupil::Chat::new(&model.model, options).map_err(raise)?;
        Ok(Self(Arc::new(Mutex::new(chat))))
    }

    /// Says text and returns the whole answer.
    ///
    /// on_piece is called with each piece of it as it comes; if it returns False, the answer ends there. Ctrl-C and
    /// whatever on_piece raises end the answer, too, and are raised.
    #[pyo3(signature = (text, on_piece=None))]
    fn say(&self, py: Python<'_>, text: &str, on_piece: Option<Py<PyAny>>) -> PyResult<Answer> {
        let hear = |piece: &str| -> PyResult<bool> {
            Python::attach(|py| {
                py.check_signals()?;
                match &on_piece {
                    Some(on_piece) if !piece.is_empty() => {
                        Ok(!on_piece.bind(py).call1((piece,))?.is(PyBool::new(py, false)))
                    }
                    _ => Ok(true),
                }
            })
        };
        py.detach(|| {
            let mut raised = Ok(());
            let answer = self.chat()?.say(text, |piece| match hear(piece) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(error) => {
                    raised = Err(error);
                    ControlFlow::Break(())
                }
            });
            raised?;
            Ok(answer.map_err(raise)?.into())
        })
    }

    /// Says text and gives the pieces of the answer as they come, computed at most one ahead.
    ///
    /// Leaving the loop ends the answer, and so does Ctrl-C.
    fn stream(&self, py: Python<'_>, text: String) -> PyResult<Stream> {
        let chat = self.0.clone();
        let (sender, pieces) = sync_channel(0);
        let (begin, begun) = sync_channel(0);
        let answer = thread::spawn(move || {
            let mut chat = match free(&chat) {
                Ok(chat) => chat,
                Err(busy) => {
                    let _ = begin.send(Err(busy));
                    return Err(broken());
                }
            };
            let _ = begin.send(Ok(()));
            let answer = chat.say(&text, |piece| match sender.send(piece.to_owned()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
            answer.map(Answer::from).map_err(raise)
        });
        // Whoever asks while another answer is being made hears of it here; and after this, the chat is this stream's.
        py.detach(move || begun.recv()).unwrap_or_else(|_| Err(broken()))?;
        Ok(Stream { pieces: Some(Mutex::new(pieces)), thread: Some(answer), answer: None })
    }

    /// Forgets the conversation; the system prompt stays.
    fn reset(&self) -> PyResult<()> {
        self.chat()?.reset();
        Ok(())
    }

    /// Tokens that fit into the conversation.
    #[getter]
    fn context(&self) -> PyResult<usize> {
        Ok(self.chat()?.context())
    }
}

impl Chat {
    fn chat(&self) -> PyResult<MutexGuard<'_, pupil::Chat>> {
        free(&self.0)
    }
}

/// The chat, if no answer is being made.
fn free(chat: &Mutex<pupil::Chat>) -> PyResult<MutexGuard<'_, pupil::Chat>> {
    chat.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => PyRuntimeError::new_err("the chat is busy with another answer"),
        TryLockError::Poisoned(_) => broken(),
    })
}

/// After a panic, which is a fault of the library.
fn broken() -> PyErr {
    PyRuntimeError::new_err("an earlier call failed within the library: begin a new chat")
}

/// The pieces of an answer, one after the other.
#[pyclass(module = "pupil")]
pub struct Stream {
    pieces: Option<Mutex<Receiver<String>>>,
    thread: Option<JoinHandle<PyResult<Answer>>>,
    /// The whole answer, once all pieces have come; None before.
    #[pyo3(get)]
    answer: Option<Answer>,
}

#[pymethods]
impl Stream {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<String>> {
        // Python looks at signals only between instructions of its own, of which `list(stream)` has one.
        const PATIENCE: Duration = Duration::from_millis(50);
        while let Some(pieces) = &mut self.pieces {
            if let Err(signal) = py.check_signals() {
                py.detach(|| self.end());
                return Err(signal);
            }
            // The lock is there because a class of Python has to be `Sync`; nobody ever holds it.
            let next = || pieces.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(PATIENCE);
            match py.detach(next) {
                // Some only ask whether to go on.
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some(piece)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.answer = py.detach(|| self.end()).transpose()?,
            }
        }
        Ok(None)
    }
}

impl Stream {
    /// Ends the answer, if it is still being made, and gives it.
    fn end(&mut self) -> Option<PyResult<Answer>> {
        // Without a receiver, the next piece ends it.
        self.pieces = None;
        Some(self.thread.take()?.join().unwrap_or_else(|_| Err(broken())))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // So that the chat is free when the loop is left. Other threads go on meanwhile, but where Python itself ends.
        if Python::try_attach(|py| py.detach(|| _ = self.end())).is_none() {
            self.end();
        }
    }
}
