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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::Export,
        student::{self, EncoderDecoder, Student, Types},
    };
    use candle_core::Device;
    use pupil::tensor::DType;
    use std::fs;

    const SHAPE: &str = "vocab = 24\ncontext = 16\nembedding = 16\nlayers = 1\nheads = 2\nfeed_forward = 16\n";

    fn file(name: &str, student: &dyn Student) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("pupil-rollout-{name}-{}.gguf", std::process::id()));
        let types = Types::all(DType::F32);
        Export { student, weights: None, types, keys: Vec::new() }.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        bytes
    }

    fn translator() -> Vec<u8> {
        let config: student::encdec::Config =
            toml::from_str(&format!("{SHAPE}decoder_layers = 1\nhead_dim = 8")).unwrap();
        file("translator", &EncoderDecoder::new(config, 5, &Device::Cpu).unwrap())
    }

    fn chatty() -> Vec<u8> {
        let config: student::decoder::Config = toml::from_str(&format!("{SHAPE}kv_heads = 1")).unwrap();
        file("chatty", &student::Decoder::new(config, 5, &Device::Cpu).unwrap())
    }

    fn how(temperature: f32, seed: u64) -> Writing {
        Writing { temperature, max_tokens: 6, end: 1, seed, threads: 1 }
    }

    fn likeliest(logits: &[f32]) -> u32 {
        (0..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
    }

    #[test]
    fn a_translation_is_read_as_it_was_written() {
        let file = translator();
        let example = |source: &[u32]| Example { source: source.into(), input: vec![0, 9], labels: vec![9, 1] };
        // More than go through the network together.
        let examples: Vec<Example> = (0..TOGETHER as u32 + 3).map(|i| example(&[2 + i % 20, 3, 1])).collect();
        let examples: Vec<&Example> = examples.iter().collect();
        let written = write(&file, Kind::Translate, &examples, how(1.0, 7)).unwrap();
        assert_eq!(written.len(), examples.len());
        for (written, example) in written.iter().zip(&examples) {
            let Example { source, input, labels } = written;
            assert_eq!((source, input[0], input.len()), (&example.source, 0, labels.len()));
            assert_eq!(input[1..], labels[..labels.len() - 1]);
            let end = labels.iter().position(|&token| token == 1);
            assert_eq!(end.map_or(6, |end| end + 1), labels.len(), "{labels:?}");
        }
        // By chance, but by the same for the same seed; the same sentence is not always translated in the same way.
        assert_eq!(write(&file, Kind::Translate, &examples, how(1.0, 7)).unwrap(), written);
        assert_ne!(write(&file, Kind::Translate, &examples, how(1.0, 8)).unwrap(), written);
        assert!((0..TOGETHER).any(|i| i + 20 < written.len() && written[i].labels != written[i + 20].labels));

        // At temperature 0 each token is the likeliest after those before.
        let written = write(&file, Kind::Translate, &examples[..1], how(0.0, 7)).unwrap();
        let net = EncDec::load(&Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap()).unwrap();
        let mut session = net.session(CacheType::F32, 1).unwrap();
        net.encode(&mut session, &[&examples[0].source[..]]).unwrap();
        net.reserve(&mut session, 1, 6).unwrap();
        for (position, (&token, &label)) in written[0].input.iter().zip(&written[0].labels).enumerate() {
            let logits = net.step(&mut session, &[Row { token, sentence: 0, slot: 0 }], position, None).unwrap();
            assert_eq!(likeliest(logits), label);
        }
    }

    #[test]
    fn an_answer_stands_in_the_place_of_the_last_one() {
        let file = chatty();
        // Two turns of the assistant, [7, 1] and [8, 1], of which the last one is written anew.
        let ignore = IGNORE;
        let labels = vec![ignore, ignore, 7, 1, ignore, ignore, 8, 1];
        let example = Example { source: vec![], input: vec![2, 5, 3, 7, 1, 6, 3, 8], labels };
        let written = write(&file, Kind::Chat, &[&example], how(0.0, 7)).unwrap();
        let Example { source, input, labels } = &written[0];
        assert!(source.is_empty() && input.len() == labels.len());
        assert_eq!((&input[..7], &labels[..6]), (&example.input[..7], &[ignore; 6][..]));
        assert_eq!(input[7..], labels[6..labels.len() - 1]);
        let answer = &labels[6..];
        let end = answer.iter().position(|&token| token == 1);
        assert_eq!(end.map_or(6, |end| end + 1), answer.len(), "{answer:?}");
        let net = Decoder::load(&Gguf::from_bytes(Bytes::from(&file[..]), "test").unwrap()).unwrap();
        let mut session = net.session(16, CacheType::F32, 1).unwrap();
        let logits = net.forward(&mut session, input, Logits::All).unwrap().to_vec();
        for (logits, &label) in logits.chunks(24).zip(labels).skip(6) {
            assert_eq!(likeliest(logits), label);
        }
    }

    #[test]
    fn a_dialogue_without_room_for_an_answer_is_passed_over() {
        let file = chatty();
        let of = |length: usize| {
            let mut labels = vec![IGNORE; length - 1];
            labels.push(4);
            Example { source: vec![], input: vec![3; length], labels }
        };
        let (short, long, full) = (of(4), of(14), of(16));
        let written = write(&file, Kind::Chat, &[&full, &short, &long], how(1.0, 7)).unwrap();
        // What is left of the context is the most that is written.
        assert_eq!(written.len(), 2);
        assert!(written[1].input.len() <= 16 && written[1].labels.len() <= 13 + 2, "{:?}", written[1]);
        assert_eq!(written[0].input[..4], short.input);
    }
}
