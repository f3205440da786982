#!/usr/bin/env python3
"""Makes the oracle of COCO mAP: small random cases and what pycocotools makes of them.

    python coco.py               rewrite coco.json beside this script
    python coco.py --big FILE    one case of 2,000 pictures and 80 classes, not committed; prints pycocotools' time

A case is

    {"name", "classes": names, "pictures": count,
     "truths": [[picture, class, x, y, width, height, area, crowd, ignore], ...],
     "found": [[picture, class, score, x0, y0, x1, y1], ...],
     "stats": pycocotools' twelve numbers, "per_class": AP of each class}

with -1 for what pycocotools does not know. Scores and edges of `found` are exact in f32. Needs numpy and pycocotools.
"""

import argparse
import contextlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pycocotools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

WIDTH, HEIGHT = 640, 480


class WithIgnore(COCOeval):
    """COCOeval overwrites `ignore` with `iscrowd`; we also let a caller ignore a box that is no crowd."""

    def _prepare(self):
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["ignore"] or truth["unwanted"]


def random_truth(rng, sides):
    width, height = np.exp(rng.uniform(np.log(sides[0]), np.log(sides[1]), 2))
    width, height = min(width, WIDTH - 1), min(height, HEIGHT - 1)
    x, y = rng.uniform(0, WIDTH - width), rng.uniform(0, HEIGHT - height)
    return [round(float(v), 2) for v in (x, y, width, height)]


def shaken(rng, box, strength):
    """A detection of a box: moved and stretched, on a grid of 1/16 pixel."""
    x, y, width, height = box
    dx, dy, sx, sy = rng.normal(0, strength, 4)
    x0, y0 = x + dx * width, y + dy * height
    x1, y1 = x0 + width * np.exp(sx), y0 + height * np.exp(sy)
    return [float(np.round(v * 16) / 16) for v in (x0, y0, x1, y1)]


def make(name, seed, classes=3, pictures=8, truths=3, found=1.5, wrong=2.0, strength=0.12, sides=(12, 300), crowd=0.0,
         ignore=0.0, levels=None, without_truth=(), never_found=(), empty=0.0, twins=0.0):
    """`levels`: so many different scores; `empty`: the part of pictures without truth; `twins`: doubled boxes."""
    rng = np.random.default_rng(seed)
    case = dict(name=name, classes=[f"class {k}" for k in range(classes)], pictures=pictures, truths=[], found=[])

    def score(mean):
        value = float(np.clip(rng.normal(mean, 0.2), 0.001, 0.999))
        return float(np.float32(round(value * levels) / levels if levels else round(value, 4)))

    for picture in range(pictures):
        boxes = []
        if rng.random() >= empty:
            for _ in range(rng.poisson(truths)):
                k = int(rng.integers(classes))
                if k in without_truth:
                    continue
                box = random_truth(rng, sides)
                boxes += [(k, box)] * (2 if rng.random() < twins else 1)
        for k, box in boxes:
            area = round(box[2] * box[3] * float(rng.uniform(0.5, 1)), 2)
            flags = [int(rng.random() < crowd), int(rng.random() < ignore)]
            case["truths"].append([picture, k, *box, area, *flags])
            for _ in range(0 if k in never_found else rng.poisson(found)):
                guess = int(rng.integers(classes)) if rng.random() < 0.1 else k
                case["found"].append([picture, guess, score(0.6), *shaken(rng, box, strength)])
        for _ in range(rng.poisson(wrong)):
            k = int(rng.integers(classes))
            if k not in never_found:
                box = random_truth(rng, sides)
                case["found"].append([picture, k, score(0.35), *shaken(rng, box, strength)])
    rng.shuffle(case["found"])
    return case


def crowded(seed):
    """More than a hundred detections of a class in a picture, and more than ten in all."""
    rng = np.random.default_rng(seed)
    case = make("more than 100 detections", seed, classes=2, pictures=3, truths=6)
    boxes = [truth for truth in case["truths"] if truth[:2] == [0, 0]] or [[0, 0, 50.0, 50.0, 80.0, 90.0, 7200.0, 0, 0]]
    if not any(truth[:2] == [0, 0] for truth in case["truths"]):
        case["truths"].append(boxes[0])
    for i in range(160):
        box = boxes[i % len(boxes)][2:6] if i % 3 == 0 else random_truth(rng, (20, 200))
        score = float(np.float32(round(float(rng.uniform(0.05, 0.95)), 2)))
        case["found"].append([0, 0, score, *shaken(rng, box, 0.05)])
    return case


