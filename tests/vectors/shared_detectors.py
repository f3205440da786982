#!/usr/bin/env python3
"""Writes shared_detectors.json: what real detectors find in real photos by ONNX Runtime, for tests/onnx.rs.

Requirements (PyPI): onnxruntime==1.32.0, numpy==2.4.6, pillow==13.0.0; and ../shared beside the repository.
Run:                 python tests/vectors/shared_detectors.py

The detectors are those of ../shared/models/onnx, the photos are from ../shared/data/detect/vehicles_openimages. Neither
is part of the repository, and the file holds numbers only:

    [{"model", "photos": [{"photo", "window": [x, y, width, height], "found": [[class, score, x0, y0, x1, y1], ...]}]}]

`photo` is a path in ../shared. The network sees the window, which has its input's size, so that nothing is resized;
boxes are in the window's pixels. Heads are decoded here by what the detectors' authors publish; pictures are brought to
the network as they do; thresholds are Pupil's defaults, and IoU counts no pixels beyond a box.

JPEG decoders differ by a few levels, mostly in the colours between those that are stored. So for each detector those
three photos are taken whose objects change least when the pixels do, out of all in which it finds enough, no score is
near the threshold, and it would show if red and blue were swapped. No photo is taken twice. It takes some minutes.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared"
MODELS = SHARED / "models/onnx"
PHOTOS = SHARED / "data/detect/vehicles_openimages"
SIDE = 416  # of a photo
MOST = 100  # objects in a picture
NEAR = 0.02  # a score this close to the threshold may fall to either side
TRIALS = 3  # of each way in which a picture may change
CHROMA_TO_RGB = np.array([[0, -0.344136, 1.772], [1.402, -0.714136, 0]])  # JFIF
SCORE, CORNER = 0.01, 1  # by how much the test lets scores and corners differ


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def cells(width, height, stride):
    """Column and row of each cell, row by row."""
    rows, columns = np.mgrid[:-(-height // stride), :-(-width // stride)]
    return np.stack([columns.ravel(), rows.ravel()], 1)


def around(centres, sizes):
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)


# Each head gives boxes [places, 4] in pixels of the input and scores [places, classes].


def nanodet(out, width, height):
    """NanoDet-Plus (nanodet_plus_head.py): generalized focal loss. A side's distance from the cell's top left corner is
    the mean of eight bins, times the stride. The graph applies the sigmoid to classes."""
    boxes, scores = [], []
    for stride in 8, 16, 32, 64:
        bins = out[f"dis{stride}"].reshape(-1, 4, 8)
        distances = softmax(bins, 2) @ np.arange(8) * stride
        corners = cells(width, height, stride) * stride
        found = np.concatenate([corners - distances[:, :2], corners + distances[:, 2:]], 1)
        boxes.append(found.clip(0, [width, height, width, height]))
        scores.append(out[f"cls{stride}"].reshape(80, -1).T)
    return np.concatenate(boxes), np.concatenate(scores)


def yolox(out, width, height):
    """YOLOX (demo_utils.py): centres relative to cells, logarithms of sizes. The graph applies the sigmoid to the rest.
    Of a cell the best class counts (boxes.py)."""
    strides = np.concatenate([np.full(len(cells(width, height, s)), s) for s in (8, 16, 32)])[:, None]
    grid = np.concatenate([cells(width, height, s) for s in (8, 16, 32)])
    rows = out["output"][0]
    boxes = around((rows[:, :2] + grid) * strides, np.exp(rows[:, 2:4]) * strides)
    scores = rows[:, 4:5] * rows[:, 5:]
    return boxes, np.where(scores == scores.max(1, keepdims=True), scores, 0)


def fastestv2(out, width, height):
    """Yolo-FastestV2 (utils.py, coco.data): YOLOv5's boxes of three anchors, which share the softmax of the classes."""
    anchors = np.array([[[12.64, 19.39], [37.88, 51.48], [55.71, 138.31]],
                        [[126.91, 78.23], [131.57, 214.55], [279.92, 258.87]]])
    boxes, scores = [], []
    for sizes, stride, names in zip(anchors, (16, 32), (("753", "754", "755"), ("756", "757", "758"))):
        numbers, objectness, classes = (out[name][0].reshape(out[name].shape[1], -1).T for name in names)
        for i, size in enumerate(sizes):
            s = sigmoid(numbers[:, 4 * i:4 * i + 4])
            centres = (2 * s[:, :2] - 0.5 + cells(width, height, stride)) * stride
            boxes.append(around(centres, (2 * s[:, 2:]) ** 2 * size))
            scores.append(sigmoid(objectness[:, i:i + 1]) * softmax(classes, 1))
    return np.concatenate(boxes), np.concatenate(scores)


