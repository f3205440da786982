//! The command line program `pupil`.
fn main() {}
