//! Numbers of things, for people.

/// `1 line`, `2 lines`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
