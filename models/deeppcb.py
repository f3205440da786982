"""DeepPCB as boards.toml and boards-teacher.toml want it: `python deeppcb.py DeepPCB DIR` makes DIR/deeppcb.

DeepPCB is a copy of https://github.com/tangsanli5201/DeepPCB, and Pillow is needed. Pictures of 640 x 640 are halved, each
pixel the mean of four, and stored as JPEG of quality 95. Boxes in pixels, `x1 y1 x2 y2 type`, become YOLO's fractions. The
official trainval.txt and test.txt say which picture is for what; of the former, those whose names begin with 77000 are val.
"""

import sys
from pathlib import Path

from PIL import Image

CLASSES = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
VALIDATION = "77000"


def labels(boxes, width, height):
    """Lines of `class x y width height` out of lines of `x1 y1 x2 y2 type`, where types count from 1."""
    lines = []
    for line in boxes.splitlines():
        if not line.strip():
            continue
        x0, y0, x1, y1, kind = (int(field) for field in line.replace(",", " ").split())
        if not 1 <= kind <= len(CLASSES):
            sys.exit(f"`{line}`: the type is {kind}, expected 1 to {len(CLASSES)}")
        x, y, w, h = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
        lines.append(f"{kind - 1} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n")
    return "".join(lines)


def convert(data, out, split, picture, boxes):
    """One picture and its labels."""
    name = Path(picture).stem
    split = "val" if split == "train" and name.startswith(VALIDATION) else split
    images, texts = out / split / "images", out / split / "labels"
    images.mkdir(parents=True, exist_ok=True)
    texts.mkdir(parents=True, exist_ok=True)
    # The lists leave out that it is the picture to be tested, not the template beside it.
    image = Image.open(data / Path(picture).with_name(f"{name}_test.jpg")).convert("RGB")
    text = labels((data / boxes).read_text(), *image.size)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    half.save(images / f"{name}.jpg", quality=95)
    (texts / f"{name}.txt").write_text(text)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: python deeppcb.py DeepPCB DIR")
    data, out = Path(sys.argv[1]) / "PCBData", Path(sys.argv[2]) / "deeppcb"
    for split, listed in [("train", "trainval.txt"), ("test", "test.txt")]:
        lines = [line.split() for line in (data / listed).read_text().splitlines() if line.strip()]
        for picture, boxes in lines:
            convert(data, out, split, picture, boxes)
        print(f"{listed}: {len(lines)} pictures")
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))


if __name__ == "__main__":
    main()
