"""Losses and their gradients as PyTorch's autograd computes them in f64: writes losses.json.

    python3 losses.py

Logits and hidden states are exact in f32, so that both sides start from the same numbers. Those of extreme cases are around
±1e4, and are multiples of powers of two whose products and sums are exact in f32, too.
"""

import json
import os

import torch
import torch.nn.functional as F

torch.manual_seed(7)
N, WIDTH, VOCAB, K = 5, 6, 19, 4
IGNORE = 2**32 - 1


def f32(x):
    return x.to(torch.float32).to(torch.float64)


def divergence(name, x, log_t, log_p):
    t, p = log_t.exp(), log_p.exp()

    def kl(a, log_m):
        positive = torch.where(a > 0, a, torch.ones_like(a))
        return torch.where(a > 0, positive * (positive.log() - log_m), torch.zeros_like(a)).sum()

    def log_mixed():
        return (x * t + (1 - x) * p).clamp_min(1e-300).log()

    if name == "forward_kl":
        return F.kl_div(log_p, t, reduction="sum")
    if name == "reverse_kl":
        return F.kl_div(log_t, log_p, reduction="sum", log_target=True)
    if name == "jensen_shannon":
        return x * kl(t, log_mixed()) + (1 - x) * kl(p, log_mixed())
    if name == "skewed_forward_kl":
        return kl(t, log_mixed())
    if name == "skewed_reverse_kl":
        return kl(p, log_mixed())
    return 0.5 * (t - p).abs().sum()


def extreme():
    """Hidden states, weights and a teacher's logits of around ±1e4."""
    def sign(*shape):
        return (torch.randint(2, shape) * 2 - 1).to(torch.float64)

    def steps(a, b, size):
        return torch.randint(-16, 17, (a, b)).to(torch.float64) * size

    hidden = torch.cat([sign(N, 1), steps(N, WIDTH - 1, 1 / 8)], 1)
    weight = torch.cat([sign(VOCAB, 1) * 1e4, steps(VOCAB, WIDTH - 1, 1 / 8)], 1)
    return hidden, weight, sign(N, VOCAB) * 1e4 + steps(N, VOCAB, 1 / 4)


def case(name, x, temperature, alpha, smoothing, scale, spread, sparse=False, masked=False):
    if spread is None:
        hidden, weight, teacher = extreme()
    else:
        hidden, weight = f32(torch.randn(N, WIDTH)), f32(torch.randn(VOCAB, WIDTH) * spread)
        teacher = f32(torch.randn(N, VOCAB) * 2 * spread)
    hidden.requires_grad_(), weight.requires_grad_()
    labels = torch.randint(VOCAB, (N,))
    if masked:
        labels[1::2] = -100
    valid = labels != -100
    logits = scale * hidden @ weight.T
    ce = F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    log_p = F.log_softmax(logits / temperature, -1)
    log_t = F.log_softmax(teacher / temperature, -1)
    out = {}
    if sparse:
        ids = torch.stack([torch.randperm(VOCAB)[:K] for _ in range(N)])
        probabilities = f32(torch.softmax(torch.randn(N, K), -1))
        log_t = torch.full((N, VOCAB), -torch.inf, dtype=torch.float64).scatter(1, ids, probabilities.log())
        out = {"ids": ids.flatten().tolist(), "probabilities": probabilities.flatten().tolist(), "k": K}
    kd = divergence(name, x, log_t[valid], log_p[valid]) * temperature**2
    loss = (alpha * ce + (1 - alpha) * kd) / (2 * N)
    loss.backward()
    return out | {
        "divergence": name, "parameter": x, "temperature": temperature, "alpha": alpha, "smoothing": smoothing,
        "scale": scale, "tokens": 2 * N, "n": N, "width": WIDTH, "vocab": VOCAB,
        "hidden": hidden.detach().flatten().tolist(), "weight": weight.detach().flatten().tolist(),
        "teacher": teacher.flatten().tolist(), "labels": [label if label >= 0 else IGNORE for label in labels.tolist()],
        "loss": loss.item(), "cross_entropy": ce.item(), "kd": kd.item(),
        "correct": (logits.argmax(-1) == labels).sum().item(),
        "hidden_gradient": hidden.grad.flatten().tolist(), "weight_gradient": weight.grad.flatten().tolist(),
    }


def short(x):
    """Enough digits to tell f32 apart."""
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, list):
        return [short(y) for y in x]
    return {key: short(y) for key, y in x.items()} if isinstance(x, dict) else x


def main():
    cases = []
    divergences = [("forward_kl", 0), ("reverse_kl", 0), ("jensen_shannon", 0.5), ("jensen_shannon", 0.1),
                   ("skewed_forward_kl", 0.1), ("skewed_reverse_kl", 0.9), ("total_variation", 0)]
    for name, x in divergences:
        cases.append(case(name, x, 2.0, 0.3, 0.0, 1.0, 1.0))
        cases.append(case(name, x, 1.0, 0.0, 0.1, 0.5, 3.0))
        if name != "reverse_kl":
            cases.append(case(name, x, 4.0, 0.5, 0.0, 2.0, 0.5, sparse=True))
    cases.append(case("forward_kl", 0, 2.0, 1.0, 0.2, 1.0, 1.0))
    for name, x in divergences:
        cases.append(case(name, x, 2.0, 0.3, 0.0, 1.0, None))
        cases.append(case(name, x, 1.0, 0.2, 0.1, 0.5, 1.0, masked=True))
        if name != "reverse_kl":
            cases.append(case(name, x, 2.0, 0.4, 0.0, 1.0, None, sparse=True, masked=True))
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "losses.json")
    with open(path, "w") as file:
        json.dump({"torch": torch.__version__, "cases": short(cases)}, file)


main()
