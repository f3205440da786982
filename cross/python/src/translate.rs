//! Translators.

use crate::error::raise;
use pupil::TranslateOptions;
use pupil::translate::Finish;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Mutex;

/// Texts that are translated between two looks at Ctrl-C, for each sentence of a batch: enough that sentences of like
/// length come together.
const TEXTS: usize = 8;

/// A translation and what it took. str() gives its text.
#[pyclass(frozen, get_all, module = "pupil")]
pub struct Translation {
    /// The translation, in the layout of the text: its line breaks, blank lines, bullets.
    text: String,
    /// The mean over sentences of their log-probability over length ** length_penalty; 0 without sentences.
    score: f32,
    /// How the sentence ended that ended worst: "end", "length" (it grew too long and was cut) or "repeats" (it began to
    /// repeat itself and was cut).
    finish: &'static str,
    /// Sentences, and parts of sentences too long for one.
    sentences: usize,
    /// Tokens of the text.
    source_tokens: usize,
    /// Tokens of the translation.
    tokens: usize,
}

impl From<pupil::Translation> for Translation {
    fn from(translation: pupil::Translation) -> Self {
        let finish = match translation.finish {
            Finish::End => "end",
            Finish::Length => "length",
            Finish::Repeats => "repeats",
        };
        Self {
            text: translation.text,
            score: translation.score,
            finish,
            sentences: translation.sentences,
            source_tokens: translation.source_tokens,
            tokens: translation.tokens,
        }
    }
}

#[pymethods]
impl Translation {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("Translation({:?}, score={}, finish={:?})", self.text, self.score, self.finish)
    }
}

/// A translator: one GGUF file, mapped.
///
/// source and target are languages, such as "en", where the file names those that it knows; prefix goes before every
/// sentence instead of what the file says. What is None is as the library has it: beam 1, length_penalty 1 (above 0,
/// longer translations gain), no_repeat_ngram 0 (sequences of tokens may come again), max_length_ratio 3 (tokens of a
/// translation for each of the sentence's), batch 16 (sentences that are translated together), a thread for each core.
#[pyclass(frozen, module = "pupil")]
pub struct Translator {
    translator: Mutex<pupil::Translator>,
    path: PathBuf,
    batch: usize,
}

#[pymethods]
impl Translator {
    #[new]
    #[pyo3(signature = (path, *, source=None, target=None, prefix=None, beam=None, length_penalty=None,
        no_repeat_ngram=None, max_length_ratio=None, batch=None, shortlist=true, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        source: Option<String>,
        target: Option<String>,
        prefix: Option<String>,
        beam: Option<usize>,
        length_penalty: Option<f32>,
        no_repeat_ngram: Option<usize>,
        max_length_ratio: Option<f32>,
        batch: Option<usize>,
        shortlist: bool,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let defaults = TranslateOptions::default();
        let options = TranslateOptions {
            from: source,
            to: target,
            prefix,
            beam: beam.unwrap_or(defaults.beam),
            length_penalty: length_penalty.unwrap_or(defaults.length_penalty),
            no_repeat_ngram: no_repeat_ngram.unwrap_or(defaults.no_repeat_ngram),
            max_length_ratio: max_length_ratio.unwrap_or(defaults.max_length_ratio),
            batch: batch.unwrap_or(defaults.batch),
            shortlist,
            threads: threads.unwrap_or(defaults.threads),
            ..defaults
        };
        let batch = options.batch;
        let translator = py.detach(|| pupil::Translator::open(&path, options)).map_err(raise)?;
        Ok(Self { translator: Mutex::new(translator), path, batch })
    }

    /// Translates a text of any length, which may be empty.
    fn translate(&self, py: Python<'_>, text: String) -> PyResult<Translation> {
        Ok(self.translate_batch(py, vec![text])?.remove(0))
    }

    /// Translates several texts, and sentences of all of them together, which is faster than one after the other. Ctrl-C
    /// ends it after some texts.
    fn translate_batch(&self, py: Python<'_>, texts: Vec<String>) -> PyResult<Vec<Translation>> {
        let mut translations = Vec::with_capacity(texts.len());
        for texts in texts.chunks(self.batch * TEXTS) {
            py.check_signals()?;
            translations.extend(py.detach(|| self.some(texts))?.into_iter().map(Translation::from));
        }
        Ok(translations)
    }

    fn __repr__(&self) -> String {
        format!("Translator({:?})", self.path)
    }
}

impl Translator {
    /// Translates when it is this thread's turn.
    fn some(&self, texts: &[String]) -> PyResult<Vec<pupil::Translation>> {
        let broken =
            |_| PyRuntimeError::new_err("an earlier call failed within the library: open the translator again");
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.translator.lock().map_err(broken)?.translate_batch(&texts).map_err(raise)
    }
}
