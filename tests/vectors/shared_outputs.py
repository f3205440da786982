#!/usr/bin/env python3
"""Writes shared_outputs.bin: what real networks make of real photos by ONNX Runtime, for tests/onnx.rs.

Requirements (PyPI): onnxruntime==1.32.0, numpy==2.4.6, pillow==13.0.0; a Pupil binary; and ../shared beside the
repository.
Run:                 python tests/vectors/shared_outputs.py target/release/pupil

The networks, photos and windows are those of shared_detectors.json. JPEG decoders differ by a few levels, and a network
makes more of it than its arithmetic may differ by, so it is Pupil that decodes: it draws a picture in which it finds
nothing. The file holds numbers only, in parts with their length before them. For each photo they are a hash of the
window's pixels, and `SAMPLES` numbers of each output, at places that SCATTER spreads over it.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from shared_detectors import SHARED, Detector

HERE = Path(__file__).resolve().parent
SAMPLES = 256
SCATTER = 2654435761


def decoded(pupil, photo):
    """The pixels of a photo as Pupil sees them."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.png"
        detector = HERE.parents[1] / "models/vehicles.gguf"
        subprocess.run([pupil, "detect", "-m", detector, photo, "--conf", "1", "-o", drawn], check=True,
                       stdout=subprocess.DEVNULL)
        return np.asarray(Image.open(drawn).convert("RGB"))


def hashed(pixels):
    number = 0
    for byte in pixels.tobytes():
        number = (31 * number + byte) % 2**32
    return struct.pack("<I", number)


def sampled(output):
    """Numbers at the places k · SCATTER mod 2³², in parts of 2³² of the whole."""
    output = output.ravel()
    places = (np.arange(SAMPLES, dtype=np.uint64) * SCATTER % 2**32 * output.size) >> 32
    return output[places].astype("<f4").tobytes()


def main():
    pupil, parts = sys.argv[1], []
    for seen in json.loads((HERE / "shared_detectors.json").read_text()):
        detector = Detector(seen["model"])
        for photo in seen["photos"]:
            left, top, width, height = photo["window"]
            pixels = decoded(pupil, SHARED / photo["photo"])[top:top + height, left:left + width]
            parts += [hashed(pixels), b"".join(map(sampled, detector.outputs_of(pixels)))]
    with open(HERE / "shared_outputs.bin", "wb") as out:
        for part in parts:
            out.write(struct.pack("<I", len(part)) + part)


if __name__ == "__main__":
    main()
