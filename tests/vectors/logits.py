#!/usr/bin/env python3
"""Makes the logit oracles: random-weight language models with the logits two other programs compute for them.

    python logits.py             rewrite the small fixtures beside this script, and check them
    python logits.py --check     compute everything again and compare with what is stored; write nothing
    python logits.py --big DIR   full-size models, not committed: f32, q8_0, q4_0, q4_k_m (needs 10 GB of disk and memory)

Each model is built once as a transformers model (f32, eager attention) and written as GGUF with llama.cpp's names.
llama.cpp then opens the file and must give the same logits: that checks the export, and that both programs mean the
same thing by every key. What is stored are the logits of transformers.

NAME.logits, little endian:

    u32 n_positions | u32 n_vocab | u32 ids[n_positions] | f32 logits[n_positions][n_vocab]

Row p holds the logits after reading ids[0..=p]. Needs torch, transformers 5, gguf, numpy and llama-cpp-python.
"""

import argparse
import ctypes
import os
import struct
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import gguf
import llama_cpp as lc
import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
POSITIONS = 32
TOLERANCE = 1e-3  # largest absolute difference allowed between the two programs, f32 weights

# --- the models -------------------------------------------------------------------------------------------------------

SMALL = {
    # SmolLM2's shape: three query heads per key/value head, tied embeddings.
    "llama": dict(arch="llama", hidden=48, layers=2, heads=6, kv=2, head_dim=8, ffn=48, theta=100000.0, tied=True),
    # Qwen2.5's: seven query heads per key/value head, biases on q, k and v.
    "qwen2": dict(arch="qwen2", hidden=56, layers=2, heads=14, kv=2, head_dim=4, ffn=48, theta=1e6, tied=True),
    # Qwen3's: norms on q and k, heads wider than hidden / heads, an output matrix of its own.
    "qwen3": dict(arch="qwen3", hidden=32, layers=2, heads=4, kv=2, head_dim=16, ffn=48, theta=1e6, tied=False),
    # The ways of stretching RoPE. Chosen so that pairs fall below, inside and above each ramp.
    "llama-rope-linear": dict(arch="llama", hidden=32, layers=2, heads=2, kv=1, head_dim=16, ffn=48, theta=10000.0,
                              tied=True, rope=dict(rope_type="linear", factor=4.0)),
    "llama-rope-llama3": dict(arch="llama", hidden=32, layers=2, heads=2, kv=1, head_dim=16, ffn=48, theta=10000.0,
                              tied=True, rope=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                                   high_freq_factor=4.0, original_max_position_embeddings=256)),
    "qwen3-rope-yarn": dict(arch="qwen3", hidden=32, layers=2, heads=2, kv=1, head_dim=16, ffn=48, theta=10000.0,
                            tied=True, rope=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=1024)),
}
SMALL_VOCAB = 288

BIG = {
    "smollm2-135m": dict(arch="llama", hidden=576, layers=30, heads=9, kv=3, head_dim=64, ffn=1536, theta=100000.0,
                         tied=True, vocab=49152, eps=1e-5),
    "qwen2.5-0.5b": dict(arch="qwen2", hidden=896, layers=24, heads=14, kv=2, head_dim=64, ffn=4864, theta=1e6,
                         tied=True, vocab=151936, eps=1e-6),
}


def build(name, spec):
    """The transformers model with weights drawn from numpy's generator, so they do not depend on torch's version."""
    rope = dict(spec.get("rope", dict(rope_type="default")), rope_theta=spec["theta"])
    shape = dict(vocab_size=spec.get("vocab", SMALL_VOCAB), hidden_size=spec["hidden"], intermediate_size=spec["ffn"],
                 num_hidden_layers=spec["layers"], num_attention_heads=spec["heads"], num_key_value_heads=spec["kv"],
                 head_dim=spec["head_dim"], max_position_embeddings=4096, rms_norm_eps=spec.get("eps", 1e-5),
                 rope_parameters=rope, tie_word_embeddings=spec["tied"], attn_implementation="eager",
                 bos_token_id=0, eos_token_id=0)
    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[spec["arch"]]
    config = getattr(transformers, kind + "Config")(**shape)
    model = getattr(transformers, kind + "ForCausalLM")(config).float().eval()

    # Scales that give attention something to choose between, a residual stream no layer drowns,
    # and logits with a standard deviation of about 2.5.
    embed = 2.5 / np.sqrt(spec["hidden"])
    out = 3.0 * embed / np.sqrt(2 * spec["layers"])
    rng = np.random.default_rng(int.from_bytes(name.encode(), "little") % (1 << 63))
    with torch.no_grad():
        for key, tensor in sorted(model.named_parameters()):
            draw = rng.standard_normal(tuple(tensor.shape), dtype=np.float32)
            inputs = tensor.shape[-1]
            if "norm" in key:
                value = 1.0 + 0.1 * draw
            elif key.endswith("bias"):
                value = 0.5 * draw
            elif "embed_tokens" in key or "lm_head" in key:
                value = embed * draw
            elif "o_proj" in key or "down_proj" in key:
                value = draw * (2.0 * out / np.sqrt(inputs))
            elif "q_proj" in key or "k_proj" in key:
                value = draw * (1.25 / np.sqrt(inputs))
            else:
                value = draw * (1.0 / np.sqrt(inputs))
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)))
    ids = rng.integers(0, shape["vocab_size"], POSITIONS)
    ids[20:26] = ids[4:10]  # a repetition, as text has
    return model, ids.astype(np.int64)