def exact(seed):
    """Boxes on whole pixels whose overlap is exactly a threshold, and areas exactly 32² and 96²."""
    case = dict(name="exactly at the limits", classes=["a", "b"], pictures=4, truths=[], found=[])
    for picture, side in enumerate([32, 96, 100, 20]):
        for k in range(2):
            x = 200.0 * k + 10
            case["truths"].append([picture, k, x, 10.0, float(side), float(side), float(side * side), 0, 0])
            for i, part in enumerate([1.0, 0.95, 0.9, 0.75, 0.7, 0.55, 0.5, 0.45]):
                if (i + picture + k + seed) % 3:
                    bottom = float(np.float32(10 + side * part))
                    score = float(np.float32(0.9 - 0.1 * ((i * 3 + picture) % 8)))
                    case["found"].append([picture, k, score, x, 10.0, x + side, bottom])
    return case


def evaluate(case):
    """pycocotools' numbers. The categories' ids are sparse, as COCO's are."""
    assert all(float(np.float32(v)) == v for found in case["found"] for v in found), "not exact in f32"
    category = lambda k: 3 * k + 2
    categories = [dict(id=category(k), name=name) for k, name in enumerate(case["classes"])]
    images = [dict(id=i + 1, width=WIDTH, height=HEIGHT) for i in range(case["pictures"])]
    truth = COCO()
    truth.dataset = dict(images=images, categories=categories, annotations=[
        dict(id=i + 1, image_id=t[0] + 1, category_id=category(t[1]), bbox=t[2:6], area=t[6], iscrowd=t[7], unwanted=t[8])
        for i, t in enumerate(case["truths"])])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = [dict(image_id=f[0] + 1, category_id=category(f[1]), score=f[2],
                        bbox=[f[3], f[4], f[5] - f[3], f[6] - f[4]]) for f in case["found"]]
        found = COCO()  # loadRes refuses an empty list
        found.dataset = dict(images=images, categories=categories, annotations=[])
        found.createIndex()
        found = truth.loadRes(results) if results else found
        start = time.time()
        evaluation = WithIgnore(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        seconds = time.time() - start
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    means = [precision[:, :, k] for k in range(len(categories))]
    case["stats"] = [float(v) for v in evaluation.stats]
    case["per_class"] = [float(np.mean(p[p > -1])) if (p > -1).any() else -1.0 for p in means]
    return seconds


def cases():
    yield make("plain", 1)
    yield make("many classes", 2, classes=40, pictures=20, truths=8)
    yield make("crowds", 3, crowd=0.35, truths=6, found=2.5)
    yield make("ignored boxes", 4, ignore=0.4, crowd=0.1, truths=6, found=2.5)
    yield make("small and large", 5, classes=2, sides=(8, 470), truths=5, pictures=10)
    yield make("ties", 6, levels=5, pictures=12, truths=4, found=2.5, strength=0.06)
    yield make("doubled boxes", 7, twins=0.6, levels=8, truths=4, found=3)
    yield crowded(8)
    yield make("pictures without truth", 9, empty=0.6, pictures=14)
    yield make("classes without truth, classes never found", 10, classes=6, without_truth=(0, 3), never_found=(1,))
    yield make("detections only", 11, empty=1.0)
    yield make("truth only", 12, found=0, wrong=0)
    yield make("good", 13, strength=0.01, wrong=0.3, found=1.0, pictures=12)
    yield make("only small", 14, sides=(6, 24))
    yield exact(0)
    yield exact(1)


def compact(case):
    return json.dumps(case, separators=(",", ":")).replace(".0,", ",").replace(".0]", "]")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--big")
    args = parser.parse_args()
    if args.big:
        case = make("big", 100, classes=80, pictures=2000, truths=8, found=3, wrong=40, crowd=0.02, ignore=0.02)
        print(f"{len(case['truths'])} boxes, {len(case['found'])} detections: pycocotools took {evaluate(case):.1f} s")
        Path(args.big).write_text(f"[{compact(case)}]\n")
        return
    lines = []
    for case in cases():
        evaluate(case)
        print(f"{case['name']}: {len(case['truths'])} boxes, {len(case['found'])} found, AP {case['stats'][0]:.4f}")
        lines.append(compact(case))
    out = Path(__file__).resolve().parent / "coco.json"
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{out.stat().st_size} bytes, pycocotools {getattr(pycocotools, '__version__', '')}")


if __name__ == "__main__":
    main()
