"""data ls, show, rm: what the store holds of datasets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.model import split_ref
from llmos.cli.client import box
from llmos.cli.store import remove_each
from llmos.cli.terminal import note, say, say_json, say_table, size

if TYPE_CHECKING:
    from llmos.abi.api_types import Model
    from llmos.abi.json_type import Json
    from llmos.abi.model import DatasetManifest

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DatasetRef = Annotated[str, typer.Argument(metavar="DATASET", help="A name (its newest version), or name@version.")]
SHOWN_LABELS = 30
MOST_SHOWN = 100  # characters of a row
OWN = frozenset({"id", "split", "dataset", "file", "line", "extra", "origin"})


def ls(as_json: AsJson = False) -> None:
    """List datasets."""
    with box() as client:
        datasets = client.datasets()
    if as_json:
        say_json([{"ref": one.ref, **_plain(one)} for one in datasets])
        return
    rows = [
        (one.ref, one.task, sum(one.splits.values()), _splits(one), len(one.labels), _made_by(one), one.created_at[:19])
        for one in datasets
    ]
    say_table(("DATASET", "TASK", "ROWS", "SPLITS", "LABELS", "MADE BY", "CREATED"), rows)
    if not datasets:
        note("There are no datasets. Bring in rows: llmos data import FILE")


def show(
    ref: DatasetRef,
    rows: Annotated[int, typer.Option(help="So many rows of each split are shown.")] = 3,
    findings: Annotated[bool, typer.Option("--findings", help="Show what its last check found instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a dataset: columns, splits, labels, provenance, some rows."""
    if findings:
        _show_findings(ref, as_json=as_json)
        return
    with box() as client:
        dataset = client.dataset(ref)
        trained = _trained_on([dataset.ref], client.datasets(), client.models())
        shown = [client.dataset_rows(dataset.ref, split=split, limit=rows) for split in dataset.splits if rows > 0]
    if as_json:
        say_json({"ref": dataset.ref, **_plain(dataset), "models": trained, "rows": list(chain.from_iterable(shown))})
        return
    say(f"{dataset.ref}: {sum(dataset.splits.values()):,} rows for {dataset.task}, made by {_made_by(dataset)}")
    facts = [
        ("splits", _splits(dataset)),
        ("options", ", ".join(f"{key}={value}" for key, value in dataset.options.items())),
        ("parents", ", ".join(dataset.parents)),
        ("licence", dataset.license),
        ("source", str(_operation(dataset).get("source", ""))),
        ("size", size(sum(file.size_bytes for file in dataset.files))),
        ("created", dataset.created_at),
        ("models", ", ".join(trained)),
    ]
    say_table(("FACT", "VALUE"), [one for one in facts if one[1]])
    say()
    others = [(name, f"the source's own, in {count:,} rows") for name, count in dataset.extras.items()]
    say_table(("COLUMN", "WHAT"), [*dataset.columns.items(), *others])
    _say_labels(dataset)
    _say_sources(dataset)
    if shown:
        say()
        say_table(("SPLIT", "ID", "ROW"), [(row["split"], row["id"], text_of(row)) for page in shown for row in page])
    for one in dataset.notes:
        note(one)


def _show_findings(ref: str, *, as_json: bool) -> None:
    """By kind, and when."""
    from llmos.abi.wire import to_plain

    with box() as client:
        found = client.dataset_findings(ref)
    if as_json:
        say_json(to_plain(found))
        return
    base = f" with {found.base}" if found.base else ""
    say(f"{found.dataset}: checked at {found.checked_at}{base}; the worst: {found.worst}")
    say_table(
        ("SEVERITY", "KIND", "ROWS", "KEPT", "WHAT"),
        [(one.severity, one.kind, one.rows, one.kept, one.sentence) for one in found.findings],
    )
    for one in found.notes:
        note(one)


def rm(
    refs: Annotated[list[str], typer.Argument(metavar="DATASET...", help="Names (all versions), or name@version.")],
    as_json: AsJson = False,
) -> None:
    """Remove datasets; models that were trained on them stay."""
    with box() as client:
        removed = remove_each(refs, client.remove_dataset, as_json)
        trained = _trained_on(removed, client.datasets(), client.models())
    if as_json:
        say_json({"removed": removed, "models": trained})
        return
    say(f"Removed {', '.join(removed)}. Free the bytes: llmos gc")
    if trained:
        note(
            f"{', '.join(trained)} learned from these rows, and stay. What was learned is only gone with them: "
            f"llmos rm {' '.join(dict.fromkeys(split_ref(one)[0] for one in trained))}"
        )


def _plain(dataset: DatasetManifest) -> dict[str, Any]:  # Any: JSON
    from llmos.abi.wire import to_plain

    plain: dict[str, Any] = to_plain(dataset)
    return plain


def _trained_on(refs: Sequence[str], datasets: Sequence[DatasetManifest], models: Sequence[Model]) -> list[str]:
    """The models that learned from these versions, or from ones that were made of them."""
    made_of = set(refs)
    while more := {one.ref for one in datasets if made_of & set(one.parents)} - made_of:
        made_of |= more
    return sorted({one.ref for one in models if one.lineage.get("dataset") in made_of})


def text_of(row: Json) -> str:
    """The columns of a row's task on one line, cut."""
    cells = (_cell(value) for key, value in row.items() if key not in OWN and value)
    line = " | ".join(" ".join(cell.split()) for cell in cells)
    return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN - 1]}…"


def _cell(value: Json) -> str:
    is_words = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return " ".join(value) if is_words else str(value)


def _operation(dataset: DatasetManifest) -> dict[str, Any]:  # Any: JSON
    found: dict[str, Any] = dataset.provenance.get("operation") or {"operation": "train"}
    return found


def _made_by(dataset: DatasetManifest) -> str:
    return str(_operation(dataset).get("operation", ""))


def _splits(dataset: DatasetManifest) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in dataset.splits.items())


def _say_labels(dataset: DatasetManifest) -> None:
    splits = [name for name in dataset.splits if name in dataset.label_counts]
    counts = dataset.label_counts
    labels = sorted({label for one in counts.values() for label in one}, key=lambda one: (-_total(counts, one), one))
    if not labels:
        return
    say()
    rows = [(label, *(counts[name].get(label, 0) for name in splits)) for label in labels[:SHOWN_LABELS]]
    say_table(("LABEL", *(name.upper() for name in splits)), rows)
    if len(labels) > SHOWN_LABELS:
        note(f"... and {len(labels) - SHOWN_LABELS:,} more labels: --json has all")


def _total(counts: dict[str, dict[str, int]], label: str) -> int:
    return sum(one.get(label, 0) for one in counts.values())


def _say_sources(dataset: DatasetManifest) -> None:
    sources: dict[str, Any] = dataset.provenance.get("sources") or {}  # Any: JSON
    if not sources:
        return
    say()
    head = ("SPLIT", "FILE", "FORMAT", "ROWS", "SKIPPED", "LEFT OUT", "SHA-256")
    rows = [
        (
            name,
            one.get("dataset") or one.get("path", ""),
            one.get("format", ""),
            one.get("rows", ""),
            ", ".join(f"{count} {why}" for why, count in one.get("skipped", {}).items()),
            ", ".join(one.get("left_out", ())),
            str(one.get("sha256", ""))[:12],
        )
        for name, one in sources.items()
    ]
    say_table(head, rows)


VERBS: dict[str, Any] = {"ls": ls, "show": show, "rm": rm}  # Any: verbs differ in what they take
