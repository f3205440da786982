"""Writes unigram.json: small SentencePiece unigram vocabularies and the ids that SentencePiece gives, for
tests/tokenizers.rs.

Requirements (PyPI): sentencepiece==0.2.3, protobuf.
Run:                 python tests/vectors/unigram.py

The vocabularies are trained here, on TEXT below. The file is

    {"<name>": {"tokens", "scores", "types", "add_space_prefix", "remove_extra_whitespaces", "charsmap" (base64),
                "unk", "eos", "pad", "cases": [[text, ids, the text that SentencePiece decodes], ...]}, ...}

    nfkc    T5's settings, with normalisation rules like T5's (nmt_nfkc) for a part of Unicode
    bytes   the same with byte fallback
    spaces  no normalisation, all spaces kept, no space in front
"""

import base64
import io
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

TEXT = """\
The small boat left the harbour before the sun came up, and nobody on the quay saw it go.
My grandmother kept bees behind the house; in summer the whole garden hummed.
How many eggs do you need for the cake? Three, or four if they are small.
The train to the mountains leaves at 7.45 from platform 2, but on Sundays there is none.
She opened the window, listened for a while, and closed it again without a word.
We walked along the river until the path ended at an old stone bridge.
Please write your name here, and the number of the room where you are staying.
It rained for twelve days; on the thirteenth the cellar was full of water.
Der kleine Laden an der Ecke verkauft Brot, Butter und manchmal auch Blumen.
Meine Schwester wohnt im dritten Stock, gleich neben der Bücherei.
Können Sie mir bitte sagen, wie spät es ist? Ich habe meine Uhr vergessen.
Im Winter heizen wir den Ofen mit Holz, das wir im Herbst gesägt haben.
Die Brücke über den Fluss ist gesperrt, deshalb fahren wir außen herum.
Zum Frühstück gibt es Äpfel, Käse und heißen Tee.
La petite maison au bout du chemin est vide depuis des années.
Où avez-vous appris à nager ? Dans le lac, près de chez mes parents.
L'été, les enfants dorment dans le jardin et comptent les étoiles.
Il a perdu ses clés, son chapeau et, pour finir, sa patience.
Naše kočka spí celý den na okně a večer chce ven.
Vlak přijede ve čtvrt na osm, pokud nebude mít zpoždění.
Děti si hrály na dvoře, dokud je maminka nezavolala k obědu.
Kde jste koupili tu krásnou modrou vázu? Na trhu u kostela.
Ein Meter hat 100 Zentimeter, ein Kilometer 1000 Meter.
Bread costs 3.20, milk 1.15, and a dozen eggs 4.80 at the market.
The letters were tied with a ribbon and hidden under the floor of the attic.
Wenn der Wind dreht, riecht man das Meer bis in die Stadt.
Un oiseau chante, puis un autre lui répond de l'autre rive.
Když napadl sníh, ztichla celá ulice.
"""

CASES = [
    "", " ", "   \t\n", "a", "Hello", " Hello  world ", "the house", "theeeee", "aaaaaaaaaaaaaaa", "!!!!!!!", "1000 m 3.20",
    "Bücher über Brücken", unicodedata.normalize("NFD", "Bücher über Brücken, děti, années"), "ＦＵＬＬ　ｗｉｄｔｈ１２３",
    "ﬁne ﬂowers oﬃce", "①②③ ½ ™ ㎏ Ⅷ", "\u200bzero\u200dwidth\ufeff", "soft\u00adhyphen", "日本語 中文", "привет мир",
    "한국어 각", "😀👩‍👩‍👧🏽", "ﷺ", "a\u0301\u0323b", "\u0301leading mark", "\x00nul\x00", "\x01\x1f\x7fcontrol\x85", "▁the▁house▁",
    "▁▁ two", "tab\tand\nlines\r\n", "\u00a0nbsp\u2003em\u3000wide", "</s><unk><pad><0x41>", "x" * 200, "é" * 60,
    "\U00100000\U0001d400", "L'été à Noël: où ça?", "Kde jste? Na trhu.", "ends with space ", "…—“quoted”«fr»",
]


def rules():
    """NFKC for a part of Unicode, as in nmt_nfkc: white space to spaces, most controls and zero width marks removed."""
    blocks = [(0xA0, 0x250), (0x1E00, 0x1F00), (0x2000, 0x2030), (0x2150, 0x2190), (0x2460, 0x2474), (0x3000, 0x3001),
              (0x3380, 0x33A0), (0xFB00, 0xFB07), (0xFDFA, 0xFDFB), (0xFF01, 0xFF5F), (0x1D400, 0x1D41A)]
    out = {chr(c): "" for c in [*range(1, 9), 11, *range(14, 32), 0x7F, 0xAD]}
    out |= {chr(c): " " for c in (9, 10, 12, 13, 0x200B, 0x200C, 0x200E, 0xFEFF, 0x85, 0x2028, 0x2581)}
    for char in (chr(c) for first, end in blocks for c in range(first, end)):
        composed = unicodedata.normalize("NFKC", char)
        if composed != char:
            out.setdefault(char, composed)
        apart = unicodedata.normalize("NFD", char)
        if apart != char and unicodedata.normalize("NFC", apart) == char:
            out[apart] = composed
    code_points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    return "".join(f"{code_points(a)}\t{code_points(b)}\n" for a, b in sorted(out.items()))


def train(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, num_threads=1, minloglevel=2, **options)
    return model.getvalue()


def noise(rng):
    """A text of words of TEXT, odd characters and runs of spaces."""
    odd = "éüßřž\u0301\u0308ＡｂﬁⅧ\u200b\ufeff😀日本각привет\x00\x07\t\n\u00a0\u3000▁…—½"
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.6:
            parts.append(rng.choice(TEXT.split()))
        elif kind < 0.8:
            parts.append("".join(rng.choice(odd) for _ in range(rng.randint(1, 4))))
        else:
            parts.append(rng.choice("aelmst0.!-") * rng.randint(1, 9))
        parts.append(rng.choice(["", " ", " ", "  "]))
    text = "".join(parts)
    return unicodedata.normalize("NFD", text) if rng.random() < 0.2 else text


def entry(model, texts):
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    rules = proto.normalizer_spec
    return {
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "types": [piece.type for piece in proto.pieces],
        "add_space_prefix": rules.add_dummy_prefix,
        "remove_extra_whitespaces": rules.remove_extra_whitespaces,
        "charsmap": base64.b64encode(rules.precompiled_charsmap).decode(),
        "unk": 2, "eos": 1, "pad": 0,
        "cases": [[text, ids, processor.decode(ids)] for text in texts for ids in [processor.encode(text)]],
    }


def train_all(table):
    common = {"normalization_rule_tsv": table}
    return {
        "nfkc": train(vocab_size=300, **common),
        "bytes": train(vocab_size=500, byte_fallback=True, **common),
        "spaces": train(vocab_size=300, normalization_rule_name="identity", remove_extra_whitespaces=False,
                        add_dummy_prefix=False),
    }


def main():
    rng = random.Random(1)
    texts = CASES + [noise(rng) for _ in range(120)]
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as table:
        table.write(rules())
        table.flush()
        models = train_all(table.name)

    out = {name: entry(model, texts) for name, model in models.items()}
    # Both have the same rules.
    assert out["bytes"]["charsmap"] == out["nfkc"]["charsmap"]
    out["bytes"]["charsmap"] = "as nfkc"
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
