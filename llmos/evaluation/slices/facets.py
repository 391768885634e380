"""Facets: by what the rows of an evaluation are parted into slices, and to which of them each row belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

import msgspec
import numpy as np

from llmos.abi.json_type import Json
from llmos.abi.row_outcome import LABEL, RowOutcome
from llmos.evaluation.slices.language import languages

LENGTH, SOURCE, LANGUAGE = "length", "source", "language"
QUANTILES = (0.25, 0.5, 0.75)
MOST_VALUES = 100  # of a column: with more, and no numbers, it is no slice but a text or an id
LONGEST_VALUE = 100


@dataclass(frozen=True, slots=True)
class Facets:
    """Of each row, its values by facet; and the columns that are no slices, with the reason."""

    values: tuple[dict[str, tuple[str, ...]], ...]
    left_out: dict[str, str]


def facets_of(outcomes: Sequence[RowOutcome], extras: Sequence[Mapping[str, Json]] = ()) -> Facets:
    """By true label, length in characters, file, language (where it can be told) and each other column.

    A facet of a single value parts nothing and is left out.
    """
    columns: dict[str, list[tuple[str, ...]]] = {
        LABEL: [one.labels for one in outcomes],
        LENGTH: _in_quarters([float(sum(map(len, one.texts))) for one in outcomes], " characters"),
        SOURCE: [(PurePath(one.file).name,) if one.file else () for one in outcomes],
        LANGUAGE: [(one,) if one else () for one in languages([" ".join(one.texts) for one in outcomes])],
    }
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(key for extra in extras for key in extra):
        cells = [extra.get(name) for extra in extras]
        found = _column(cells)
        if isinstance(found, str):
            left_out[name] = found
        else:
            columns[f"column {name}" if name in columns else name] = found
    kept = {name: column for name, column in columns.items() if len({value for cell in column for value in cell}) > 1}
    rows = tuple({name: column[i] for name, column in kept.items() if column[i]} for i in range(len(outcomes)))
    return Facets(rows, left_out)


def _column(cells: Sequence[Json]) -> list[tuple[str, ...]] | str:
    """The values of a column as slices; or why it is none."""
    known = [cell for cell in cells if cell is not None and cell != ""]
    texts = {_text(cell) for cell in known}
    if len(texts) > MOST_VALUES:
        numbers = [_number(cell) for cell in cells]
        if all(number is not None for cell, number in zip(cells, numbers, strict=True) if cell not in (None, "")):
            return _in_quarters(numbers, "")
        return f"{len(texts):,} different values"
    if any(len(text) > LONGEST_VALUE for text in texts):
        return f"values of more than {LONGEST_VALUE} characters"
    return [() if cell is None or cell == "" else (_text(cell),) for cell in cells]


def _text(cell: Json) -> str:
    return cell.strip() if isinstance(cell, str) else msgspec.json.encode(cell).decode()


def _number(cell: Json) -> float | None:
    try:
        found = None if cell is None or isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        return None
    return found if found is not None and np.isfinite(found) else None


def _in_quarters(numbers: Sequence[float | None], unit: str) -> list[tuple[str, ...]]:
    """Each number's quarter, by name: `at most 43`, `43 to 80`, `over 120`."""
    known = np.array([number for number in numbers if number is not None])
    if not len(known):
        return [()] * len(numbers)
    edges = sorted(set(np.quantile(known, QUANTILES, method="lower").tolist()) - {float(known.max())})
    shown = [f"{edge:,.0f}" if float(edge).is_integer() else f"{edge:,.4g}" for edge in edges]
    if not edges:
        return [("all",)] * len(numbers)
    names = [f"at most {shown[0]}{unit}", *(f"{a} to {b}{unit}" for a, b in pairwise(shown))]
    names.append(f"over {shown[-1]}{unit}")
    places = np.searchsorted(edges, [0.0 if number is None else number for number in numbers], side="left")
    return [() if number is None else (names[int(place)],) for number, place in zip(numbers, places, strict=True)]


def value_counts(facets: Sequence[Mapping[str, tuple[str, ...]]]) -> dict[str, Counter[str]]:
    """How many rows each value of each facet has."""
    found: dict[str, Counter[str]] = {}
    for row in facets:
        for name, values in row.items():
            found.setdefault(name, Counter()).update(set(values))
    return found
