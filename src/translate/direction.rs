//! Which languages a file translates between, and how its model is told.

use super::TranslateOptions;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::text::Tokenizer;

/// What a file says about languages.
pub(super) struct Direction<'f> {
    file: &'f str,
    from: Option<&'f str>,
    to: Option<&'f str>,
    /// What the model was trained to see before every sentence.
    prefix: Option<&'f str>,
    /// The languages that it can be told to translate to, by tokens like `<2de>` (MADLAD-400).
    targets: Vec<String>,
}

impl<'f> Direction<'f> {
    pub(super) fn read(file: &'f Gguf, tokenizer: &Tokenizer) -> Result<Self> {
        let keys = file.keys();
        let target = |id: u32| {
            let token = std::str::from_utf8(tokenizer.token(id)).ok()?;
            let code = token.strip_prefix("<2")?.strip_suffix('>')?;
            (!code.is_empty()).then(|| code.to_owned())
        };
        let mut targets: Vec<String> = (0..tokenizer.len() as u32).filter_map(target).collect();
        targets.sort();
        Ok(Self {
            file: file.name(),
            from: keys.opt_str("pupil.translate.from")?,
            to: keys.opt_str("pupil.translate.to")?,
            prefix: keys.opt_str("pupil.translate.prefix")?,
            targets,
        })
    }

    /// What goes before every sentence.
    ///
    /// # Errors
    /// `Input` if the languages asked for are not those of the file, or if one has to be named.
    pub(super) fn prefix(&self, options: &TranslateOptions) -> Result<String> {
        let refused = |why: String| Err(Error::input(format!("{}: {why}", self.file)));
        match (&options.from, self.from) {
            (Some(from), Some(known)) if !same(from, known) => {
                return refused(format!("translates from {known}, not from {from}"));
            }
            (Some(from), None) => {
                return refused(format!("names no language that it translates from, so that {from} does nothing here"));
            }
            _ => {}
        }
        if let Some(prefix) = &options.prefix {
            return Ok(prefix.clone());
        }
        let file_prefix = || self.prefix.unwrap_or_default().to_owned();
        match (&options.to, self.to) {
            (None, None) if !self.targets.is_empty() && self.prefix.is_none() => {
                Err(Error::input(format!("{}: which language to translate to? {}", self.file, self.known())))
            }
            (None, _) => Ok(file_prefix()),
            (Some(to), Some(known)) if same(to, known) => Ok(file_prefix()),
            (Some(to), _) => match self.targets.iter().find(|target| same(target, to)) {
                Some(target) => Ok(format!("<2{target}> ")),
                None => Err(Error::input(format!("{}: does not translate to {to}; {}", self.file, self.known()))),
            },
        }
    }

    /// The languages that the file knows, for messages.
    fn known(&self) -> String {
        match self.to {
            _ if !self.targets.is_empty() => format!("expected one of: {}", self.targets.join(", ")),
            Some(to) => format!("expected {to}"),
            None => "it names no languages, and may need a prefix instead".into(),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
