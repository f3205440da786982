//! Chat templates against Python's Jinja2. `fixtures/templates.json` holds templates of our own with the constructs that
//! models use, and what Jinja2 3.1.6 makes of them, set up as `transformers` does; null where it refuses.

use pupil::{
    ErrorKind,
    text::{ChatTemplate, Message, RenderOptions},
};
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn templates_give_what_jinja2_gives() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/templates.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    for case in fixture["cases"].as_array().unwrap() {
        let source = text(&fixture["templates"][case["template"].as_u64().unwrap() as usize]);
        let turns = case["messages"].as_array().unwrap();
        let messages: Vec<Message> = turns.iter().map(|turn| Message::new(text(&turn[0]), text(&turn[1]))).collect();
        let options = RenderOptions {
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            tools: Some(&case["tools"]).filter(|tools| !tools.is_null()).map(Value::to_string),
            variables: Some(case["variables"].to_string()),
            now: Some(UNIX_EPOCH + Duration::from_secs(1_721_999_109)),
        };
        let rendered = ChatTemplate::from_source(&source, "<s>", "</s>").unwrap().render(&messages, &options);
        assert_eq!(rendered.as_deref().ok(), case["expected"].as_str(), "{source}\n{messages:?}\n{rendered:?}");
    }
}

fn fails(source: &str) -> (ErrorKind, String) {
    let rendered = ChatTemplate::from_source(source, "", "")
        .and_then(|template| template.render(&[Message::user("x")], &RenderOptions::default()));
    let error = rendered.expect_err(source);
    (error.kind(), error.to_string())
}

#[test]
fn errors_are_one_clear_line() {
    let (kind, message) = fails("a\n{{ raise_exception('System role\\nnot supported') }}");
    assert_eq!((kind, &*message), (ErrorKind::Input, "tokenizer.chat_template line 2: System role not supported"));
    let (kind, message) = fails("{% if %}");
    assert_eq!(kind, ErrorKind::Format);
    assert_eq!(message, "tokenizer.chat_template line 1: syntax error: unexpected end of block");
    let template = ChatTemplate::chatml();
    let bad = RenderOptions { tools: Some("{".into()), ..Default::default() };
    let message = template.render(&[], &bad).unwrap_err().to_string();
    assert!(message.starts_with("tools: ") && message.ends_with("expected JSON"), "{message}");
}

#[test]
fn hostile_templates_are_stopped() {
    for source in [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{{ 'a' * 10000000000 }}",
        "{{ 'a' | indent(10000000000) }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set n = namespace(x=[]) %}{% for j in range(9) %}\
         {% for i in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{% endfor %}",
        "{% include 'secret' %}",
        "{{ messages[0].nothing.more }}",
    ] {
        fails(source);
    }
    fails(&" ".repeat(100_000));
    fails(&format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)));
    let chains = [format!("{{{{ 1{} }}}}", "+1".repeat(30_000)), format!("{{{{ {}1 }}}}", "-".repeat(60_000))];
    for source in chains {
        ChatTemplate::from_source(&source, "", "").unwrap().render(&[], &RenderOptions::default()).unwrap();
    }
}
