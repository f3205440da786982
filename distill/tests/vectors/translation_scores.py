#!/usr/bin/env python3
"""Writes translation_scores.json: sentences, and what sacrebleu 2.6.0 gives them.

    python translation_scores.py            # as it is committed
    python translation_scores.py N SEED     # N random cases, to stdout
"""

import json
import random
import sys
from pathlib import Path

import sacrebleu

PARTS = ["the", "cat", "sat", "on", "a", "mat", "Haus", "größer", "naïve", "l'été", "U.S.", "3,000", "1.5", "5-6", "-7",
         "e.g.", "(x)", "\"so\"", "&quot;q&quot;", "&amp;", "a&b", "«oui»", "„ja“", "中文", "字。", "¿qué?", "!", ".", ",", "?",
         "..", ",,", "—", "–", "€5", "$5.00", "100%", "x/y", "[b]", "{c}", "@me", "a_b", "~", "<skipped>", "<b>", "½", "٣",
         "🙂", "👩🏽‍🚀", "e\u0301", "\u00a0", "\u3000", "\u200b", "\t", "\x1f", "",  "co-op", "2-", "-", "--", "9.", ".9"]


def text(draw, n):
    return "".join(draw.choice(PARTS) + draw.choice([" ", " ", " ", "", "  "]) for _ in range(n))


def change(draw, sentence):
    words = sentence.split(" ")
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(words))
        words[at:at + draw.randrange(2)] = [draw.choice(PARTS) for _ in range(draw.randrange(2))]
        words = words or [""]
    return " ".join(words)


def case(draw):
    pairs = []
    several = draw.choice([1, 1, 2, 3])
    for _ in range(draw.choice([1, 1, 2, 5, 10])):
        references = [text(draw, draw.choice([0, 1, 2, 5, 12]))]
        references += [change(draw, references[0]) for _ in range(several - 1)]
        pairs.append((change(draw, references[0]), references))
    return pairs


def score(pairs):
    hypotheses = [h for h, _ in pairs]
    references = [list(r) for r in zip(*(r for _, r in pairs))]
    chrf = lambda words: sacrebleu.corpus_chrf(hypotheses, references, word_order=words).score
    bleu = {name: sacrebleu.corpus_bleu(hypotheses, references, tokenize=name) for name in ("13a", "intl", "char", "none")}
    usual = bleu["13a"]
    return dict(pairs=pairs, bleu={name: b.score for name, b in bleu.items()}, precisions=usual.precisions,
                brevity_penalty=usual.bp, words=usual.sys_len, reference_words=usual.ref_len,
                chrf=chrf(0), chrf_plus_plus=chrf(2))


BY_HAND = [
    [("The cat sat on a mat.", ["The cat sat on the mat."])],
    [("", [""])],
    [("", ["Something."])],
    [("Something.", [""])],
    [("Nothing alike", ["полностью другое"])],
    [("Das Haus ist größer.", ["Das Haus ist groß.", "Dieses Haus ist größer."]),
     ("Er kam um 5 Uhr.", ["Er ist um fünf gekommen.", "Er kam um fünf Uhr."])],
    [("It costs $1,000.50 (U.S.), i.e. 5-6 times more.", ["It costs US$1,000.50, that is 5 to 6 times more."])],
    [("one", ["one"]), ("two words", ["two words"]), ("now three words", ["now three words"])],
]


def main():
    if len(sys.argv) == 3:
        draw = random.Random(int(sys.argv[2]))
        json.dump([score(case(draw)) for _ in range(int(sys.argv[1]))], sys.stdout, ensure_ascii=False)
        return
    draw = random.Random(1)
    cases = [score(pairs) for pairs in BY_HAND + [case(draw) for _ in range(60)]]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in cases)
    Path(__file__).with_suffix(".json").write_text(f"[\n{lines}\n]\n")


main()
