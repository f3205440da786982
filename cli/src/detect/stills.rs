//! Pictures from files, one after the other.

use super::{
    files::{self, Output},
    show::{self, Found},
};
use crate::{
    args::DetectArgs,
    bundled,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::{Detector, Picture};
use serde_json::json;
use std::path::Path;

/// Looks at the pictures that `args` name. Bad ones are reported and skipped.
pub fn run(args: &DetectArgs, detector: &mut Detector) -> Outcome {
    if args.size.is_some() || args.every_frame {
        let message = "--size and --every-frame are about a video on stdin, expected - instead of files";
        return Err(Failure::Message(message.into()));
    }
    if args.demo {
        let (name, picture) = bundled::street()?;
        let output = Output::new(args.output.as_deref(), &[name.into()])?;
        return one(args, detector, &output, name.as_ref(), &picture, false);
    }
    let files = files::list(&args.inputs)?;
    let output = Output::new(args.output.as_deref(), &files)?;
    let bar = progress::bar(files.len());
    let mut bad = 0;
    for file in &files {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        match Picture::open(file) {
            Ok(picture) => {
                let header = files.len() > 1;
                bar.suspend(|| one(args, detector, &output, file, &picture, header))?;
            }
            Err(error) if files.len() == 1 => return Err(error.into()),
            Err(error) => {
                bar.suspend(|| eprintln!("pupil: {error}"));
                bad += 1;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if bad == 0 { Ok(()) } else { Err(Failure::Partly) }
}

/// Looks at one picture and shows what is in it.
pub fn one(
    args: &DetectArgs,
    detector: &mut Detector,
    output: &Output,
    file: &Path,
    picture: &Picture,
    header: bool,
) -> Outcome {
    let place = output.place(file, args.model.as_deref())?;
    let objects = detector.detect(picture)?;
    let found = Found { detector, picture, objects: &objects };
    let name = file.display();
    show::print(&match (args.json, header) {
        (true, _) => found.json(json!({ "file": name.to_string() })) + "\n",
        (false, true) => format!("{name}\n{}", found.text("  ")),
        (false, false) => found.text(""),
    })?;
    if args.verbose {
        eprintln!("{name}: {} x {}, {}", picture.width(), picture.height(), show::times(detector.times()));
    }
    let found = Found { detector, picture, objects: &objects };
    place.map_or(Ok(()), |place| found.save(&place))
}
