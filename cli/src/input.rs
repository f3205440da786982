//! What comes in on stdin.

use crate::failure::{Failure, Outcome};
#[cfg(feature = "chat")]
use std::io::BufRead;
use std::io::{self, Read};

/// All of stdin.
pub fn all() -> Outcome<String> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
    text(bytes)
}

/// The next line of stdin without its end, if there is one.
#[cfg(feature = "chat")]
pub fn line() -> Outcome<Option<String>> {
    let mut bytes = Vec::new();
    if io::stdin().lock().read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
        return Ok(None);
    }
    let mut line = text(bytes)?;
    line.truncate(without_end(&line).len());
    Ok(Some(line))
}

/// `text` without the line end that it may close with.
#[cfg(feature = "chat")]
pub fn without_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// `text` without the byte order mark that some editors begin a file with.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn text(bytes: Vec<u8>) -> Outcome<String> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Message(format!("stdin: byte {at} is not UTF-8, expected text in UTF-8"))
    });
    Ok(without_mark(&text?).to_owned())
}

fn unreadable(error: io::Error) -> Failure {
    Failure::Message(format!("stdin: {error}"))
}
