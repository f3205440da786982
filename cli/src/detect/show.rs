//! What was found, printed and drawn.

use crate::{failure::Outcome, terminal};
use pupil::{Detection, Detector, Picture, detect::Times, image};
use serde_json::{Map, Value, json};
use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// What was found in one picture.
pub struct Found<'a> {
    pub detector: &'a Detector,
    pub picture: &'a Picture,
    pub objects: &'a [Detection],
}

impl Found<'_> {
    fn class(&self, object: &Detection) -> &str {
        &self.detector.spec().classes[object.class]
    }

    /// One JSON object on a line, which begins with `head`.
    pub fn json(&self, head: Value) -> String {
        let mut line = if let Value::Object(head) = head { head } else { Map::new() };
        let object = |object: &Detection| {
            let rect = &object.rect;
            let corners = [rect.x0, rect.y0, rect.x1, rect.y1].map(|x| rounded(x, 2));
            json!({
                "class": object.class,
                "name": self.class(object),
                "score": rounded(object.score, 4),
                "box": corners,
            })
        };
        line.insert("width".into(), self.picture.width().into());
        line.insert("height".into(), self.picture.height().into());
        line.insert("ms".into(), rounded(milliseconds(self.detector.times().total()) as f32, 3).into());
        line.insert("objects".into(), self.objects.iter().map(object).collect());
        Value::Object(line).to_string()
    }

    /// A line for each object, each with `indent` before it.
    pub fn text(&self, indent: &str) -> String {
        let width = self.objects.iter().map(|object| self.class(object).chars().count()).max().unwrap_or(0);
        let line = |object: &Detection| {
            let (name, score, rect) = (self.class(object), 100.0 * object.score, &object.rect);
            let (x0, y0, x1, y1) = (rect.x0, rect.y0, rect.x1, rect.y1);
            format!("{indent}{name:width$}  {score:5.1} %  {x0:.0},{y0:.0} to {x1:.0},{y1:.0}\n")
        };
        match self.objects {
            [] => format!("{indent}nothing found\n"),
            objects => objects.iter().map(line).collect(),
        }
    }

    /// Writes a copy of the picture with the boxes drawn.
    pub fn save(&self, path: &Path) -> Outcome {
        let mut copy = self.picture.clone();
        image::draw(&mut copy, self.objects, |object| format!("{} {:.0} %", self.class(object), 100.0 * object.score));
        Ok(copy.save(path)?)
    }
}

/// Prints to stdout at once. Names of classes are the model's.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(terminal::shown(text).as_bytes())?;
    Ok(out.flush()?)
}

/// The three phases, for people.
pub fn times(times: Times) -> String {
    let [place, net, decode] = [times.place, times.net, times.decode].map(milliseconds);
    format!("place {place:.2} ms, net {net:.2} ms, decode {decode:.2} ms")
}

pub fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

/// With so many decimals, so that 0.7 is not printed as 0.699999988079071.
fn rounded(x: f32, decimals: i32) -> f64 {
    let unit = 10_f64.powi(decimals);
    (f64::from(x) * unit).round() / unit
}
