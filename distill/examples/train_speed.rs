//! How fast students learn: whole steps (forward, loss, backward, clipping, AdamW) on random tokens.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release -p pupil-distill --features train --example train_speed -- t5 20
//!
//! The first argument is the shape, `t5` or `llama`, the second the number of steps that are timed, the third the device,
//! `cpu`, `cuda` or `composed`, the fourth how many times as many texts a step has. Prints one line
//! `{"tokens_per_s":..,"step_ms":..,"best_ms":..,"forward_ms":..,"loss_ms":..,"backward_ms":..,"optimizer_ms":..}` of
//! medians. `benches/peers/train` runs it next to PyTorch.

use candle_core::Device;
use pupil_distill::Result;
use pupil_distill::batch::{Batch, IGNORE, Tokens};
use pupil_distill::device::DeviceKind;
use pupil_distill::loss::{Objective, loss};
use pupil_distill::nn::gates::Activation;
use pupil_distill::optimizer::{AdamW, Config};
use pupil_distill::student::{Decoder, EncoderDecoder, Student, decoder, encdec};
use std::collections::BTreeMap;
use std::time::Instant;

const VOCAB: usize = 8000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let shape = arguments.next().unwrap_or_else(|| "t5".into());
    let steps: usize = arguments.next().map_or(Ok(20), |n| n.parse())?;
    let device: DeviceKind = arguments.next().map_or(Ok(DeviceKind::Cpu), |name| name.parse())?;
    let times: usize = arguments.next().map_or(Ok(1), |n| n.parse())?;
    Ok(device.run(|device| {
        let (student, batch): (Box<dyn Student>, Batch) = match shape.as_str() {
            "llama" => (Box::new(Decoder::new(llama(), 1, device)?), texts(8 * times, 128)),
            _ => (Box::new(EncoderDecoder::new(t5(), 1, device)?), sentences(64 * times)),
        };
        time(&*student, &batch, steps, device)
    })?)
}

/// Prints how long the parts of a step take.
fn time(student: &dyn Student, batch: &Batch, steps: usize, device: &Device) -> Result<()> {
    let mut optimizer = AdamW::new(Config::default(), student.variables(), |name| student.rate(name))?;
    let tokens: usize = batch.input.lengths.iter().chain(batch.source.iter().flat_map(|s| &s.lengths)).sum();
    let mut times = Vec::new();
    for step in 0..steps + 3 {
        let start = Instant::now();
        let hidden = student.hidden(batch, None)?;
        device.synchronize()?;
        let forward = start.elapsed();
        let (weight, scale) = student.output()?;
        let objective = Objective { alpha: 1.0, tokens: batch.valid().len(), ..Objective::default() };
        let (loss, _) = loss(&hidden, (&weight, scale), &batch.labels, None, &objective)?;
        let value = loss.to_scalar::<f32>()?;
        let with_loss = start.elapsed();
        let gradients = loss.backward()?;
        let gradients: BTreeMap<_, _> = student
            .variables()
            .iter()
            .filter_map(|(name, variable)| Some((name.clone(), gradients.get(variable)?.clone())))
            .collect();
        device.synchronize()?;
        let backward = start.elapsed();
        optimizer.step(student.variables(), &gradients, 1e-3)?;
        device.synchronize()?;
        let all = start.elapsed();
        // The first steps find memory.
        if step >= 3 {
            let parts = [forward, with_loss - forward, backward - with_loss, all - backward, all];
            times.push(parts.map(|t| 1e3 * t.as_secs_f64()));
        }
        if step == steps + 2 {
            eprintln!("{tokens} tokens a step, the loss is {value:.3} after {step} steps");
        }
    }
    let column = |i: usize| {
        let mut column: Vec<f64> = times.iter().map(|t| t[i]).collect();
        column.sort_by(f64::total_cmp);
        (column[column.len() / 2], column[0])
    };
    let ((step, best), part) = (column(4), |i| column(i).0);
    println!(
        "{{\"tokens_per_s\":{:.0},\"step_ms\":{step:.1},\"best_ms\":{best:.1},\"forward_ms\":{:.1},\"loss_ms\":{:.1},\
         \"backward_ms\":{:.1},\"optimizer_ms\":{:.1}}}",
        1e3 * tokens as f64 / step,
        part(0),
        part(1),
        part(2),
        part(3)
    );
    Ok(())
}

fn t5() -> encdec::Config {
    encdec::Config {
        vocab: VOCAB,
        context: 128,
        embedding: 256,
        layers: 6,
        decoder_layers: 2,
        heads: 4,
        head_dim: 64,
        feed_forward: 1024,
        activation: Activation::Relu,
        buckets: 32,
        epsilon: 1e-6,
        tied: true,
        start: 0,
    }
}

fn llama() -> decoder::Config {
    decoder::Config {
        vocab: VOCAB,
        context: 128,
        embedding: 256,
        layers: 6,
        heads: 4,
        kv_heads: 4,
        feed_forward: 768,
        epsilon: 1e-5,
        rope_base: 10_000.0,
        tied: true,
    }
}

/// Tokens that look random, the same in every program that uses this formula.
fn token(place: usize) -> u32 {
    (3 + place * 7919 % (VOCAB - 3)) as u32
}

/// Pairs of sentences of 7 to 13 tokens.
fn sentences(n: usize) -> Batch {
    let rows = |first: usize, step: usize| -> Vec<Vec<u32>> {
        (0..n).map(|row| (0..7 + row * step % 7).map(|i| token(first + row * 16 + i)).collect()).collect()
    };
    let (source, labels) = (rows(0, 3), rows(5000, 5));
    let input: Vec<Vec<u32>> =
        labels.iter().map(|row| [0].iter().chain(&row[..row.len() - 1]).copied().collect()).collect();
    let (source, input) = (Tokens::new(&source, 0), Tokens::new(&input, 0));
    let labels = Tokens::new(&labels, IGNORE).ids;
    Batch { source: Some(source), input, labels }
}

/// Texts of the same length.
fn texts(n: usize, length: usize) -> Batch {
    let rows: Vec<Vec<u32>> = (0..n).map(|row| (0..=length).map(|i| token(row * 1000 + i)).collect()).collect();
    let input: Vec<_> = rows.iter().map(|row| &row[..length]).collect();
    let labels = rows.iter().flat_map(|row| &row[1..]).copied().collect();
    Batch { source: None, input: Tokens::new(&input, 0), labels }
}
