//! What a loss costs beside its matrix products alone: `cargo run --release -p pupil-distill --features train --example loss`.

use candle_core::{Device, Result, Tensor, Var};
use pupil_distill::loss::{Divergence, Objective, Soft, Sparse, loss};
use std::time::Instant;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!("n    width  vocab  products  hard   forward-kl  sparse  jensen-shannon   (ms, best of 5)");
    for (n, width, vocab) in [(512, 256, 8192), (512, 256, 32768), (1024, 512, 32768)] {
        let random = |shape: (usize, usize)| Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu);
        let (hidden, weight) = (Var::from_tensor(&random((n, width))?)?, Var::from_tensor(&random((vocab, width))?)?);
        let labels: Vec<u32> = (0..n).map(|i| (i * 31 % vocab) as u32).collect();
        let dense = Soft::Dense(random((n, vocab))?);
        let k = 16;
        let ids = (0..n * k).map(|i| (i * 97 % vocab) as u32).collect();
        let sparse = Soft::Sparse(Sparse { k, ids, probabilities: vec![1.0 / k as f32; n * k] });
        let objective = Objective { tokens: n, ..Objective::default() };
        let other = Objective { divergence: Divergence::JensenShannon(0.5), ..objective };
        let run = |teacher: Option<&Soft>, objective: &Objective| {
            let (loss, _) = loss(&hidden, (&weight, 0.1), &labels, teacher, objective).expect("shapes fit");
            loss.backward().map(drop)
        };
        // Logits, and the gradients of both sides.
        let products = || -> Result<()> {
            let logits = hidden.matmul(&weight.t()?)?;
            logits.matmul(&weight)?;
            logits.t()?.matmul(&hidden)?;
            Ok(())
        };
        let times = [
            best(products)?,
            best(|| run(None, &objective))?,
            best(|| run(Some(&dense), &objective))?,
            best(|| run(Some(&sparse), &objective))?,
            best(|| run(Some(&dense), &other))?,
        ];
        let times = times.map(|t| format!("{:.0}", 1000.0 * t));
        let [products, hard, forward, few, js] = times;
        println!("{n:<5}{width:<7}{vocab:<7}{products:<10}{hard:<7}{forward:<12}{few:<8}{js}");
    }
    Ok(())
}

fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
