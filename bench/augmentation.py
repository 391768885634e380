"""Augmentation: a tenth of each set's rows with and without changed copies, by heads on frozen vectors and by training.

Each seed draws its own rows, copies and order, and both models are compared on the same test rows. Finished pairs are
kept in the bench's home: a bench that was stopped goes on with the next.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from bench import data
from bench.box import Box
from bench.engine import base_path
from bench.record import Figure, Record, Target
from bench.stop import Stop
from llmos.abi.augmentation import Augmentation
from llmos.abi.frame import ModelPath
from llmos.abi.recipe import Data, Recipe
from llmos.data.augmentation.added import AddedRow, add_rows
from llmos.data.augmentation.augmenter import Material
from llmos.data.reader import read_rows
from llmos.data.row import Row
from llmos.data.splits import Splits, key_of, make_splits
from llmos.evaluation.augmentation_gain import GainMeter
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.predictions import predict
from llmos.evaluation.statistics.comparison import Comparison, compare
from llmos.evaluation.statistics.samples import Sample
from llmos.nn.frozen_vectors import FrozenEncoder
from llmos.tasks import Settings
from llmos.tasks.tag import spans_of
from llmos.training.candidate import begin
from llmos.training.checkpoint import Checkpoints
from llmos.training.objectives import loss_of
from llmos.training.recipe import resolve
from llmos.training.trainer import Hooks, Trainer

SHARE = 0.1
SEEDS = (1, 2, 3)
MOST_TEST = 2000
HEAD_TEST = 1000
CONFIDENCE = 0.9  # of intervals: each end is a bound at 95 %
HEADS, TRAINED = "heads", "trained"


@dataclass(frozen=True, slots=True)
class TenthSet:
    """A data set of which a tenth is trained on, and the augmenters that were chosen for it before it was trained."""

    name: str
    task: str
    train: str
    test: str | None
    by: tuple[str, ...]
    tried: tuple[str, ...]  # by heads, each alone
    options: tuple[tuple[str, Any], ...] = ()  # Any: values of a recipe's options
    columns: tuple[str | None, str | None] = (None, None)  # of text and label


EDA = ("swap", "delete")
TEXTS = ("swap", "delete", "insert", "punctuate")
CUT = (("max_tokens", 128), ("truncate", True))
SETS = (
    TenthSet("banking77", "classify", "train.csv", "test.csv", EDA, TEXTS),
    TenthSet("conll2003", "tag", "eng.train", "eng.testb", ("mention",), ("mention", "token", "shuffle", "delete")),
    TenthSet("sst2", "classify", "train.tsv", "test.tsv", EDA, TEXTS),
    TenthSet("agnews", "classify", "test.csv", None, EDA, TEXTS, columns=("1,2", "0")),
    TenthSet("chnsenticorp", "classify", "hotel_reviews.csv", None, EDA, TEXTS, CUT),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """What one seed gave with copies (`ours`) and without them (`theirs`)."""

    ours: float
    theirs: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        return self.ours - self.theirs


def measure(folder: Path, home: Path, *, mode: str, names: str | None = None) -> Record:
    """Heads for each augmenter alone; with `full` first trainings with those that were chosen, by three seeds.

    `names`, by commas, are the sets, in the order in which they are measured; all of them if None.
    """
    sets = chosen_sets(names)
    with Box(home) as box:
        base = base_path(box.base())
    kept = home / "augmentation"
    kept.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    if mode == "full":
        gains = {one.name: _trained(folder, kept, base, one) for one in sets}
        figures += [figure for one in sets for figure in _gain_figures(one, gains[one.name])]
        beyond = sum(interval([pair.gain for pair in pairs])[0] > 0 for pairs in gains.values())
        figures.append(Figure("sets with a gain beyond its interval", beyond, target=Target(2)))
    for one in sets:
        figures += _spans(folder) if one.task == "tag" else ()
        figures += _heads(folder, kept, base, one)
    settings = {"base": "minilm", "share": SHARE, "seeds": SEEDS, "strength": 0.1, "copies": 1}
    return Record("augmentation", mode, {**settings, "sets": [one.name for one in sets]}, tuple(figures))


def chosen_sets(names: str | None) -> tuple[TenthSet, ...]:
    """The sets of these names, by commas; Stop for one that there is not."""
    if names is None:
        return SETS
    known = {one.name: one for one in SETS}
    asked = list(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not asked or not known.keys() >= set(asked):
        raise Stop(f"--sets is {names!r}. The sets are: {', '.join(known)}")
    return tuple(known[name] for name in asked)


def tenth(folder: Path, one: TenthSet, seed: int, rows_kept: int | None = None) -> Splits:
    """A tenth of the training rows, or `rows_kept`, parted as `llmos train` does it; of a set without test rows, others
    are these."""
    place = data.need(folder, one.name)
    how = Data("", text=one.columns[0], label=one.columns[1])
    rows: list[Row] = list(read_rows(str(place / one.train), how, one.task, dict(one.options)).rows)
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    count = rows_kept or round(SHARE * len(rows))
    train = [rows[i] for i in order[:count]]
    held: list[Row] = [rows[i] for i in order[count:]]
    if one.test is not None:
        held = list(read_rows(str(place / one.test), how, one.task, dict(one.options)).rows)
    taught, known = {kind for row in train for kind in row.kinds} | {"O"}, {key_of(row) for row in train}
    fair = [row for row in held if key_of(row) not in known and row.kinds <= taught]
    return make_splits(one.task, train, None, random.Random(seed).sample(fair, min(MOST_TEST, len(fair))), (0.1, 0.1))


def copies(one: TenthSet, splits: Splits, by: tuple[str, ...], seed: int) -> tuple[AddedRow, ...]:
    """A changed copy of each training row, none of which is a validation or test row."""
    held_out = {key_of(row) for row in (*splits.validation, *splits.test)}
    return add_rows(Material(one.task, splits.train), Augmentation(by, seed=seed), held_out).rows


def interval(gains: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean gain over the seeds."""
    if len(gains) < 2:
        return -math.inf, math.inf
    reach = float(student.ppf((1 + CONFIDENCE) / 2, len(gains) - 1)) * stdev(gains) / math.sqrt(len(gains))
    return mean(gains) - reach, mean(gains) + reach


