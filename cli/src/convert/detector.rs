//! A detector's file out of an ONNX graph.

use crate::{
    args::{ConvertArgs, all_threads},
    failure::{Failure, Outcome},
    input, inspect, progress,
};
use pupil::{
    Picture,
    calibrate::{Options, Report, Samples, Why, calibrate},
    detect::COCO,
    image::{Geometry, list},
    nets::convnet::{program::Op, weights::Draft},
    onnx::{ConvertOptions, Converted, Engine, convert, cost, read_file},
    output,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Converts the file that `args` name, and says what was done.
pub fn run(args: &ConvertArgs) -> Outcome {
    output::check(&args.output, args.classes.iter().map(Path::new).chain([args.model.as_path()]))?;
    let options = ConvertOptions { classes: classes(args)?, ..args.options()? };
    let mut converted = convert(&read_file(&args.model)?, &args.model.display().to_string(), &options)?;
    let calibrated = args.calibrate.as_deref().map(|folder| quantize(&mut converted, folder, args)).transpose()?;
    converted.writer().write_file(&args.output)?;
    report(args, &converted)?;
    calibrated.iter().for_each(explain);
    Ok(())
}

/// Makes the network compute in bytes, by what is seen on the pictures of a folder.
fn quantize(converted: &mut Converted, folder: &Path, args: &ConvertArgs) -> Outcome<Report> {
    let mut report = Report::default();
    if let Engine::Graph { why, .. } = &converted.engine {
        return Err(Failure::Message(format!("{}: cannot compute in bytes, because {why}", args.model.display())));
    }
    let pictures = pictures(folder, args.pictures, &converted.spec.geometry)?;
    let options = Options { threads: args.threads.unwrap_or_else(all_threads), budget: args.budget };
    let bar = progress::parts();
    converted.change(|draft, spec| {
        let mut place = |i: usize, out: &mut [f32]| {
            match &pictures[i] {
                Sample::Placed(numbers) => out.copy_from_slice(numbers),
                Sample::File(path) => {
                    spec.geometry.place(&Picture::open(path)?, out);
                }
            }
            Ok(())
        };
        let mut samples = Samples { count: pictures.len(), place: &mut place };
        let (draft, made) = calibrate(&draft, &mut samples, &options, |part| bar.set_position((100.0 * part) as u64))?;
        report = made;
        Ok(draft)
    })?;
    bar.finish_and_clear();
    Ok(report)
}

/// Bytes of pictures that are kept as the network sees them. The others are read again each time.
const MAX_PLACED: usize = 256 << 20;

/// A picture to calibrate with.
enum Sample {
    /// Placed and normalised. The first ones are, which are looked at most.
    Placed(Vec<f32>),
    File(PathBuf),
}

/// Up to `count` pictures of a folder, taken at equal distances. Bad ones are left out.
fn pictures(folder: &Path, count: usize, geometry: &Geometry) -> Outcome<Vec<Sample>> {
    if !folder.is_dir() {
        return Err(Failure::Message(format!("{}: no folder, expected one of pictures", folder.display())));
    }
    let files = list(folder, 0)?;
    let count = count.min(files.len());
    let numbers = geometry.width * geometry.height * 3;
    let mut samples = Vec::with_capacity(count);
    for file in (0..count).map(|i| &files[i * files.len() / count]) {
        match Picture::open(file) {
            Ok(picture) if (samples.len() + 1) * numbers * size_of::<f32>() <= MAX_PLACED => {
                let mut placed = vec![0.0; numbers];
                geometry.place(&picture, &mut placed);
                samples.push(Sample::Placed(placed));
            }
            Ok(_) => samples.push(Sample::File(file.clone())),
            Err(error) => eprintln!("pupil: {error}; left out"),
        }
    }
    Ok(samples)
}

/// What became of the convolutions.
fn explain(report: &Report) {
    let Report { converted, kept, loss } = report;
    println!("int8        {converted} convolutions in bytes, {} in f32", kept.len());
    println!("loss        {:.3}% of the variance of the outputs' channels", 100.0 * loss);
    for (rule, reason) in [(Why::First, "reads the picture"), (Why::SinglePixel, "makes a single pixel")] {
        let names: Vec<&str> = kept.iter().filter(|(_, why)| *why == rule).map(|(name, _)| &**name).collect();
        if !names.is_empty() {
            println!("in f32      {}: {reason}", names.join(", "));
        }
    }
    let measured =
        kept.iter().filter_map(|(name, why)| if let Why::Loss(loss) = why { Some((name, loss)) } else { None });
    let mut measured: Vec<_> = measured.collect();
    measured.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    for (name, loss) in measured {
        println!("in f32      {name}: alone in bytes it takes {:.3}% of that variance", 100.0 * loss);
    }
}

/// The names of the classes: `coco`, a file with one on each line, or the names themselves.
fn classes(args: &ConvertArgs) -> Outcome<Option<Vec<String>>> {
    let Some(text) = &args.classes else { return Ok(None) };
    let names = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect()
    };
    // What looks like a file must be there.
    let file =
        !text.contains(',') && (text.contains(['/', '\\']) || text.ends_with(".txt") || text.ends_with(".names"));
    Ok(Some(if text == "coco" {
        COCO.map(String::from).to_vec()
    } else if file || Path::new(text).is_file() {
        let lines = fs::read_to_string(text).map_err(|e| Failure::Message(format!("{text}: {e}")))?;
        names(&mut input::without_mark(&lines).lines())
    } else {
        names(&mut text.split(','))
    }))
}

