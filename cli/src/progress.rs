//! Progress bars, where stderr is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `files`; for a single one there is nothing to see.
#[cfg(feature = "detect")]
pub fn bar(files: usize) -> ProgressBar {
    let target = if files > 1 { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(files as u64), target);
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len}  {per_sec}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar that goes to 100.
#[cfg(feature = "onnx")]
pub fn parts() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}%  {eta} left");
    ProgressBar::new(100).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar over the bytes of a file; if there are none, because their number is not known, there is nothing to see.
#[cfg(feature = "translate")]
pub fn bytes(len: u64) -> ProgressBar {
    let target = if len > 0 { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(len), target);
    let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar over the steps of a training, with a message of its own.
#[cfg(feature = "distill")]
pub fn steps() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len}  {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
