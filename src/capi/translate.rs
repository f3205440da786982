//! Translators.

use super::{
    Versioned, c_path, free, give, guard, handle, init, null, pupil_finish, pupil_status, put, room, slice, utf8,
    versioned,
};
use crate::bytes::Bytes;
use crate::translate::Finish;
use crate::{Error, TranslateOptions, Translation, Translator};
use std::ffi::c_char;

/// A translator: one file, mapped, and all that it computes with.
pub struct pupil_translator {
    translator: Translator,
    /// What the last texts became, for `pupil_translator_result`.
    results: Vec<Translation>,
}

/// How a translator goes about it. Fill it with `pupil_translate_options_init` and change what you want otherwise.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pupil_translate_options {
    /// The size of this structure.
    pub size: usize,
    /// The language to translate from, such as "en", where the file names the languages that it knows; NULL: as it says.
    pub from: *const c_char,
    /// Bytes of `from`.
    pub from_len: usize,
    /// The language to translate to; NULL: as the file says.
    pub to: *const c_char,
    /// Bytes of `to`.
    pub to_len: usize,
    /// What to put before every sentence; NULL: what the file says.
    pub prefix: *const c_char,
    /// Bytes of `prefix`.
    pub prefix_len: usize,
    /// Hypotheses that are followed at once; with 1, always the likeliest token.
    pub beam: usize,
    /// No sequence of so many tokens comes twice in a sentence; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Sentences that are translated together.
    pub batch: usize,
    /// Threads to compute with; 0: one for each core.
    pub threads: usize,
    /// A hypothesis counts by its log-probability over `length ^ length_penalty`: above 0, longer ones gain.
    pub length_penalty: f32,
    /// Tokens of a sentence's translation for each of the sentence's, at most; a few more are always allowed.
    pub max_length_ratio: f32,
    /// Not 0: uses the file's shortlist, if it has one.
    pub shortlist: u32,
    /// Keeps the size a multiple of that of a pointer.
    pub reserved: u32,
}

// SAFETY: plain old data whose first field is its size.
unsafe impl Versioned for pupil_translate_options {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        from: std::ptr::null(),
        from_len: 0,
        to: std::ptr::null(),
        to_len: 0,
        prefix: std::ptr::null(),
        prefix_len: 0,
        beam: 1,
        no_repeat_ngram: 0,
        batch: 16,
        threads: 0,
        length_penalty: 1.0,
        max_length_ratio: 3.0,
        shortlist: 1,
        reserved: 0,
    };
}

/// A translation and what it took.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct pupil_translation {
    /// The size of this structure, set by the caller.
    pub size: usize,
    /// The translation, in the layout of the text, without a NUL; it stays until the translator translates again.
    pub text: *const c_char,
    /// Bytes of `text`.
    pub text_len: usize,
    /// Sentences, and parts of sentences too long for one.
    pub sentences: usize,
    /// Tokens of the text.
    pub source_tokens: usize,
    /// Tokens of the translation.
    pub tokens: usize,
    /// The mean over sentences of their log-probability over `length ^ length_penalty`; 0 without sentences.
    pub score: f32,
    /// How the sentence ended that ended worst: `PUPIL_FINISH_END`, `_LENGTH` or `_REPEATS`.
    pub finish: u32,
}

// SAFETY: plain old data whose first field is its size.
unsafe impl Versioned for pupil_translation {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        text: std::ptr::null(),
        text_len: 0,
        sentences: 0,
        source_tokens: 0,
        tokens: 0,
        score: 0.0,
        finish: 0,
    };
}

/// Fills `options`, which are `size` bytes (`sizeof`), with the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translate_options_init(
    options: *mut pupil_translate_options,
    size: usize,
) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { init(options, size) }
}

/// Maps the GGUF file at `path`. `options` may be NULL for the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translator_open(
    path: *const c_char,
    options: *const pupil_translate_options,
    translator: *mut *mut pupil_translator,
) -> pupil_status {
    // SAFETY: as the caller says.
    unsafe { give(translator, || Ok(Translator::open(c_path(path)?, translate_options(options)?)?.into())) }
}

/// A translator whose file is in memory. It is used in place: the bytes must stay as they are until the translator is
/// freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translator_open_memory(
    data: *const u8,
    len: usize,
    options: *const pupil_translate_options,
    translator: *mut *mut pupil_translator,
) -> pupil_status {
    // SAFETY: as the caller says, who also keeps the bytes for as long as anything refers to them.
    unsafe {
        give(translator, || {
            let bytes: &'static [u8] = slice(data, len, "the file's bytes")?;
            let options = translate_options(options)?;
            Ok(Translator::from_bytes(Bytes::Static(bytes), "the file in memory", options)?.into())
        })
    }
}

