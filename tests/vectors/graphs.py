"""Small ONNX graphs and what ONNX Runtime makes of them: `python graphs.py` writes graphs.bin and nanodet.onnx beside this
file.

graphs.bin holds cases one after the other: name, graph and outputs, each with its length before it.
A name that begins with "!" is of a graph that cannot be lowered, one with "!!" of a graph that is refused.
nanodet.onnx is a detector of one class and random weights, of pictures of 64 x 64, that teaches students in tests.
"""

import os
import struct
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper as h, numpy_helper as nh

rng = np.random.default_rng(7)
cases = []


def noise(n):
    """What the tests take as input too."""
    bits = (np.arange(n, dtype=np.uint64) * 2654435761 % 2**32) >> 8
    return (bits.astype(np.float32) / 2**23 - 1).astype(np.float32)


class G:
    """A graph under construction."""

    def __init__(self, shape=(1, 3, 8, 6), opset=13):
        self.nodes, self.inits, self.n, self.shape, self.opset = [], [], 0, shape, opset

    def const(self, a):
        a = np.asarray(a)
        if a.dtype == np.float64:
            a = a.astype(np.float32)
        self.n += 1
        self.inits.append(nh.from_array(a, f"w{self.n}"))
        return f"w{self.n}"

    def op(self, kind, *xs, outs=1, **attrs):
        xs = [x if isinstance(x, str) else self.const(x) for x in xs]
        self.n += 1
        ys = [f"v{self.n}_{i}" for i in range(outs)]
        self.nodes.append(h.make_node(kind, xs, ys, name=f"{kind}{self.n}", **attrs))
        return ys[0] if outs == 1 else ys

    def conv(self, x, i, o, k=3, groups=1, bias=True, **attrs):
        k = k if isinstance(k, tuple) else (k, k)
        w = rng.normal(size=(o, i // groups) + k) / np.sqrt(i // groups * k[0] * k[1])
        args = [x, w] + ([rng.normal(size=o) * 0.3] if bias else [])
        if "pads" not in attrs and "auto_pad" not in attrs:
            attrs["pads"] = [k[0] // 2, k[1] // 2] * 2
        return self.op("Conv", *args, kernel_shape=k, group=groups, **attrs)

    def bn(self, x, c):
        r = lambda: rng.uniform(0.5, 1.5, size=c)
        return self.op("BatchNormalization", x, r(), rng.normal(size=c), rng.normal(size=c), r())

    def silu(self, x):
        return self.op("Mul", x, self.op("Sigmoid", x))

    def save(self, name, *outs, keep=None, dtype=TensorProto.FLOAT, more=()):
        """Takes down the graph from x, of a type, and perhaps `more` inputs to `outs`, and the outputs `keep`."""
        info = [h.make_tensor_value_info(x, dtype, self.shape) for x in ("x", *more)]
        final = [h.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outs]
        graph = h.make_graph(self.nodes, name, info, final, self.inits)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", self.opset)], ir_version=8)
        data = model.SerializeToString()
        fixed = [n if isinstance(n, int) else {"batch": 1}.get(n, 8) for n in self.shape]
        x = noise(int(np.prod(fixed))).reshape(fixed)
        keep = keep or outs
        if keep != outs:
            cut = h.make_graph(self.nodes, name, info, [h.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in keep], self.inits)
            run = h.make_model(cut, opset_imports=[h.make_opsetid("", self.opset)], ir_version=8).SerializeToString()
        else:
            run = data
        if name.startswith("!!"):
            cases.append((name, data, []))
            return
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ys = ort.InferenceSession(run, options, providers=["CPUExecutionProvider"]).run(list(keep), {"x": x})
        cases.append((name, data, [] if name.startswith("!") else ys))


def one(name, make, shape=(1, 3, 8, 6), opset=13):
    g = G(shape, opset)
    outs = make(g)
    g.save(name, *(outs if isinstance(outs, tuple) else (outs,)))


# Convolutions.
one("conv", lambda g: g.conv("x", 3, 5))
one("conv_no_bias", lambda g: g.conv("x", 3, 5, bias=False))
one("conv_stride", lambda g: g.conv("x", 3, 4, strides=[2, 2]))
one("conv_dilated", lambda g: g.conv("x", 3, 4, dilations=[2, 2], pads=[2, 2, 2, 2]))
one("conv_uneven_pads", lambda g: g.conv("x", 3, 4, pads=[0, 1, 2, 0], strides=[2, 1]))
one("conv_rectangle", lambda g: g.conv("x", 3, 4, (1, 5)))
for pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    one(f"conv_{pad}", lambda g: g.conv("x", 3, 4, auto_pad=pad, strides=[2, 2]), (1, 3, 9, 6))
one("conv_grouped", lambda g: g.conv(g.conv("x", 3, 8, 1), 8, 12, groups=4))
one("conv_depthwise", lambda g: g.conv(g.conv("x", 3, 8, 1), 8, 8, 5, groups=8, strides=[2, 2]))
one("conv_multiplier", lambda g: g.conv(g.conv("x", 3, 4, 1), 4, 8, 3, groups=4))
one("conv_pointwise_stride", lambda g: g.conv("x", 3, 8, 1, strides=[2, 2]))
one("conv_after_pad", lambda g: g.conv(g.op("Pad", "x", np.array([0, 0, 1, 0, 0, 0, 2, 1])), 3, 4, pads=[0, 0, 0, 0], strides=[2, 2]))
one("pad", lambda g: g.op("Relu", g.op("Pad", "x", np.array([0, 1, 1, 0, 0, 0, 2, 1]), np.float32(0.5))))
one("batch_norm", lambda g: g.op("Relu", g.bn(g.conv("x", 3, 6, bias=False), 6)))
one("batch_norm_first", lambda g: g.conv(g.bn("x", 3), 3, 4, 1))
one("batch_norm_first_padded", lambda g: g.conv(g.bn("x", 3), 3, 4))
one("normalised_in_graph", lambda g: g.conv(g.op("Div", g.op("Sub", "x", rng.normal(size=(1, 3, 1, 1))), rng.uniform(1, 2, size=(1, 3, 1, 1))), 3, 4))

# Activations.
for kind, attrs in [("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Sigmoid", {}), ("Tanh", {}), ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6}), ("Exp", {}), ("Neg", {})]:
    one(f"act_{kind}{len(attrs)}", lambda g: g.op(kind, g.conv("x", 3, 4, 1), **attrs))
one("act_sqrt", lambda g: g.op("Sqrt", g.op("Relu", g.conv("x", 3, 4, 1))))
one("act_clip", lambda g: g.op("Clip", g.conv("x", 3, 4, 1), np.float32(0), np.float32(6)))
one("act_clip_6", lambda g: g.op("Clip", g.conv("x", 3, 4, 1), min=-0.5, max=0.75), opset=10)
one("act_silu", lambda g: g.silu(g.conv("x", 3, 4, 1)))
one("act_prelu", lambda g: g.op("PRelu", g.conv("x", 3, 4, 1), rng.uniform(size=(4, 1, 1))))
one("act_hardswish", lambda g: g.op("HardSwish", g.conv("x", 3, 4, 1)), opset=14)


def hardswish(form):
    def make(g):
        x = g.conv("x", 3, 4, 1)
        six = lambda x: g.op("Clip", g.op("Add", x, np.float32(3)), np.float32(0), np.float32(6))
        if form == "mul_div":
            return g.op("Div", g.op("Mul", x, six(x)), np.float32(6))
        if form == "div_mul":
            return g.op("Mul", x, g.op("Div", six(x), np.float32(6)))
        return g.op("Mul", x, g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    return make


for form in ("mul_div", "div_mul", "hard_sigmoid"):
    one(f"hardswish_{form}", hardswish(form))

# Arithmetic.
two = lambda g: (g.conv("x", 3, 4, 1), g.conv("x", 3, 4, 3))
for kind in ("Add", "Sub", "Mul", "Max", "Min"):
    one(f"two_{kind}", lambda g: g.op("Relu", g.op(kind, *two(g))))
one("two_div", lambda g: g.op("Div", g.conv("x", 3, 4), g.op("Exp", g.conv("x", 3, 4, 1))))
one("const_first_sub", lambda g: g.op("Sub", np.float32(1), g.op("Sigmoid", "x")))
one("const_first_div", lambda g: g.op("Div", np.float32(2), g.op("Exp", "x")))
one("const_map", lambda g: g.op("Add", g.op("Relu", "x"), rng.normal(size=(1, 1, 8, 6))))
one("const_whole", lambda g: g.op("Mul", g.op("Relu", "x"), rng.normal(size=(1, 3, 8, 6))))
one("const_rows", lambda g: g.op("Mul", g.op("Relu", "x"), rng.normal(size=(1, 3, 1, 6))))
one("one_channel_map", lambda g: g.op("Mul", g.op("Sigmoid", g.conv("x", 3, 1, 1)), g.conv("x", 3, 4)))
one("power", lambda g: g.op("Pow", g.conv("x", 3, 4), np.float32(2)))


def se(g):
    x = g.op("Relu", g.conv("x", 3, 8))
    y = g.op("Relu", g.conv(g.op("GlobalAveragePool", x), 8, 4, 1))
    return g.op("Mul", x, g.op("HardSigmoid", g.conv(y, 4, 8, 1), alpha=1 / 6, beta=0.5))


one("se_block", se)
one("se_mean", lambda g: g.op("Mul", g.conv("x", 3, 8), g.op("Sigmoid", g.op("ReduceMean", g.conv("x", 3, 8), axes=[2, 3], keepdims=1))))
one("reduce_max_channels", lambda g: g.op("Mul", "x", g.op("ReduceMax", "x", axes=[1], keepdims=1)))
one("global_max", lambda g: g.op("Add", "x", g.op("GlobalMaxPool", "x")))
one("classifier", lambda g: g.op("Softmax", g.op("Gemm", g.op("Flatten", g.op("GlobalAveragePool", g.conv("x", 3, 8))), rng.normal(size=(5, 8)), rng.normal(size=5), transB=1)))
one("matmul", lambda g: g.op("Add", g.op("MatMul", g.op("Transpose", g.op("Reshape", "x", np.array([1, 3, -1])), perm=[0, 2, 1]), rng.normal(size=(3, 7))), rng.normal(size=7)))

# Pools.
for ceil in (0, 1):
    for count in (0, 1):
        one(f"mean_pool_{ceil}{count}", lambda g: g.op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=ceil, count_include_pad=count), (1, 3, 8, 7))
    one(f"max_pool_{ceil}", lambda g: g.op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 0, 0], ceil_mode=ceil))
    one(f"max_pool_padded_{ceil}", lambda g: g.op("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0], ceil_mode=ceil), (1, 3, 9, 7))
one("max_pool_same", lambda g: g.op("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"))
one("spp", lambda g: g.op("Concat", "x", *[g.op("MaxPool", "x", kernel_shape=[k, k], pads=[k // 2] * 4) for k in (5, 9)], axis=1))

# Resizing.
for mode, coord, near in [("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"), ("linear", "half_pixel", "floor"), ("linear", "asymmetric", "floor"), ("linear", "align_corners", "floor"), ("linear", "pytorch_half_pixel", "floor")]:
    attrs = dict(mode=mode, coordinate_transformation_mode=coord, nearest_mode=near)
    one(f"resize_{mode}_{coord}", lambda g: g.op("Resize", "x", np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32), **attrs))
one("resize_to_size", lambda g: g.op("Resize", "x", np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 3, 13, 9]), mode="linear", coordinate_transformation_mode="half_pixel"))
one("resize_down", lambda g: g.op("Resize", "x", np.zeros(0, np.float32), np.array([1, 1, 0.5, 0.5], np.float32), mode="linear", coordinate_transformation_mode="half_pixel"))
one("resize_opset_10", lambda g: g.op("Resize", "x", np.array([1, 1, 2, 2], np.float32), mode="nearest"), opset=10)

# Moves.
one("concat_channels", lambda g: g.op("Concat", *two(g), "x", axis=1))
one("concat_rows", lambda g: g.op("Concat", *two(g), axis=2))
one("concat_constant", lambda g: g.op("Concat", "x", rng.normal(size=(1, 2, 8, 6)), axis=1))
one("split", lambda g: tuple(g.op("Split", g.conv("x", 3, 6), np.array([2, 4]), outs=2, axis=1)))
one("slice_strided", lambda g: g.op("Slice", "x", np.array([1, 0]), np.array([9, 6]), np.array([2, 3]), np.array([2, 3])))
one("slice_from_end", lambda g: g.op("Slice", "x", np.array([-3]), np.array([2**63 - 1]), np.array([2])))
one("gather_one", lambda g: g.op("Gather", "x", np.array(1), axis=1))
one("gather_some", lambda g: g.op("Gather", g.conv("x", 3, 6), np.array([4, 0, 3]), axis=1))


def focus(g):
    cut = lambda a, b: g.op("Slice", g.op("Slice", "x", np.array([a]), np.array([2**63 - 1]), np.array([2]), np.array([2])), np.array([b]), np.array([2**63 - 1]), np.array([3]), np.array([2]))
    return g.silu(g.conv(g.op("Concat", cut(0, 0), cut(1, 0), cut(0, 1), cut(1, 1), axis=1), 12, 8))


one("focus", focus)


def shuffle(g):
    x = g.conv("x", 3, 12, 1)
    y = g.op("Transpose", g.op("Reshape", x, np.array([1, 2, 6, 8, 6])), perm=[0, 2, 1, 3, 4])
    return g.op("Reshape", y, np.array([1, 12, 8, 6]))


one("shuffle", lambda g: g.conv(shuffle(g), 12, 5, 1))
one("shuffle_split", lambda g: g.op("Concat", g.conv(g.op("Split", shuffle(g), np.array([6, 6]), outs=2, axis=1)[1], 6, 6, 3, groups=6), "x", axis=1))


def shuffle_v2(g):
    x = g.conv("x", 3, 12, 1)
    y = g.op("Transpose", g.op("Reshape", x, np.array([6, 2, 48])), perm=[1, 0, 2])
    y = g.op("Reshape", y, np.array([2, -1, 6, 8, 6]))
    return g.op("Concat", g.op("Gather", y, np.array(0), axis=0), g.conv(g.op("Gather", y, np.array(1), axis=0), 6, 6, 1), axis=1)


one("shuffle_gather", shuffle_v2)
one("pixel_shuffle", lambda g: g.op("DepthToSpace", g.conv("x", 3, 12, 1), blocksize=2))
one("softmax_channels", lambda g: g.op("Softmax", g.conv("x", 3, 5), axis=1))
one("softmax_rows", lambda g: g.op("Softmax", g.conv("x", 3, 5), axis=2))
one("softmax_old", lambda g: g.op("Softmax", g.op("Reshape", g.conv("x", 3, 5), np.array([5, 48])), axis=1), opset=11)
one("dropout_identity", lambda g: g.op("Identity", g.op("Dropout", g.op("Relu", "x"))))
one("nhwc_input", lambda g: g.conv(g.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 4), (1, 8, 6, 3))
one("expand", lambda g: g.op("Add", g.op("Expand", g.op("GlobalAveragePool", "x"), np.array([1, 3, 8, 6])), "x"))
one("squeeze", lambda g: g.op("Unsqueeze", g.op("Squeeze", g.op("Relu", "x"), np.array([0])), np.array([0])))


# Heads.
def flat(g, x, c):
    return g.op("Transpose", g.op("Reshape", x, np.array([1, c, -1])), perm=[0, 2, 1])


def ssd(g):
    a, b = g.op("Relu", g.conv("x", 3, 4)), None
    b = g.op("Relu", g.conv(a, 4, 4, strides=[2, 2]))
    to = lambda x, c: g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 3, 1]), np.array([1, -1, c]))
    scores = g.op("Softmax", g.op("Concat", to(g.conv(a, 4, 6), 2), to(g.conv(b, 4, 4), 2), axis=1), axis=2)
    boxes = g.op("Concat", to(g.conv(a, 4, 12), 4), to(g.conv(b, 4, 8), 4), axis=1)
    n = 8 * 6 * 3 + 4 * 3 * 2
    prior = rng.uniform(size=(1, n, 4))
    part = lambda x, i, j: g.op("Slice", x, np.array([i]), np.array([j]), np.array([2]))
    centre = g.op("Add", g.op("Mul", g.op("Mul", part(boxes, 0, 2), np.float32(0.1)), prior[..., 2:]), prior[..., :2])
    size = g.op("Mul", g.op("Exp", g.op("Mul", part(boxes, 2, 4), np.float32(0.2))), prior[..., 2:])
    half = g.op("Div", size, np.float32(2))
    return scores, g.op("Concat", g.op("Sub", centre, half), g.op("Add", centre, half), axis=2)


one("ssd_head", ssd)


def yolox(g):
    levels = []
    for s in (1, 2):
        f = g.silu(g.conv("x", 3, 4, strides=[s, s]))
        x = g.op("Concat", g.conv(f, 4, 4, 1), g.op("Sigmoid", g.conv(f, 4, 1, 1)), g.op("Sigmoid", g.conv(f, 4, 5, 1)), axis=1)
        levels.append(g.op("Reshape", x, np.array([1, 10, -1])))
    return g.op("Transpose", g.op("Concat", *levels, axis=2), perm=[0, 2, 1])


one("yolox_head", yolox)


def yolov8(g):
    places, levels = 48 + 12, []
    for s in (1, 2):
        f = g.silu(g.conv("x", 3, 4, strides=[s, s]))
        levels.append(g.op("Reshape", g.op("Concat", g.conv(f, 4, 64, 1), g.conv(f, 4, 5, 1), axis=1), np.array([1, 69, -1])))
    box, cls = g.op("Split", g.op("Concat", *levels, axis=2), np.array([64, 5]), outs=2, axis=1)
    x = g.op("Transpose", g.op("Reshape", box, np.array([1, 4, 16, places])), perm=[0, 2, 1, 3])
    x = g.op("Conv", g.op("Softmax", x, axis=1), np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1))
    x = g.op("Reshape", x, np.array([1, 4, places]))
    lt, rb = g.op("Split", x, np.array([2, 2]), outs=2, axis=1)
    anchors = rng.uniform(0, 8, size=(1, 2, places))
    a, b = g.op("Sub", anchors, lt), g.op("Add", rb, anchors)
    box = g.op("Concat", g.op("Div", g.op("Add", a, b), np.float32(2)), g.op("Sub", b, a), axis=1)
    stride = np.repeat([8.0, 16.0], [48, 12]).reshape(1, places)
    return g.op("Concat", g.op("Mul", box, stride), g.op("Sigmoid", cls), axis=1)


