//! Stop strings: ends a stream of text where one of them begins.

use crate::error::{Error, Result};

/// Watches a stream of text for stop strings. It holds back only text that may be the beginning of one.
///
/// ```
/// # use pupil::text::StopMatcher;
/// let mut stop = StopMatcher::new(["\nUser:"])?;
/// assert_eq!(stop.push("Hello\nUs"), "Hello");
/// assert_eq!(stop.push("ed"), "\nUsed");
/// assert_eq!(stop.push("!\nUser: next"), "!");
/// assert!(stop.stopped());
/// # Ok::<(), pupil::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopMatcher {
    /// Watches for any of `stops`; with none, text passes through unchanged.
    ///
    /// # Errors
    /// `Input` if a stop string is empty: it would stop before the first character.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Result<Self> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        if stops.iter().any(String::is_empty) {
            return Err(Error::input("a stop string is empty, expected at least one character"));
        }
        Ok(Self { stops, held: String::new(), stopped: false })
    }

    /// Adds text and returns what can be shown. Once a stop string has come, everything from its first character on
    /// is dropped.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Ends the stream: the text that was held back, if no stop string came. The matcher is then as new.
    pub fn finish(&mut self) -> String {
        self.stopped = false;
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Bytes at the end of the held text that begin some stop string.
    fn longest_beginning(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = (from..self.held.len()).filter(|&at| self.held.is_char_boundary(at));
        let ends = starts.map(|at| &self.held[at..]).find(|end| self.stops.iter().any(|stop| stop.starts_with(end)));
        ends.map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holds_back_only_a_possible_beginning() {
        let mut stop = StopMatcher::new(["</s>", "###"]).unwrap();
        assert_eq!(stop.push("a<"), "a");
        assert_eq!(stop.push("/"), "");
        assert_eq!(stop.push("b>#"), "</b>");
        assert_eq!(stop.push("#é"), "##é");
        assert!(!stop.stopped());
        assert_eq!(stop.push("#"), "");
        assert_eq!(stop.finish(), "#");
    }

    #[test]
    fn the_earliest_stop_wins() {
        let mut stop = StopMatcher::new(["b", "ab"]).unwrap();
        assert_eq!(stop.push("xaby"), "x");
        assert!(stop.stopped());
        assert_eq!(stop.push("z"), "");
        assert_eq!(stop.finish(), "");
    }

    #[test]
    fn empty_stops_are_refused() {
        assert!(StopMatcher::new([""]).is_err());
        assert_eq!(StopMatcher::new::<String>([]).unwrap().push("abc"), "abc");
    }

    proptest! {
        #[test]
        fn equals_cutting_the_whole_text(text in "[abé]{0,20}", stops in prop::collection::vec("[abé]{1,4}", 0..3)) {
            // Pushed character by character, the first stop to *end* is the one that cuts.
            let mut matcher = StopMatcher::new(stops.clone()).unwrap();
            let mut out = String::new();
            let mut seen = String::new();
            let mut expected = None;
            for c in text.chars() {
                out += &matcher.push(&c.to_string());
                seen.push(c);
                if expected.is_none() {
                    expected = stops.iter().filter_map(|s| seen.find(s.as_str())).min().map(|at| seen[..at].to_string());
                }
            }
            prop_assert_eq!(matcher.stopped(), expected.is_some());
            out += &matcher.finish();
            prop_assert_eq!(out, expected.unwrap_or(text));
        }
    }
}
