#!/usr/bin/env python3
"""Whole training steps, here and in PyTorch, in turns: tokens a second, the ratio, and what a step is made of.

    cargo build --release -p pupil-distill --features train --example train_speed
    python benches/peers/train/train.py --threads 2 --rounds 5
    python benches/peers/train/train.py --shapes llama --json all.json

PyTorch's side is transformers' model of the same dimensions in f32, with its fused AdamW and the same batch, which it
pads. `--peer SHAPE STEPS THREADS` is one measurement of it. Needs torch and transformers.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from turns import cpu_name, span, take_turns

VOCAB = 8000


def token(place):
    return 3 + place * 7919 % (VOCAB - 3)


def t5(torch, transformers):
    """The batch of train_speed.rs: 64 pairs of sentences of 7 to 13 tokens."""
    config = transformers.T5Config(
        vocab_size=VOCAB, d_model=256, d_kv=64, num_heads=4, d_ff=1024, num_layers=6, num_decoder_layers=2,
        feed_forward_proj="relu", tie_word_embeddings=True, dropout_rate=0.0, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1)
    rows = lambda first, step: [[token(first + row * 16 + i) for i in range(7 + row * step % 7)] for row in range(64)]
    source, labels = rows(0, 3), rows(5000, 5)
    pad = lambda rows, fill: torch.tensor([row + [fill] * (13 - len(row)) for row in rows])
    feed = dict(
        input_ids=pad(source, 0),
        attention_mask=pad([[1] * len(row) for row in source], 0),
        decoder_input_ids=pad([[0] + row[:-1] for row in labels], 0),
        labels=pad(labels, -100))
    return transformers.T5ForConditionalGeneration(config), feed, sum(map(len, source)) + sum(map(len, labels))


def llama(torch, transformers):
    """8 texts of 128 tokens, without padding."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True, use_cache=False)
    rows = torch.tensor([[token(row * 1000 + i) for i in range(129)] for row in range(8)])
    # transformers shifts labels itself, so the last position of these has none.
    feed = dict(input_ids=rows[:, :-1].contiguous(), labels=rows[:, :-1].contiguous())
    return transformers.LlamaForCausalLM(config), feed, 8 * 128


def peer(shape, steps, threads):
    import torch
    import transformers

    torch.set_num_threads(threads)
    model, feed, tokens = dict(t5=t5, llama=llama)[shape](torch, transformers)
    model = model.float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    times = []
    for step in range(steps + 3):
        start = time.perf_counter()
        loss = model(**feed).loss
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end = time.perf_counter()
        if step >= 3:
            times.append([1e3 * t for t in (forward - start, backward - forward, end - backward, end - start)])
    forward, backward, update, whole = (statistics.median(column) for column in zip(*times))
    print(json.dumps(dict(tokens_per_s=round(1e3 * tokens / whole), step_ms=whole, best_ms=min(t[3] for t in times),
                          forward_ms=forward, backward_ms=backward, optimizer_ms=update)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="t5,llama")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pupil", default=str(HERE.parents[2] / "target/release/examples/train_speed"))
    parser.add_argument("--json", help="keep every measurement here")
    parser.add_argument("--peer", nargs=3, metavar=("SHAPE", "STEPS", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer[0], int(args.peer[1]), int(args.peer[2]))
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)
    print(f"{cpu_name()}, {args.threads} threads; medians of {args.rounds} rounds and their extremes\n")
    print("| shape | tokens/s, PyTorch's | ratio | of best steps | forward, loss, backward, update ms | PyTorch's |")
    print("|---|---|---|---|---|---|")
    everything, others = {}, []
    for shape in args.shapes.split(","):
        results = take_turns({
            "pupil": [args.pupil, shape, str(args.steps)],
            "torch": [sys.executable, __file__, "--peer", shape, str(args.steps), str(args.threads)],
        }, args.rounds)
        everything[shape] = results
        ours, theirs = results["pupil"], results["torch"]
        column = lambda rows, key: statistics.median(row[key] for row in rows)
        ratio = span([a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(ours, theirs)], 2)
        best = min(row["best_ms"] for row in theirs) / min(row["best_ms"] for row in ours)
        parts = ", ".join(f"{column(ours, f'{k}_ms'):.0f}" for k in ("forward", "loss", "backward", "optimizer"))
        peers = ", ".join(f"{column(theirs, f'{k}_ms'):.0f}" for k in ("forward", "backward", "optimizer"))
        print(f"| {shape} | {column(ours, 'tokens_per_s'):.0f}, {column(theirs, 'tokens_per_s'):.0f} | {ratio} |"
              f" {best:.2f} | {parts} | {peers} |", flush=True)
        others += [row["others"] for row in ours + theirs]
    print(f"\nMachine used by others: {100 * statistics.median(others):.0f} % (up to {100 * max(others):.0f} %)")
    if args.json:
        Path(args.json).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
