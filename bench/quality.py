"""Quality of the fine-tuning defaults: what `llmos train` reaches on the public sets, by both methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import data
from bench.box import Box, Json, until
from bench.record import Figure, Record, Target
from bench.stop import Stop

MB = 1e6
WITHIN = 0.02  # LoRA's metric below full fine-tuning's, at most
SMALL = Target(3.0, at_most=True)  # adapter and head, MB
TRAINED = ("adapter", "head")


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

    def recipe(self, folder: Path, method: str) -> Json:
        place = data.need(folder, self.folder)
        rows = {"train": str(place / self.train), "test": str(place / self.test)}
        if self.validation:
            rows["validation"] = str(place / self.validation)
        return {"task": self.task, "name": self.model(method), "base": "minilm", "method": method, "data": rows}

    def model(self, method: str) -> str:
        return self.name if method == "full" else f"{self.name}-{method}"


SETS = (
    Set("ner", "tag", "conll2003", "eng.train", "eng.testb", "eng.testa", "f1", 0.865),
    Set("sst2", "classify", "sst2", "train.tsv", "test.tsv", "dev.tsv", "accuracy", 0.89),
    Set("banking", "classify", "banking77", "train.csv", "test.csv", None, "accuracy", 0.93),
)


def measure(folder: Path, home: Path, *, mode: str) -> Record:
    """Every set by both methods (quick: by LoRA alone); a version that this home has already is not trained again."""
    methods = ("full", "lora") if mode == "full" else ("lora",)
    found: dict[tuple[str, str], Json] = {}
    with Box(home) as box:
        box.base()
        for one in SETS:
            for method in methods:
                found[one.name, method] = _trained(box, one.recipe(folder, method))
    figures = [figure for one in SETS for figure in _figures(one, found)]
    return Record("quality", mode, {"base": "minilm", "settings": "all by default"}, tuple(figures))


def _figures(one: Set, found: dict[tuple[str, str], Json]) -> Iterator[Figure]:
    full, lora = found.get((one.name, "full")), found[one.name, "lora"]
    if full:
        value = full["metrics"][one.metric]
        yield Figure(f"{one.name}, full: {one.metric}", value, target=Target(one.target), note=_how(full))
    yield Figure(
        f"{one.name}, LoRA: {one.metric}",
        lora["metrics"][one.metric],
        target=Target(round((full["metrics"][one.metric] if full else one.target) - WITHIN, 4)),
        note=_how(lora),
    )
    size = sum(file["size_bytes"] for file in lora["files"] if file["part"] in TRAINED)
    yield Figure(f"{one.name}, LoRA: adapter and head", size / MB, "MB", target=SMALL)


def _how(model: Json) -> str:
    lineage = model["lineage"]
    epochs = lineage["recipe"]["epochs"]
    return f"{epochs:g} epochs, {lineage['trained_s'] / 60:.0f} min, {lineage['rate']:.0f} examples/s"


def _trained(box: Box, recipe: Json) -> Json:
    """The promoted version of this name, trained now if there is none."""
    if not any(model["name"] == recipe["name"] for model in box.ask("GET", "/v1/models")["data"]):
        pid = box.ask("POST", "/v1/processes", {"program": "train", "args": recipe, "class": "batch"})["pid"]
        ended = until(partial(box.ended, pid), f"the training of {recipe['name']}", every_s=1.0, within_s=4 * 3600.0)
        if ended["exit_code"] != 0:
            raise Stop(f"The training of {recipe['name']} failed: {ended['reason']}")
    return box.ask("GET", f"/v1/models/{recipe['name']}")
