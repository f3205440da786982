//! Text that language students learn from: parallel sentences, dialogues, plain text.
//!
//! - `.tsv`: a sentence and its translation on each line, with a tab between; further columns mean nothing.
//! - `.jsonl`: an object on each line: `{"turns": [{"role": "user", "text": "…"}, …]}` with the roles `system`, `user`
//!   and `assistant`, or `{"source": "…", "target": "…"}`. Further keys mean nothing.
//! - `.txt`: a text on each line.
//!
//! Lines that cannot be used are left out and counted.

#[cfg(feature = "train")]
pub mod batches;
#[cfg(feature = "train")]
pub mod examples;
pub(crate) mod lines;
pub mod split;

use super::Bad;
use crate::error::{Error, Result};
use lines::Lines;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, path::Path};

/// What a corpus is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Dialogues and plain text.
    Chat,
    /// Sentences and their translations.
    Translate,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// As templates spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A turn of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, without white space at its ends.
    #[serde(alias = "content")]
    pub text: String,
}

/// What a student learns from at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// A sentence and its translation.
    Pair {
        /// What is translated.
        source: String,
        /// What it becomes.
        target: String,
    },
    /// A conversation with at least one turn of the assistant.
    Dialogue(Vec<Turn>),
    /// A text.
    Text(String),
}

impl Item {
    /// What makes items belong together: the sentence that is translated, the turn that a dialogue begins with.
    pub fn source(&self) -> &str {
        match self {
            Self::Pair { source, .. } => source,
            Self::Dialogue(turns) => turns.first().map_or("", |turn| &turn.text),
            Self::Text(text) => text,
        }
    }
}

/// Items as they were read, and what could not be.
#[derive(Debug, Clone, Default)]
pub struct Corpus {
    /// In the order of the files, each only once.
    pub items: Vec<Item>,
    /// Lines that were left out.
    pub bad: Bad,
    /// Lines that said the same as an earlier one.
    pub repeated: usize,
}

impl Corpus {
    /// Reads files for students of a kind.
    ///
    /// # Errors
    /// `Io` if a file cannot be read; `Input` if its name ends in something else than this kind takes, or if nothing
    /// in the files can be used.
    pub fn read<P: AsRef<Path>>(files: &[P], kind: Kind) -> Result<Self> {
        let mut corpus = Self::default();
        let mut seen = HashSet::new();
        for path in files {
            let path = path.as_ref();
            let parse = parser(path, kind)?;
            let mut lines = Lines::open(path)?;
            while let Some((number, line)) = lines.next()? {
                match line.and_then(parse) {
                    Ok(item) if seen.insert(item.clone()) => corpus.items.push(item),
                    Ok(_) => corpus.repeated += 1,
                    Err(reason) => corpus.bad.add(|| format!("{} line {number}: {reason}", path.display())),
                }
            }
        }
        if corpus.items.is_empty() {
            let names: Vec<_> = files.iter().map(|path| path.as_ref().display().to_string()).collect();
            let bad = if corpus.bad.count > 0 { format!("; {}", corpus.bad.summary("lines")) } else { String::new() };
            let expected = match kind {
                Kind::Chat => "dialogues or text",
                Kind::Translate => "sentences and their translations",
            };
            return Err(Error::input(format!("{}: no line of use, expected {expected}{bad}", names.join(", "))));
        }
        Ok(corpus)
    }
}

type Parser = fn(&str) -> Result<Item, String>;

fn parser(path: &Path, kind: Kind) -> Result<Parser> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let (parser, expected): (Option<Parser>, _) = match kind {
        Kind::Translate => (
            match extension {
                "tsv" => Some(pair),
                "jsonl" => Some(json_pair),
                _ => None,
            },
            ".tsv or .jsonl",
        ),
        Kind::Chat => (
            match extension {
                "jsonl" => Some(dialogue),
                "txt" => Some(text),
                _ => None,
            },
            ".jsonl or .txt",
        ),
    };
    parser.ok_or_else(|| {
        Error::input(format!("{}: not a kind of file for this student, expected {expected}", path.display()))
    })
}

fn pair(line: &str) -> Result<Item, String> {
    let mut columns = line.split('\t');
    let (Some(source), Some(target)) = (columns.next(), columns.next()) else {
        return Err("one column, expected two with a tab between".into());
    };
    checked_pair(source, target)
}

