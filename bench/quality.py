"""Quality of the fine-tuning defaults: what `llmos train` reaches on the public sets, and what rounding loses of it."""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench import data
from bench.box import Box, Json, until
from bench.record import Figure, Record, Target
from bench.stop import Stop

T = TypeVar("T")
MB = 1e6
WITHIN = 0.02  # LoRA's metric below full fine-tuning's, at most
SMALL = Target(3.0, at_most=True)  # adapter and head, MB
TRAINED = ("adapter", "head")
MAX_DROP = 0.01  # what int8 may lose before `llmos quantize` refuses, unless told another number
CUT_EPOCHS = 5.0  # of a cut, which is to show what int8 loses and not what the defaults reach
ROUNDED = ("int8",)  # in what dtypes a trained model is measured again


@dataclass(frozen=True, slots=True)
class Set:
    """One data set as it is trained on, and what full fine-tuning is to reach on its test rows."""

    name: str
    task: str
    folder: str
    train: str
    test: str
    validation: str | None
    metric: str
    target: float
    epochs: float | None = None

    def recipe(self, folder: Path, method: str) -> Json:
        place = data.need(folder, self.folder)
        rows = {"train": str(place / self.train), "test": str(place / self.test)}
        if self.validation:
            rows["validation"] = str(place / self.validation)
        asked = {"task": self.task, "name": self.model(method), "base": "minilm", "method": method, "data": rows}
        return asked | ({"epochs": self.epochs} if self.epochs else {})

    def cut(self, folder: Path, to: Path, count: int) -> Set:
        """So many of its training rows, written in the same format, drawn with one seed; all of its test rows."""
        place = data.need(folder, self.folder)
        made = to / f"{self.folder}-{count}"
        made.mkdir(parents=True, exist_ok=True)
        (made / self.train).write_text(drawn(place / self.train, count))
        shutil.copyfile(place / self.test, made / self.test)
        name = f"{self.name}-{count}"
        return replace(self, name=name, folder=made.name, validation=None, target=0.0, epochs=CUT_EPOCHS)

    def model(self, method: str) -> str:
        return self.name if method == "full" else f"{self.name}-{method}"


SETS = (
    Set("ner", "tag", "conll2003", "eng.train", "eng.testb", "eng.testa", "f1", 0.865),
    Set("sst2", "classify", "sst2", "train.tsv", "test.tsv", "dev.tsv", "accuracy", 0.89),
    Set("banking", "classify", "banking77", "train.csv", "test.csv", None, "accuracy", 0.93),
)


def measure(folder: Path, home: Path, *, mode: str, count: int | None = None) -> Record:
    """Every set by both methods (quick: by LoRA alone; of a cut: full alone), and each model's metric when rounded.

    A version that this home has already is not trained again.
    """
    methods = ("full",) if count else ("full", "lora") if mode == "full" else ("lora",)
    sets = tuple(one.cut(folder, home / "cuts", count) for one in SETS) if count else SETS
    where = home / "cuts" if count else folder
    found: dict[tuple[str, str], Json] = {}
    rounded: dict[tuple[str, str, str], float] = {}
    with Box(home) as box:
        box.base()
        for one in sets:
            for method in methods:
                recipe = one.recipe(where, method)
                found[one.name, method] = model = _promoted_version(box, recipe)
                for dtype in ROUNDED:
                    rounded[one.name, method, dtype] = _again(
                        box, model["ref"], recipe["data"]["test"], one.metric, dtype
                    )
        dtype = box.device()["dtype"]
    trained = f"{count:,} rows, {CUT_EPOCHS:g} epochs" if count else "all by default"
    settings = {"base": "minilm", "dtype": dtype, "settings": trained}
    shown = [figure for one in sets for method in methods for figure in _figures(one, method, found, rounded)]
    return Record("quality", "cut" if count else mode, settings, tuple(shown))


def drawn(file: Path, most: int) -> str:
    """So many rows of a data set's file, as it has them: of CSV with its header, lines of TSV, sentences of columns."""
    with file.open(newline="", encoding="utf-8") as text:
        if file.suffix == ".csv":
            rows = list(csv.reader(text))
            made = io.StringIO(newline="")
            csv.writer(made).writerows([rows[0], *_some(rows[1:], most)])
            return made.getvalue()
        between = "\n" if file.suffix == ".tsv" else "\n\n"
        found = text.read().split(between)
        kept = [row for row in found if row.strip() and not row.lstrip().startswith("-DOCSTART-")]
        return between.join(_some(kept, most)) + "\n"


def _some(rows: list[T], most: int) -> list[T]:
    return random.Random(7).sample(rows, min(most, len(rows)))


def _figures(
    one: Set, method: str, found: dict[tuple[str, str], Json], rounded: dict[tuple[str, str, str], float]
) -> Iterator[Figure]:
    model, full = found[one.name, method], found.get((one.name, "full"))
    value, title = float(model["metrics"][one.metric]), f"{one.name}, {'LoRA' if method == 'lora' else method}"
    target = one.target if method == "full" else (full["metrics"][one.metric] if full else one.target) - WITHIN
    held = Target(round(target, 4)) if one.target else None
    yield Figure(f"{title}: {one.metric}", value, target=held, note=_how(model))
    for dtype in ROUNDED:
        reached = rounded[one.name, method, dtype]
        note = f"{max(value - reached, 0.0):.4f} lost, and quantize allows {MAX_DROP:g}"
        yield Figure(f"{title}: {one.metric} in {dtype}", reached, target=Target(round(value - MAX_DROP, 4)), note=note)
    if method == "lora":
        size = sum(file["size_bytes"] for file in model["files"] if file["part"] in TRAINED)
        yield Figure(f"{title}: adapter and head", size / MB, "MB", target=SMALL)


def _how(model: Json) -> str:
    lineage = model["lineage"]
    epochs = lineage["recipe"]["epochs"]
    return f"{epochs:g} epochs, {lineage['trained_s'] / 60:.0f} min, {lineage['rate']:.0f} examples/s"


def _promoted_version(box: Box, recipe: Json) -> Json:
    """The promoted version of this name, trained now if there is none."""
    if not any(model["name"] == recipe["name"] for model in box.ask("GET", "/v1/models")["data"]):
        _run(box, {"program": "train", "args": recipe, "priority": "batch"}, f"the training of {recipe['name']}")
    return box.ask("GET", f"/v1/models/{recipe['name']}")


def _again(box: Box, ref: str, test: str, metric: str, dtype: str) -> float:
    """What the version reaches on these rows in this dtype, measured as `llmos quantize` does; nothing is made."""
    args = {"model": ref, "data": {"train": test}, "dtype": dtype}
    asked = {"program": "evaluate", "args": args, "priority": "batch"}
    return float(_run(box, asked, f"the evaluation of {ref} in {dtype}")["progress"]["figures"][metric])


def _run(box: Box, asked: Json, what: str) -> Json:
    """The process once it has ended well; Stop, with its reason, where it has not."""
    pid = box.ask("POST", "/v1/processes", asked)["pid"]
    ended = until(partial(box.process_if_ended, pid), what, every_s=1.0, within_s=4 * 3600.0)
    if ended["exit_code"] != 0:
        raise Stop(f"Failed: {what}: {ended['reason']}")
    return ended