fn report(args: &ConvertArgs, converted: &Converted) -> Outcome {
    let Converted { outputs, cut, head, spec, engine, .. } = converted;
    println!("input       {}", inspect::input(&spec.geometry));
    let outputs: Vec<_> = outputs.iter().map(|output| format!("{} {}", output.name, output.shape)).collect();
    println!(
        "outputs     {}{}",
        outputs.join(", "),
        if cut.is_some() { "; the graph's own NMS is left out" } else { "" }
    );
    let ending = if spec.classes.len() == 1 { "" } else { "es" };
    println!("head        {head}, {} class{ending}", spec.classes.len());
    if let Some(form) = spec.head.form() {
        // Suppression takes corners in any order, and the head's usual one may not be this graph's.
        let sure = args.boxes.is_some() || cut.is_some_and(|cut| cut.centres);
        println!("boxes       {}{}", form.name(), if sure { "" } else { ", as is usual; see --boxes" });
    }
    match engine {
        Engine::Net(draft) => {
            let (parameters, products) = cost(&draft.program);
            println!("operations  {}", operations(draft));
            println!("parameters  {parameters}");
            println!("products    {:.1} million multiply-adds", products as f64 / 1e6);
        }
        Engine::Graph { why, .. } => println!("engine      tract, because {why}"),
    }
    let bytes = fs::metadata(&args.output).map_or(0, |meta| meta.len());
    println!("file        {}, {:.1} MB", args.output.display(), bytes as f64 / 1e6);
    Ok(())
}

/// How many operations there are of each kind.
fn operations(draft: &Draft) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for op in draft.program.ops() {
        *kinds.entry(kind(op)).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.into_iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    format!("{}: {}", draft.program.ops().len(), kinds.join(", "))
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Conv { .. } => "conv",
        Op::Pool { .. } => "pool",
        Op::Activate { .. } => "activate",
        Op::Combine { .. } => "combine",
        Op::Constant { .. } => "constant",
        Op::Concat { .. } => "concat",
        Op::Slice { .. } => "slice",
        Op::Shuffle { .. } => "shuffle",
        Op::Resize { .. } => "resize",
        Op::Reshape { .. } => "reshape",
        Op::Transpose { .. } => "transpose",
        Op::Softmax { .. } => "softmax",
        Op::Convert { .. } => "convert",
    }
}
