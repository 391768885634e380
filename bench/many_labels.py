"""Many labels of a few rows each: how long `llmos train` by its defaults takes on 150 labels of 8 rows, by the clock.

No shared set has so many labels. So a label is here what a news sentence of CoNLL-2003 is about: the only one that it
names of the entities that most sentences name. The rows that validate and test are a part of these, as by default.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench.data import Sentence, conll
from bench.kept_runs import Asking, kept, measured, run, version_of
from bench.record import Figure, Target, revision
from bench.stop import Stop
from llmos.abi.json_type import Json

NAME = "entities"  # among the sets
FOLDER, FILE = "conll2003", "eng.train"
LABELS, EACH = 150, 8
MOST_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training took by the clock and of processor time, and its accuracy with the 95 % interval."""

    seconds: float
    cpu_s: float
    value: float
    low: float
    high: float
    method: str
    revision: str


def measure_many(
    source: Path, home: Path, box: Asking, seeds: Sequence[int], labels: int = LABELS, each: int = EACH
) -> list[Figure]:
    """A training by every seed, on rows that it draws from the sentences in this folder."""
    sentences = conll(source / FILE)
    found = [_outcome(home, box, draw_about(sentences, labels, each, seed), seed) for seed in seeds]
    title = f"{NAME}, {labels} labels of {each} rows"
    seconds, values = [one.seconds for one in found], [one.value for one in found]
    revisions = ", ".join(dict.fromkeys(one.revision for one in found))
    note = f"{mean(one.cpu_s for one in found):,.0f} s of processor time each; revision {revisions}"
    target = Target(MOST_S, at_most=True)
    on_test = "; ".join(f"{one.method}, {one.low:.4f} to {one.high:.4f}" for one in found)
    return [
        Figure(f"{title}: training, by the clock", mean(seconds), "s", min(seconds), max(seconds), target, note),
        Figure(f"{title}: accuracy", mean(values), "", min(values), max(values), note=on_test),
    ]


def draw_about(sentences: Sequence[Sentence], labels: int, each: int, seed: int) -> list[tuple[str, str]]:
    """Texts with what they are about, as many of every label; Stop if there are not so many."""
    named = [(" ".join(words), entities_of(words, tags)) for words, tags in sentences]
    counts = Counter(entity for _, entities in named for entity in entities)
    most = {entity for entity, _ in counts.most_common(2 * labels)}
    about: dict[str, dict[str, None]] = defaultdict(dict)  # no text twice
    for text, entities in named:
        if len(only := entities & most) == 1:
            about[next(iter(only))][text] = None
    full = [entity for entity, _ in counts.most_common(2 * labels) if len(about[entity]) >= each][:labels]
    if len(full) < labels:
        raise Stop(f"{len(full)} entities have {each} sentences of their own, and {labels} are wanted")
    drawn = random.Random(f"{seed} many")
    return [(text, entity) for entity in full for text in drawn.sample(list(about[entity]), each)]


def entities_of(words: Sequence[str], tags: Sequence[str]) -> set[str]:
    """The entities that a sentence names, in IOB2, each by its words in lower case."""
    found: list[list[str]] = []
    for word, tag in zip(words, tags, strict=True):
        if tag.startswith("B-"):
            found.append([word])
        elif tag.startswith("I-"):
            found[-1].append(word)
    return {" ".join(one).lower() for one in found}


def _outcome(home: Path, box: Asking, rows: Sequence[tuple[str, str]], seed: int) -> Outcome:
    """The kept outcome of a training on these rows, or that of the training itself."""
    text = "".join(json.dumps({"text": one, "label": label}, ensure_ascii=False) + "\n" for one, label in rows)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    place = home / f"{NAME}-{seed}-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    file = place / "few.jsonl"
    file.write_text(text)
    recipe: dict[str, Json] = {
        "task": "classify",
        "name": f"few-{NAME}-{seed}-{digest}",
        "base": "minilm:1",
        "data": {"train": str(file)},
        "seed": seed,
    }

    def train() -> Outcome:
        process, clock = run(box, "train", recipe, priority="interactive", clock=place / "clock.json")
        version = version_of(box, process)
        found = measured(version, "accuracy")
        print(f"{NAME}, seed {seed}: {clock.seconds:,.0f} s, accuracy {found.value:.4f}", flush=True)
        method = str(version["lineage"]["recipe"]["method"])
        return Outcome(clock.seconds, clock.all_cpu_s, found.value, found.low, found.high, method, revision())

    return kept(place / "outcome.json", Outcome, train)
