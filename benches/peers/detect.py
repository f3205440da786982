#!/usr/bin/env python3
"""Pupil and the usual engines side by side on ONNX detectors: milliseconds a picture, peak memory, load time, the ratio.

    python benches/peers/detect.py MODEL.onnx [MODEL.onnx ...] --pictures DIR [--threads 1,2] [--rounds 5] [--without pupil]

Every measurement is a fresh process; the engines take turns within a round, so that a slow spell of the machine falls
on all of them. One measurement, the same work for all: open the file, five passes untimed, then --reps passes over one
prepared picture, each timed, from the input tensor to the network's outputs. Decoding a picture file and NMS are not in it.
A peer whose f32 outputs are not those of ONNX Runtime is left out, and the report says so.

  ONNX Runtime   f32, and its own static int8: QDQ, per channel, ranges from the first --calibrate pictures of --pictures
  OpenVINO       f32, and int8 on ONNX Runtime's QDQ file
  ncnn           f32, converted by pnnx
  Pupil          f32 and int8, made by `pupil convert` from the same file and the same pictures

On machines with AMX, ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI (or AVX2) in the environment holds OpenVINO to the
instructions that laptops have, and PUPIL_ISA does the same with Pupil; the report names both where they are set.

What was made is kept in --cache. All engines get the graph in opset 13 with its constants folded: some can make
nothing of weights that are listed as inputs.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import cpu_name, memory, span, take_turns

# What a model expects, by a part of its file's name: order of colours, mean and deviation of a pixel in 0..255.
PIXELS = {
    "nanodet": ("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    "yolox": ("BGR", (0, 0, 0), (1, 1, 1)),
    "yolofastest": ("BGR", (0, 0, 0), (255, 255, 255)),
    "ultraface": ("RGB", (127, 127, 127), (128, 128, 128)),
}
OTHERWISE = ("RGB", (0, 0, 0), (255, 255, 255))
NAMES = {"pupil": "Pupil", "ort": "ONNX Runtime", "openvino": "OpenVINO", "ncnn": "ncnn"}
TYPES = ("f32", "int8")


# --- one measurement of a peer, in its own process --------------------------------------------------------------------


def open_ort(job):
    """What runs one pass with ONNX Runtime, and its version."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
    options.log_severity_level = 3

    def load(x):
        session = ort.InferenceSession(job["file"], options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x}
        return lambda: session.run(None, feed)

    return load, ort.__version__


def open_openvino(job):
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": job["threads"], "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1,
             "INFERENCE_PRECISION_HINT": "f32"}  # without it, bfloat16 where the processor has it

    def load(x):
        model = ov.Core().compile_model(job["file"], "CPU", hints)
        request = model.create_infer_request()

        def run():
            request.infer([x], share_inputs=True)
            return [request.get_output_tensor(i).data for i in range(len(model.outputs))]

        return run

    return load, ov.__version__


def open_ncnn(job):
    import ncnn
    import numpy as np

    def load(x):
        net = ncnn.Net()
        net.opt.num_threads = job["threads"]
        net.opt.use_vulkan_compute = False
        net.opt.use_bf16_storage = net.opt.use_fp16_storage = False
        net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
        assert net.load_param(job["file"] + ".param") == 0 and net.load_model(job["file"] + ".bin") == 0
        outputs = sorted(net.output_names(), key=lambda name: int(name.removeprefix("out")))  # as in the ONNX file
        assert outputs, "ncnn cannot build the graph"
        picture = ncnn.Mat(x[0])

        def run():
            with net.create_extractor() as extractor:
                extractor.input("in0", picture)
                return [np.array(extractor.extract(name)[1]) for name in outputs]

        return run

    return load, ncnn.__version__