def forward(model, ids):
    with torch.no_grad():
        return model(torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()


# --- writing GGUF -----------------------------------------------------------------------------------------------------


def byte_tokens():
    """GPT-2's printable character for each byte, in byte order."""
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(b) if b in keep else chr(next(spare)) for b in range(256)]


def vocabulary(size):
    """Special tokens, 256 bytes, a few merges, and fillers up to `size`."""
    merges = ["Ġ t", "h e", "i n", "Ġ a", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t", "n d", "Ġ w", "o u", "in g",
              "Ġa nd", "i s", "o r", "e n", "Ġ o", "i t", "l l", "Ġ b", "e d", "a n", "Ġ f", "re n", "a s", "l d"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    tokens = special + byte_tokens() + [m.replace(" ", "") for m in merges]
    kinds = [gguf.TokenType.CONTROL] * len(special) + [gguf.TokenType.NORMAL] * (len(tokens) - len(special))
    fill = size - len(tokens)
    assert fill >= 0 and len(set(tokens)) == len(tokens)
    tokens += [f"<|filler_{i}|>" for i in range(fill)]
    kinds += [gguf.TokenType.UNUSED] * fill
    return tokens, kinds, merges


LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def gguf_name(key):
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
           "lm_head.weight": "output.weight"}
    if key in top:
        return top[key]
    _, _, layer, rest = key.split(".", 3)
    return f"blk.{layer}.{LAYER[rest]}"


