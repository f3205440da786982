#!/usr/bin/env python3
"""Makes the oracles of encoder-decoders: random-weight T5 models, and what transformers computes and generates with them.

    python t5.py             rewrite the small fixtures beside this script
    python t5.py --check     compute everything again and compare with what is stored; write nothing
    python t5.py --big DIR   full-size models, not committed; PUPIL_T5=DIR cargo test --release --test t5 runs them

NAME.gguf holds the model with llama.cpp's names and a small unigram vocabulary. NAME.json holds
    inputs      lists of ids
    states      the encoder's output for the first input
    forced      ids given to the decoder for the first input
    logits      what it answers after each of them
    searches    options of generate(), and the ids that it found for each input, without the first and what fills up

t5-buckets.txt holds the buckets of distances -130 to 130, for the encoder and for the decoder.
Needs torch, transformers 5, gguf and numpy.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import gguf
import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

HERE = Path(__file__).resolve().parent

SMALL = {
    # The original T5: ReLU, tied embeddings, more encoder than decoder layers, heads narrower than the hidden state.
    "t5-relu": dict(d_model=32, d_kv=8, num_heads=2, d_ff=48, num_layers=2, num_decoder_layers=1, vocab_size=64,
                    gated=False, tied=True),
    # T5 1.1 and Flan-T5: gated GELU, an output matrix of its own, heads wider than the hidden state.
    "t5-gelu": dict(d_model=24, d_kv=16, num_heads=2, d_ff=32, num_layers=2, num_decoder_layers=2, vocab_size=64,
                    gated=True, tied=False),
}
BIG = {
    "flan-t5-small": dict(d_model=512, d_kv=64, num_heads=6, d_ff=1024, num_layers=8, num_decoder_layers=8,
                          vocab_size=32128, gated=True, tied=False),
    "student": dict(d_model=256, d_kv=64, num_heads=4, d_ff=1536, num_layers=6, num_decoder_layers=2,
                    vocab_size=32000, gated=False, tied=True),
}
SEARCHES = [
    dict(num_beams=1),
    dict(num_beams=1, no_repeat_ngram_size=2),
    dict(num_beams=4),
    dict(num_beams=4, length_penalty=0.6, early_stopping=True, no_repeat_ngram_size=3),
    dict(num_beams=3, length_penalty=2.0, early_stopping="never"),
]
NEW_TOKENS = 20


def build(name, spec):
    """The model with weights from numpy's generator, large enough that what it says depends on what it was told."""
    config = T5Config(**{k: v for k, v in spec.items() if k not in ("gated", "tied")},
                      feed_forward_proj="gated-gelu" if spec["gated"] else "relu",
                      tie_word_embeddings=spec["tied"], scale_decoder_outputs=spec["tied"],
                      decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    model = T5ForConditionalGeneration(config).float().eval()
    rng = np.random.default_rng(sum(name.encode()))
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            values = rng.standard_normal(tuple(tensor.shape)).astype(np.float32)
            if "norm" in key:
                values = 1 + 0.1 * values
            elif "relative" in key:
                values = 1.5 * values
            elif "shared" in key or "embed" in key or "lm_head" in key:
                values = values if spec["tied"] or "lm_head" not in key else values * 2.5 * spec["d_model"] ** -0.5
            else:
                fan_in = tensor.shape[1]
                values *= {"q": 1.5 * fan_in ** -0.5 * spec["d_kv"] ** -0.25,
                           "k": 1.5 * fan_in ** -0.5 * spec["d_kv"] ** -0.25}.get(key.split(".")[-2], 1.2 * fan_in ** -0.5)
                if "EncDecAttention.o" in key or "EncDecAttention.v" in key:
                    values *= 1.5
            tensor.copy_(torch.from_numpy(values))
    # Ends now and then.
    with torch.no_grad():
        head = model.lm_head.weight
        head[1] *= 1.3
    return model


def gguf_name(key):
    """llama.cpp's name of a parameter."""
    if key == "shared.weight":
        return "token_embd.weight"
    if key == "lm_head.weight":
        return "output.weight"
    half, rest = key.split(".", 1)
    half = {"encoder": "enc", "decoder": "dec"}[half]
    if rest == "final_layer_norm.weight":
        return f"{half}.output_norm.weight"
    _, block, _, layer, *part = rest.split(".")
    kind = {"0": "attn", "1": "cross_attn" if half == "dec" else "ffn", "2": "ffn"}[layer]
    part = part[-2]
    part = {"layer_norm": "norm", "relative_attention_bias": "rel_b", "wi": "up", "wi_0": "gate", "wi_1": "up",
            "wo": "down"}.get(part, part)
    return f"{half}.blk.{block}.{kind}_{part}.weight"


def vocabulary(size):
    """Pad, end and unknown, then letters, pairs of them, and what begins words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["<pad>", "</s>", "<unk>", "▁", ".", ",", *letters]
    more = (a + b for a in ["▁", *letters] for b in letters)
    evenmore = (a + b + c for a in ["▁", *letters] for b in letters for c in letters)
    for token in (*more, *evenmore):
        if len(tokens) < size:
            tokens.append(token)
    scores = [0.0, 0.0, 0.0] + [-5.0 - 0.001 * i + len(t) for i, t in enumerate(tokens[3:])]
    kinds = [3, 3, 2] + [1] * (len(tokens) - 3)
    return tokens, scores, kinds


def export(path, name, spec, model):
    w = gguf.GGUFWriter(path, "t5")
    w.add_name(name + ", random weights")
    w.add_license("MIT OR Apache-2.0")
    w.add_context_length(512)
    w.add_embedding_length(spec["d_model"])
    w.add_feed_forward_length(spec["d_ff"])
    w.add_block_count(spec["num_layers"])
    w.add_decoder_block_count(spec["num_decoder_layers"])
    w.add_head_count(spec["num_heads"])
    w.add_key_length(spec["d_kv"])
    w.add_value_length(spec["d_kv"])
    w.add_layer_norm_eps(model.config.layer_norm_epsilon)
    w.add_layer_norm_rms_eps(model.config.layer_norm_epsilon)
    w.add_relative_attn_buckets_count(model.config.relative_attention_num_buckets)
    w.add_decoder_start_token_id(0)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens, scores, kinds = vocabulary(spec["vocab_size"])
    w.add_tokenizer_model("t5")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(kinds)
    w.add_eos_token_id(1)
    w.add_unk_token_id(2)
    w.add_pad_token_id(0)
    w.add_add_bos_token(False)
    w.add_add_eos_token(True)
    for key, tensor in model.named_parameters():  # tied weights are named once
        w.add_tensor(gguf_name(key), tensor.detach().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def oracle(name, spec, model, inputs):
    rng = np.random.default_rng(7)
    lists = [rng.integers(3, spec["vocab_size"], rng.integers(1, 24)).tolist() + [1] for _ in range(inputs)]
    first, forced = lists[0], [0, *rng.integers(3, spec["vocab_size"], 9).tolist()]
    with torch.no_grad():
        out = model(input_ids=torch.tensor([first]), decoder_input_ids=torch.tensor([forced]))
        searches = []
        for options in SEARCHES:
            found, scores = [], []
            for ids in lists:
                got = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False,
                                     return_dict_in_generate=True, output_scores=True, **options)
                sequence = got.sequences[0, 1:].tolist()
                if 1 in sequence:
                    sequence = sequence[:sequence.index(1) + 1]
                found.append(sequence)
                if options["num_beams"] > 1:
                    scores.append(round(got.sequences_scores[0].item(), 5))
            searches.append(dict(options=options, found=found, scores=scores))
            ended = sum(ids[-1] == 1 for ids in found)
            distinct = np.mean([len(set(ids)) / len(ids) for ids in found])
            print(f"{name} {options}: {ended} of {inputs} ended, {np.mean([len(i) for i in found]):.1f} tokens, "
                  f"{distinct:.0%} distinct, {len(set(map(tuple, found)))} different", flush=True)
    rounded = lambda x: [float(f"{v:.6g}") for v in x.flatten().tolist()]
    return dict(inputs=lists, limit=NEW_TOKENS, states=rounded(out.encoder_last_hidden_state[0]), forced=forced,
                logits=rounded(out.logits[0]), searches=searches)


def buckets():
    distances = torch.arange(-130, 131)
    lines = [T5Attention._relative_position_bucket(distances, bidirectional=both) for both in (True, False)]
    return "".join(" ".join(map(str, line.tolist())) + "\n" for line in lines)


def store(path, text, check):
    if check:
        assert path.read_text() == text, f"{path.name}: something else is stored"
    else:
        path.write_text(text)


def main(specs, folder, inputs, check=False):
    for name, spec in specs.items():
        model = build(name, spec)
        if not check:
            export(folder / f"{name}.gguf", name, spec, model)
        data = oracle(name, spec, model, inputs)
        store(folder / f"{name}.json", json.dumps(data, separators=(",", ":")) + "\n", check)
    store(folder / "t5-buckets.txt", buckets(), check)


if __name__ == "__main__":
    torch.set_num_threads(1)  # tiny models
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--check", action="store_true")
    options.add_argument("--big", metavar="DIR", type=Path)
    chosen = options.parse_args()
    if chosen.big:
        chosen.big.mkdir(parents=True, exist_ok=True)
        main(BIG, chosen.big, 50)
    else:
        main(SMALL, HERE, 50, chosen.check)
