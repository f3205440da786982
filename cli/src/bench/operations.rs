//! Detectors: where the time goes.

use crate::failure::Outcome;
use pupil::{
    gguf::Gguf,
    nets::convnet::{
        ConvNet, Session,
        program::{Op, Program, Shape},
    },
};
use std::{collections::BTreeMap, io::Write, path::Path, sync::Arc, time::Duration};

/// Prints each operation of the network at `path`: its shortest time of `reps`, its share of all of them, and billions
/// of multiply-adds a second. Those that took no time, because there is nothing left to do, are left out.
pub fn report(out: &mut impl Write, path: &Path, threads: usize, reps: usize) -> Outcome {
    let file = Gguf::open(path)?;
    let net = Arc::new(ConvNet::load(&file)?);
    let mut session = Session::new(net.clone(), threads)?;
    let program = net.program();
    let mut best = vec![Duration::MAX; program.ops().len()];
    for _ in 0..=reps {
        session.input().fill(0.5);
        let mut times = best.iter_mut();
        session.profile(|time| {
            if let Some(best) = times.next() {
                *best = time.min(*best);
            }
        });
    }
    let mut rows: Vec<_> = best.iter().enumerate().filter(|(_, time)| time.as_nanos() > 200).collect();
    rows.sort_by(|a, b| b.1.cmp(a.1));
    let all: Duration = best.iter().sum();
    let share = |time: Duration| 100.0 * time.as_secs_f64() / all.as_secs_f64();

    let mut kinds: BTreeMap<String, (usize, Duration, u64)> = BTreeMap::new();
    writeln!(out, "\n   op  {:<24} {:<24} {:>7} {:>5} {:>7}", "what", "map", "ms", "%", "G mac/s")?;
    for (i, &time) in rows {
        let (kind, macs) = describe(program, i);
        let [from, to] = [program.ops()[i].inputs().first().map_or(i, |x| *x), i + 1].map(|x| program.shapes()[x]);
        let of = kinds.entry(kind.clone()).or_default();
        *of = (of.0 + 1, of.1 + time, of.2 + macs);
        let map = format!("{from} → {to}");
        writeln!(out, "{i:>5}  {kind:<24} {map:<24} {}", figures(time, share(time), macs))?;
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (_, time, _))| std::cmp::Reverse(*time));
    writeln!(out, "\ncount  what{:46}{:>7} {:>5} {:>7}", "", "ms", "%", "G mac/s")?;
    for (kind, (count, time, macs)) in kinds {
        writeln!(out, "{count:>5}  {kind:<49} {}", figures(time, share(time), macs))?;
    }
    writeln!(out, "{:>5}  {:<49} {}\n", best.len(), "all", figures(all, 100.0, 0))?;
    Ok(())
}

fn figures(time: Duration, share: f64, macs: u64) -> String {
    let speed = if macs == 0 { String::new() } else { format!("{:.1}", macs as f64 / time.as_secs_f64() / 1e9) };
    format!("{:>7.3} {share:>5.1} {speed:>7}", 1e3 * time.as_secs_f64())
}

/// What an operation is, and its multiply-adds if it is a convolution.
fn describe(program: &Program, i: usize) -> (String, u64) {
    let kind = |op: &Op| serde_json::to_value(op).ok()?.get("op")?.as_str().map(String::from);
    let op = &program.ops()[i];
    let bytes = if program.quants()[i + 1].is_some() { " to bytes" } else { "" };
    let Op::Conv { x, groups, window, .. } = op else {
        return (kind(op).unwrap_or_default() + bytes, 0);
    };
    let (Shape { c: inputs, .. }, to) = (program.shapes()[*x], program.shapes()[i + 1]);
    let [h, w] = window.kernel;
    let each = (h * w * inputs / groups) as u64;
    let depthwise = if *groups > 1 { format!(" / {groups}") } else { String::new() };
    let depthwise = if *groups == inputs && *groups == to.c { " depthwise".into() } else { depthwise };
    let stride = if window.stride == [1, 1] { String::new() } else { format!("/{}", window.stride[0]) };
    let (from, to_type) = (program.quants()[*x].is_some(), program.quants()[i + 1].is_some());
    let types = match (from, to_type) {
        (false, false) => "",
        (true, true) => " int8",
        (true, false) => " int8 to f32",
        (false, true) => " f32 to int8",
    };
    (format!("conv {h}x{w}{stride}{depthwise}{types}"), each * to.len() as u64)
}
