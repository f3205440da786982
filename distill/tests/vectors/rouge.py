"""ROUGE-L as the PyPI package rouge-score computes it without stemming: writes rouge.json.

    pip install rouge-score; python3 rouge.py
"""

import json
import os
import random

from rouge_score import rouge_scorer

random.seed(5)
WORDS = "the a cat dog sat on mat it's 42 x2 Über naïve İstanbul don't e-mail U.S. 3.5% _under_ \u212a ... ! 你好 Hello, HELLO".split()
FIXED = [("", ""), ("a", ""), ("", "a"), ("!!!", "???"), ("The cat.", "the CAT"), ("a b c d", "d c b a"),
         ("Übermut tut gut", "ubermut tut gut"), ("one\ntwo\tthree", "one two three"), ("a\u00a0b", "a b")]


def main():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    cases = []
    for i in range(160):
        pair = FIXED[i] if i < len(FIXED) else [" ".join(random.choices(WORDS, k=random.randint(1, 25))) for _ in range(2)]
        score = scorer.score(target=pair[0], prediction=pair[1])["rougeL"].fmeasure
        cases.append({"reference": pair[0], "candidate": pair[1], "rouge_l": score})
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rouge.json")
    with open(path, "w") as file:
        json.dump(cases, file)


main()
