//! Llama, Qwen2 and Qwen3: their keys, and where their tensors go.

use super::config::Config;
use super::plan::{Place, Plan, Rows};
use super::{Keys, put};
use crate::error::Result;
use std::f64::consts::TAU;

/// Adds a decoder's keys and tensors. Returns the number of tokens.
pub(super) fn convert(config: &Config, arch: &'static str, plan: &mut Plan, keys: &mut Keys) -> Result<usize> {
    config.only("hidden_act", Some("silu"), |v| v == "silu")?;
    config.only("use_sliding_window", Some("false"), |v| v == false)?;
    // Qwen names a window that it does not use.
    if arch == "llama" {
        config.only("sliding_window", None, |_| false)?;
    }
    let vocab = config.number("vocab_size")?;
    let embedding = config.number("hidden_size")?;
    let layers = config.number("num_hidden_layers")?;
    let heads = config.number("num_attention_heads")?;
    let kv_heads = config.opt_number("num_key_value_heads")?.unwrap_or(heads);
    let head = match config.opt_number("head_dim")? {
        Some(head) => head,
        None if arch == "qwen3" => 128,
        None => embedding.checked_div(heads).unwrap_or(0),
    };
    let feed_forward = config.number("intermediate_size")?;
    let context = config.number("max_position_embeddings")?;
    if head == 0 || head % 2 != 0 {
        return Err(config.unsupported("head_dim", head, "an even number"));
    }

    for (name, value) in [
        ("block_count", layers),
        ("context_length", context),
        ("embedding_length", embedding),
        ("feed_forward_length", feed_forward),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head),
        ("attention.value_length", head),
        ("rope.dimension_count", head),
        ("vocab_size", vocab),
    ] {
        put(keys, &format!("{arch}.{name}"), value as u32);
    }
    let epsilon = config.opt_float("rms_norm_eps")?.unwrap_or(1e-6);
    put(keys, &format!("{arch}.attention.layer_norm_rms_epsilon"), epsilon as f32);
    rope(config, arch, head, context, plan, keys)?;

    let tied = config.opt_bool("tie_word_embeddings")?.unwrap_or(false);
    let top = Place { logits: tied, ..Place::TOP };
    plan.matrix("model.embed_tokens.weight", "token_embd.weight", [embedding, vocab], top)?;
    plan.numbers("model.norm.weight", "output_norm.weight", &[embedding], Rows::AsTheyAre)?;
    if !tied {
        plan.matrix("lm_head.weight", "output.weight", [embedding, vocab], Place { logits: true, ..Place::TOP })?;
    }
    let pairs = if arch == "llama" { Rows::Pairs(head) } else { Rows::AsTheyAre };
    let (q, kv) = (heads * head, kv_heads * head);
    for layer in 0..layers {
        let from = |part: &str, kind: &str| format!("model.layers.{layer}.{part}.{kind}");
        let to = |part: &str, kind: &str| format!("blk.{layer}.{part}.{kind}");
        for (part, name, cols, rows, order) in [
            ("self_attn.q_proj", "attn_q", embedding, q, pairs),
            ("self_attn.k_proj", "attn_k", embedding, kv, pairs),
            ("self_attn.v_proj", "attn_v", embedding, kv, Rows::AsTheyAre),
            ("self_attn.o_proj", "attn_output", q, embedding, Rows::AsTheyAre),
            ("mlp.gate_proj", "ffn_gate", embedding, feed_forward, Rows::AsTheyAre),
            ("mlp.up_proj", "ffn_up", embedding, feed_forward, Rows::AsTheyAre),
            ("mlp.down_proj", "ffn_down", feed_forward, embedding, Rows::AsTheyAre),
        ] {
            let place = Place { layer: (layer, layers), rows: order, ..Place::TOP };
            plan.matrix(&from(part, "weight"), &to(name, "weight"), [cols, rows], place)?;
            if part.starts_with("self_attn") && plan.has(&from(part, "bias")) {
                plan.numbers(&from(part, "bias"), &to(name, "bias"), &[rows], order)?;
            }
        }
        for (part, name) in [("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")] {
            plan.numbers(&from(part, "weight"), &to(name, "weight"), &[embedding], Rows::AsTheyAre)?;
        }
        if arch == "qwen3" {
            for (part, name) in [("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")] {
                plan.numbers(&from(part, "weight"), &to(name, "weight"), &[head], Rows::AsTheyAre)?;
            }
        }
    }
    plan.skip(|name| name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight"));
    Ok(vocab)
}

/// The keys of the positions, and Llama 3's divisors. Since version 5 transformers has all in `rope_parameters`.
fn rope(config: &Config, arch: &str, head: usize, context: usize, plan: &mut Plan, keys: &mut Keys) -> Result<()> {
    let newer = config.inner("rope_parameters")?;
    let older = config.inner("rope_scaling")?;
    let base = match newer.opt_float("rope_theta")? {
        Some(base) => base,
        None => config.opt_float("rope_theta")?.unwrap_or(10_000.0),
    };
    put(keys, &format!("{arch}.rope.freq_base"), base as f32);
    let scaling = if newer.get("rope_type").is_some() { newer } else { older };
    scaling.only("partial_rotary_factor", Some("1"), |v| v == 1.0)?;
    let kind = scaling.text("rope_type").or(scaling.text("type")).unwrap_or("default");
    let mut key = |name: &str, value: crate::gguf::OwnedValue| put(keys, &format!("{arch}.rope.scaling.{name}"), value);
    match kind {
        "default" => {}
        "linear" => {
            key("type", "linear".into());
            key("factor", (scaling.float("factor")? as f32).into());
        }
        "yarn" => {
            // The values that GGUF's readers take for granted.
            scaling.only("beta_fast", Some("32"), |v| v == 32.0 || v == 32)?;
            scaling.only("beta_slow", Some("1"), |v| v == 1.0 || v == 1)?;
            for name in ["attention_factor", "mscale", "mscale_all_dim"] {
                scaling.only(name, None, |_| false)?;
            }
            let original = scaling.opt_number("original_max_position_embeddings")?.unwrap_or(context);
            key("type", "yarn".into());
            key("factor", (scaling.float("factor")? as f32).into());
            key("original_context_length", (original as u32).into());
        }
        "llama3" if arch == "llama" => plan.given("rope_freqs.weight", llama3(&scaling, base, head)?),
        other => {
            return Err(scaling.unsupported(
                "rope_type",
                format_args!("'{other}'"),
                "default, linear, yarn, or llama3 of a llama",
            ));
        }
    }
    Ok(())
}

/// What the angle of each pair is divided by: waves longer than the original context become longer by `factor`, those
/// that fit often stay, with a blend in between (Llama 3.1).
fn llama3(scaling: &Config, base: f64, head: usize) -> Result<Vec<f32>> {
    let [factor, low, high, context] =
        ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
            .map(|name| scaling.float(name));
    let (factor, low, high, context) = (factor?, low?, high?, context?);
    let divisor = |i: usize| {
        let wavelength = TAU * base.powf(2.0 * i as f64 / head as f64);
        let keep = ((context / wavelength - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - keep) / factor + keep)) as f32
    };
    Ok((0..head / 2).map(divisor).collect())
}