one("yolov8_head", yolov8)


def yolov5(g):
    levels = []
    for s in (1, 2):
        f = g.silu(g.conv("x", 3, 4, strides=[s, s]))
        hh, ww = 8 // s, 6 // s
        x = g.op("Transpose", g.op("Reshape", g.conv(f, 4, 27, 1), np.array([1, 3, 9, hh, ww])), perm=[0, 1, 3, 4, 2])
        xy, wh, rest = g.op("Split", g.op("Sigmoid", x), np.array([2, 2, 5]), outs=3, axis=4)
        grid = rng.uniform(size=(1, 3, hh, ww, 2))
        xy = g.op("Mul", g.op("Add", g.op("Mul", xy, np.float32(2)), grid), np.float32(8 * s))
        wh = g.op("Mul", g.op("Pow", g.op("Mul", wh, np.float32(2)), np.float32(2)), np.broadcast_to(rng.uniform(size=(1, 3, 1, 1, 2)), (1, 3, hh, ww, 2)))
        levels.append(g.op("Reshape", g.op("Concat", xy, wh, rest, axis=4), np.array([1, 3 * hh * ww, 9])))
    return g.op("Concat", *levels, axis=1)


one("yolov5_head", yolov5)
one("raw_anchors", lambda g: g.op("Transpose", g.op("Reshape", g.conv("x", 3, 18, 1), np.array([1, 3, 6, 8, 6])), perm=[0, 1, 3, 4, 2]))