def ultraface(out, width, height):
    """UltraFace (run_video_face_detect_onnx.py): corners as fractions, and the background is the first class."""
    return out["boxes"][0] * [width, height, width, height], out["scores"][0][:, 1:]


NANODET = dict(head=nanodet, bgr=True, mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395], confidence=0.3,
               iou=0.6)
COCO = dict(objects=3, classes=2)
# Mean and deviation are of the channels as the network sees them. A photo must have so many `objects` of so many
# `classes`.
DETECTORS = {
    "yolofastestv2": dict(head=fastestv2, bgr=True, mean=0, std=255, confidence=0.3, iou=0.4, **COCO),
    "ultraface_rfb320": dict(head=ultraface, bgr=False, mean=127, std=128, confidence=0.7, iou=0.3, objects=2,
                             classes=1),
    "yolox_nano": dict(head=yolox, bgr=True, mean=0, std=1, confidence=0.3, iou=0.45, **COCO),
    "nanodet_plus_m_416": dict(**NANODET, **COCO),
    "nanodet_plus_m_1.5x_416": dict(**NANODET, **COCO),
}


def iou(box, others):
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(1)
    area = lambda boxes: (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(-1)
    return common / np.maximum(area(box) + area(others) - common, 1e-9)


def suppressed(boxes, scores, least, overlap):
    """Greedy NMS among the boxes of a class: rows of class, score and corners, the best first."""
    places, classes = np.nonzero(scores > least)
    rows = np.column_stack([classes, scores[places, classes], boxes[places]]).astype(float)
    rows = rows[np.argsort(-rows[:, 1], kind="stable")]
    kept = []
    while len(rows) and len(kept) < MOST:
        best, rows = rows[0], rows[1:]
        kept.append(best)
        rows = rows[(rows[:, 0] != best[0]) | (iou(best[2:], rows[:, 2:]) <= overlap)]
    return np.array(kept).reshape(-1, 6)


class Detector:
    """A network in ONNX Runtime, and what DETECTORS says of it."""

    def __init__(self, name):
        self.__dict__.update(DETECTORS[name])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(MODELS / f"{name}.onnx", options, ["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.outputs = [output.name for output in self.session.get_outputs()]
        _, _, self.height, self.width = self.input.shape
        # What may be looked at of a photo, by its top left corner: the photo's corners, its middle, and those between.
        across, down = (sorted({0, (SIDE - length) // 2, SIDE - length}) for length in (self.width, self.height))
        self.windows = [(x, y) for y in down for x in across]

    def outputs_of(self, pixels):
        """What the network makes of `[height][width][rgb]` of the input's size."""
        seen = pixels[..., ::-1] if self.bgr else pixels
        seen = ((seen - np.float32(self.mean)) / np.float32(self.std)).astype(np.float32)
        return self.session.run(self.outputs, {self.input.name: np.ascontiguousarray(seen.transpose(2, 0, 1)[None])})

    def detect(self, pixels, least):
        """Objects in such pixels that score above `least`."""
        outputs = {name: output.astype(float) for name, output in zip(self.outputs, self.outputs_of(pixels))}
        found = suppressed(*self.head(outputs, self.width, self.height), least, self.iou)
        found[:, 2:] = found[:, 2:].clip(0, [self.width, self.height] * 2)
        return found[(found[:, 4:] > found[:, 2:4]).all(1)]

    def look(self, photo, corner):
        """The objects in a window, and how much they change with it. None if they are too few or doubtful."""
        x, y = corner
        pixels = photo.rgb[y:y + self.height, x:x + self.width]
        found = self.detect(pixels, self.confidence - NEAR)
        if len(found) < self.objects or len(np.unique(found[:, 0])) < self.classes:
            return None
        if (found[:, 1] < self.confidence + NEAR).any():
            return None
        # Grey photos tell nothing of the order of colours.
        if difference(found, self.detect(pixels[..., ::-1], self.confidence)) < 2:
            return None
        change = 0
        for other in photo.others():
            others = self.detect(other[y:y + self.height, x:x + self.width], self.confidence)
            change = max(change, difference(found, others))
            if change >= 1:
                return None
        return found, change


class Photo:
    """A JPEG as libjpeg decodes it."""

    def __init__(self, path):
        self.rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
        picture = Image.open(path)
        picture.draft("YCbCr", picture.size)
        self.chroma = np.asarray(picture)[..., 1:]
        assert picture.mode == "YCbCr" and self.rgb.shape == (SIDE, SIDE, 3), path

    def others(self):
        """What other decoders may make of it: chroma is stored for every other pixel, and they round differently what
        they put in between. So half of it becomes one higher or lower, wherever it is not flat."""
        rng = np.random.default_rng(7)
        padded = np.pad(self.chroma, ((1, 1), (1, 1), (0, 0)), "edge")
        beside = [padded[y:y + SIDE, x:x + SIDE] for x, y in ((0, 1), (2, 1), (1, 0), (1, 2))]
        sloping = np.any([there != self.chroma for there in beside], 0)
        for step in itertools.product((-1, 1), repeat=2):
            for _ in range(TRIALS):
                chroma = sloping * rng.integers(0, 2, sloping.shape) * step
                yield (self.rgb + np.rint(chroma @ CHROMA_TO_RGB)).clip(0, 255)


def difference(some, others):
    """How much the lists differ, where 1 is what the test allows; infinity if they are not of the same objects."""
    if len(some) != len(others):
        return np.inf
    pairs = abs(some[:, None] - others[None])
    pairs = np.maximum(pairs[..., 1] / SCORE, pairs[..., 2:].max(2) / CORNER) + np.where(pairs[..., 0] > 0, np.inf, 0)
    one_to_one = len(set(pairs.argmin(1))) == len(some)
    return pairs.min(1).max() if one_to_one else np.inf


def main():
    photos = [photo for split in ("val", "test", "train") for photo in sorted((PHOTOS / split / "images").iterdir())]
    used, made = set(), []
    for name in DETECTORS:
        detector, seen = Detector(name), []
        for photo in photos:
            opened = Photo(photo)
            for corner in detector.windows:
                looked = detector.look(opened, corner)
                if looked:
                    seen.append((looked[1], photo, corner, looked[0]))
        chosen = []
        for change, photo, corner, found in sorted(seen, key=lambda one: one[0]):
            if len(chosen) < 3 and photo not in used:
                used.add(photo)
                rows = [[int(row[0]), round(row[1], 5), *(round(x, 3) for x in row[2:])] for row in found.tolist()]
                chosen.append({"photo": photo.relative_to(SHARED).as_posix(),
                               "window": [*corner, detector.width, detector.height], "found": rows})
                print(f"{name}: {photo.name} {corner}, {len(rows)} objects, change {change:.2f}")
        assert len(chosen) == 3, name
        made.append({"model": name, "photos": chosen})
    path = Path(__file__).resolve().with_suffix(".json")
    # A line for each photo.
    models = []
    for model in made:
        lines = ",\n".join(f"  {json.dumps(photo, separators=(',', ':'))}" for photo in model["photos"])
        models.append(f"{{\"model\":{json.dumps(model['model'])},\"photos\":[\n{lines}\n]}}")
    path.write_text("[\n" + ",\n".join(models) + "\n]\n")


if __name__ == "__main__":
    main()