fn json_pair(line: &str) -> Result<Item, String> {
    #[derive(Deserialize)]
    struct Line {
        source: String,
        target: String,
    }
    let Line { source, target } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    checked_pair(&source, &target)
}

fn checked_pair(source: &str, target: &str) -> Result<Item, String> {
    let (source, target) = (tidy(source), tidy(target));
    match source.is_empty() || target.is_empty() {
        true => Err("an empty sentence, expected text".into()),
        false => Ok(Item::Pair { source, target }),
    }
}

/// Sentences are one line, with one space between words.
fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dialogue(line: &str) -> Result<Item, String> {
    #[derive(Deserialize)]
    struct Line {
        turns: Vec<Turn>,
    }
    let Line { mut turns } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    for turn in &mut turns {
        turn.text = turn.text.trim().to_string();
        if turn.text.is_empty() {
            return Err("an empty turn, expected text".into());
        }
    }
    match turns.iter().any(|turn| turn.role == Role::Assistant) {
        true => Ok(Item::Dialogue(turns)),
        false => Err("no turn of the assistant, expected one at least".into()),
    }
}

fn text(line: &str) -> Result<Item, String> {
    match line.trim() {
        "" => Err("an empty line, expected text".into()),
        text => Ok(Item::Text(text.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("pupil-corpus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn pairs_are_tidy_and_bad_lines_are_counted() {
        let path = file("a.tsv", "Hi.\tHallo!\nno tab\n a  b \t c\u{a0}d\tCC BY\r\n\tx\nHi.\tHallo!\n\u{feff}");
        let corpus = Corpus::read(&[&path], Kind::Translate).unwrap();
        let pair = |source: &str, target: &str| Item::Pair { source: source.into(), target: target.into() };
        assert_eq!(corpus.items, [pair("Hi.", "Hallo!"), pair("a b", "c d")]);
        assert_eq!((corpus.bad.count, corpus.repeated), (3, 1));
        assert!(corpus.bad.first[0].ends_with("a.tsv line 2: one column, expected two with a tab between"));
    }

    #[test]
    fn lines_that_are_no_text_or_too_long_are_bad() {
        let mut content = b"\xff\xfe\tx\n".to_vec();
        content.extend(vec![b'a'; 3 << 20]);
        content.extend(b"\nHi.\tHallo!");
        let corpus = Corpus::read(&[file("b.tsv", content)], Kind::Translate).unwrap();
        assert_eq!((corpus.items.len(), corpus.bad.count), (1, 2));
        let bad = corpus.bad.summary("lines");
        assert!(bad.contains("not UTF-8") && bad.contains("line 2: longer than"), "{bad}");
    }

    #[test]
    fn dialogues_need_an_answer() {
        let lines = [
            r#"{"id": 1, "turns": [{"role": "user", "text": " Hi "}, {"role": "assistant", "content": "Hello"}]}"#,
            r#"{"turns": [{"role": "user", "text": "Hi"}]}"#,
            r#"{"turns": ["Hi", "Hello"]}"#,
            r#"{"turns": [{"role": "robot", "text": "Hi"}]}"#,
            "{",
        ];
        let corpus = Corpus::read(&[file("c.jsonl", lines.join("\n"))], Kind::Chat).unwrap();
        let turn = |role, text: &str| Turn { role, text: text.into() };
        assert_eq!(corpus.items, [Item::Dialogue(vec![turn(Role::User, "Hi"), turn(Role::Assistant, "Hello")])]);
        assert_eq!(corpus.bad.count, 4);
    }

    #[test]
    fn files_of_another_kind_are_refused() {
        let refused = |name: &str, kind| Corpus::read(&[file(name, "x\n")], kind).unwrap_err().to_string();
        assert!(refused("d.txt", Kind::Translate).contains("expected .tsv or .jsonl"));
        assert!(refused("d.tsv", Kind::Chat).contains("expected .jsonl or .txt"));
        assert!(refused("e.tsv", Kind::Translate).contains("no line of use, expected sentences"));
        let missing = Corpus::read(&[Path::new("no/such.tsv")], Kind::Translate).unwrap_err();
        assert_eq!(missing.kind(), crate::ErrorKind::Io);
    }
}