g = G()
f = g.op("Relu", g.conv("x", 3, 4))
boxes, scores = flat(g, g.conv(f, 4, 4), 4), g.op("Reshape", g.op("Sigmoid", g.conv(f, 4, 5)), np.array([1, 5, 48]))
picked = g.op("NonMaxSuppression", boxes, scores, np.array([10]), np.array([0.5], np.float32), np.array([0.1], np.float32))
which = g.op("Squeeze", g.op("Slice", picked, np.array([2]), np.array([3]), np.array([1])), np.array([1]))
g.save("nms", g.op("Gather", boxes, which, axis=1), keep=(boxes, scores))
g.nodes[[node.op_type for node in g.nodes].index("NonMaxSuppression")].attribute.append(h.make_attribute("center_point_box", 1))
g.save("nms_centres", g.op("Gather", boxes, which, axis=1), keep=(boxes, scores))

one("dynamic_batch", lambda g: g.conv("x", 3, 4), ("batch", 3, 8, 6))
one("!dynamic_size", lambda g: g.conv("x", 3, 4), (1, 3, "h", "w"))
one("!cubic", lambda g: g.op("Resize", "x", np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32), mode="cubic"))
one("!boxes", lambda g: (flat(g, g.conv("x", 3, 4), 4), flat(g, g.op("Sigmoid", g.op("Erf", g.conv("x", 3, 5))), 5)))
one("!gelu", lambda g: g.op("Erf", g.conv("x", 3, 4)))


