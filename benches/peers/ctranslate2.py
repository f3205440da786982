#!/usr/bin/env python3
"""Pupil and CTranslate2 side by side on one T5 of random weights: sentences a second, peak memory, load time, and the ratio.

    python benches/peers/ctranslate2.py [--shapes small,base] [--threads 1,2] [--rounds 5] [--shortlist 500] [--work DIR]

The model is made with transformers, then converted for both: `pupil convert --type q8_0`, and CTranslate2's converter with
int8. Every measurement is a fresh process, in turns. One measurement, the same work for both:

  load     open the file and get ready (file already in the page cache)
  warm-up  one batch, not timed
  speed    --batch sentences of 28 tokens, encoded and translated to exactly 38 tokens each; the median of --reps times

CTranslate2 is tried with each instruction set that it can be told to use (CT2_FORCE_CPU_ISA) and with its own choice; the
setting with the best median counts. With --shortlist N both choose among the same number of words (a vmap there).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]  # our own name
sys.path.append(str(Path(__file__).resolve().parent))
from turns import cpu_name, memory, span, take_turns

SHAPES = {  # encoder layers, decoder layers, width, feed-forward, vocabulary, heads (of 64)
    "small": (6, 2, 256, 1536, 32000, 4),
    "base": (6, 6, 512, 2048, 60000, 8),
}
CASES = [(1, 1), (16, 1), (1, 4), (16, 4)]  # batch, beam
SOURCE, TARGET = 28, 38
SETTINGS = ["AUTO", "AVX512", "AVX2"]


# --- the model --------------------------------------------------------------------------------------------------------


def make(folder, shape, shortlist, pupil):
    """One model in the forms of transformers, of Pupil and of CTranslate2; the last two are returned."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from ctranslate2.converters import TransformersConverter

    encoder, decoder, width, feed_forward, vocab, heads = SHAPES[shape]
    source, ours, theirs = folder / shape, folder / f"{shape}.gguf", folder / f"{shape}-ct2-{shortlist or 'all'}"
    if not source.exists():
        torch.manual_seed(1)
        config = transformers.T5Config(
            vocab_size=vocab, d_model=width, d_kv=64, d_ff=feed_forward, num_layers=encoder, num_decoder_layers=decoder,
            num_heads=heads, decoder_start_token_id=0)
        transformers.T5ForConditionalGeneration(config).save_pretrained(source)
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(f"▁w{i}", -10.0) for i in range(vocab - 3)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>",
                                             unk_token="<unk>").save_pretrained(source)
    if not ours.exists():
        subprocess.run([pupil, "convert", source, "-o", ours, "--type", "q8_0"], check=True, stdout=sys.stderr)
    if not theirs.exists():
        vmap = None
        if shortlist:
            words = " ".join(f"▁w{i * (vocab - 3) // shortlist}" for i in range(shortlist))
            vmap = folder / f"{shape}-vmap"
            vmap.write_text(f"\t{words}\n")
        TransformersConverter(str(source)).convert(str(theirs), quantization="int8", vmap=vmap and str(vmap))
    return ours, theirs


# --- one measurement of CTranslate2, in its own process ---------------------------------------------------------------


def measure_ctranslate2(job):
    import ctranslate2

    before, start = memory("VmRSS"), time.perf_counter()
    translator = ctranslate2.Translator(job["model"], device="cpu", compute_type="int8", inter_threads=1,
                                        intra_threads=job["threads"])
    load = time.perf_counter() - start
    draw = random.Random(1)
    batch = [[f"▁w{draw.randrange(job['vocab'] - 3)}" for _ in range(SOURCE - 1)] + ["</s>"] for _ in range(job["batch"])]

    def run():
        start = time.perf_counter()
        found = translator.translate_batch(batch, beam_size=job["beam"], min_decoding_length=TARGET,
                                           max_decoding_length=TARGET, use_vmap=bool(job["shortlist"]))
        took = time.perf_counter() - start
        assert all(len(one.hypotheses[0]) == TARGET for one in found), "translations of another length"
        return took

    run()
    seconds = statistics.median(run() for _ in range(job["reps"]))
    print(json.dumps({"sentences_per_second": job["batch"] / seconds, "load_ms": 1000 * load,
                      "peak_mib": memory("VmHWM") - before}))