def measure_peer(job):
    import numpy as np

    x, reference = np.load(job["input"]), np.load(job["reference"])
    before = memory("VmRSS")
    load, version = {"ort": open_ort, "openvino": open_openvino, "ncnn": open_ncnn}[job["engine"]](job)
    start = time.perf_counter()
    run = load(x)
    open_ms = 1000 * (time.perf_counter() - start)
    for _ in range(5):
        outputs = run()
    taken = []
    for _ in range(job["reps"]):
        start = time.perf_counter()
        outputs = run()
        taken.append(1000 * (time.perf_counter() - start))
    peak = memory("VmHWM") - before
    expected = [reference[name] for name in reference.files]
    same = len(outputs) == len(expected) and all(a.size == b.size for a, b in zip(outputs, expected))
    wrong = max(float(np.abs(a.ravel() - b.ravel()).max() / np.abs(b).max()) for a, b in zip(outputs, expected)) if same else None
    print(json.dumps({"frame_ms": statistics.median(taken), "best_ms": min(taken), "open_ms": open_ms, "peak_mib": peak,
                      "difference": wrong, "version": version}))


# --- the files each engine needs, made once ---------------------------------------------------------------------------


def tensor(picture, model, size):
    """A picture file as the input tensor [1, 3, height, width], stretched."""
    import numpy as np
    from PIL import Image

    order, mean, deviation = next((p for part, p in PIXELS.items() if part in model.stem.lower()), OTHERWISE)
    height, width = size
    image = Image.open(picture).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)[:, :, :: 1 if order == "RGB" else -1]
    pixels = (pixels - np.array(mean, np.float32)) / np.array(deviation, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def fold(model, out):
    """The same network in opset 13 or later, its weights constants and its constants folded."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load(model)
    weights = {w.name for w in graph.graph.initializer}
    inputs = [i for i in graph.graph.input if i.name not in weights]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    if graph.opset_import[0].version < 13:  # from 13 on, DequantizeLinear has the axis that per channel needs
        graph.ir_version = max(graph.ir_version, 7)
        graph = onnx.version_converter.convert_version(graph, 13)
    before = out.with_suffix(".before")
    onnx.save(graph, before)
    quant_pre_process(before, out)
    before.unlink()


def quantize(model, folded, out, pictures, size):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    import onnxruntime as ort

    name = ort.InferenceSession(folded, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.pictures = iter(pictures)

        def get_next(self):
            picture = next(self.pictures, None)
            return picture and {name: tensor(picture, model, size)}

    quantize_static(folded, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def pnnx():
    """pnnx's program, or None."""
    found = importlib.util.find_spec("pnnx")
    beside = found and Path(found.origin).parent / "pnnx"
    return str(beside) if beside and beside.is_file() else shutil.which("pnnx")


def call(command):
    """What a command prints; an error with its last words if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def prepare(model, options, say):
    """The folder with all that is made from `model`, and the runners: (engine, type) -> file."""
    import numpy as np
    import onnx
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    pictures = sorted(p for p in options.pictures.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    pictures = pictures[:options.calibrate]
    if not pictures:
        sys.exit(f"{options.pictures} holds no pictures")
    key = hashlib.sha256(model.read_bytes())
    for picture in pictures:
        key.update(f"{picture.name} {picture.stat().st_size}\n".encode())
    home = options.cache / f"{model.stem}-{key.hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    chosen = home / "pictures"  # the same ones for all who calibrate
    chosen.mkdir(exist_ok=True)
    for picture in pictures:
        if not (chosen / picture.name).exists():
            shutil.copyfile(picture, chosen / picture.name)

    def once(name, make):
        """home/name, made by `make(path)` if it is not there; a run cut short leaves nothing that looks whole."""
        path = home / name
        if not path.exists():
            part = home / f"part-{name}"
            make(part)
            part.rename(path)
        return path

    folded = once("f32.onnx", lambda out: fold(model, out))
    session = ort.InferenceSession(folded, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    size = given.shape[2:]
    if not all(isinstance(n, int) for n in size) or given.shape[1] != 3:
        sys.exit(f"{model}: the input is {given.shape}, not a picture of a fixed size")
    x = tensor(pictures[0], model, size)
    np.save(home / "input.npy", x)
    np.savez(home / "reference.npz", **dict(zip((o.name for o in session.get_outputs()), session.run(None, {given.name: x}))))

    def for_ncnn(out):
        work = home / "pnnx"
        work.mkdir(exist_ok=True)
        graph = onnx.load(folded)
        for node in graph.graph.node:
            if node.op_type == "Resize":  # pnnx knows it only by these; the others stand at their defaults
                known = [a for a in node.attribute if a.name in ("mode", "coordinate_transformation_mode")]
                if not any(a.s == b"nearest" for a in known):
                    del node.attribute[:]
                    node.attribute.extend(known)
        onnx.save(graph, work / "model.onnx")
        call([pnnx(), str(work / "model.onnx"), "fp16=0"])
        (work / "model.ncnn.bin").replace(home / "ncnn.bin")
        (work / "model.ncnn.param").replace(out)
        shutil.rmtree(work)

    files = {}

    def add(engine, kind, name, make):
        if engine in options.without or kind not in options.types:
            return
        try:
            files[engine, kind] = once(name, make)
        except (RuntimeError, OSError) as error:
            if engine == "pupil":
                sys.exit(f"{model.name}: {error}")
            say(f"{model.name}: {NAMES[engine]} {kind} left out: {error}")

    int8 = lambda out: quantize(model, folded, out, pictures, size)
    convert = [options.pupil, "convert", str(model), "-o"]
    add("ort", "f32", "f32.onnx", None)
    add("ort", "int8", "int8.onnx", int8)
    add("openvino", "f32", "f32.onnx", None)
    add("openvino", "int8", "int8.onnx", int8)
    add("ncnn", "f32", "ncnn.param", for_ncnn)
    # Ours is made anew: the converter is what is being worked on.
    for stale in home.glob("*.gguf"):
        stale.unlink()
    add("pupil", "f32", "f32.gguf", lambda out: call([*convert, str(out)]))
    add("pupil", "int8", "int8.gguf", lambda out: call([*convert, str(out), "--int8", "--calibrate", str(chosen)]))
    return home, files


# --- all in turns -----------------------------------------------------------------------------------------------------


def command(home, engine, file, threads, reps, options):
    if engine == "pupil":
        return [options.pupil, "bench", "--model", str(file), "--threads", str(threads), "--reps", str(reps), "--json"]
    file = str(file.with_suffix("")) if engine == "ncnn" else str(file)
    job = dict(engine=engine, file=file, threads=threads, reps=reps, input=str(home / "input.npy"),
               reference=str(home / "reference.npz"))
    return [sys.executable, __file__, "--measure", json.dumps(job)]


def bench(home, files, threads, options):
    runners = {f"{engine} {kind}": command(home, engine, file, threads, options.reps, options)
               for (engine, kind), file in files.items()}
    results = take_turns(runners, options.rounds)
    for runner, rounds in results.items():
        if runner.startswith("pupil"):  # of a frame only what the others do: the network
            for result in rounds:
                result.update(frame_ms=result["net_ms"], best_ms=result["net_best_ms"])
    return results


def fault(home, engine, file, options):
    """Why an f32 peer does not compute what ONNX Runtime computes, or None."""
    try:
        wrong = json.loads(call(command(home, engine, file, 1, 1, options)).splitlines()[-1])["difference"]
    except RuntimeError as error:
        return str(error).splitlines()[-1]
    if wrong is None:
        return "it gives other outputs"
    return f"its outputs are wrong by {wrong:.1g} of their largest value" if wrong > 1e-3 else None


def report(model, threads, kind, results):
    """One row of the table of speed, one of memory and load time."""
    here = {engine: results[f"{engine} {kind}"] for engine in NAMES if f"{engine} {kind}" in results}
    peers = {engine: rounds for engine, rounds in here.items() if engine != "pupil"}
    middle = lambda rounds, key: statistics.median(r[key] for r in rounds)

    def time_cell(engine):
        if engine not in here:
            return "–"
        best = min(r.get("best_ms", r["frame_ms"]) for r in here[engine])
        return f"{best:.2f} / {middle(here[engine], 'frame_ms'):.2f}"

    fastest = min(peers, key=lambda engine: middle(peers[engine], "frame_ms")) if peers else None
    ratio = "–"
    if fastest and "pupil" in here:
        ratio = span([b["frame_ms"] / a["frame_ms"] for a, b in zip(here["pupil"], peers[fastest])], 2)
    others = statistics.median(r["others"] for rounds in here.values() for r in rounds)
    start = f"| {model.stem} | {kind} | {threads} |"
    speed = f"{start} {' | '.join(map(time_cell, NAMES))} | {NAMES.get(fastest, '–')} | {ratio} | {others:.0%} |"
    cell = lambda engine: f"{middle(here[engine], 'peak_mib'):.0f} / {middle(here[engine], 'open_ms'):.0f}" if engine in here else "–"
    return speed, f"{start} {' | '.join(map(cell, NAMES))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="pictures to calibrate int8 with")
    parser.add_argument("--calibrate", default=100, type=int, metavar="N", help="how many of them, in order of their names")
    parser.add_argument("--threads", default="1,2", type=lambda s: [int(t) for t in s.split(",")])
    parser.add_argument("--types", default=list(TYPES), type=lambda s: s.split(","), help="of: " + ",".join(TYPES))
    parser.add_argument("--reps", default=30, type=int, help="timed passes of a measurement")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--without", default=[], type=lambda s: s.split(","), help="leave out some of: " + ",".join(NAMES))
    parser.add_argument("--pupil", default="target/release/pupil", help="our binary")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "pupil-peers", metavar="DIR")
    parser.add_argument("--json", metavar="FILE", help="keep every measurement")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure_peer(json.loads(options.measure))
    if not options.models or not options.pictures:
        parser.error("which model, and which pictures?")
    unknown = set(options.without) - set(NAMES) | set(options.types) - set(TYPES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")

    remarks = []

    def say(line):
        if line not in remarks:
            remarks.append(line)
            print(line, file=sys.stderr, flush=True)

    if "openvino" not in options.without and not importlib.util.find_spec("openvino"):
        say("OpenVINO left out: not installed")
        options.without.append("openvino")
    if "ncnn" not in options.without and not (importlib.util.find_spec("ncnn") and pnnx()):
        say("ncnn left out: it takes the packages ncnn and pnnx")
        options.without.append("ncnn")
    if "int8" in options.types:
        if "ncnn" not in options.without:
            say("ncnn int8 left out: its quantizer is not on PyPI")
        if "openvino" not in options.without:
            say("OpenVINO int8 runs ONNX Runtime's QDQ file; nncf is not used")

    for variable in ("ONEDNN_MAX_CPU_ISA", "PUPIL_ISA"):
        if os.environ.get(variable):
            say(f"{variable}={os.environ[variable]}")

    speed, facts, kept, versions = [], [], [], {}
    for model in options.models:
        home, files = prepare(model, options, say)
        for engine, kind in [key for key in files if key[0] in ("openvino", "ncnn") and key[1] == "f32"]:
            wrong = fault(home, engine, files[engine, kind], options)
            if wrong:
                say(f"{model.name}: {NAMES[engine]} left out: {wrong}")
                del files[engine, kind]
        for file in files.values():
            file.read_bytes()  # into the page cache, for whoever goes first
        for threads in options.threads:
            results = bench(home, files, threads, options)
            kept.append(dict(model=model.name, threads=threads, results=results))
            for runner, rounds in results.items():
                versions[NAMES[runner.split()[0]]] = rounds[0].get("version") or rounds[0].get("isa") or "?"
            for kind in options.types:
                row, fact = report(model, threads, kind, results)
                speed.append(row)
                facts.append(fact)
                print(row, file=sys.stderr, flush=True)
            if options.json:  # at once: a long run may be cut short
                Path(options.json).write_text(json.dumps(kept, indent=1))

    columns = " | ".join(NAMES.values())
    rule = "|---" * (3 + len(NAMES))
    print(f"Milliseconds a picture, best / median of {options.reps} passes in each of {options.rounds} rounds in turns. Ratio: how many "
          f"times faster than the fastest peer of the same type Pupil is, round by round, median (smallest–largest). "
          f"{cpu_name()}, {os.cpu_count()} cores.\n")
    print(f"| model | type | threads | {columns} | fastest peer | ratio | machine used by others |")
    print(rule + "|---|---|---|")
    print("\n".join(speed))
    print("\nPeak MiB over the bare process / ms to open the file.\n")
    print(f"| model | type | threads | {columns} |")
    print(rule + "|")
    print("\n".join(facts))
    for line in remarks:
        print("\n" + line)
    print("\n" + "; ".join(f"{name} {version}" for name, version in versions.items()))


if __name__ == "__main__":
    main()
