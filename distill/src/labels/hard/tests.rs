//! The three stages, stopped anywhere.

use super::{Answer, Counts, Filter, Talker, answers, dataset, prompts};
use crate::error::Result;
use serde_json::Value;
use std::{fs, ops::ControlFlow, path::PathBuf};

fn place(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pupil-hard-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

fn file(name: &str, content: &str) -> PathBuf {
    fs::write(place(name), content).unwrap();
    place(name)
}

/// Says a prompt backwards, twice if it is long.
struct Parrot(usize);

impl Talker for Parrot {
    fn batch(&self) -> usize {
        self.0
    }

    fn answer(&mut self, prompts: &[String]) -> Result<Vec<Option<Answer>>> {
        let answer = |prompt: &String| {
            let answer: String = prompt.chars().rev().collect();
            let answer = if prompt.len() > 6 { format!("{answer} {answer}") } else { answer };
            let score = -(prompt.len() as f64) / 10.0;
            (prompt != "mute").then(|| Answer {
                prompt: prompt.clone(),
                answer,
                finished: !prompt.contains('…'),
                score,
            })
        };
        Ok(prompts.iter().map(answer).collect())
    }
}

fn go(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn filter() -> Filter {
    Filter { lengths: 1..=100, max_repetition: 0.3, min_score: -5.0, unfinished: false, translation: false }
}

/// A file whose lines `stage` adds to is the same in the end, wherever it was cut.
fn survives_cuts(name: &str, mut stage: impl FnMut(&PathBuf) -> Result<Counts>) -> String {
    let path = place(name);
    let _ = fs::remove_file(&path);
    stage(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(stage(&path).unwrap().added == 0 && fs::read(&path).unwrap() == whole);
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        stage(&path).unwrap();
        assert!(fs::read(&path).unwrap() == whole, "cut at byte {len}");
    }
    String::from_utf8(whole).unwrap()
}

#[test]
fn stages_go_on_after_any_cut() {
    let text = file("a.txt", "Hello\n\nWhat is this?\nHello\nan… end\nmute\n");
    let table = file("b.tsv", "Guten Tag\tGood day\nHello\tx\n");
    let lines = concat!(
        r#"{"turns": [{"role": "assistant", "text": "x"}, {"role": "user", "text": " Hi "}]}"#,
        "\n",
        r#"{"turns": ["One two", "Three"]}"#,
        "\n",
        r#"{"instruction": "Do it"}"#,
        "\n",
        "no JSON\n",
        r#"{"source": "Quelle", "target": "spring"}"#,
        "\n",
    );
    let dialogues = file("c.jsonl", lines);
    let files = [text, table, dialogues];
    let mut counts = Counts::default();
    let collected = survives_cuts("prompts.jsonl", |path| {
        let found = prompts(&files, path, &(1..=20), usize::MAX, &mut || ControlFlow::Continue(()))?;
        if found.before == 0 {
            counts = found.clone();
        }
        Ok(found)
    });
    let texts: Vec<Value> =
        collected.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["prompt"].clone()).collect();
    assert_eq!(texts, ["Hello", "What is this?", "an… end", "mute", "Guten Tag", "Hi", "One two", "Do it", "Quelle"]);
    assert_eq!(counts, Counts { before: 0, added: 9, repeated: 2, left_out: 2 });

    let source = file("p.jsonl", &collected);
    let said = survives_cuts("answers.jsonl", |path| answers(&source, path, &mut Parrot(2), &mut go));
    assert_eq!(said.lines().count(), 8); // all but one
    let first: Answer = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((first.answer.as_str(), first.score, first.finished), ("olleH", -0.5, true));

    let source = file("s.jsonl", &said);
    let formed = survives_cuts("dataset.jsonl", |path| dataset(&source, path, &filter()));
    assert!(formed.starts_with(r#"{"turns":[{"role":"user","text":"Hello"},{"role":"assistant","text":"olleH"}]}"#));
    assert!(!formed.contains("an… end"));
    let pairs = place("pairs.jsonl");
    let _ = fs::remove_file(&pairs);
    dataset(&source, &pairs, &Filter { translation: true, unfinished: true, ..filter() }).unwrap();
    assert!(fs::read_to_string(&pairs).unwrap().contains(r#"{"source":"an… end","target":"dne …na dne …na"}"#));
}

#[test]
fn answers_that_are_poor_are_left_out() {
    let answer = |answer: &str, finished, score| Answer { prompt: "q".into(), answer: answer.into(), finished, score };
    let good = answer("one two three four five", true, -1.0);
    assert!(filter().takes(&good));
    assert!(!filter().takes(&answer("one two three four five", false, -1.0)));
    assert!(!filter().takes(&answer("one two three four five", true, -6.0)));
    assert!(!filter().takes(&answer("one two three four five", true, f64::NAN)));
    assert!(!filter().takes(&answer(" ", true, -1.0)));
    assert!(!filter().takes(&answer(&"again and again and ".repeat(5), true, -1.0)));
}

#[test]
fn a_stop_leaves_what_is_done() {
    // The last line lacks its end, as people leave it.
    let source = file("stop-p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}");
    let path = place("stop.jsonl");
    let _ = fs::remove_file(&path);
    let mut each = |done, _| if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let counts = answers(&source, &path, &mut Parrot(1), &mut each).unwrap();
    assert_eq!((counts.added, fs::read_to_string(&path).unwrap().lines().count()), (2, 2));
    let counts = answers(&source, &path, &mut Parrot(1), &mut go).unwrap();
    assert_eq!((counts.before, counts.added), (2, 1));
}

#[test]
fn files_of_something_else_are_refused_and_stay() {
    let source = file("other-p.jsonl", "{\"prompt\":\"a\"}\n");
    for content in ["a letter to a friend", "two\nlines\n", "{\"a\": [1]}", "{\"turns\": []}\n", "{\"prompt\": 3}\n"] {
        let path = file("other.jsonl", content);
        let error = answers(&source, &path, &mut Parrot(1), &mut go).unwrap_err().to_string();
        assert!(error.contains("other.jsonl") && !error.contains('\n'), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let whole = "{\"prompt\":\"a\",\"answer\":\"b\",\"finished\":true,\"score\":0.0}\n";
    let path = file("same.jsonl", whole);
    let error = dataset(&path, &path, &filter()).unwrap_err().to_string();
    assert!(error.contains("would replace a file that is read"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    let missing = answers(&place("none.jsonl"), &place("out.jsonl"), &mut Parrot(1), &mut go).unwrap_err();
    assert_eq!(missing.kind(), crate::ErrorKind::Io);
    let other = prompts(&[place("x.pdf")], &place("out.jsonl"), &(1..=9), 9, &mut || ControlFlow::Continue(()));
    assert!(other.unwrap_err().to_string().contains("expected .txt, .tsv or .jsonl"));
}
