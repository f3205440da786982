//! The rules that hold for all functions, chats and translators; the tasks themselves are tested by the C programs in
//! `cross/examples`.

use super::translate::translate_options;
use super::*;
use std::ptr::{null, null_mut};

pub(super) fn last_error() -> String {
    // SAFETY: the message ends with a NUL, and no call fails while it is read.
    unsafe { CStr::from_ptr(pupil_last_error()) }.to_str().unwrap().to_owned()
}

#[test]
fn nulls_are_refused_with_a_message() {
    // SAFETY: null is allowed everywhere here.
    unsafe {
        assert_eq!(pupil_model_open(c"x".as_ptr(), null_mut()), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the place for the handle is NULL");
        let mut model = null_mut();
        assert_eq!(pupil_model_open(null(), &raw mut model), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the path is NULL");
        let mut chat = null_mut();
        assert_eq!(pupil_chat_new(null(), null(), &raw mut chat), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the model is NULL");
        assert_eq!(pupil_chat_say(null_mut(), null(), 0, None, null_mut(), null_mut()), PUPIL_ERROR_INPUT);
        assert_eq!(pupil_chat_reset(null_mut()), PUPIL_ERROR_INPUT);
        let mut len = 7;
        pupil_chat_text(null(), &raw mut len);
        assert_eq!(len, 0);
        let mut translator = null_mut();
        assert_eq!(pupil_translator_open(null(), null(), &raw mut translator), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the path is NULL");
        assert_eq!(pupil_translate(null_mut(), null(), 0, null_mut()), PUPIL_ERROR_INPUT);
        assert_eq!(pupil_translate_batch(null_mut(), null(), null(), 0), PUPIL_ERROR_INPUT);
        assert_eq!(pupil_translator_result(null(), 0, null_mut()), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "the handle is NULL");
        pupil_model_free(null_mut());
        pupil_chat_free(null_mut());
        pupil_translator_free(null_mut());
    }
}

#[test]
fn a_handle_is_null_after_a_failure() {
    let mut model = std::ptr::dangling_mut();
    // SAFETY: the path ends with a NUL.
    let status = unsafe { pupil_model_open(c"no/such/file.gguf".as_ptr(), &raw mut model) };
    assert_eq!(status, PUPIL_ERROR_IO);
    assert!(model.is_null());
    assert!(last_error().starts_with("no/such/file.gguf: "), "{}", last_error());
}

#[test]
fn text_that_is_no_utf8_is_refused_with_the_place() {
    // SAFETY: the slice lives through the call.
    let error = unsafe { utf8(b"ab\xff".as_ptr().cast(), 3, "the text") }.unwrap_err();
    assert_eq!(error.to_string(), "the text is no UTF-8 at byte 2");
}

#[test]
fn lengths_below_0_are_refused() {
    let data = [7_u64];
    for len in [usize::MAX, usize::MAX / 2 / size_of::<u64>() + 1] {
        // SAFETY: what cannot be is refused before it is looked at.
        let error = unsafe { slice(data.as_ptr(), len, "the text") }.unwrap_err();
        assert_eq!(error.to_string(), format!("the length of the text is {len}: no memory has as much"));
    }
}

#[test]
fn panics_do_not_cross() {
    assert_eq!(guard(|| panic!("odd {}", 1)), PUPIL_ERROR_INTERNAL);
    assert_eq!(last_error(), "a fault of the library: odd 1");
}

#[test]
fn errors_belong_to_their_thread() {
    guard(|| Err(Error::input("here")));
    std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    assert_eq!(last_error(), "here");
}

#[test]
fn shorter_options_of_older_programs_keep_the_other_defaults() {
    let mut given = pupil_chat_options { context: 99, temperature: 0.0, ..pupil_chat_options::DEFAULT };
    given.size = std::mem::offset_of!(pupil_chat_options, temperature);
    // SAFETY: the structure is larger than its size says.
    let read = unsafe { versioned(&raw const given) }.unwrap();
    assert_eq!((read.context, read.temperature), (99, -1.0));
    for size in [0, 3, size_of::<pupil_chat_options>() + 1] {
        given.size = size;
        // SAFETY: a size that does not fit is refused before anything else is read.
        assert!(unsafe { versioned(&raw const given) }.is_err());
    }
}

#[test]
fn defaults_are_written_as_far_as_older_programs_have_room() {
    let size = std::mem::offset_of!(pupil_chat_options, temperature);
    let mut given = pupil_chat_options { context: 99, temperature: 7.0, ..pupil_chat_options::DEFAULT };
    // SAFETY: the structure is larger than its size says.
    assert_eq!(unsafe { chat::pupil_chat_options_init(&raw mut given, size) }, PUPIL_OK);
    assert_eq!((given.size, given.context, given.temperature), (size, 0, 7.0));
    for size in [0, size_of::<pupil_chat_options>() + 1] {
        // SAFETY: a size that does not fit is refused before anything is written.
        assert_ne!(unsafe { chat::pupil_chat_options_init(&raw mut given, size) }, PUPIL_OK);
    }
    // SAFETY: null is refused.
    assert_ne!(unsafe { chat::pupil_chat_options_init(std::ptr::null_mut(), size) }, PUPIL_OK);
}

#[test]
fn results_are_cut_to_what_older_programs_know() {
    let mut out = pupil_answer { size: std::mem::offset_of!(pupil_answer, tokens), ..pupil_answer::DEFAULT };
    // SAFETY: the structure is larger than its size says.
    unsafe { put(&raw mut out, pupil_answer { prompt_tokens: 5, tokens: 6, ..pupil_answer::DEFAULT }) }.unwrap();
    assert_eq!((out.prompt_tokens, out.tokens, out.size), (5, 0, std::mem::offset_of!(pupil_answer, tokens)));
}

#[test]
fn an_answer_is_not_made_for_a_place_that_does_not_fit() {
    unsafe extern "C" fn never(_: *const c_char, _: usize, _: *mut std::ffi::c_void) -> std::ffi::c_int {
        panic!("nothing was to be said")
    }
    let path = CString::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/llama.gguf")).unwrap();
    let options = pupil_chat_options { max_tokens: 3, ..pupil_chat_options::DEFAULT };
    let (mut model, mut chat) = (null_mut(), null_mut());
    let mut answer = pupil_answer { size: 0, ..pupil_answer::DEFAULT };
    // SAFETY: the handles are there until they are freed, and the structures are as large as their sizes say, or larger.
    unsafe {
        assert_eq!(pupil_model_open(path.as_ptr(), &raw mut model), PUPIL_OK, "{}", last_error());
        assert_eq!(pupil_chat_new(model, &raw const options, &raw mut chat), PUPIL_OK, "{}", last_error());
        let say = |listener, answer| pupil_chat_say(chat, c"hello".as_ptr(), 5, listener, null_mut(), answer);
        assert_eq!(say(Some(never), &raw mut answer), PUPIL_ERROR_INPUT);
        assert!(last_error().contains("size"), "{}", last_error());
        answer.size = size_of::<pupil_answer>();
        assert_eq!(say(None, &raw mut answer), PUPIL_OK, "{}", last_error());
        assert_eq!(answer.reused_tokens, 0);
        pupil_chat_free(chat);
        pupil_model_free(model);
    }
}

#[test]
fn stop_texts_end_answers() {
    let path = CString::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/llama.gguf")).unwrap();
    let defaults = pupil_chat_options { temperature: 0.0, raw: 1, max_tokens: 8, ..pupil_chat_options::DEFAULT };
    let mut model = null_mut();
    // SAFETY: the path ends with a NUL.
    unsafe { assert_eq!(pupil_model_open(path.as_ptr(), &raw mut model), PUPIL_OK, "{}", last_error()) };
    let say = |stop: &str| {
        let options = pupil_chat_options { stop: stop.as_ptr().cast(), stop_len: stop.len(), ..defaults };
        let (mut chat, mut answer, mut len) = (null_mut(), pupil_answer::DEFAULT, 0);
        // SAFETY: the handles are there until they are freed, the structures are as large as their sizes say, and the
        // stop texts live through the call.
        unsafe {
            let status = pupil_chat_new(model, &raw const options, &raw mut chat);
            if status != PUPIL_OK {
                return Err(last_error());
            }
            assert_eq!(pupil_chat_say(chat, c"hello".as_ptr(), 5, None, null_mut(), &raw mut answer), PUPIL_OK);
            let text = utf8(pupil_chat_text(chat, &raw mut len), len, "the answer").unwrap().to_owned();
            pupil_chat_free(chat);
            Ok((text, answer.finish))
        }
    };
    let (whole, finish) = say("").unwrap();
    assert_eq!(finish, pupil_finish::PUPIL_FINISH_LENGTH as u32);
    let (at, last) = whole.char_indices().next_back().unwrap();
    let (text, finish) = say(&format!("never\0{last}")).unwrap();
    assert_eq!(finish, pupil_finish::PUPIL_FINISH_STOP as u32);
    assert!(text.len() <= at && whole.starts_with(&text), "{text:?} of {whole:?}");
    assert!(say("never\0").unwrap_err().contains("stop"), "{}", last_error());
    // SAFETY: nothing uses it any more.
    unsafe { pupil_model_free(model) };
}

/// A translator of a small random model, whose file is in memory for good.
fn translator(options: *const pupil_translate_options) -> *mut pupil_translator {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/t5-relu.gguf");
    let file = std::fs::read(path).unwrap().leak();
    let mut translator = null_mut();
    // SAFETY: the bytes are there for as long as the program runs, and the options are null or as their size says.
    let status = unsafe { pupil_translator_open_memory(file.as_ptr(), file.len(), options, &raw mut translator) };
    assert_eq!(status, PUPIL_OK, "{}", last_error());
    translator
}

/// Text, score, tokens, source tokens, sentences and finish of the last call's translation `index`.
fn result(translator: *const pupil_translator, index: usize) -> (String, f32, [usize; 3], u32) {
    let mut out = pupil_translation::DEFAULT;
    // SAFETY: the handle is not freed, and the structure is as large as its size says.
    let text = unsafe {
        assert_eq!(pupil_translator_result(translator, index, &raw mut out), PUPIL_OK);
        utf8(out.text, out.text_len, "the translation").unwrap().to_owned()
    };
    (text, out.score, [out.tokens, out.source_tokens, out.sentences], out.finish)
}

#[test]
fn translations_are_the_librarys_alone_and_together() {
    let (texts, lens) = (["An apple. Bread?", "", "face"], [16, 0, 4]);
    let options = crate::TranslateOptions { beam: 3, threads: 1, ..Default::default() };
    let given = pupil_translate_options { beam: 3, threads: 1, ..pupil_translate_options::DEFAULT };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/t5-relu.gguf");
    let expected = crate::Translator::open(path, options).unwrap().translate_batch(&texts).unwrap();
    let translator = translator(&raw const given);
    let starts = texts.map(|text| text.as_ptr().cast());
    // SAFETY: the texts and the handle live through the call.
    let status = unsafe { pupil_translate_batch(translator, starts.as_ptr(), lens.as_ptr(), 3) };
    assert_eq!(status, PUPIL_OK, "{}", last_error());
    for (i, expected) in expected.iter().enumerate() {
        let (text, score, counts, finish) = result(translator, i);
        assert_eq!((&text, score), (&expected.text, expected.score));
        assert_eq!(counts, [expected.tokens, expected.source_tokens, expected.sentences]);
        assert_eq!(finish == pupil_finish::PUPIL_FINISH_END as u32, expected.finish == crate::translate::Finish::End);
    }
    let mut out = pupil_translation::DEFAULT;
    // SAFETY: as above.
    unsafe {
        assert_eq!(pupil_translate(translator, starts[0], lens[0], &raw mut out), PUPIL_OK);
        assert_eq!(utf8(out.text, out.text_len, "the translation").unwrap(), expected[0].text);
        assert_eq!(pupil_translator_result(translator, 1, &raw mut out), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "translation 1 of 1: there is no such one");
        pupil_translator_free(translator);
    }
}

#[test]
fn texts_of_a_batch_are_refused_by_their_number() {
    let translator = translator(null());
    let texts = [c"ab".as_ptr(), c"\xff".as_ptr(), null()];
    // SAFETY: the handle is not freed, and the texts are as long as the lengths say or null.
    unsafe {
        assert_eq!(pupil_translate_batch(translator, texts.as_ptr(), [2, 1, 0].as_ptr(), 3), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "text 1 is no UTF-8 at byte 0");
        assert_eq!(pupil_translate_batch(translator, texts.as_ptr(), [2, 0, 1].as_ptr(), 3), PUPIL_ERROR_INPUT);
        assert_eq!(last_error(), "text 2 is NULL");
        pupil_translator_free(translator);
    }
}

#[test]
fn languages_and_prefixes_are_texts_or_null() {
    let refused = |options: pupil_translate_options| {
        let mut translator = null_mut();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/t5-relu.gguf\0");
        // SAFETY: the path ends with a NUL, and the options are as their size says.
        let status = unsafe { pupil_translator_open(path.as_ptr().cast(), &raw const options, &raw mut translator) };
        assert_eq!(status, PUPIL_ERROR_INPUT);
        assert!(translator.is_null());
        last_error()
    };
    let defaults = pupil_translate_options::DEFAULT;
    let to = pupil_translate_options { to: c"frisian".as_ptr(), to_len: 2, ..defaults };
    assert!(refused(to).contains("does not translate to fr; "));
    let prefix = pupil_translate_options { prefix: c"\xff".as_ptr(), prefix_len: 1, ..defaults };
    assert_eq!(refused(prefix), "the prefix is no UTF-8 at byte 0");
    assert!(refused(pupil_translate_options { beam: 0, ..defaults }).starts_with("beam is 0"));
    // An empty prefix is one too.
    let prefix = pupil_translate_options { prefix: c"".as_ptr(), ..defaults };
    // SAFETY: the options are as their size says.
    assert_eq!(unsafe { translate_options(&raw const prefix) }.unwrap().prefix, Some(String::new()));
}