def pair_up(rows, heads):
    """Rows of a head from RoPE's two halves to adjacent pairs, the order of the `llama` architecture."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def llama3_factors(rope, head_dim):
    """What each RoPE frequency is divided by (Llama 3.1)."""
    wavelength = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] / wavelength
    smooth = np.clip((turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"]), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def export(path, name, spec, model):
    arch, config, rope = spec["arch"], model.config, model.config.rope_parameters
    w = gguf.GGUFWriter(path, arch)
    w.add_name(name + ", random weights")
    w.add_license("MIT OR Apache-2.0")
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_block_count(spec["layers"])
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(spec["hidden"])
    w.add_feed_forward_length(spec["ffn"])
    w.add_head_count(spec["heads"])
    w.add_head_count_kv(spec["kv"])
    w.add_key_length(spec["head_dim"])
    w.add_value_length(spec["head_dim"])
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(rope["rope_theta"])
    w.add_rope_dimension_count(spec["head_dim"])
    w.add_vocab_size(config.vocab_size)
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, spec["head_dim"]))

    tokens, kinds, merges = vocabulary(config.vocab_size)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm" if arch == "llama" else "qwen2")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges(merges)
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)

    for key, tensor in model.named_parameters():  # tied weights are named once
        data = tensor.detach().numpy()
        if arch == "llama" and "q_proj" in key:
            data = pair_up(data, spec["heads"])
        if arch == "llama" and "k_proj" in key:
            data = pair_up(data, spec["kv"])
        w.add_tensor(gguf_name(key), np.ascontiguousarray(data))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# --- llama.cpp --------------------------------------------------------------------------------------------------------

_quiet = lc.llama_log_callback(lambda level, text, data: sys.stderr.buffer.write(text) and None if level == 4 else None)
lc.llama_log_set(_quiet, ctypes.c_void_p(0))
lc.llama_backend_init()


def llama_cpp_logits(path, ids):
    """Logits of every position: f32 key/value cache, no flash attention, one thread."""
    model = lc.llama_model_load_from_file(str(path).encode(), lc.llama_model_default_params())
    assert model, f"llama.cpp refused {path}"
    params = lc.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = 256, 256, 256
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = lc.GGML_TYPE_F32
    params.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
    ctx = lc.llama_init_from_model(model, params)
    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    batch = lc.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = int(token), i, 1, 0, 1
    assert lc.llama_decode(ctx, batch) == 0
    out = np.ctypeslib.as_array(lc.llama_get_logits(ctx), (len(ids) * vocab,)).reshape(len(ids), vocab).copy()
    lc.llama_batch_free(batch)
    lc.llama_free(ctx)
    lc.llama_model_free(model)
    return out


def llama_cpp_quantize(source, target, ftype):
    params = lc.llama_model_quantize_default_params()
    params.ftype, params.nthread = ftype, 2
    assert lc.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) == 0


# --- the logits file --------------------------------------------------------------------------------------------------


def write_logits(path, ids, logits):
    with open(path, "wb") as f:
        f.write(struct.pack("<II", *logits.shape))
        f.write(np.asarray(ids, "<u4").tobytes())
        f.write(np.asarray(logits, "<f4").tobytes())


def read_logits(path):
    data = Path(path).read_bytes()
    n, vocab = struct.unpack_from("<II", data)
    ids = np.frombuffer(data, "<u4", n, 8)
    return ids.astype(np.int64), np.frombuffer(data, "<f4", n * vocab, 8 + 4 * n).reshape(n, vocab)


def compare(a, b):
    """Largest difference; root mean square of the difference over the spread; mean KL(a ‖ b); share of equal argmax."""
    la, lb = (x.astype(np.float64) for x in (a, b))
    la, lb = (x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
              for x in (la, lb))
    kl = (np.exp(la) * (la - lb)).sum(1).mean()
    d = a.astype(np.float64) - b
    return (f"max |d| {np.abs(d).max():.2e}  rms/spread {np.sqrt((d * d).mean()) / a.std():.2e}  KL {kl:.2e}  "
            f"argmax {(a.argmax(1) == b.argmax(1)).mean():.0%}")


def small(check):
    worst = 0.0
    for name, spec in SMALL.items():
        model, ids = build(name, spec)
        want = forward(model, ids)
        path = HERE / f"{name}.gguf"
        if check:
            stored_ids, stored = read_logits(path.with_suffix(".logits"))
            assert (stored_ids == ids).all(), f"{name}: other ids are stored"
            assert np.abs(stored - want).max() < 1e-4, f"{name}: other logits are stored"
        else:
            export(path, name, spec, model)
            write_logits(path.with_suffix(".logits"), ids, want)
        got = llama_cpp_logits(path, ids)
        worst = max(worst, np.abs(want - got).max())
        print(f"{name:20} {path.stat().st_size / 1e3:5.0f} kB  spread {want.std():.2f}  {compare(want, got)}")
        if "rope" in spec:  # the fixture must notice a loader that ignores the scaling
            plain, _ = build(name, {k: v for k, v in spec.items() if k != "rope"})
            print(f"{'':20} without the scaling {compare(want, forward(plain, ids))}")
    print(f"worst difference between transformers and llama.cpp: {worst:.2e}")
    assert worst < TOLERANCE


def exact_quantized(spec, model, path):
    """Puts a file's dequantized weights into `model`: what perfect arithmetic on the quantized weights would use."""
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            t = tensors[gguf_name(key)]
            data = gguf.quants.dequantize(t.data, t.tensor_type).reshape(tuple(tensor.shape))
            if spec["arch"] == "llama" and ("q_proj" in key or "k_proj" in key):
                heads = spec["heads"] if "q_proj" in key else spec["kv"]
                half = data.shape[0] // heads // 2
                data = data.reshape(heads, half, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
            tensor.copy_(torch.from_numpy(np.array(data, dtype=np.float32)))


def big(folder):
    """For each type: NAME-TYPE.gguf, .logits (transformers on the dequantized weights), .llama_cpp.logits."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    types = {"q8_0": lc.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": lc.LLAMA_FTYPE_MOSTLY_Q4_0, "q4_k_m": lc.LLAMA_FTYPE_MOSTLY_Q4_K_M}
    for name, spec in BIG.items():
        model, ids = build(name, spec)
        f32 = folder / f"{name}-f32.gguf"
        export(f32, name, spec, model)
        for kind in ("f32", *types):
            path = folder / f"{name}-{kind}.gguf"
            if kind != "f32":
                llama_cpp_quantize(f32, path, types[kind])
                exact_quantized(spec, model, path)
            want = forward(model, ids)
            got = llama_cpp_logits(path, ids)
            write_logits(path.with_suffix(".logits"), ids, want)
            write_logits(path.with_suffix(".llama_cpp.logits"), ids, got)
            if kind == "f32":
                full = want
            print(f"{name} {kind:7} {path.stat().st_size / 2**20:7.1f} MiB  spread {want.std():.2f}  "
                  f"exact against llama.cpp: {compare(want, got)}; exact against f32: {compare(full, want)}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(2)
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--check", action="store_true")
    options.add_argument("--big", metavar="DIR")
    chosen = options.parse_args()
    big(chosen.big) if chosen.big else small(chosen.check)
