//! What a detector's file is about, in a few lines.

use pupil::{
    Result,
    detect::{Head, Spec},
    gguf::Gguf,
    image::{Fit, Geometry},
    nets::convnet::{ConvNet, program::Op},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

/// A detector, or why its file makes none.
pub struct Summary(Result<Parts>);

struct Parts {
    spec: Spec,
    /// How many operations there are of each kind.
    ops: BTreeMap<String, usize>,
}

impl Summary {
    /// Of a file, if it is a detector's.
    pub fn of(file: &Gguf) -> Option<Self> {
        matches!(file.keys().str("general.architecture"), Ok("convnet")).then(|| Self(Parts::read(file)))
    }

    pub fn to_json(&self) -> Value {
        match &self.0 {
            Ok(Parts { spec, ops }) => json!({
                "input": [spec.geometry.height, spec.geometry.width, 3],
                "head": spec.head,
                "classes": spec.classes.len(),
                "operations": ops,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        }
    }
}

impl Parts {
    fn read(file: &Gguf) -> Result<Self> {
        let (spec, net) = (Spec::read(file)?, ConvNet::load(file)?);
        let program = net.program();
        let outputs: Vec<_> = program.outputs().iter().map(|&x| program.shapes()[x]).collect();
        spec.check(program.shapes()[0], &outputs)?;
        let mut ops = BTreeMap::new();
        program.ops().iter().for_each(|op| *ops.entry(kind(op)).or_default() += 1);
        Ok(Self { spec, ops })
    }
}

/// The name of an operation's kind, as the file has it.
fn kind(op: &Op) -> String {
    let json = serde_json::to_value(op).unwrap_or_default();
    json["op"].as_str().unwrap_or("?").into()
}

/// What the network is shown.
pub fn input(geometry: &Geometry) -> String {
    let Geometry { width, height, fit, bgr, .. } = geometry;
    let fit = match fit {
        Fit::Stretch => "stretched",
        Fit::Letterbox { centre: true } => "letterboxed in the middle",
        Fit::Letterbox { centre: false } => "letterboxed at the top left",
    };
    let colours = if *bgr { "BGR" } else { "RGB" };
    format!("{width} x {height}, {colours}, pictures are {fit}")
}

fn head(head: &Head) -> &'static str {
    match head {
        Head::Grid(_) => "one box for each cell of a grid",
        Head::Distances(_) => "distances from each cell to the sides, as distributions",
        Head::Anchors(_) => "boxes relative to anchors",
        Head::Boxes(_) => "boxes that the graph decodes itself",
        Head::Final(_) => "objects after NMS in the graph",
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let Parts { spec, ops } = match &self.0 {
            Ok(parts) => parts,
            Err(error) => return writeln!(f, "detector    {error}"),
        };
        writeln!(f, "input       {}", input(&spec.geometry))?;
        writeln!(f, "head        {}", head(&spec.head))?;
        let more = if spec.classes.len() > SHOWN { ", …" } else { "" };
        let names = spec.classes[..spec.classes.len().min(SHOWN)].join(", ");
        writeln!(f, "classes     {}: {names}{more}", spec.classes.len())?;
        let ops: Vec<_> = ops.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        writeln!(f, "operations  {}", ops.join(", "))
    }
}