impl From<Translator> for pupil_translator {
    fn from(translator: Translator) -> Self {
        Self { translator, results: Vec::new() }
    }
}

/// # Safety
/// `options` is null or as its size says, and so are its texts.
pub(super) unsafe fn translate_options(options: *const pupil_translate_options) -> crate::Result<TranslateOptions> {
    // SAFETY: as the caller says.
    let options = unsafe { versioned(options) }?;
    let given = |text: *const c_char, len, what| {
        // SAFETY: as the caller says.
        (!text.is_null()).then(|| unsafe { utf8(text, len, what) }.map(str::to_owned)).transpose()
    };
    let defaults = TranslateOptions::default();
    Ok(TranslateOptions {
        from: given(options.from, options.from_len, "the language to translate from")?,
        to: given(options.to, options.to_len, "the language to translate to")?,
        prefix: given(options.prefix, options.prefix_len, "the prefix")?,
        beam: options.beam,
        length_penalty: options.length_penalty,
        no_repeat_ngram: options.no_repeat_ngram,
        max_length_ratio: options.max_length_ratio,
        batch: options.batch,
        shortlist: options.shortlist != 0,
        threads: if options.threads > 0 { options.threads } else { defaults.threads },
        ..defaults
    })
}

/// Translates a text of any length, which may be empty. What became of it goes to `translation`, which may be NULL; its
/// `size` must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translate(
    translator: *mut pupil_translator,
    text: *const c_char,
    len: usize,
    translation: *mut pupil_translation,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let (translator, text) = unsafe { (handle(translator)?, utf8(text, len, "the text")?) };
        // SAFETY: as the caller says.
        unsafe { room(translation) }?;
        translator.translate(&[text])?;
        // SAFETY: as the caller says.
        unsafe { put(translation, result(&translator.results[0])) }
    })
}

/// Translates `count` texts, and sentences of all of them together: text `i` has `lens[i]` bytes at `texts[i]`. What
/// became of each, `pupil_translator_result` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translate_batch(
    translator: *mut pupil_translator,
    texts: *const *const c_char,
    lens: *const usize,
    count: usize,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let (translator, texts, lens) =
            unsafe { (handle(translator)?, slice(texts, count, "the texts")?, slice(lens, count, "the lengths")?) };
        let texts = texts.iter().zip(lens).enumerate();
        // SAFETY: as the caller says.
        let texts = texts.map(|(i, (&text, &len))| unsafe { utf8(text, len, &format!("text {i}")) });
        translator.translate(&texts.collect::<crate::Result<Vec<_>>>()?)
    })
}

impl pupil_translator {
    fn translate(&mut self, texts: &[&str]) -> crate::Result<()> {
        // If it fails, nobody shall take earlier results for those of these texts.
        self.results.clear();
        self.results = self.translator.translate_batch(texts)?;
        Ok(())
    }
}

/// What text `index` of the last call became. The `size` of `translation` must be set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translator_result(
    translator: *const pupil_translator,
    index: usize,
    translation: *mut pupil_translation,
) -> pupil_status {
    guard(|| {
        // SAFETY: as the caller says.
        let translator = unsafe { translator.as_ref() }.ok_or_else(|| null("the handle"))?;
        if translation.is_null() {
            return Err(null("the place for the translation"));
        }
        let Some(found) = translator.results.get(index) else {
            let count = translator.results.len();
            return Err(Error::input(format!("translation {index} of {count}: there is no such one")));
        };
        // SAFETY: as the caller says.
        unsafe { put(translation, result(found)) }
    })
}

fn result(translation: &Translation) -> pupil_translation {
    let finish = match translation.finish {
        Finish::End => pupil_finish::PUPIL_FINISH_END,
        Finish::Length => pupil_finish::PUPIL_FINISH_LENGTH,
        Finish::Repeats => pupil_finish::PUPIL_FINISH_REPEATS,
    };
    pupil_translation {
        text: translation.text.as_ptr().cast(),
        text_len: translation.text.len(),
        sentences: translation.sentences,
        source_tokens: translation.source_tokens,
        tokens: translation.tokens,
        score: translation.score,
        finish: finish as u32,
        ..pupil_translation::DEFAULT
    }
}

/// Frees a translator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pupil_translator_free(translator: *mut pupil_translator) {
    // SAFETY: as the caller says.
    unsafe { free(translator) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_librarys() {
        // SAFETY: null is allowed.
        let made = unsafe { translate_options(std::ptr::null()) }.unwrap();
        assert_eq!(format!("{made:?}"), format!("{:?}", TranslateOptions::default()));
    }
}
