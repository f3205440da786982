#!/usr/bin/env python3
"""Makes the folders in checkpoints/: tiny Hugging Face checkpoints of random weights, and what transformers says of them.

    python checkpoints.py [--pupil target/release/pupil]

Each has `expected.json`: `texts` and their `ids` by the folder's own tokenizer; `input` ids and the `logits` for them (of a
T5, for the decoder's `start` after it); `tensors`, the names that the PyPI package `gguf` (0.19) gives llama.cpp's files.
Those of T5s have `greedy`, too: `inputs`, the `limit` of an answer's ids, and the ids that the decoder answers with, the end
included, by `transformers` and by `llama_cpp`, which reads what `pupil convert` makes of the folder in each type.
Versions: transformers 5.24, tokenizers 0.23, sentencepiece 0.2.3, torch 2.15, cyllama 0.2.18 (llama.cpp b9190).
"""

import argparse
import io
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import gguf
import sentencepiece
import torch
import transformers as tf
from cyllama.llama import llama_cpp as lc
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent / "checkpoints"
VOCAB = 288
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
CORPUS = ["The cat sat on the mat, and the other cats sat there too.", "Where is the nearest station? It is over there.",
          "There are 12345 reasons to stay; 67 of them are good.", "the then there these other another mother brother"] * 4
TEXTS = ["The cat is over there.", "  two  spaces, and\n\na line\t", "12345 (x) 6,7", "I'LL say it's größer – 中文 🙂", "",
         "the</s><|im_end|><s>there"]


def byte_level(split, special, **settings):
    """Byte-level BPE with the bytes, a few merges and `special` tokens."""
    tokenizer = Tokenizer(models.BPE(**settings))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def split_by(regex):
    return [pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def llama(folder):
    tokenizer = byte_level(split_by(LLAMA3), ["<s>", "</s>", "<|im_end|>"], ignore_merges=True)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "chat_template": "{{ messages }}"}
    return tokenizer, settings


def qwen2(folder):
    tokenizer = byte_level(split_by(QWEN2), ["<|endoftext|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer, {"add_bos_token": False, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                       "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]}


def qwen3(folder):
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(digits, ["<|endoftext|>"]), {"eos_token": "<|endoftext|>"}


def t5(folder):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=50, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, normalization_rule_name="identity", user_defined_symbols=["<2de>"], minloglevel=2)
    (folder / "spiece.model").write_bytes(model.getvalue())
    return None, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
                  "added_tokens_decoder": {"50": {"content": "<extra_id_0>", "special": True}}}


SHAPE = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=64)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=32)
MODELS = {
    "llama": (llama, gguf.MODEL_ARCH.LLAMA, torch.bfloat16, "10GB", lambda: tf.LlamaForCausalLM(
        tf.LlamaConfig(rope_parameters=LLAMA3_ROPE, attention_bias=True, **SHAPE))),
    "qwen2": (qwen2, gguf.MODEL_ARCH.QWEN2, torch.float32, "10GB", lambda: tf.Qwen2ForCausalLM(
        tf.Qwen2Config(tie_word_embeddings=True, **SHAPE))),
    "qwen3": (qwen3, gguf.MODEL_ARCH.QWEN3, torch.float16, "8KB", lambda: tf.Qwen3ForCausalLM(
        tf.Qwen3Config(tie_word_embeddings=True, head_dim=12, **SHAPE))),
    "t5": (t5, gguf.MODEL_ARCH.T5, torch.bfloat16, "10GB", lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=64, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=1, num_heads=2,
                    decoder_start_token_id=0))),
    # T5 1.1 and Flan-T5: a gate, and an output matrix of its own.
    "t5-gated": (t5, gguf.MODEL_ARCH.T5, torch.bfloat16, "10GB", lambda: untied(tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=64, d_model=16, d_kv=12, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=2,
                    feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0)))),
}


def untied(model):
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


def randomize(model):
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            values = torch.randn(tensor.shape, generator=draw)
            if "norm" in name:
                values = 1 + 0.1 * values
            elif tensor.dim() == 2 and "relative" not in name and "shared" not in name:
                values *= 2 / tensor.shape[-1] ** 0.5
            tensor.copy_(values)


def names(arch, model):
    """What llama.cpp's converter calls the tensors."""
    table = gguf.get_tensor_name_map(arch, 8)
    found = []
    for name, _ in model.named_parameters():
        to = table.get_name(name, try_suffixes=(".weight", ".bias"))
        assert to, name
        found.append(to)
    return sorted(found)


