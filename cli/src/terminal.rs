//! Text of models on its way to the terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal},
};

/// Text as it may be printed on stdout: without control characters, with which a model could change the terminal, if
/// there is one.
pub fn shown(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { harmless(text) } else { text.into() }
}

fn harmless(text: &str) -> Cow<'_, str> {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(control) {
        // The line ends of Windows do no harm.
        true => text.replace("\r\n", "\n").replace(control, "\u{fffd}").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\tb\nc – é"), "a\tb\nc – é");
        assert_eq!(harmless("\u{1b}[2J\r\u{9b}\r\n"), "\u{fffd}[2J\u{fffd}\u{fffd}\n");
    }
}
