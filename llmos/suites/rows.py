"""The labelled rows that a curve or a draft begins with: of a file, or of the dataset that a model was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmos.abi.api_types import Model
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data
from llmos.data.dataset import test_rows
from llmos.suites.families import suite_family
from llmos.suites.robustness import NoisyRow
from llmos.suites.suite import Suite


def rows_in(path: str, task: str, options: Mapping[str, Json]) -> tuple[Any, ...]:
    """The rows of a file, for this task; BadRow at the first that cannot be used."""
    found: tuple[Any, ...] = test_rows(Data(path), task, dict(options), {}, b"").rows
    return found


def measured_rows(model: Model, home: str) -> tuple[Any, ...]:
    """The test rows of the dataset in a model's lineage, in this home; BadInput where they are not on this machine."""
    ref = str(model.lineage.get("dataset", ""))
    name, _, version = ref.partition("@")
    folder = Path(home) / "datasets" / name / version
    if not ref or not (folder / "test.parquet").is_file():
        why = f"its dataset {ref} is not on this machine" if ref else "it names no dataset"
        raise BadInput(f"The rows of {model.ref} cannot be read: {why}. Give some: --data FILE")
    found: tuple[Any, ...] = test_rows(Data(ref), model.task, dict(model.options), {ref: str(folder)}, b"").rows
    return found


def noisy_rows(path: str, task: str, options: Mapping[str, Json]) -> list[NoisyRow]:
    """The rows of a file as a curve takes them, with what is right."""
    return as_noisy_rows(rows_in(path, task, options), task)


def as_noisy_rows(rows: Sequence[Any], task: str) -> list[NoisyRow]:
    """Labelled rows as a curve takes them."""
    family = suite_family(task)
    return [NoisyRow(*family.form_of(row)) for row in rows]


def suite_rows(suite: Suite) -> list[NoisyRow]:
    """The texts of a suite that are tested as they are, with what is expected of them."""
    from llmos.suites.plan import plan_of

    cases = plan_of(suite).cases
    return [NoisyRow(case.form, case.expectation) for case in cases if case.before is None and not case.how]