# --- greedy search ----------------------------------------------------------------------------------------------------

LIMIT, END, INPUTS = 20, 1, 12
# The likeliest token must be so by this much, or how numbers are rounded would decide.
MARGIN = 0.1

lc.disable_logging()


def greedy(folder, model, pupil):
    draw = torch.Generator().manual_seed(3)
    inputs, answers = [], []
    while len(inputs) < INPUTS:
        length = int(torch.randint(1, 24, (), generator=draw))
        ids = torch.randint(3, model.config.vocab_size, (length,), generator=draw).tolist() + [END]
        answer, margin = by_transformers(model, ids)
        if margin > MARGIN:
            inputs.append(ids)
            answers.append(answer)
    theirs = {}
    for kind in ["f32", "f16"]:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"{kind}.gguf"
            subprocess.run([pupil, "convert", folder, "-o", path, "--type", kind], check=True, stdout=subprocess.DEVNULL)
            theirs[kind] = by_llama_cpp(path, inputs)
    for kind, them in theirs.items():
        print(f"{folder.name} in {kind}: llama.cpp gives {sum(a == b for a, b in zip(them, answers))} of {INPUTS} answers")
    return dict(inputs=inputs, limit=LIMIT, transformers=answers, llama_cpp=theirs)


def by_transformers(model, ids):
    """The answer, and how much likelier than any other its tokens are at least."""
    got = model.generate(torch.tensor([ids]), max_new_tokens=LIMIT, do_sample=False, num_beams=1, output_logits=True,
                         return_dict_in_generate=True)
    best = torch.cat(got.logits).topk(2).values
    return got.sequences[0, 1:].tolist(), (best[:, 0] - best[:, 1]).min().item()


def by_llama_cpp(path, inputs):
    """f32 key/value cache, no flash attention, one thread."""
    model = lc.LlamaModel(str(path), lc.LlamaModelParams(), verbose=False)
    assert model.has_encoder() and model.has_decoder()
    params = lc.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = 64
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = gguf.GGMLQuantizationType.F32
    params.flash_attn_type = 0
    likeliest = lc.LlamaSampler(lc.LlamaSamplerChainParams())
    likeliest.add_greedy()
    found = []
    for ids in inputs:
        context = lc.LlamaContext(model, params, verbose=False)
        run(context.encode, ids, 0)
        tokens = [model.decoder_start_token()]
        while len(tokens) <= LIMIT and tokens[-1] != END:
            run(context.decode, tokens[-1:], len(tokens) - 1)
            tokens.append(likeliest.sample(context, -1))
        found.append(tokens[1:])
    return found


def run(how, ids, position):
    batch = lc.LlamaBatch(n_tokens=len(ids), embd=0, n_seq_max=1)
    for i, token in enumerate(ids, position):
        batch.add(token, i, [0], True)
    how(batch)


# --- all of it --------------------------------------------------------------------------------------------------------


def main(pupil):
    shutil.rmtree(HERE, ignore_errors=True)
    for name, (make, arch, dtype, shard, build) in MODELS.items():
        folder = HERE / name
        folder.mkdir(parents=True)
        model = build().eval()
        randomize(model)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink(missing_ok=True)
        model = model.float()
        tokenizer, settings = make(folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        if tokenizer:
            # Text that looks like a special token is plain text to us.
            (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False))
            tokenizer.encode_special_tokens = True
            ids = [tokenizer.encode(text).ids for text in TEXTS]
        else:
            spiece = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
            ids = [spiece.encode(text, add_eos=True) for text in TEXTS]
        draw = torch.Generator().manual_seed(2)
        inputs = torch.randint(3, model.config.vocab_size, (1, 9), generator=draw)
        is_t5 = arch == gguf.MODEL_ARCH.T5
        more = {"decoder_input_ids": torch.tensor([[0]])} if is_t5 else {}
        with torch.no_grad():
            logits = model(input_ids=inputs, **more).logits[0, -1]
        expected = dict(texts=TEXTS, ids=ids, input=inputs[0].tolist(), tensors=names(arch, model),
                        logits=[round(x, 5) for x in logits.tolist()])
        if is_t5:
            expected["greedy"] = greedy(folder, model, pupil)
        (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False))
        print(name, {p.name: p.stat().st_size for p in sorted(folder.iterdir())})


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--pupil", default="target/release/pupil", help="our binary")
    main(options.parse_args().pupil)
