//! Conversations with a small random model: what is kept, what ends an answer, what is refused.

use pupil::nets::kv::CacheType;
use pupil::text::SamplerOptions;
use pupil::{Answer, Chat, ChatOptions, ErrorKind, Finish, Model};
use std::ops::ControlFlow;
use std::path::Path;

fn model() -> Model {
    Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/llama.gguf")).unwrap()
}

/// Greedy, 8 tokens, one thread.
fn options() -> ChatOptions {
    ChatOptions { max_tokens: Some(8), threads: 1, sampler: Some(SamplerOptions::greedy()), ..Default::default() }
}

fn raw() -> ChatOptions {
    ChatOptions { raw: true, ..options() }
}

fn say(chat: &mut Chat, text: &str) -> Answer {
    chat.say(text, |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn the_stream_is_the_answer() {
    let model = model();
    let mut chat = Chat::new(&model, options()).unwrap();
    let mut streamed = String::new();
    let answer = chat
        .say("hello", |piece| {
            streamed.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(streamed, answer.text);
    assert_eq!((answer.tokens, answer.finish), (8, Finish::Length));
}

#[test]
fn answers_do_not_depend_on_the_number_of_threads() {
    let model = model();
    let text = "a longer prompt, so that its tokens go through panels and not one by one";
    let answers: Vec<String> = [1, 2, 3]
        .into_iter()
        .map(|threads| say(&mut Chat::new(&model, ChatOptions { threads, ..raw() }).unwrap(), text).text)
        .collect();
    assert!(answers.iter().all(|text| *text == answers[0]), "{answers:?}");
}

#[test]
fn what_earlier_turns_computed_is_used_again() {
    let model = model();
    let mut chat = Chat::new(&model, options()).unwrap();
    let first = say(&mut chat, "one");
    assert_eq!(first.reused_tokens, 0);
    let second = say(&mut chat, "two");
    assert!(second.reused_tokens >= first.prompt_tokens, "{second:?}");

    // The same words in a new conversation, told what was answered, need the same tokens.
    chat.reset();
    let again = say(&mut chat, "one");
    assert_eq!(again.text, first.text);
    assert_eq!(again.reused_tokens, again.prompt_tokens - 1, "all but the last token was there");
}

#[test]
fn raw_text_goes_on_where_it_stopped() {
    let model = model();
    let mut whole = Chat::new(&model, ChatOptions { max_tokens: Some(16), ..raw() }).unwrap();
    let mut halves = Chat::new(&model, raw()).unwrap();
    let all = say(&mut whole, "once");
    let (first, second) = (say(&mut halves, "once"), say(&mut halves, ""));
    assert_eq!(first.tokens + second.tokens, all.tokens);
    assert_eq!(format!("{}{}", first.text, second.text), all.text);
}

#[test]
fn a_listener_that_breaks_off_ends_the_answer() {
    let model = model();
    let mut chat = Chat::new(&model, options()).unwrap();
    let answer = chat.say("hello", |_| ControlFlow::Break(())).unwrap();
    assert_eq!((answer.finish, answer.tokens), (Finish::Cancelled, 0));
    let mut pieces = 0;
    let answer = chat
        .say("hello", |_| {
            pieces += 1;
            if pieces > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(answer.finish, Finish::Cancelled);
    assert!(answer.tokens > 0 && answer.tokens < 8);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let model = model();
    let free = say(&mut Chat::new(&model, raw()).unwrap(), "hello").text;
    let stop: String = free.chars().skip(2).take(2).collect();
    let mut chat = Chat::new(&model, ChatOptions { stop: vec![stop.clone()], ..raw() }).unwrap();
    let answer = say(&mut chat, "hello");
    assert_eq!(answer.finish, Finish::Stop);
    assert_eq!(answer.text, free[..free.find(&stop).unwrap()]);
}

#[test]
fn a_full_context_ends_the_answer_unless_it_may_shift() {
    let model = model();
    let small = ChatOptions { context: Some(24), max_tokens: Some(60), ..raw() };
    let answer = say(&mut Chat::new(&model, small.clone()).unwrap(), "hello");
    assert_eq!(answer.finish, Finish::ContextFull);
    assert!(answer.tokens < 24);
    let answer = say(&mut Chat::new(&model, ChatOptions { shift: true, ..small }).unwrap(), "hello");
    assert_eq!((answer.finish, answer.tokens), (Finish::Length, 60));
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_and_forgotten() {
    let model = model();
    let mut chat = Chat::new(&model, ChatOptions { context: Some(64), max_tokens: Some(2), ..options() }).unwrap();
    say(&mut chat, "hi");
    let turns = chat.turns().to_vec();
    let error = chat.say(&"long ".repeat(40), |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull);
    assert!(error.to_string().starts_with("the context is full"), "{error}");
    assert_eq!(chat.turns(), turns);
    say(&mut chat, "x");
}

#[test]
fn with_shift_the_oldest_turns_are_forgotten() {
    let model = model();
    let small = ChatOptions { context: Some(96), max_tokens: Some(4), shift: true, ..options() };
    let mut chat = Chat::new(&model, ChatOptions { system: Some("be".into()), ..small }).unwrap();
    for turn in 0..12 {
        say(&mut chat, &format!("turn {turn}"));
    }
    assert_eq!(chat.turns()[0].role, "system");
    assert_eq!(chat.turns()[chat.turns().len() - 2].content, "turn 11");
    assert!(chat.turns().len() < 25);
}

#[test]
fn every_cache_type_answers() {
    let model = model();
    for cache in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
        let answer = say(&mut Chat::new(&model, ChatOptions { cache, ..raw() }).unwrap(), "hello");
        assert_eq!(answer.tokens, 8);
    }
}

#[test]
fn senseless_options_are_refused() {
    let model = model();
    for (bad, message) in [
        (ChatOptions { threads: 0, ..options() }, "0 threads: expected 1 to 1024"),
        (ChatOptions { threads: 1025, ..options() }, "1025 threads: expected 1 to 1024"),
        (ChatOptions { context: Some(0), ..options() }, "a context of 0"),
        (ChatOptions { context: Some(usize::MAX), ..options() }, "a context of"),
        (ChatOptions { stop: vec![String::new()], ..options() }, "stop"),
        (ChatOptions { sampler: Some(SamplerOptions { top_p: 2.0, ..Default::default() }), ..options() }, "top_p"),
    ] {
        let error = Chat::new(&model, bad).err().expect(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}
