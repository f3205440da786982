"""What detectors are made of, as PyTorch computes it in f64: writes detector.json.

    python3 detector.py

`chains`: convolutions and batch norms one after the other, with the gradients of a weighted sum of the result and the
running statistics. `losses`: which cells see which objects, by whole matrices of costs, and all losses of that with the
gradient by the outputs. Inputs are multiples of 1/64, so that both sides start from the same numbers.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)

ACTIVATIONS = {
    "relu": F.relu,
    "leaky-relu": lambda x: F.leaky_relu(x, 0.1),
    "hard-swish": F.hardswish,
    "silu": F.silu,
}


def draw(*shape, spread=1.0):
    return (torch.randn(*shape) * spread * 64).round() / 64


def rows(x):
    """[n, c, h, w] as [n h w, c]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def short(x):
    if isinstance(x, torch.Tensor):
        return short(x.detach().flatten().tolist())
    if isinstance(x, float):
        return float(f"{x:.7g}")
    if isinstance(x, (list, tuple)):
        return [short(y) for y in x]
    return {key: short(y) for key, y in x.items()} if isinstance(x, dict) else x


def chain(activation, kernel, stride):
    """Dense 3x3 of stride 2, norm, depthwise, norm, twice the size."""
    n, height, width, inputs, channels = 2, 7, 6, 3, 5
    act = ACTIVATIONS[activation]
    x = draw(n, inputs, height, width).requires_grad_()
    dense = draw(channels, inputs, 3, 3, spread=0.5).requires_grad_()
    depth = draw(channels, 1, kernel, kernel, spread=0.5).requires_grad_()
    norms = [(draw(channels) + 1).requires_grad_() for _ in range(4)]
    running = [torch.zeros(channels), torch.ones(channels), torch.zeros(channels), torch.ones(channels)]
    y = F.conv2d(x, dense, stride=2, padding=1)
    y = act(F.batch_norm(y, running[0], running[1], norms[0], norms[1], training=True, momentum=0.1, eps=1e-5))
    y = F.conv2d(y, depth, stride=stride, padding=kernel // 2, groups=channels)
    y = act(F.batch_norm(y, running[2], running[3], norms[2], norms[3], training=True, momentum=0.1, eps=1e-5))
    y = rows(F.interpolate(y, scale_factor=2, mode="nearest"))
    weights = (torch.arange(y.numel()) * 0.7).sin() + 0.1
    (y.flatten() * weights).sum().backward()
    # Filters: dense ones [outputs][ky][kx][inputs], depthwise ones [ky][kx][channels].
    order = lambda t: t.permute(0, 2, 3, 1)
    deep = lambda t: t[:, 0].permute(1, 2, 0)
    return short(dict(
        activation=activation, kernel=kernel, stride=stride, n=n, height=height, width=width, inputs=inputs, channels=channels,
        x=rows(x), dense=order(dense), depth=deep(depth), norms=norms, out=y, of_x=rows(x.grad),
        of_dense=order(dense.grad), of_depth=deep(depth.grad), of_norms=[t.grad for t in norms], running=running))


SIZE, STRIDES, CLASSES, BINS = 32, (8, 16), 2, 4


def anchors():
    cells = [((x + 0.5) * s, (y + 0.5) * s, s) for s in STRIDES for y in range(SIZE // s) for x in range(SIZE // s)]
    return torch.tensor(cells)


def decode(bins, cells):
    distances = (bins.softmax(-1) * torch.arange(BINS)).sum(-1) * cells[:, 2:]
    x, y = cells[:, 0], cells[:, 1]
    return torch.stack([x - distances[:, 0], y - distances[:, 1], x + distances[:, 2], y + distances[:, 3]], -1)


def areas(b):
    return (b[..., 2] - b[..., 0]).clamp(min=0) * (b[..., 3] - b[..., 1]).clamp(min=0)


def overlaps(a, b):
    """IoU and GIoU of boxes that broadcast."""
    both = areas(torch.cat([torch.maximum(a, b)[..., :2], torch.minimum(a, b)[..., 2:]], -1))
    hull = areas(torch.cat([torch.minimum(a, b)[..., :2], torch.maximum(a, b)[..., 2:]], -1))
    union = areas(a) + areas(b) - both
    return both / union, both / union - (hull - union) / hull


def assign(z, cells, boxes, classes):
    """For each cell the object it is to see or -1, and its IoU."""
    logits, rects = z[:, :CLASSES], decode(z[:, CLASSES:].unflatten(1, (4, BINS)), cells)
    iou = overlaps(rects[:, None], boxes[None])[0]  # [cells, objects]
    x, y = cells[:, :1], cells[:, 1:2]
    inside = (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
    soft = F.one_hot(classes, CLASSES)[None] * iou[..., None]  # [cells, objects, classes]
    z3 = logits[:, None].expand_as(soft)
    of_class = (F.binary_cross_entropy_with_logits(z3, soft, reduction="none") * (soft - z3.sigmoid()).abs() ** 2).sum(-1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    far = (cells[:, None, :2] - centres).norm(dim=-1) / cells[:, 2:]
    cost = of_class - 3 * (iou + 1e-7).log() + 10 ** (far - 3)
    cost[~inside] = torch.inf
    iou = torch.where(inside, iou, torch.zeros_like(iou))
    chosen = torch.full_like(cost, torch.inf)
    for j in range(len(boxes)):
        k = max(1, int(iou[:, j].topk(13).values.sum()))
        best = cost[:, j].topk(k, largest=False).indices
        chosen[best, j] = cost[best, j]
    least, of = chosen.min(1)
    of[least.isinf()] = -1
    return of, iou


def focal(z, y, beta):
    return F.binary_cross_entropy_with_logits(z, y, reduction="none") * (z.sigmoid() - y).abs() ** beta


def loss(teacher, beta, temperature, floor):
    cells = anchors()
    z = draw(2 * len(cells), CLASSES + 4 * BINS, spread=1.5).requires_grad_()
    boxes = torch.tensor([[1.5, 2.25, 21.0, 25.5], [9.0, 10.5, 30.0, 31.0], [4.0, 17.0, 15.0, 29.5]])
    classes = torch.tensor([1, 0, 1])
    # The first picture has labels, the second has none.
    n = len(cells)
    of, iou = assign(z[:n].detach(), cells, boxes, classes)
    seen = (of >= 0).nonzero()[:, 0]
    quality = iou[seen, of[seen]]
    y = torch.zeros(n, CLASSES)
    y[seen, classes[of[seen]]] = quality
    parts = dict(classes=focal(z[:n, :CLASSES], y, beta).sum() / max(1, len(seen)))
    weights = quality.clamp(min=0.1)
    total = weights.sum().clamp(min=1)
    bins = z[:, CLASSES:].unflatten(1, (4, BINS))
    all_cells = cells.repeat(2, 1)
    rects = decode(bins, all_cells)
    parts["boxes"] = (weights * (1 - overlaps(rects[seen], boxes[of[seen]])[1])).sum() / total
    sign = torch.tensor([-1.0, -1, 1, 1])
    distance = (sign * (boxes[of[seen]] - cells[seen][:, [0, 1, 0, 1]]) / cells[seen][:, 2:]).clamp(0, BINS - 1)
    low = distance.floor().clamp(max=BINS - 2)
    flat = bins[seen].flatten(0, 1)
    entropy = lambda bin: F.cross_entropy(flat, bin.flatten().long(), reduction="none").unflatten(0, (-1, 4))
    dfl = entropy(low) * (low + 1 - distance) + entropy(low + 1) * (distance - low)
    parts["bins"] = (weights * dfl.mean(1)).sum() / total
    out = {}
    if teacher:
        theirs = draw(2 * n, CLASSES, spread=2.0)
        w = theirs.max(1).values.sigmoid()
        w = torch.where(w >= floor, w, torch.zeros_like(w))
        of_teacher = w.sum().clamp(min=1)
        parts["kd_classes"] = focal(z[:, :CLASSES], theirs.sigmoid(), beta).sum() / of_teacher
        out["teacher"] = theirs
        if teacher == "bins":
            theirs = draw(2 * n, 4, BINS, spread=1.5)
            log_p, q = F.log_softmax(bins / temperature, -1), F.softmax(theirs / temperature, -1)
            ld = F.kl_div(log_p, q, reduction="none").sum((1, 2)) * temperature**2
            parts["kd_boxes"] = (w * ld).sum() / of_teacher
            out["teacher_bins"] = theirs
        else:
            middle = draw(2 * n, 2, spread=4.0) + 16
            half = draw(2 * n, 2, spread=3.0).abs() + 2
            theirs = torch.cat([middle - half, middle + half], 1)
            parts["kd_boxes"] = (w * (1 - overlaps(rects, theirs)[1])).sum() / of_teacher
            out["teacher_rects"] = theirs
    factors = dict(classes=1, boxes=2, bins=0.25, kd_classes=1, kd_boxes=0.5)
    sum(factors[name] * part for name, part in parts.items()).backward()
    parts = {name: float(part.detach()) for name, part in parts.items()}
    targets = [[int(i), int(classes[of[i]]), float(iou[i, of[i]])] + boxes[of[i]].tolist() for i in seen]
    return short(out | dict(
        beta=beta, temperature=temperature, floor=floor, rows=z, boxes=boxes, classes=classes.tolist(),
        targets=targets, parts=parts, gradient=z.grad))


def main():
    chains = [chain("hard-swish", 5, 1), chain("leaky-relu", 3, 2), chain("silu", 5, 2), chain("relu", 3, 1)]
    losses = [loss(None, 2.0, 1.0, 0.1), loss("bins", 2.0, 3.0, 0.3), loss("rects", 1.5, 1.0, 0.0)]
    out = dict(torch=torch.__version__, chains=chains, losses=losses)
    (Path(__file__).resolve().parent / "detector.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
