//! Detectors: milliseconds of a frame.

use super::{median, milliseconds, operations};
use crate::{args::BenchArgs, failure::Outcome, memory};
use pupil::{Detector, Picture, kernels::Kernels};
use serde_json::json;
use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

/// The made-up picture: what cameras give.
const SIZE: [usize; 2] = [1280, 720];

/// Measures the detector that `args` name, on each number of threads.
pub fn run(args: &BenchArgs) -> Outcome {
    let path = args.model.as_deref().unwrap_or(Path::new(""));
    let picture = made_up()?;
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "threads  open ms  place ms    net ms  decode ms  frame ms  peak MiB  ISA")?;
    }
    for threads in args.threads() {
        memory::reset_peak();
        let start = Instant::now();
        let mut detector = Detector::open_with_threads(path, threads)?;
        let open = milliseconds(start);
        let ([place, net, decode, frame], net_best) = measure(&mut detector, &picture, args.reps)?;
        let (peak, isa) = (memory::peak_mib(), Kernels::get()?.isa);
        if args.json {
            let line = json!({
                "threads": threads, "open_ms": open, "place_ms": place, "net_ms": net, "decode_ms": decode,
                "frame_ms": frame, "net_best_ms": net_best, "peak_mib": peak, "isa": isa,
            });
            writeln!(out, "{line}")?;
        } else {
            let peak = peak.map_or("?".into(), |mib| format!("{mib:.0}"));
            writeln!(
                out,
                "{threads:>7} {open:>8.1} {place:>9.2} {net:>9.2} {decode:>10.2} {frame:>9.2} {peak:>9}  {isa}"
            )?;
        }
        if args.ops {
            operations::report(&mut out, path, threads, args.reps)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Medians of placing, network, decoding and all of it, and the network's best, in milliseconds. The first frame does not
/// count.
fn measure(detector: &mut Detector, picture: &Picture, reps: usize) -> Outcome<([f64; 4], f64)> {
    detector.detect(picture)?;
    let mut phases: [Vec<f64>; 4] = Default::default();
    for _ in 0..reps {
        detector.detect(picture)?;
        let times = detector.times();
        let all = [times.place, times.net, times.decode, times.total()];
        phases.iter_mut().zip(all).for_each(|(phase, time)| phase.push(1000.0 * time.as_secs_f64()));
    }
    let net_best = phases[1].iter().copied().fold(f64::INFINITY, f64::min);
    Ok((phases.map(|mut phase| median(&mut phase)), net_best))
}

/// A picture with something everywhere: slopes, and noise by Knuth's multiplicative hash.
fn made_up() -> Outcome<Picture> {
    let [width, height] = SIZE;
    let value =
        |i: usize| ((i * 255 / (width * height * 3)) as u32 / 2 + ((i as u32).wrapping_mul(2_654_435_761) >> 25)) as u8;
    Ok(Picture::from_rgb(width, height, (0..width * height * 3).map(value).collect())?)
}