def upsampled(g):
    """Nearest upsampling as exporters without a resize write it."""
    x = g.op("Reshape", g.conv("x", 3, 4), np.array([1, 4, 8, 1, 6, 1]))
    return g.conv(g.op("Reshape", g.op("Expand", x, np.array([1, 4, 8, 2, 6, 2])), np.array([1, 4, 16, 12])), 4, 4)


one("expand_upsampled", upsampled)


def repeated_between(g):
    """Axes that are repeated and axes that are not, by turns."""
    x = g.op("Reshape", g.conv("x", 3, 6), np.array([1, 2, 3, 8, 6]))
    return g.op("Add", g.op("Relu", x), g.op("ReduceMean", x, axes=[2, 4], keepdims=1))


one("repeated_between", repeated_between)
one("repeated_both", lambda g: g.op("Sub", g.op("ReduceMean", "x", axes=[3], keepdims=1), g.op("ReduceMax", "x", axes=[1, 2], keepdims=1)))
one("repeated_channels", lambda g: g.op("Mul", g.op("Expand", g.op("ReduceMean", "x", axes=[1], keepdims=1), np.array([1, 3, 8, 6])), "x"))
one("repeated_table", lambda g: g.op("Mul", g.op("GlobalAveragePool", "x"), rng.normal(size=(1, 3, 8, 6))))
one("small_sum", lambda g: g.op("Div", g.op("Relu", "x"), g.op("Add", g.op("Relu", "x"), np.float32(1e-8))))

