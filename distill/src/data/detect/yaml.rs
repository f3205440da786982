//! `data.yaml`: the names of the classes, and where the splits are.

use crate::error::{Error, Result};
use saphyr_parser::{Event, Parser, StrInput};
use std::path::Path;

/// A value of the file, as far as data sets need it.
enum Value {
    One(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
    /// Something deeper, which we do not read.
    Deep,
}

/// The file's keys and values.
pub(super) struct Yaml {
    file: String,
    entries: Vec<(String, Value)>,
}

impl Yaml {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, file: &str) -> Result<Self> {
        let mut yaml = Self { file: file.into(), entries: Vec::new() };
        let mut events = Events { file, parser: Parser::new_from_str(text) };
        while matches!(events.peek()?, Event::StreamStart | Event::DocumentStart(_)) {
            events.next()?;
        }
        if !matches!(events.next()?, Event::MappingStart(..)) {
            return Err(Error::format(format!("{file}: no keys, expected `names:` and `train:`")));
        }
        loop {
            match events.next()? {
                Event::MappingEnd => return Ok(yaml),
                Event::Scalar(key, ..) => yaml.entries.push((key.into(), events.value()?)),
                _ => return Err(Error::format(format!("{file}: a key is a list or a map, expected a name"))),
            }
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let value = &self.entries.iter().find(|(name, _)| name == key)?.1;
        let null = matches!(value, Value::One(text) if ["", "~", "null"].contains(&text.as_str()));
        (!null).then_some(value)
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::format(format!("{}: `{key}` is something else, expected {expected}", self.file))
    }

    /// The names of the classes, from a list or from a map of indices.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let expected = "a list of class names, or a map from 0, 1, … to them";
        let names = match self.get("names") {
            Some(Value::List(names)) => names.clone(),
            Some(Value::Map(pairs)) => {
                let name = |index: usize| pairs.iter().find(|(key, _)| key.parse() == Ok(index)).map(|(_, name)| name);
                let names = (0..pairs.len()).map(|index| name(index).cloned());
                names.collect::<Option<_>>().ok_or_else(|| self.wrong("names", expected))?
            }
            Some(_) => return Err(self.wrong("names", expected)),
            None => return Err(Error::format(format!("{}: `names` is missing, expected {expected}", self.file))),
        };
        match self.get("nc") {
            Some(Value::One(count)) if count.parse() != Ok(names.len()) => {
                Err(Error::format(format!("{}: `nc` is {count}, expected {} as in `names`", self.file, names.len())))
            }
            _ => Ok(names),
        }
    }

    /// The value of `key` if it is there: one text or several.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::One(text)) => Ok(Some(vec![text.clone()])),
            Some(Value::List(texts)) => Ok(Some(texts.clone())),
            Some(_) => Err(self.wrong(key, "a path or a list of paths")),
        }
    }
}

/// The parser's events, with errors of ours.
struct Events<'a> {
    file: &'a str,
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Events<'a> {
    fn peek(&mut self) -> Result<Event<'a>> {
        match self.parser.peek() {
            Some(Ok((event, _))) => Ok(event.clone()),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Ok(Event::StreamEnd),
        }
    }

    fn next(&mut self) -> Result<Event<'a>> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Err(Error::format(format!("{}: the file ends too early, expected more keys", self.file))),
        }
    }

    fn broken(&self, error: &saphyr_parser::ScanError) -> Error {
        Error::format(format!("{} line {}: {}, expected YAML", self.file, error.marker().line(), error.info()))
    }

    fn value(&mut self) -> Result<Value> {
        match self.next()? {
            Event::Scalar(text, ..) => Ok(Value::One(text.into())),
            Event::SequenceStart(..) => Ok(self.texts()?.map_or(Value::Deep, Value::List)),
            Event::MappingStart(..) => {
                let pair = |pair: &[String]| (pair[0].clone(), pair[1].clone());
                Ok(self.texts()?.map_or(Value::Deep, |texts| Value::Map(texts.chunks_exact(2).map(pair).collect())))
            }
            _ => Ok(Value::Deep),
        }
    }

    /// The texts up to the end of the list or map that has begun, unless there is something deeper in it.
    fn texts(&mut self) -> Result<Option<Vec<String>>> {
        let (mut texts, mut depth, mut flat) = (Vec::new(), 1, true);
        while depth > 0 {
            match self.next()? {
                Event::Scalar(text, ..) if depth == 1 => texts.push(text.into()),
                Event::SequenceStart(..) | Event::MappingStart(..) => (depth, flat) = (depth + 1, false),
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                Event::Alias(_) => flat = false,
                _ => {}
            }
        }
        Ok(flat.then_some(texts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Yaml> {
        Yaml::parse(text, "data.yaml")
    }

    #[test]
    fn reads_what_people_write() {
        for text in [
            "names: ['a b', \"c\"]",
            "names: ['a b',\n        'c']\n",
            "# comment\npath: ../x # here\nnames:\n  - a b\n  - c\nnc: 2",
            "---\nnames:\n  1: c\n  0: a b\nroboflow:\n  project: [{x: y}]\n",
            "names: &n [a b, c]\ndownload: |\n  import x: y\n  [\n",
        ] {
            assert_eq!(parse(text).unwrap().names().unwrap(), ["a b", "c"], "{text}");
        }
        let yaml = parse("names: [a]\ntrain: images/train\nval:\n  - x\n  - y\ntest: # optional\n").unwrap();
        assert_eq!(yaml.texts("train").unwrap().unwrap(), ["images/train"]);
        assert_eq!(yaml.texts("val").unwrap().unwrap(), ["x", "y"]);
        assert_eq!(yaml.texts("test").unwrap(), None);
    }

    #[test]
    fn rejects_what_makes_no_sense() {
        let names = "expected a list of class names, or a map from 0, 1, … to them";
        for (text, expected) in [
            ("", "data.yaml: no keys, expected `names:` and `train:`".to_string()),
            ("- a", "data.yaml: no keys, expected `names:` and `train:`".into()),
            ("[a]: b", "data.yaml: a key is a list or a map, expected a name".into()),
            ("nc: 3", format!("data.yaml: `names` is missing, {names}")),
            ("names:", format!("data.yaml: `names` is missing, {names}")),
            ("names: 3", format!("data.yaml: `names` is something else, {names}")),
            ("names: [[a]]", format!("data.yaml: `names` is something else, {names}")),
            ("names: {1: a, 2: b}", format!("data.yaml: `names` is something else, {names}")),
            ("x: &n [a]\nnames: *n", format!("data.yaml: `names` is something else, {names}")),
            ("nc: 3\nnames: [a, b]", "data.yaml: `nc` is 3, expected 2 as in `names`".into()),
        ] {
            assert_eq!(parse(text).and_then(|yaml| yaml.names()).unwrap_err().to_string(), expected, "{text}");
        }
        let message = parse("names: [a\nx: 'b").err().unwrap().to_string();
        assert!(message.starts_with("data.yaml line ") && message.ends_with(", expected YAML"), "{message}");
    }

    #[test]
    fn deep_nesting_is_no_problem() {
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let text = format!("x: {}{}\nnames: [a]", open.repeat(2000), close.repeat(2000));
            let _ = parse(&text);
            let _ = parse(&format!("x: {}", open.repeat(2000)));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "([ \n:,\\[\\]{}&*!|>'\"%@`#~?-]|[a-c0-2]|names|\n  ){0,60}") {
            if let Ok(yaml) = parse(&text) {
                let _ = yaml.names();
                let _ = yaml.texts("a");
            }
        }
    }
}
