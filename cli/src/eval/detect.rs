//! `pupil eval detect`: mean average precision over a data set.

use crate::{
    args::{EvalDetectArgs, all_threads},
    bundled,
    failure::{Failure, Outcome},
    interrupt, progress,
};
use pupil::{DetectOptions, Detection, Detector};
use pupil_distill::{
    data::detect::{Dataset, Item, Options, Truth, classes},
    eval::detect::{Evaluation, Found, MOST_FOUND},
};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

/// NMS of a demo may be stricter than is good for the score.
const LEAST_IOU: f32 = 0.6;

/// Measures the detector that `args` name and prints its scores.
pub fn run(args: &EvalDetectArgs) -> Outcome {
    let mut detector = bundled::detector(args.model.as_deref(), args.threads.unwrap_or_else(all_threads))?;
    let split = (!args.split.is_empty()).then(|| args.split.join("+"));
    let dataset = Dataset::open(&args.data, &Options { split, ..Options::default() })?;
    dataset.odd.lines().for_each(|line| eprintln!("pupil: {line}"));
    let classes = Classes::matched(args, &detector, &dataset)?;
    let iou = Some(args.iou.unwrap_or(detector.spec().iou.max(LEAST_IOU)));
    detector.configure(&DetectOptions {
        confidence: Some(args.conf),
        iou,
        max: Some(MOST_FOUND),
        classes: classes.of_model.clone(),
    })?;
    let pictures = &dataset.pictures[..dataset.pictures.len().min(args.limit.unwrap_or(usize::MAX))];
    interrupt::install()?;
    let start = Instant::now();
    let (evaluation, bad) = interrupt::during(|| evaluate(&mut detector, pictures, &classes))?;
    let scores = evaluation.finish();
    let ms = per_picture(start.elapsed(), pictures.len());
    let mut out = io::stdout().lock();
    if args.json {
        let mut line = scores.to_json();
        line["left_out"] = json!(classes.left_out);
        line["unreadable"] = json!(bad);
        line["ms_per_picture"] = json!(ms);
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "{scores}")?;
        writeln!(out, "{ms:.1} ms a picture")?;
        if !classes.left_out.is_empty() {
            let names = classes.left_out.join(", ");
            writeln!(out, "not scored, as the model lacks them or they were not asked for: {names}")?;
        }
    }
    if bad == 0 { Ok(()) } else { Err(Failure::Partly) }
}

fn per_picture(time: Duration, pictures: usize) -> f64 {
    (1e5 * time.as_secs_f64() / pictures.max(1) as f64).round() / 100.0
}

/// Looks at all pictures; returns the evaluation, and how many pictures could not be read.
fn evaluate(detector: &mut Detector, pictures: &[Item], classes: &Classes) -> Outcome<(Evaluation, usize)> {
    let mut evaluation = Evaluation::new(&classes.names);
    let bar = progress::bar(pictures.len());
    let mut bad = 0;
    for (index, item) in pictures.iter().enumerate() {
        if interrupt::requested() {
            return Err(Failure::Interrupted);
        }
        match item.open() {
            Ok(picture) => {
                let found: Vec<Found> =
                    detector.detect(&picture)?.iter().filter_map(|object| classes.found(object)).collect();
                let truths: Vec<Truth> = item.boxes.iter().filter_map(|truth| classes.truth(truth)).collect();
                evaluation.add(index, &truths, &found)?;
            }
            Err(error) => {
                bar.suspend(|| eprintln!("pupil: {error}"));
                bad += 1;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if bad == pictures.len() {
        return Err(Failure::Message(format!("none of the {bad} pictures can be read")));
    }
    Ok((evaluation, bad))
}

/// The classes that are scored, by their numbers in the model and in the data set.
struct Classes {
    /// As the data set calls them.
    names: Vec<String>,
    of_model: Vec<usize>,
    of_data: Vec<usize>,
    /// Classes of the data set that are not scored.
    left_out: Vec<String>,
}

impl Classes {
    fn matched(args: &EvalDetectArgs, detector: &Detector, dataset: &Dataset) -> Outcome<Self> {
        let at_data = |error: pupil_distill::Error| Failure::Message(format!("{}: {error}", args.data.display()));
        let typed = args.classes.iter().chain(args.map_classes.iter().map(|(data, _)| data));
        classes::check(&dataset.classes, typed).map_err(at_data)?;
        let asked = |name: &str| args.classes.is_empty() || args.classes.iter().any(|class| classes::same(class, name));
        let mut matched = classes::matched(&dataset.classes, &args.map_classes, detector)?;
        matched.iter_mut().zip(&dataset.classes).filter(|(_, name)| !asked(name)).for_each(|(model, _)| *model = None);
        classes::distinct(&dataset.classes, &matched).map_err(at_data)?;
        let mut classes = Self { names: vec![], of_model: vec![], of_data: vec![], left_out: vec![] };
        for (number, (name, model)) in dataset.classes.iter().zip(matched).enumerate() {
            match model {
                Some(model) => {
                    classes.names.push(name.clone());
                    classes.of_model.push(model);
                    classes.of_data.push(number);
                }
                None => classes.left_out.push(name.clone()),
            }
        }
        if classes.names.is_empty() {
            let model = args.model.as_deref().unwrap_or(Path::new("the detector in the program")).display();
            let data = args.data.display();
            let message =
                format!("{model} and {data} have no class in common; --map-classes DATA=MODEL says which are");
            return Err(Failure::Message(message));
        }
        Ok(classes)
    }

    fn found(&self, object: &Detection) -> Option<Found> {
        let class = self.of_model.iter().position(|class| *class == object.class)?;
        Some(Found { class, ..Found::from(object) })
    }

    fn truth(&self, truth: &Truth) -> Option<Truth> {
        let class = self.of_data.iter().position(|class| *class == truth.class)?;
        Some(Truth { class, ..*truth })
    }
}
