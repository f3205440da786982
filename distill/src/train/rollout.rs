//! What the student writes itself, to be scored by the teacher (on-policy distillation: Agarwal et al. 2024).

use crate::{
    batch::IGNORE,
    data::text::{Kind, examples::Example},
    error::Result,
};
use pupil::{
    bytes::Bytes,
    gguf::Gguf,
    nets::{
        decoder::{Decoder, Logits},
        encdec::{EncDec, Row},
        kv::CacheType,
    },
    text::{Sampler, SamplerOptions},
};

/// How a student writes.
#[derive(Debug, Clone, Copy)]
pub struct Writing {
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// Tokens, at most.
    pub max_tokens: usize,
    /// The token that ends a sentence or a turn.
    pub end: u32,
    /// Decides what is drawn.
    pub seed: u64,
    /// Threads of the runtime.
    pub threads: usize,
}

/// Sentences that are translated together.
const TOGETHER: usize = 32;

/// Has the student in `file` write for each example what it would say instead.
///
/// # Errors
/// `Format` if the runtime refuses the file.
pub fn write(file: &[u8], kind: Kind, examples: &[&Example], how: Writing) -> Result<Vec<Example>> {
    let file = Gguf::from_bytes(Bytes::from(file), "the student")?;
    match kind {
        Kind::Translate => {
            let net = EncDec::load(&file)?;
            let mut all = Vec::with_capacity(examples.len());
            for (i, examples) in examples.chunks(TOGETHER).enumerate() {
                let seed = how.seed.wrapping_add((i * TOGETHER) as u64);
                all.extend(translations(&net, examples, Writing { seed, ..how })?);
            }
            Ok(all)
        }
        Kind::Chat => {
            let net = Decoder::load(&file)?;
            let mut all = Vec::with_capacity(examples.len());
            for (i, example) in examples.iter().enumerate() {
                let seed = how.seed.wrapping_add(i as u64);
                all.extend(answer(&net, example, Writing { seed, ..how })?);
            }
            Ok(all)
        }
    }
}

fn sampler(how: Writing, which: usize) -> Result<Sampler> {
    let seed = how.seed.wrapping_add(which as u64);
    let plain = SamplerOptions { top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, ..SamplerOptions::default() };
    Ok(Sampler::new(SamplerOptions { temperature: how.temperature, seed, ..plain })?)
}

fn translations(net: &EncDec, examples: &[&Example], how: Writing) -> Result<Vec<Example>> {
    let sources: Vec<&[u32]> = examples.iter().map(|example| &example.source[..]).collect();
    let mut session = net.session(CacheType::F32, how.threads)?;
    net.encode(&mut session, &sources)?;
    net.reserve(&mut session, examples.len(), how.max_tokens)?;
    let mut written: Vec<Vec<u32>> = vec![Vec::new(); examples.len()];
    let mut samplers = (0..examples.len()).map(|i| sampler(how, i)).collect::<Result<Vec<_>>>()?;
    for position in 0..how.max_tokens {
        let going = (0..examples.len()).filter(|&i| written[i].last() != Some(&how.end));
        let token = |i: usize| written[i].last().copied().unwrap_or(net.config.start);
        let rows: Vec<Row> = going.map(|i| Row { token: token(i), sentence: i, slot: i }).collect();
        if rows.is_empty() {
            break;
        }
        let logits = net.step(&mut session, &rows, position, None)?;
        for (row, logits) in rows.iter().zip(logits.chunks_exact(net.config.vocab)) {
            written[row.sentence].push(samplers[row.sentence].sample(logits));
        }
    }
    let example = |(example, labels): (&&Example, Vec<u32>)| {
        let mut input = vec![net.config.start];
        input.extend_from_slice(&labels[..labels.len() - 1]);
        Example { source: example.source.clone(), input, labels }
    };
    Ok(examples.iter().zip(written).map(example).collect())
}

/// Another answer instead of the last one of a dialogue; nothing if there is no room for one.
fn answer(net: &Decoder, example: &Example, how: Writing) -> Result<Option<Example>> {
    // The answer's first token is the label after the last one that does not count.
    let first = example.labels.iter().rposition(|&label| label == IGNORE).map_or(0, |at| at + 1);
    let prompt = &example.input[..=first.min(example.input.len() - 1)];
    let room = net.config.context.saturating_sub(prompt.len());
    if room == 0 {
        return Ok(None);
    }
    let mut session = net.session(net.config.context, CacheType::F32, how.threads)?;
    let mut sampler = sampler(how, 0)?;
    let mut written = vec![sampler.sample(net.forward(&mut session, prompt, Logits::Last)?)];
    while let Some(&token) = written.last().filter(|&&token| token != how.end) {
        if written.len() >= how.max_tokens.min(room) {
            break;
        }
        written.push(sampler.sample(net.forward(&mut session, &[token], Logits::Last)?));
    }
    let mut input = prompt.to_vec();
    input.extend_from_slice(&written[..written.len() - 1]);
    let mut labels = vec![IGNORE; prompt.len() - 1];
    labels.extend(written);
    Ok(Some(Example { source: Vec::new(), input, labels }))
}
