//! `pupil detect`: the objects in pictures, or in the frames of a video on stdin.
//!
//! | file | what |
//! |---|---|
//! | `files.rs` | which pictures, and where their copies go |
//! | `stills.rs` | picture by picture |
//! | `stream.rs`, `queue.rs` | frames from stdin, of which late ones are dropped |
//! | `show.rs` | what is printed and drawn |

mod files;
mod queue;
mod show;
mod stills;
mod stream;

use crate::{
    args::{DetectArgs, all_threads},
    bundled,
    counted::counted,
    failure::Outcome,
    interrupt,
};
use pupil::{DetectOptions, Detector};
use std::{path::Path, time::Instant};

/// Finds what `args` ask for.
pub fn run(args: &DetectArgs) -> Outcome {
    let start = Instant::now();
    let mut detector = bundled::detector(args.model.as_deref(), args.threads.unwrap_or_else(all_threads))?;
    detector.configure(&options(args, &detector)?)?;
    if detector.is_graph() {
        let model = args.model.as_deref().unwrap_or(Path::new("the model")).display();
        eprintln!("pupil: {model}: tract runs this network, which takes longer; pupil convert says why");
    }
    if args.verbose {
        let threads = detector.threads();
        eprintln!("opened in {:.1} ms, {}", 1000.0 * start.elapsed().as_secs_f64(), counted(threads, "thread"));
    }
    let stdin = args.inputs.iter().any(|input| input.as_os_str() == "-");
    interrupt::install()?;
    interrupt::during(|| if stdin { stream::run(args, &mut detector) } else { stills::run(args, &mut detector) })
}

fn options(args: &DetectArgs, detector: &Detector) -> Outcome<DetectOptions> {
    let classes = args.classes.iter().map(|name| detector.class(name)).collect::<Result<_, _>>()?;
    Ok(DetectOptions { confidence: args.conf, iou: args.iou, max: args.max, classes })
}
