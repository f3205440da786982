//! What the runtime finds with a student's file, and how good that is.

use crate::{
    data::detect::Item,
    error::Result,
    eval::detect::{Evaluation, Found, MOST_FOUND, Scores},
};
use pupil::{DetectOptions, Detection, Detector};
use std::path::Path;

/// The least score that counts. Lower ones change the mean average precision little, and take time.
const CONFIDENCE: f32 = 0.01;

/// Pictures and what is on them.
pub struct Exam<'a> {
    /// The names of the classes.
    pub classes: &'a [String],
    /// The pictures.
    pub items: Vec<&'a Item>,
    /// Threads of the runtime.
    pub threads: usize,
}

/// What came of an exam.
pub struct Answers {
    /// What was found in each picture, the surest first.
    pub found: Vec<Vec<Detection>>,
    /// How good that is.
    pub scores: Scores,
    /// Milliseconds that the network takes for a picture: the median.
    pub milliseconds: f64,
}

impl Exam<'_> {
    /// Has the runtime look at all pictures with the file at `path`.
    ///
    /// # Errors
    /// `Format` if the runtime refuses the file; `Io` for a picture that has become unreadable.
    pub fn take(&self, path: &Path) -> Result<Answers> {
        let mut detector = Detector::open_with_threads(path, self.threads)?;
        let options = DetectOptions { confidence: Some(CONFIDENCE), max: Some(MOST_FOUND), ..DetectOptions::default() };
        detector.configure(&options)?;
        let mut evaluation = Evaluation::new(self.classes);
        let (mut all, mut times) = (Vec::new(), Vec::new());
        for (index, item) in self.items.iter().enumerate() {
            let found = detector.detect(&item.open()?)?;
            times.push(1000.0 * detector.times().net.as_secs_f64());
            let list: Vec<Found> = found.iter().map(Found::from).collect();
            evaluation.add(index, &item.boxes, &list)?;
            all.push(found);
        }
        times.sort_by(f64::total_cmp);
        let milliseconds = times.get(times.len() / 2).copied().unwrap_or(0.0);
        Ok(Answers { found: all, scores: evaluation.finish(), milliseconds })
    }
}
