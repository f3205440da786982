//! The scores of several trainings in one picture:
//! `cargo run --release -p pupil-distill --features train --example curves -- mAP curves.svg labels=a.run distilled=b.run`.

use pupil_distill::train::plots;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [title, picture, runs @ ..] = &args[..] else { return Err("expected TITLE PICTURE.svg NAME=FOLDER…".into()) };
    let run = |run: &'_ String| run.split_once('=').map(|(name, folder)| (name.to_owned(), folder.to_owned()));
    let runs: Option<Vec<_>> = runs.iter().map(run).collect();
    let runs = runs.ok_or("expected NAME=FOLDER for each training")?;
    let runs: Vec<_> = runs.iter().map(|(name, folder)| (&name[..], Path::new(folder))).collect();
    Ok(plots::compare(Path::new(picture), title, &runs)?)
}