# --- both in turns ----------------------------------------------------------------------------------------------------


def bench(shape, models, threads, batch, beam, options):
    """Rounds of turns; what each runner measured, in order of the rounds."""
    ours, theirs = models
    shortlist = ["--shortlist", str(options.shortlist)] if options.shortlist else []
    runners = {"pupil": [options.pupil, "bench", "-m", str(ours), "--threads", str(threads), "--batch", str(batch),
                         "--beam", str(beam), "--prompt", str(SOURCE), "--decode", str(TARGET), "--reps",
                         str(options.reps), "--json", *shortlist]}
    job = dict(model=str(theirs), threads=threads, batch=batch, beam=beam, vocab=SHAPES[shape][4], reps=options.reps,
               shortlist=options.shortlist)
    for setting in options.settings:
        force = [] if setting == "AUTO" else [f"CT2_FORCE_CPU_ISA={setting}"]
        runners[setting] = ["env", *force, sys.executable, __file__, "--measure", json.dumps(job)]
    return take_turns(runners, options.rounds)


def report(shape, threads, batch, beam, results):
    ours = results["pupil"]
    peers = {name: runs for name, runs in results.items() if name != "pupil"}
    others = statistics.median(r["others"] for runs in results.values() for r in runs)
    speed = lambda runs: [r["sentences_per_second"] for r in runs]
    best = max(peers, key=lambda name: statistics.median(speed(peers[name])))
    ratio = span([a / b for a, b in zip(speed(ours), speed(peers[best]))], 2)
    cell = lambda runs, key: span([r[key] for r in runs])
    return (f"| {shape} | {threads} | {batch} | {beam} | {span(speed(ours), 1)} | {span(speed(peers[best]), 1)} | {best} "
            f"| {ratio} | {cell(ours, 'peak_mib')} | {cell(peers[best], 'peak_mib')} | {cell(ours, 'load_ms')} "
            f"| {cell(peers[best], 'load_ms')} | {others:.0%} |")


def main():
    names = lambda s: s.split(",")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", default=list(SHAPES), type=names, help="of: " + ", ".join(SHAPES))
    parser.add_argument("--threads", default="1,2", type=lambda s: [int(t) for t in s.split(",")])
    parser.add_argument("--cases", default=CASES, type=lambda s: [tuple(map(int, c.split("x"))) for c in s.split(",")],
                        help="BATCHxBEAM,… [default: 1x1,16x1,1x4,16x4]")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--reps", default=3, type=int)
    parser.add_argument("--shortlist", default=0, type=int, metavar="N")
    parser.add_argument("--settings", default=SETTINGS, type=names, help="CTranslate2's to try: AUTO, AVX512, AVX2, …")
    parser.add_argument("--pupil", default="target/release/pupil", help="our binary")
    parser.add_argument("--work", default="target/ctranslate2", type=Path, help="where the models go")
    parser.add_argument("--json", metavar="FILE", help="keep every measurement")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure_ctranslate2(json.loads(options.measure))
    options.work.mkdir(parents=True, exist_ok=True)
    rows, kept = [], []
    for shape in options.shapes:
        models = make(options.work, shape, options.shortlist, options.pupil)
        for threads in options.threads:
            for batch, beam in options.cases:
                results = bench(shape, models, threads, batch, beam, options)
                rows.append(report(shape, threads, batch, beam, results))
                kept.append(dict(shape=shape, threads=threads, batch=batch, beam=beam, results=results))
                print(rows[-1], file=sys.stderr, flush=True)
                if options.json:  # at once: a long run may be cut short
                    Path(options.json).write_text(json.dumps(kept, indent=1))
    words = f", {options.shortlist} words to choose from" if options.shortlist else ""
    print(f"Sentences of {SOURCE} tokens become {TARGET}{words}; {options.rounds} rounds in turns; median (smallest–largest). "
          f"{cpu_name()}, {os.cpu_count()} cores. Ratio above 1: Pupil is faster.\n")
    print("| shape | threads | batch | beam | Pupil sentences/s | CTranslate2 | its best | ratio | Pupil peak MiB "
          "| CTranslate2 | Pupil load ms | CTranslate2 | machine used by others |")
    print("|" + "---|" * 13)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
