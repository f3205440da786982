//! How the time that something takes grows with its input.

use std::time::{Duration, Instant};

/// Expects `run(text)` to take time in proportion to the text, which is many `unit`s, 1 << 17 bytes in all: 16 times the bytes
/// take 16 times as long, where quadratic time would be 256. Nothing depends on how fast the machine is, nor, as the best of
/// three counts, on what else it does.
pub fn expect_linear(unit: &str, run: impl Fn(&str)) {
    let time = |bytes: usize| {
        let text = unit.repeat(bytes / unit.len());
        let start = Instant::now();
        run(&text);
        start.elapsed()
    };
    let best = |bytes| (0..3).map(|_| time(bytes)).min().unwrap_or(Duration::MAX);
    let [short, long] = [1 << 13, 1 << 17].map(best);
    assert!(long < 64 * short, "{unit:?}: {short:?}, of 16 times as many {long:?}");
}
