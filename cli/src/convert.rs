//! `pupil convert`: a detector's GGUF file out of an ONNX graph.

use crate::{
    args::ConvertArgs,
    failure::{Failure, Outcome},
};
use pupil::{
    Result,
    detect::{COCO, Spec},
    nets::convnet::{program::Op, weights::Draft},
    onnx::{ConvertOptions, Converted, Engine, convert, cost, read_file},
};
use std::{collections::BTreeMap, fs};

/// Converts the file that `args` name, and says what was done.
pub fn run(args: &ConvertArgs) -> Outcome {
    let options = ConvertOptions { classes: classes(args)?, ..args.options()? };
    let mut converted = convert(&read_file(&args.model)?, &args.model.display().to_string(), &options)?;
    converted.change(|draft, spec| quantized(draft, spec, args))?;
    converted.writer().write_file(&args.output)?;
    report(args, &converted)
}

/// The place where a network is quantized before it is written.
fn quantized(draft: Draft, _: &Spec, _: &ConvertArgs) -> Result<Draft> {
    Ok(draft)
}

/// The names of the classes: `coco`, a file with one on each line, or the names themselves.
fn classes(args: &ConvertArgs) -> Outcome<Option<Vec<String>>> {
    let Some(text) = &args.classes else { return Ok(None) };
    let names = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect()
    };
    Ok(Some(if text == "coco" {
        COCO.map(String::from).to_vec()
    } else if std::path::Path::new(text).is_file() {
        let lines = fs::read_to_string(text).map_err(|e| Failure::Message(format!("{text}: {e}")))?;
        names(&mut lines.lines())
    } else {
        names(&mut text.split(','))
    }))
}

fn report(args: &ConvertArgs, converted: &Converted) -> Outcome {
    let Converted { input, outputs, cut, head, spec, engine } = converted;
    let (order, fit) = (if spec.geometry.bgr { "bgr" } else { "rgb" }, &spec.geometry.fit);
    println!("input       {}x{} {order}, {fit:?}", input.height, input.width);
    let outputs: Vec<_> = outputs.iter().map(|output| format!("{} {}", output.name, output.shape)).collect();
    println!("outputs     {}{}", outputs.join(", "), if *cut { "; the graph's own NMS is left out" } else { "" });
    println!("head        {head}, {} classes", spec.classes.len());
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