def _spans(folder: Path) -> Iterator[Figure]:
    """Copies of all rows of CoNLL-2003 whose entities are not those of their rows; there must be none."""
    one = next(found for found in SETS if found.name == "conll2003")
    rows = list(read_rows(str(data.need(folder, one.name) / one.train), Data(""), one.task, {}).rows)
    for by in ("delete", "insert", "swap", "punctuate", "keyboard", "ocr", "typo", "mention", "shuffle", "token"):
        found = add_rows(Material(one.task, rows), Augmentation((by,)), ()).rows
        wrong = sum(not keeps_entities(rows[copy.parent], copy.row, by) for copy in found)
        note = f"{len(found):,} copies of {len(rows):,} rows"
        yield Figure(f"conll2003, {by}: copies with other entities", wrong, target=Target(0, at_most=True), note=note)


def keeps_entities(row: Any, copy: Any, by: str) -> bool:  # Any: rows of tags
    """Whether the copy has the row's entities: their labels in order, and their words where words may not change."""
    before, after = (
        [(label, one.input["tokens"][first:end]) for label, first, end in spans_of(one.tags)] for one in (row, copy)
    )
    if by in ("delete", "insert", "swap", "punctuate"):
        return before == after
    return [label for label, _ in before] == [label for label, _ in after]


def _heads(folder: Path, kept: Path, base: ModelPath, one: TenthSet) -> Iterator[Figure]:
    found: dict[str, list[Pair]] = {by: [] for by in one.tried}
    for seed in SEEDS:
        missing = [by for by in one.tried if _read(kept, one, HEADS, by, seed) is None]
        if missing:
            splits = tenth(folder, one, seed)
            encoder = FrozenEncoder(base)
            settings = Settings(splits.labels, dict(one.options), encoder.max_tokens)
            meter = GainMeter(one.task, replace(splits, validation=splits.test[:HEAD_TEST]), encoder, settings)
            for by in missing:
                gain = meter.gain(copies(one, splits, (by,), seed))
                assert gain is not None, f"{one.name}: no copy by {by}"
                _write(kept, one, HEADS, by, seed, gain.comparison)
        for by in one.tried:
            pair = _read(kept, one, HEADS, by, seed)
            assert pair is not None
            found[by].append(pair)
    for by, pairs in found.items():
        low, high = interval([pair.gain for pair in pairs])
        without = mean(pair.theirs for pair in pairs)
        note = f"{without:.4f} without; each seed: {', '.join(f'{pair.gain:+.4f}' for pair in pairs)}"
        yield Figure(f"{one.name}, heads, {by}: gain", mean(pair.gain for pair in pairs), "", low, high, note=note)


