//! How fast detectors learn: whole steps (forward, assignment and loss, backward, AdamW) on pictures of noise.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release -p pupil-distill --features train --example detect_speed -- 24 20
//!
//! The first argument is the width of the network, the second the number of steps that are timed. The pictures are ready:
//! in a training, threads of their own make them. Prints one line `{"pictures_per_s":..,"step_ms":..,"best_ms":..,
//! "cpu_ms":..,"forward_ms":..,"loss_ms":..,"backward_ms":..,"optimizer_ms":..}` of medians; `cpu_ms` is what a step takes
//! of all processors together, a mean. `benches/peers/train/detect.py` runs it next to PyTorch.

use candle_core::{Device, Tensor};
use pupil_distill::Result;
use pupil_distill::data::detect::Truth;
use pupil_distill::detector::{Config, Detector, Objective, assign::assign, loss::loss};
use pupil_distill::optimizer::{self, AdamW};
use std::time::Instant;

const SIDE: usize = 256;
const BATCH: usize = 8;
const CLASSES: usize = 4;
const OBJECTS: usize = 6;
/// Steps that find memory.
const WARMUP: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let width: usize = arguments.next().map_or(Ok(24), |n| n.parse())?;
    let steps: usize = arguments.next().map_or(Ok(20), |n| n.parse())?;
    let config = Config { levels: 4, ..Config::of_width(width, CLASSES, [SIDE; 2]) };
    Ok(time(Detector::new(config, 1, &Device::Cpu)?, steps)?)
}

/// Prints how long the parts of a step take.
fn time(mut student: Detector, steps: usize) -> Result<()> {
    let numbers: Vec<f32> = (0..BATCH * SIDE * SIDE * 3).map(noise).collect();
    let pictures = Tensor::from_vec(numbers, (BATCH * SIDE * SIDE, 3), &Device::Cpu)?;
    let truths: Vec<Vec<Truth>> =
        (0..BATCH).map(|picture| (0..OBJECTS).map(|i| object(picture, i)).collect()).collect();
    let truths: Vec<Option<&[Truth]>> = truths.iter().map(|boxes| Some(&boxes[..])).collect();
    let mut optimizer = AdamW::new(optimizer::Config::default(), student.variables(), |_| 1.0)?;
    let mut times = Vec::new();
    let mut cpu = 0.0;
    for step in 0..steps + WARMUP {
        if step == WARMUP {
            cpu = cpu_seconds();
        }
        let start = Instant::now();
        let outputs = student.train(&pictures, [SIDE; 2])?;
        let forward = start.elapsed();
        let targets = assign(&outputs, &truths)?;
        let (loss, lost) = loss(&outputs, &targets, None, &Objective::default())?;
        let with_loss = start.elapsed();
        let gradients = student.gradients(&outputs, &loss.backward()?)?;
        let backward = start.elapsed();
        optimizer.step(student.variables(), &gradients, 1e-3)?;
        let all = start.elapsed();
        if step >= WARMUP {
            let parts = [forward, with_loss - forward, backward - with_loss, all - backward, all];
            times.push(parts.map(|t| 1e3 * t.as_secs_f64()));
        }
        if step + 1 == steps + WARMUP {
            let (value, weights) = (loss.to_scalar::<f32>()?, student.variables().values().map(|v| v.elem_count()));
            let (weights, cells) = (weights.sum::<usize>(), lost.objects);
            eprintln!("{weights} weights; the loss is {value:.4} after {step} steps, {cells} cells see an object");
        }
    }
    let cpu = 1e3 * (cpu_seconds() - cpu) / steps as f64;
    let column = |i: usize| {
        let mut column: Vec<f64> = times.iter().map(|t| t[i]).collect();
        column.sort_by(f64::total_cmp);
        (column[column.len() / 2], column[0])
    };
    let ((step, best), part) = (column(4), |i| column(i).0);
    println!(
        "{{\"pictures_per_s\":{:.2},\"step_ms\":{step:.1},\"best_ms\":{best:.1},\"cpu_ms\":{cpu:.1},\"forward_ms\":{:.1},\
         \"loss_ms\":{:.1},\"backward_ms\":{:.1},\"optimizer_ms\":{:.1}}}",
        1e3 * BATCH as f64 / step,
        part(0),
        part(1),
        part(2),
        part(3)
    );
    Ok(())
}

/// Numbers between −2 and 2 that look random.
fn noise(place: usize) -> f32 {
    (place.wrapping_mul(0x9E37_79B9) >> 7) as u16 as f32 / f32::from(u16::MAX) * 4.0 - 2.0
}

/// Boxes of 20 to 140 pixels.
fn object(picture: usize, i: usize) -> Truth {
    let at = |k: usize| ((picture * 131 + i * 47 + k * 89) % 100) as f64;
    let (x, y) = (1.1 * at(0), 1.1 * at(1));
    Truth::new((picture + i) % CLASSES, [x, y, x + 20.0 + 1.2 * at(2), y + 20.0 + 1.2 * at(3)])
}

/// What this process has used of all processors; 0 where the system does not say it like Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything, user and system time are fields 12 and 13, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
