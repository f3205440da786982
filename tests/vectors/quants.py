"""Writes quants.bin: stored vectors for tests/quants.rs.

Requirements (PyPI): gguf==0.19.0, numpy, and llama-cpp-python for its libggml-base shared library.
Run:                 python tests/vectors/quants.py        (the result is the same on every run)

The file is a sequence of records, little-endian:

    u32 dtype   the GGUF number of the type
    u32 kind    0 ENCODE: gguf's quants.py turns the values into the bytes
                1 DECODE: gguf's quants.py turns the bytes into the values
                2 PEER:   llama.cpp turns the values into the bytes; only the size of the error is compared
    u32 n, u32 b, then n values (f32) and b bytes
"""

import ctypes
import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

ENCODE, DECODE, PEER = 0, 1, 2
HERE = Path(__file__).parent

# Where a block of each type keeps its half-precision numbers.
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def hard_values(rng, n):
    """Rows of n values of every awkward sort, with nothing beyond what a half can hold."""
    normal = rng.standard_normal(n)
    ramp = np.linspace(-1, 1, n)
    one = np.zeros(n)
    one[n // 3] = -3.25
    ties = rng.integers(-4, 4, n) + 0.5  # sums and quotients that fall between two codes
    rows = [
        normal, normal * 0.02, -np.abs(normal), np.abs(normal) + 5, ramp, -ramp, one, ties,
        np.zeros(n), np.full(n, 0.7), np.full(n, -0.7),
        normal * 1e-6, normal * 1e-9,        # scales that are subnormal halves, or vanish
        np.clip(normal * 3e4, -65504, 65504), np.where(ramp < 0, -65504, 65504),
        normal * np.exp(3 * rng.standard_normal(n)),
    ]
    return np.array(rows, np.float32)


def hard_floats(rng):
    """Singles whose narrowing rounds, ties, over- and underflows."""
    tiny = np.finfo(np.float32).smallest_subnormal
    special = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1e-40, 65504, 65519.996, 65520, 1e6, -3.4e38,
               5.96e-8, 2.98e-8, 2.9802323e-8, 6.1e-5, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8]
    bits = rng.integers(0, 2**32, 40, dtype=np.uint32).view(np.float32)
    return np.concatenate([np.array(special, np.float32), rng.standard_normal(40).astype(np.float32), bits])


def random_blocks(rng, t, count):
    """Random bytes for every field, with halves that are finite; then blocks of zeros, ones, and extreme halves."""
    _, size = GGML_QUANT_SIZES[t]
    blocks = rng.integers(0, 256, (count + 4, size), dtype=np.uint8)
    blocks[count] = 0
    blocks[count + 1] = 255
    halves = (rng.standard_normal((count + 4, 2)) * 0.05).astype(np.float16)
    halves[count + 1] = [-1.0, 2.0]
    halves[count + 2] = [6e-8, -1e-6]        # subnormal
    halves[count + 3] = [65504, -65504]
    for k, at in enumerate(HALVES[t]):
        blocks[:, at:at + 2] = halves[:, k:k + 1].view(np.uint8)
    return blocks


def peer_quantize(t, rows):
    """llama.cpp's own quantizer, without an importance matrix."""
    import importlib.util
    root = Path(importlib.util.find_spec("llama_cpp").origin).parent / "lib"
    ggml = ctypes.CDLL(str(next(root.glob("libggml-base.so*"))))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    ggml.ggml_quantize_init(int(t))
    rows = np.ascontiguousarray(rows, np.float32)
    length, size = GGML_QUANT_SIZES[t]
    out = np.zeros((rows.shape[0], rows.shape[1] // length * size), np.uint8)
    written = ggml.ggml_quantize_chunk(int(t), rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1], None)
    assert written == out.nbytes
    return out


def main():
    rng = np.random.default_rng(20240607)
    with open(HERE / "quants.bin", "wb") as file:

        def record(t, kind, values, data):
            values, data = np.ascontiguousarray(values, "<f4"), np.ascontiguousarray(data).view(np.uint8)
            file.write(struct.pack("<4I", int(t), kind, values.size, data.size))
            file.write(values.tobytes() + data.tobytes())

        with np.errstate(over="ignore", invalid="ignore"):
            for t in (T.F32, T.F16, T.BF16):
                values = hard_floats(rng).reshape(1, -1)
                data = quantize(values, t)
                record(t, ENCODE, values, data)
                data = rng.integers(0, 256, (1, 256), dtype=np.uint8)
                record(t, DECODE, dequantize(data, t), data)
        for t in HALVES:
            length, _ = GGML_QUANT_SIZES[t]
            if length == 32:
                values = hard_values(rng, 32)
                data = quantize(values, t)
                record(t, ENCODE, values, data)
                record(t, DECODE, dequantize(data, t), data)
            data = random_blocks(rng, t, 1 if length == 256 else 6)
            record(t, DECODE, dequantize(data, t), data)
        for t in (T.Q4_K, T.Q6_K):
            normal = rng.standard_normal((6, 256))
            heavy = rng.standard_t(3, (6, 256))
            for values in (normal, heavy):
                values = (values * 0.02).astype(np.float32)
                record(t, PEER, values, peer_quantize(t, values))


if __name__ == "__main__":
    main()
