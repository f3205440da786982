"""Gradients of whole networks, and steps of AdamW, as PyTorch computes them: writes students.json.

    python3 students.py

The networks are those of tests/vectors (llama.gguf, t5-relu.gguf, t5-gelu.gguf), built again by the scripts there. Of
each: a ragged batch, the mean cross-entropy, and of every parameter's gradient the norm, the sum and the first numbers,
by llama.cpp's names. Needs torch, transformers, gguf, numpy and what those scripts import.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests/vectors"))
import logits
import t5

IGNORE = -100
FIRST = 6


def pad(rows, fill):
    width = max(map(len, rows))
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def mask(rows):
    return pad([[1] * len(row) for row in rows], 0)


def summary(gradient):
    flat = gradient.double().flatten()
    return dict(norm=float(flat.norm()), sum=float(flat.sum()), first=[float(x) for x in flat[:FIRST]])


def ragged(rng, lengths, vocab):
    return [rng.integers(3, vocab, n).tolist() for n in lengths]


def case(name, model, rename, source=None, **inputs):
    rows, labels = inputs["input"], inputs["labels"]
    feed = dict(labels=pad(labels, IGNORE))
    if source:
        feed |= dict(input_ids=pad(source, 0), attention_mask=mask(source), decoder_input_ids=pad(rows, 0))
    else:
        feed |= dict(input_ids=pad(rows, 0), attention_mask=mask(rows))
    model = model.double()
    if source:
        loss = model(**feed).loss
    else:  # labels are those of each position itself here, not of the next one
        scores = model(input_ids=feed["input_ids"], attention_mask=feed["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), feed["labels"].flatten(), ignore_index=IGNORE)
    loss.backward()
    gradients = {}
    for key, parameter in model.named_parameters():
        target, gradient = rename(key), parameter.grad
        if target.endswith(("attn_q.weight", "attn_k.weight")) and not source:
            spec = logits.SMALL[name]
            gradient = torch.from_numpy(
                logits.pair_up(gradient.numpy(), spec["heads" if target.endswith("q.weight") else "kv"]))
        gradients[target] = summary(gradient)
    return dict(name=name, source=source, input=rows, labels=[[None if x == IGNORE else x for x in row] for row in labels],
                loss=float(loss), gradients=gradients)


def networks():
    rng = np.random.default_rng(11)
    model, _ = logits.build("llama", logits.SMALL["llama"])
    vocab = model.config.vocab_size
    rows = ragged(rng, [9, 4, 1], vocab)
    labels = [row[:] for row in ragged(rng, [9, 4, 1], vocab)]
    labels[0][:3] = [IGNORE] * 3
    yield case("llama", model, logits.gguf_name, input=rows, labels=labels)
    for name in ("t5-relu", "t5-gelu"):
        spec = t5.SMALL[name]
        vocab = spec["vocab_size"]
        labels = ragged(rng, [6, 30, 2], vocab)
        labels[1][4] = IGNORE
        rows = [[0] + [x if x != IGNORE else 5 for x in row[:-1]] for row in labels]
        yield case(name, t5.build(name, spec), t5.gguf_name, source=ragged(rng, [40, 3, 7], vocab), input=rows,
                   labels=labels)


def adamw():
    """Two parameters, of which one decays; gradients that are clipped in some steps."""
    torch.manual_seed(3)
    matrix, norm = torch.randn(2, 3), torch.randn(4)
    parameters = [torch.nn.Parameter(matrix.clone()), torch.nn.Parameter(norm.clone())]
    groups = [dict(params=parameters[:1], weight_decay=0.1), dict(params=parameters[1:], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-6)
    steps, averages = [], [p.detach().clone() for p in parameters]
    for step in range(8):
        gradients = [torch.randn_like(p) * 0.4 for p in parameters]
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1) / 4
        for p, g in zip(parameters, gradients):
            p.grad = g.clone()
        total = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for average, p in zip(averages, parameters):
            average.lerp_(p.detach(), 1 - min(0.9, (step + 1) / (10 + step)))
        steps.append(dict(gradients=[g.flatten().tolist() for g in gradients], norm=float(total),
                          weights=[p.detach().flatten().tolist() for p in parameters],
                          averages=[a.flatten().tolist() for a in averages]))
    return dict(start=[matrix.flatten().tolist(), norm.tolist()], steps=steps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = dict(networks=list(networks()), adamw=adamw())
    (HERE / "students.json").write_text(json.dumps(out) + "\n")