# A small file that asks for much memory.
filled = lambda g, *sizes: g.op("ConstantOfShape", np.array(sizes))
whole = lambda g, *numbers: g.op("Mul", np.array(numbers), np.array([1000]))
one("!!sum", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("Add", filled(g, 1, 100000), filled(g, 100000, 1)), axes=[0, 1])))
one("!!filled", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("ConstantOfShape", whole(g, 100, 100)), axes=[0, 1])))
one("!!tiled", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("Tile", np.zeros((1, 1)), whole(g, 100, 100)), axes=[0, 1])))
one("!!expanded", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("Expand", np.zeros((1, 1)), whole(g, 100, 100)), axes=[0, 1])))
one("!!joined", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("ConstantOfShape", g.op("Concat", np.array([100000]), np.array([100000]), axis=0)), axes=[0, 1])))
one("!!from_input", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("ConstantOfShape", g.op("Mul", g.op("Shape", "x"), np.array([100]))), axes=[0, 1, 2, 3])))
one("!!range", lambda g: g.op("Add", "x", g.op("ReduceMean", g.op("Range", np.float32(0), np.float32(1), g.op("Mul", np.float32(1e-6), np.float32(1e-6))), axes=[0])))
one("!!map", lambda g: g.op("Tile", "x", whole(g, 1, 1, 1, 1)))

