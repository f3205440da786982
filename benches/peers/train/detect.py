#!/usr/bin/env python3
"""Whole training steps of a detector, here and in PyTorch, in turns: pictures a second, the ratio, and what a step is made of.

    cargo build --release -p pupil-distill --features train --example detect_speed
    python benches/peers/train/detect.py --threads 1,2 --rounds 5
    python benches/peers/train/detect.py --width 12 --json all.json

PyTorch's side is the same network in f32, with its fused AdamW, and losses of the same kind: quality focal loss over all
cells, GIoU and distribution focal loss over as many cells as see an object here. Which cells those are is given to it,
while this project finds them anew in each step. It may keep its maps in either order, and compile the network; the best of
these by its median counts. `--peer ORDER WIDTH STEPS THREADS` is one measurement of it. Needs torch.

Where others use the machine, times say little; the processor time of a step, all threads together, is disturbed less.
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

SIDE, BATCH, CLASSES, BINS, LEVELS, HEAD_UNITS = 256, 8, 4, 8, 4, 2
STRIDES = (8, 16, 32, 64)[:LEVELS]
# Cells that see an object: what detect_speed.rs says of its last step.
OBJECTS = 180
WARMUP = 3


def network(torch, width):
    """The network of distill/src/detector/network.rs."""
    nn = torch.nn

    def conv(inputs, outputs, kernel=1, stride=1, groups=1):
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                             nn.BatchNorm2d(outputs), nn.Hardswish(inplace=True))

    def separable(inputs, outputs, kernel, stride=1):
        return nn.Sequential(conv(inputs, inputs, kernel, stride, inputs), conv(inputs, outputs))

    class Residual(nn.Module):
        def __init__(self, channels, kernel):
            super().__init__()
            self.more = separable(channels, channels, kernel)

        def forward(self, x):
            return x + self.more(x)

    class Fuse(nn.Module):
        def __init__(self, channels, kernel):
            super().__init__()
            self.mix, self.more = conv(2 * channels, channels), Residual(channels, kernel)

        def forward(self, x, y):
            return self.more(self.mix(torch.cat([x, y], 1)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = conv(3, width, 3, 2)
            stages, before = [], width
            for factor, units, kernel in ((2, 1, 3), (4, 2, 3), (8, 4, 5), (16, 2, 5)):
                channels = factor * width
                stages.append(nn.Sequential(separable(before, channels, kernel, 2),
                                            *(Residual(channels, kernel) for _ in range(units))))
                before = channels
            self.stages = nn.ModuleList(stages)
            neck = 4 * width
            self.laterals = nn.ModuleList(conv(factor * width, neck) for factor in (4, 8, 16))
            self.ups = nn.ModuleList(Fuse(neck, 5) for _ in range(2))
            self.downs = nn.ModuleList(separable(neck, neck, 5, 2) for _ in range(2))
            self.outs = nn.ModuleList(Fuse(neck, 5) for _ in range(2))
            self.extras = nn.ModuleList(separable(neck, neck, 5, 2) for _ in range(LEVELS - 3))
            self.heads = nn.ModuleList(
                nn.Sequential(*(separable(neck, neck, 5) for _ in range(HEAD_UNITS)),
                              nn.Conv2d(neck, CLASSES + 4 * BINS, 1)) for _ in range(LEVELS))
            for head in self.heads:
                nn.init.constant_(head[-1].bias[:CLASSES], -4.6)

        def forward(self, x):
            x = self.stem(x)
            levels = []
            for stage in self.stages:
                x = stage(x)
                levels.append(x)
            levels = [lateral(x) for lateral, x in zip(self.laterals, levels[1:])]
            for i in (1, 0):
                above = nn.functional.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
                levels[i] = self.ups[i](levels[i], above)
            for i in range(2):
                levels[i + 1] = self.outs[i](levels[i + 1], self.downs[i](levels[i]))
            for extra in self.extras:
                levels.append(extra(levels[-1]))
            rows = [head(x).flatten(2).transpose(1, 2) for head, x in zip(self.heads, levels)]
            return torch.cat(rows, 1).reshape(-1, CLASSES + 4 * BINS)

    return Net()


def objective(torch):
    """The loss of the outputs, the objects' cells being given."""
    F = torch.nn.functional
    sides = [-(-SIDE // stride) for stride in STRIDES]
    centres = torch.cat([torch.stack(torch.meshgrid(
        torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="xy"), -1).reshape(-1, 2) * stride
        for side, stride in zip(sides, STRIDES)])
    strides = torch.cat([torch.full((side * side,), float(stride)) for side, stride in zip(sides, STRIDES)])
    cells = len(strides)
    random = torch.Generator().manual_seed(1)
    rows = torch.randperm(BATCH * cells, generator=random)[:OBJECTS]
    classes = torch.randint(CLASSES, (OBJECTS,), generator=random)
    quality = torch.rand(OBJECTS, generator=random)
    weights = quality.clamp(min=0.1)
    stride, centre = strides[rows % cells, None], centres[rows % cells]
    distances = torch.rand(OBJECTS, 4, generator=random) * (BINS - 1.01)
    box = lambda d: (centre - d[:, :2] * stride, centre + d[:, 2:] * stride)
    area = lambda low, high: (high - low).clamp(min=0).prod(1)
    low, high = box(distances)
    left = distances.long()
    of_right = distances - left
    bins = torch.arange(BINS, dtype=torch.float32)
    soft = torch.zeros(BATCH * cells, CLASSES)
    soft[rows, classes] = quality

    def loss(out):
        z = out[:, :CLASSES]
        scale = (z.sigmoid() - soft).square()
        of_classes = (F.binary_cross_entropy_with_logits(z, soft, reduction="none") * scale).sum() / OBJECTS
        sides = out[rows, CLASSES:].reshape(-1, 4, BINS)
        ours = box((sides.softmax(-1) * bins).sum(-1))
        both = area(torch.maximum(ours[0], low), torch.minimum(ours[1], high))
        union = area(*ours) + area(low, high) - both
        hull = area(torch.minimum(ours[0], low), torch.maximum(ours[1], high))
        of_boxes = ((1 - both / union + (hull - union) / hull) * weights).sum() / weights.sum()
        log = sides.log_softmax(-1)
        at = lambda bin: log.gather(-1, bin[..., None])[..., 0]
        of_bins = -(at(left) * (1 - of_right) + at(left + 1) * of_right).mean(1)
        return of_classes + 2 * of_boxes + 0.25 * (of_bins * weights).sum() / weights.sum()

    return loss


def peer(order, width, steps, threads):
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model, loss = network(torch, width).train(), objective(torch)
    pictures = torch.rand(BATCH, 3, SIDE, SIDE) * 4 - 2
    if "last" in order:
        model, pictures = (x.to(memory_format=torch.channels_last) for x in (model, pictures))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    run = torch.compile(model) if "compiled" in order else model
    times = []
    for step in range(steps + WARMUP):
        if step == WARMUP:
            cpu = time.process_time()
        start = time.perf_counter()
        out = run(pictures)
        forward = time.perf_counter()
        lost = loss(out)
        with_loss = time.perf_counter()
        lost.backward()
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        end = time.perf_counter()
        if step >= WARMUP:
            times.append([1e3 * t for t in (forward - start, with_loss - forward, backward - with_loss, end - backward,
                                            end - start)])
    cpu = 1e3 * (time.process_time() - cpu) / steps
    parts = dict(zip(("forward_ms", "loss_ms", "backward_ms", "optimizer_ms", "step_ms"),
                     (statistics.median(column) for column in zip(*times))))
    print(json.dumps(dict(parts, pictures_per_s=1e3 * BATCH / parts["step_ms"], best_ms=min(t[-1] for t in times),
                          cpu_ms=cpu, weights=sum(p.numel() for p in model.parameters()))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=24, help="channels of the first layer")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orders", default="first,last",
                        help="of PyTorch's maps: channels first or last; first-compiled and last-compiled need a C++ compiler")
    parser.add_argument("--pupil", default=str(HERE.parents[2] / "target/release/examples/detect_speed"))
    parser.add_argument("--json", help="keep every measurement here")
    parser.add_argument("--peer", nargs=4, metavar=("ORDER", "WIDTH", "STEPS", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer[0], *map(int, args.peer[1:]))
    print(f"{cpu_name()}; width {args.width}, {BATCH} pictures of {SIDE}x{SIDE}; medians of {args.rounds} rounds and"
          " their extremes\n")
    print("| threads | pictures/s, PyTorch's | ratio | of best steps | processor ms a step, PyTorch's | ratio |"
          " forward, loss, backward, update ms | PyTorch's |")
    print("|---|---|---|---|---|---|---|---|")
    everything, others = {}, []
    for threads in args.threads.split(","):
        os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = threads
        work = [str(args.width), str(args.steps)]
        peers = {order: [sys.executable, __file__, "--peer", order, *work, threads] for order in args.orders.split(",")}
        results = take_turns({"pupil": [args.pupil, *work], **peers}, args.rounds)
        everything[threads] = results
        column = lambda rows, key: statistics.median(row[key] for row in rows)
        order = max(peers, key=lambda name: column(results[name], "pictures_per_s"))
        ours, theirs = results["pupil"], results[order]
        pairs = list(zip(ours, theirs))
        ratio = span([a["pictures_per_s"] / b["pictures_per_s"] for a, b in pairs], 2)
        best = min(row["best_ms"] for row in theirs) / min(row["best_ms"] for row in ours)
        work = span([b["cpu_ms"] / a["cpu_ms"] for a, b in pairs], 2)
        parts = lambda rows: ", ".join(
            f"{column(rows, f'{part}_ms'):.0f}" for part in ("forward", "loss", "backward", "optimizer"))
        speed = lambda rows: f"{column(rows, 'pictures_per_s'):.1f}"
        cpu = lambda rows: f"{column(rows, 'cpu_ms'):.0f}"
        print(f"| {threads} | {speed(ours)}, {speed(theirs)} ({order}) | {ratio} | {best:.2f} | {cpu(ours)},"
              f" {cpu(theirs)} | {work} | {parts(ours)} | {parts(theirs)} |", flush=True)
        others += [row["others"] for rows in results.values() for row in rows]
    print(f"\nMachine used by others: {100 * statistics.median(others):.0f} % (up to {100 * max(others):.0f} %)")
    if args.json:
        Path(args.json).write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
