//! T5 (Raffel et al. 2020) and its relatives: T5 1.1, Flan-T5, mT5, UMT5, MADLAD-400.

use super::config::Config;
use super::plan::{Place, Plan, Rows};
use super::{Keys, put};
use crate::error::Result;

/// What the shared embeddings may be called; where there are several, they are the same.
const EMBEDDINGS: [&str; 3] = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];

/// A stack of layers.
struct Stack {
    /// Its name in the checkpoint and in the file.
    names: [&'static str; 2],
    layers: usize,
    crosses: bool,
}

/// Adds the keys and tensors of a model of this `class`. Returns the number of tokens.
pub(super) fn convert(config: &Config, class: &str, plan: &mut Plan, keys: &mut Keys) -> Result<usize> {
    let gated = match (config.text("feed_forward_proj"), class) {
        (Some("relu"), _) | (None, "T5ForConditionalGeneration" | "T5WithLMHeadModel") => false,
        (Some("gated-gelu"), _) | (None, _) => true,
        (Some(other), _) => {
            return Err(config.unsupported("feed_forward_proj", format_args!("'{other}'"), "relu or gated-gelu"));
        }
    };
    // The keys of GGUF have no place for it.
    config.only("relative_attention_max_distance", Some("128"), |v| v == 128)?;
    let vocab = config.number("vocab_size")?;
    let embedding = config.number("d_model")?;
    let encoder = config.number("num_layers")?;
    let decoder = config.opt_number("num_decoder_layers")?.unwrap_or(encoder);
    let (heads, head) = (config.number("num_heads")?, config.number("d_kv")?);
    let feed_forward = config.number("d_ff")?;
    let buckets = config.opt_number("relative_attention_num_buckets")?.unwrap_or(32);
    let start = config.opt_number("decoder_start_token_id")?.or(config.opt_number("pad_token_id")?).unwrap_or(0);
    for (name, value) in [
        ("context_length", config.opt_number("n_positions")?.unwrap_or(512)),
        ("embedding_length", embedding),
        ("feed_forward_length", feed_forward),
        ("block_count", encoder),
        ("decoder_block_count", decoder),
        ("attention.head_count", heads),
        ("attention.key_length", head),
        ("attention.value_length", head),
        ("attention.relative_buckets_count", buckets),
        ("decoder_start_token_id", start),
        ("vocab_size", vocab),
    ] {
        put(keys, &format!("t5.{name}"), value as u32);
    }
    let epsilon = config.opt_float("layer_norm_epsilon")?.unwrap_or(1e-6) as f32;
    put(keys, "t5.attention.layer_norm_epsilon", epsilon);
    put(keys, "t5.attention.layer_norm_rms_epsilon", epsilon);

    embeddings(config, class, [embedding, vocab], plan)?;
    for stack in [
        Stack { names: ["encoder", "enc"], layers: encoder, crosses: false },
        Stack { names: ["decoder", "dec"], layers: decoder, crosses: true },
    ] {
        stack.convert(plan, [embedding, heads * head, feed_forward], [buckets, heads], gated)?;
    }
    plan.skip(|name| EMBEDDINGS.contains(&name) || name == "lm_head.weight");
    // An early version of transformers saved it, and never read it.
    plan.skip(|name| name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
    Ok(vocab)
}

/// The embeddings, and the matrix that computes the logits.
///
/// A file without `output.weight` is a T5 of the first version: the embeddings compute the logits, from a hidden state
/// that is divided by √d. All others get the matrix, which then holds that factor if there is one.
fn embeddings(config: &Config, class: &str, [cols, rows]: [usize; 2], plan: &mut Plan) -> Result<()> {
    let shared = EMBEDDINGS.into_iter().find(|name| plan.has(name)).unwrap_or(EMBEDDINGS[0]);
    let own = plan.has("lm_head.weight") && !plan.same("lm_head.weight", shared, &[rows, cols])?;
    // Saved by version 5 of transformers, or what versions before it went by.
    let scaled = match config.opt_bool("scale_decoder_outputs")? {
        Some(scaled) => scaled,
        None => config.opt_bool("tie_word_embeddings")?.unwrap_or(true),
    } && !class.starts_with("MT5");
    let tied = scaled && !own;
    plan.matrix(shared, "token_embd.weight", [cols, rows], Place { logits: tied, ..Place::TOP })?;
    if !tied {
        let from = if own { "lm_head.weight" } else { shared };
        let scale = if scaled { 1.0 / (cols as f32).sqrt() } else { 1.0 };
        plan.matrix(from, "output.weight", [cols, rows], Place { logits: true, scale, ..Place::TOP })?;
    }
    Ok(())
}

impl Stack {
    fn convert(
        &self,
        plan: &mut Plan,
        [embedding, inner, feed_forward]: [usize; 3],
        table: [usize; 2],
        gated: bool,
    ) -> Result<()> {
        let [from, to] = self.names;
        for layer in 0..self.layers {
            let source = |sub: usize, part: &str| format!("{from}.block.{layer}.layer.{sub}.{part}.weight");
            let target = |part: &str| format!("{to}.blk.{layer}.{part}.weight");
            let place = Place { layer: (layer, self.layers), ..Place::TOP };
            let attentions = [("SelfAttention", "attn"), ("EncDecAttention", "cross_attn")];
            let attentions = &attentions[..if self.crosses { 2 } else { 1 }];
            for (sub, (attention, name)) in attentions.iter().enumerate() {
                for (part, cols, rows) in
                    [("q", embedding, inner), ("k", embedding, inner), ("v", embedding, inner), ("o", inner, embedding)]
                {
                    let (from, to) = (source(sub, &format!("{attention}.{part}")), target(&format!("{name}_{part}")));
                    plan.matrix(&from, &to, [cols, rows], place)?;
                }
                let norm = source(sub, "layer_norm");
                plan.numbers(&norm, &target(&format!("{name}_norm")), &[embedding], Rows::AsTheyAre)?;
            }
            // UMT5 has one in every layer, the others in the first.
            let bias = source(0, "SelfAttention.relative_attention_bias");
            if layer == 0 || plan.has(&bias) {
                plan.numbers(&bias, &target("attn_rel_b"), &table, Rows::AsTheyAre)?;
            }
            let sub = attentions.len();
            let up: &[_] = if gated { &[("wi_0", "ffn_gate"), ("wi_1", "ffn_up")] } else { &[("wi", "ffn_up")] };
            for (part, name) in up {
                let from = source(sub, &format!("DenseReluDense.{part}"));
                plan.matrix(&from, &target(name), [embedding, feed_forward], place)?;
            }
            plan.matrix(&source(sub, "DenseReluDense.wo"), &target("ffn_down"), [feed_forward, embedding], place)?;
            plan.numbers(&source(sub, "layer_norm"), &target("ffn_norm"), &[embedding], Rows::AsTheyAre)?;
        }
        let norm = format!("{from}.final_layer_norm.weight");
        plan.numbers(&norm, &format!("{to}.output_norm.weight"), &[embedding], Rows::AsTheyAre)
    }
}