# Inputs that are no single picture in f32.
g = G()
g.save("!!bytes", g.conv(g.op("Cast", "x", to=TensorProto.FLOAT), 3, 4), dtype=TensorProto.UINT8)
g = G()
g.save("!!two_inputs", g.op("Add", g.conv("x", 3, 3), "y"), more=("y",))
one("!!batch", lambda g: g.conv("x", 3, 4), (2, 3, 8, 6))

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "graphs.bin"), "wb") as out:
    def put(data):
        out.write(struct.pack("<I", len(data)))
        out.write(data)
    for name, data, ys in cases:
        put(name.encode())
        put(data)
        put(struct.pack("<I", len(ys)))
        for y in ys:
            put(y.astype(np.float32).tobytes())
print(len(cases), "cases")


def nanodet():
    """Classes and distances of cells of 8, 16 and 32 pixels, in outputs that are called after them."""
    g, outs = G((1, 3, 64, 64)), []
    down = lambda x, i: g.op("Relu", g.conv(x, i, 8, strides=[2, 2]))
    x = down(down("x", 3), 8)
    for stride in (8, 16, 32):
        x = down(x, 8)
        head = g.op("Relu", g.conv(x, 8, 8))
        outs += [(f"cls{stride}", g.op("Sigmoid", g.conv(head, 8, 1, 1)), 1), (f"dis{stride}", g.conv(head, 8, 32, 1), 32)]
    g.nodes += [h.make_node("Identity", [made], [name], name=name) for name, made, _ in outs]
    side = lambda name: 64 // int(name[3:])
    final = [h.make_tensor_value_info(name, TensorProto.FLOAT, (1, c, side(name), side(name))) for name, _, c in outs]
    graph = h.make_graph(g.nodes, "nanodet", [h.make_tensor_value_info("x", TensorProto.FLOAT, g.shape)], final, g.inits)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", g.opset)], ir_version=8)


with open(os.path.join(here, "nanodet.onnx"), "wb") as out:
    out.write(nanodet().SerializeToString())
