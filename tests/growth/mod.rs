//! How the time that something takes grows with its input.

use std::time::Instant;

/// Expects `run(text)` to take about as long, for each byte, whether the text is long or short: text of 1 << 18 bytes, many
/// `unit`s, no more than six times as long as 16 texts of a sixteenth. In linear time it would be once, in quadratic 16 times.
///
/// Both take turns and as long as each other, so that what else the machine does disturbs both; one of three tries is enough.
pub fn expect_linear(unit: &str, run: impl Fn(&str)) {
    let [short, long] = [1 << 14, 1 << 18].map(|bytes: usize| unit.repeat(bytes / unit.len()));
    let time = |text: &str, times: usize| {
        let start = Instant::now();
        (0..times).for_each(|_| run(text));
        start.elapsed()
    };
    let mut tries = (0..3).map(|_| [time(&short, 16), time(&long, 1)]);
    assert!(tries.any(|[short, long]| long < 6 * short), "{unit:?} takes more time the longer the text is");
}
