"""The bag-of-words baselines: what a weekend with scikit-learn gives on the same rows. Prints one line for each model.

Messages: TF-IDF over words and word pairs into a logistic regression. Entities: a logistic regression over each word,
its shape and ending, and its neighbours, read out as IOB2. Run: .venv/bin/python examples/support/baseline.py
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from llmos.evaluation.counts import entities as counted
from llmos.evaluation.counts import total

HERE = Path(__file__).resolve().parent
Sentence = list[tuple[str, str]]


def intents(split: str, folder: Path = HERE) -> tuple[list[str], list[str]]:
    """The messages of a split and their labels."""
    with (folder / f"intents.{split}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def entities(split: str, folder: Path = HERE) -> list[Sentence]:
    """The sentences of a split, each a list of (word, tag)."""
    blocks = (folder / f"entities.{split}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    return [[(line.split(" ")[0], line.split(" ")[1]) for line in block.splitlines()] for block in blocks]


def shape(word: str) -> str:
    """The word with letters and digits made alike: `Ab-12` -> `Xx-00`."""
    return re.sub(r"[0-9]", "0", re.sub(r"[a-z]", "x", re.sub(r"[A-Z]", "X", word)))


def features(words: list[str], at: int) -> dict[str, str]:
    """What the baseline sees of one word."""
    padded = ["<s>", *words, "</s>"]
    word = words[at]
    return {
        "word": word.lower(),
        "before": padded[at].lower(),
        "after": padded[at + 2].lower(),
        "shape": shape(word),
        "end": word[-3:].lower(),
    }


def classify_accuracy(folder: Path = HERE) -> float:
    """Test accuracy of the bag of words on the messages."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )
    model.fit(*intents("train", folder))
    return float(model.score(*intents("test", folder)))


def tag_f1(folder: Path = HERE) -> float:
    """Test F1 over whole entities of the word-by-word regression."""
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=10, max_iter=2000))
    train = [([word for word, _ in sentence], [tag for _, tag in sentence]) for sentence in entities("train", folder)]
    model.fit(
        [features(words, i) for words, _ in train for i in range(len(words))], [t for _, tags in train for t in tags]
    )
    test = [([word for word, _ in sentence], [tag for _, tag in sentence]) for sentence in entities("test", folder)]
    found = [[str(t) for t in model.predict([features(words, i) for i in range(len(words))])] for words, _ in test]
    return total(counted([tags for _, tags in test], found)).rates()["f1"]


if __name__ == "__main__":
    classify, tag = classify_accuracy(), tag_f1()
    if "--json" in sys.argv:
        print(json.dumps({"classify": classify, "tag": tag}))
    else:
        print(f"classify accuracy {classify:.3f}  (TF-IDF + logistic regression)")
        print(f"tag      f1       {tag:.3f}  (word features + logistic regression)")
