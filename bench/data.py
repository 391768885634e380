"""The texts and sentences the benches run on, read from the folder of public data sets beside the project."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from bench.stop import Stop

DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

Sentence = tuple[list[str], list[str]]  # words and their tags


def need(data: Path, name: str) -> Path:
    """The folder of one data set; Stop, with what is wanted and where, if it is not there."""
    folder = data / name
    if not folder.is_dir():
        raise Stop(
            f"This bench runs on the data set {name!r} and found no folder {folder}. "
            "Put it there, or say with --data where the folder that holds it lies"
        )
    return folder


def ragged_texts(data: Path, count: int, seed: int = 7) -> list[str]:
    """Real texts of very different lengths in no order: short questions, single sentences, news items."""
    news = [f"{title}. {text}" for _, title, text in _csv(need(data, "agnews") / "test.csv")]
    questions = [row[0] for row in _csv(need(data, "banking77") / "test.csv")[1:]]
    sentences = [" ".join(words) for words, _ in conll(need(data, "conll2003") / "eng.testa")]
    drawn = random.Random(seed)
    texts = [drawn.choice(drawn.choice((news, questions, sentences))) for _ in range(count)]
    return [" ".join(text.split()) for text in texts]


def conll(path: Path) -> list[Sentence]:
    """Sentences of a CoNLL-2003 file with their tags as IOB2 (the file has IOB1)."""
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    for line in [*path.read_text().splitlines(), ""]:
        if line.startswith("-DOCSTART-"):
            continue
        if line:
            columns = line.split()
            words.append(columns[0])
            tags.append(columns[-1])
        elif words:
            sentences.append((words, iob2(tags)))
            words, tags = [], []
    return sentences


def iob2(tags: list[str]) -> list[str]:
    """IOB1 (B- only between two entities of a kind that touch) as IOB2 (every entity starts with B-)."""
    made = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        continues = tag.startswith("I-") and before[2:] == tag[2:]
        made.append(tag if tag == "O" or continues else f"B-{tag[2:]}")
    return made


def _csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))
