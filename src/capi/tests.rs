//! The rules that hold for all functions; the tasks themselves are tested by the C programs in `cross/examples`.

use super::*;
use std::ptr::{null, null_mut};

fn last_error() -> String {
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
        pupil_model_free(null_mut());
        pupil_chat_free(null_mut());
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
    assert_eq!((read.context, read.temperature), (99, 0.8));
    for size in [0, 3, size_of::<pupil_chat_options>() + 1] {
        given.size = size;
        // SAFETY: a size that does not fit is refused before anything else is read.
        assert!(unsafe { versioned(&raw const given) }.is_err());
    }
}

#[test]
fn results_are_cut_to_what_older_programs_know() {
    let mut out = pupil_answer { size: std::mem::offset_of!(pupil_answer, tokens), ..pupil_answer::DEFAULT };
    // SAFETY: the structure is larger than its size says.
    unsafe { put(&raw mut out, pupil_answer { prompt_tokens: 5, tokens: 6, ..pupil_answer::DEFAULT }) }.unwrap();
    assert_eq!((out.prompt_tokens, out.tokens, out.size), (5, 0, std::mem::offset_of!(pupil_answer, tokens)));
}