def _trained(folder: Path, kept: Path, base: ModelPath, one: TenthSet) -> list[Pair]:
    pairs = []
    for seed in SEEDS:
        by = ",".join(one.by)
        pair = _read(kept, one, TRAINED, by, seed)
        if pair is None:
            splits = tenth(folder, one, seed)
            without = train(base, one, splits, (), seed)
            added = train(base, one, splits, copies(one, splits, one.by, seed), seed)
            found = compare(added, without, "f1" if one.task == "tag" else "accuracy")
            assert found is not None
            _write(kept, one, TRAINED, by, seed, found)
            pair = _read(kept, one, TRAINED, by, seed)
        assert pair is not None
        pairs.append(pair)
        print(f"{one.name}, seed {seed}: {pair.theirs:.4f} without, {pair.ours:.4f} with", flush=True)
    return pairs


def train(
    base: ModelPath,
    one: TenthSet,
    splits: Splits,
    added: Sequence[AddedRow],
    seed: int,
    *,
    method: str = "full",
    dtype: str = "float32",
) -> Sample:
    """A training by the defaults of `llmos train`, and what it answers on the test rows."""
    rows = (*splits.train, *(copy.row for copy in added))
    asked = Recipe(
        task=one.task,
        name="bench",
        base="minilm",
        data=Data(""),
        method=method,
        options=dict(one.options),
        seed=seed,
        checkpoint_every_s=math.inf,
    )
    recipe = resolve(asked, len(rows), len(splits.labels))
    candidate = begin(base, recipe, len(splits.labels), dtype, "cpu0")
    limit = int(recipe.options.get("max_tokens", candidate.loaded.max_tokens))
    evaluator = Evaluator(candidate, one.task, Settings(splits.labels, recipe.options, limit))
    examples, validation = evaluator.examples(rows), evaluator.examples(splits.validation)

    def validate() -> float:
        return evaluator.primary_metric(splits.validation, predict(candidate, one.task, validation, evaluator.settings))

    hooks = Hooks(report=lambda progress: None, stop_asked=lambda: False, validate=validate)
    with tempfile.TemporaryDirectory() as folder:
        loss = loss_of(recipe, len(splits.labels), None, candidate.head)
        Trainer(candidate, loss, examples, recipe, Checkpoints(Path(folder)), hooks, digest="").train()
    candidate.train(False)
    return evaluator.sample(splits.test, evaluator.predict(splits.test))


def _gain_figures(one: TenthSet, pairs: Sequence[Pair]) -> Iterator[Figure]:
    low, high = interval([pair.gain for pair in pairs])
    without = mean(pair.theirs for pair in pairs)
    note = f"{without:.4f} without; each seed: {', '.join(f'{pair.gain:+.4f}' for pair in pairs)}"
    title = f"{one.name}, trained, {','.join(one.by)}: gain"
    yield Figure(title, mean(pair.gain for pair in pairs), "", low, high, Target(0.0), note)


def _file(kept: Path, one: TenthSet, how: str, by: str, seed: int) -> Path:
    settings = json.dumps([asdict(one), how, by, seed, SHARE, MOST_TEST, HEAD_TEST], default=str)
    return kept / f"{one.name}-{how}-{by}-{seed}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}.json"


def _read(kept: Path, one: TenthSet, how: str, by: str, seed: int) -> Pair | None:
    file = _file(kept, one, how, by, seed)
    return Pair(**json.loads(file.read_text())) if file.exists() else None


def _write(kept: Path, one: TenthSet, how: str, by: str, seed: int, found: Comparison) -> None:
    pair = Pair(found.ours, found.theirs, found.low, found.high)
    _file(kept, one, how, by, seed).write_text(json.dumps(asdict(pair)))
