#!/usr/bin/env python3
"""Pupil and llama.cpp side by side on one GGUF file: tokens a second, peak memory, load time, and the ratio.

    python benches/peers/llama_cpp.py MODEL.gguf [MODEL.gguf ...] [--threads 1,2] [--rounds 5] [--only llama.cpp]

Every measurement is a fresh process; Pupil and each setting of llama.cpp take turns within a round, so that a slow
spell of the machine falls on all of them. One measurement, the same work for both:

  load     open the file and prepare a context (file already in the page cache)
  warm-up  one whole prompt and a few single tokens, not timed; the cache is emptied after it
  prefill  --prompt tokens in one call, logits of the last only
  decode   --decode calls of one token each, no sampling, following that prompt (so the context is not empty)

llama.cpp runs through the C API of llama-cpp-python: context 512, batch 512, f16 key/value cache, mapped file, the same
number of threads for both phases. It is tried with flash attention auto and off, with run-time repacking on and off,
and for prefill and for decode the setting with the best median counts, even where they differ.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from turns import cpu_name, memory, span, take_turns

SETTINGS = {  # name: (flash attention, run-time repacking)
    "default": (True, True),  # flash attention "auto" comes out as on, on a CPU
    "no flash": (False, True),
    "no repack": (True, False),
    "neither": (False, False),
}


# --- one measurement of llama.cpp, in its own process -----------------------------------------------------------------


def measure_llama_cpp(job):
    sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]  # our own name
    import ctypes
    import random

    import llama_cpp as lc

    silent = lc.llama_log_callback(lambda level, text, data: None)
    lc.llama_log_set(silent, ctypes.c_void_p(0))
    lc.llama_backend_init()
    flash, repack = SETTINGS[job["setting"]]
    before = memory("VmRSS")
    start = time.perf_counter()

    model_params = lc.llama_model_default_params()
    model_params.use_extra_bufts = repack
    model_params.load_mode = lc.LLAMA_LOAD_MODE_MMAP
    model = lc.llama_model_load_from_file(job["model"].encode(), model_params)
    assert model, "llama.cpp cannot open " + job["model"]
    params = lc.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = job["threads"]
    params.type_k = params.type_v = lc.GGML_TYPE_F16
    params.flash_attn_type = lc.LLAMA_FLASH_ATTN_TYPE_AUTO if flash else lc.LLAMA_FLASH_ATTN_TYPE_DISABLED
    ctx = lc.llama_init_from_model(model, params)
    assert ctx, "llama.cpp cannot make a context"
    load = time.perf_counter() - start

    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    draw = random.Random(1)
    array = lambda n: (lc.llama_token * n)(*(draw.randrange(vocab) for _ in range(n)))
    prompt, singles = array(job["prompt"]), [array(1) for _ in range(job["decode"])]

    def feed(tokens):
        assert lc.llama_decode(ctx, lc.llama_batch_get_one(tokens, len(tokens))) == 0
        lc.llama_synchronize(ctx)

    def run(decode):
        lc.llama_memory_clear(lc.llama_get_memory(ctx), True)
        a = time.perf_counter()
        feed(prompt)
        b = time.perf_counter()
        for token in singles[:decode]:
            feed(token)
        return b - a, time.perf_counter() - b

    run(4)
    prefill, decode = run(len(singles))
    print(json.dumps({
        "prefill_tps": len(prompt) / prefill, "decode_tps": len(singles) / decode, "load_ms": 1000 * load,
        "peak_mib": memory("VmHWM") - before, "isa": lc.llama_print_system_info().decode()}))


# --- both in turns ----------------------------------------------------------------------------------------------------


def bench(model, threads, options):
    """Rounds of turns; returns what each runner measured, in order of the rounds."""
    runners = {}
    if options.only != "llama.cpp":
        runners["pupil"] = [options.pupil, "bench", "-m", model, "--threads", str(threads),
                            "--prompt", str(options.prompt), "--decode", str(options.decode), "--json"]
    if options.only != "pupil":
        for setting in options.settings:
            job = dict(model=model, threads=threads, prompt=options.prompt, decode=options.decode, setting=setting)
            runners[setting] = [sys.executable, __file__, "--measure", json.dumps(job)]
    return take_turns(runners, options.rounds)


def report(model, threads, results):
    ours = results.get("pupil")
    peers = {name: r for name, r in results.items() if name != "pupil"}
    others = [r["others"] for rounds in results.values() for r in rounds]
    rows = []
    for test, key in (("prefill", "prefill_tps"), ("decode", "decode_tps")):
        best = max(peers, key=lambda n: statistics.median(r[key] for r in peers[n])) if peers else None
        a, b = (None if r is None else [x[key] for x in r] for r in (ours, peers.get(best)))
        ratio = span([x / y for x, y in zip(a, b)], 2) if a and b else "–"
        rows.append(f"| {Path(model).stem} | {threads} | {test} | {span(a) if a else '–'} | {span(b) if b else '–'} "
                    f"| {best or '–'} | {ratio} | {statistics.median(others):.0%} |")
    size = os.path.getsize(model) / 2**20
    # llama.cpp's memory and load time in its default setting: repacking is what holds the weights twice
    usual = peers.get("default") or next(iter(peers.values()), None)
    lean = peers.get("no repack")
    cell = lambda r, key: span([x[key] for x in r]) if r else "–"
    facts = (f"| {Path(model).stem} | {threads} | {size:.0f} | {cell(ours, 'peak_mib')} | {cell(usual, 'peak_mib')} "
             f"| {cell(lean, 'peak_mib')} | {cell(ours, 'load_ms')} | {cell(usual, 'load_ms')} | {cell(lean, 'load_ms')} |")
    return rows, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL.gguf")
    parser.add_argument("--threads", default="1,2", type=lambda s: [int(t) for t in s.split(",")])
    parser.add_argument("--prompt", default=128, type=int)
    parser.add_argument("--decode", default=64, type=int)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--only", choices=["pupil", "llama.cpp"])
    parser.add_argument("--settings", default=list(SETTINGS), type=lambda s: s.split(","),
                        help="which of llama.cpp's to try, of: " + ", ".join(SETTINGS))
    parser.add_argument("--pupil", default="target/release/pupil", help="our binary")
    parser.add_argument("--json", metavar="FILE", help="keep every measurement")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure_llama_cpp(json.loads(options.measure))
    if not options.models:
        parser.error("which model?")
    if options.prompt + options.decode > 512:
        parser.error("the context holds 512 tokens")

    speed, facts, kept, isa = [], [], [], {}
    for model in options.models:
        with open(model, "rb") as f:  # into the page cache, for whoever goes first
            while f.read(1 << 24):
                pass
        for threads in options.threads:
            results = bench(model, threads, options)
            rows, fact = report(model, threads, results)
            speed += rows
            facts.append(fact)
            kept.append(dict(model=model, threads=threads, results=results))
            isa.update({"pupil" if n == "pupil" else "llama.cpp": r[0]["isa"].strip() for n, r in results.items()})
            print("\n".join(rows), file=sys.stderr, flush=True)
            if options.json:  # at once: a long run may be cut short
                Path(options.json).write_text(json.dumps(kept, indent=1))

    print(f"Prompt {options.prompt}, then {options.decode} tokens one by one after it; {options.rounds} rounds in turns; "
          f"median (smallest–largest). {cpu_name()}, {os.cpu_count()} cores. Ratio above 1: Pupil is faster.\n")
    print("| model | threads | test | Pupil tok/s | llama.cpp tok/s | its best setting | ratio | machine used by others |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(speed))
    print("\n| model | threads | file MiB | Pupil peak MiB | llama.cpp | its no repack | Pupil load ms | llama.cpp | its no repack |")
    print("|---|---|---|---|---|---|---|---|---|")
    print("\n".join(facts))
    for name, text in isa.items():
        print(f"\n{name}: {text}")


if __name__ == "__main__":
    main()
