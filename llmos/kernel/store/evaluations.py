"""Evaluations: the folders that `evaluate` keeps its evidence in, by pid, and the predictions by row of a version."""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmos.abi.error import BadInput, NotFound
from llmos.abi.model import Manifest, split_dataset_ref
from llmos.abi.row_outcome import PREDICTIONS

EVIDENCE = "evidence.json"


class _Measured(msgspec.Struct):
    """The part of an evidence.json that says which model was measured, and on what."""

    facts: dict[str, str] = {}


def find_predictions(folder: Path, manifest: Manifest, evaluation: int | None) -> tuple[Path, int] | None:
    """The predictions of this evaluation, or of the newest one of this version, with its pid; None if there is none.

    NotFound for an evaluation of another model, or that has no predictions.
    """
    if evaluation is not None:
        found = folder / str(evaluation)
        if not (found / PREDICTIONS).is_file():
            raise NotFound(
                f"Process {evaluation} has no predictions by row. Make them: llmos eval {manifest.ref} --data ROWS",
                evaluation=evaluation,
            )
        measured = _model_of(found)
        if measured != manifest.ref:
            raise NotFound(
                f"Process {evaluation} measured {measured}, not {manifest.ref}. Name that model, or another evaluation",
                evaluation=evaluation,
                model=measured,
            )
        return found / PREDICTIONS, evaluation
    pids = sorted((int(one.name) for one in folder.glob("*") if one.name.isdecimal()), reverse=True)
    for pid in pids:
        path = folder / str(pid) / PREDICTIONS
        if path.is_file() and _model_of(path.parent) == manifest.ref:
            return path, pid
    return None


def evaluated_datasets(folder: Path, manifest: Manifest, evaluation: int | None) -> tuple[str, ...]:
    """The datasets (`name@version`) with the rows of this evaluation, or of the training: that which it kept, and those
    that it read."""
    if evaluation is not None:
        said: list[object] = [_facts_of(folder / str(evaluation)).get("data", "")]
    else:
        lineage = manifest.lineage
        read = (lineage.get("recipe") or {}).get("data") or {}
        said = [lineage.get("dataset"), *(read.get(part) for part in ("train", "validation", "test"))]
    return tuple(dict.fromkeys(one for one in said if isinstance(one, str) and _names_version(one)))


def _names_version(source: str) -> bool:
    """Whether a source of rows is a version of a dataset, not a file."""
    try:
        return split_dataset_ref(source)[1] is not None
    except BadInput:
        return False


def _model_of(folder: Path) -> str:
    """The ref of the model that was measured; empty where it is unknown."""
    return _facts_of(folder).get("model", "")


def _facts_of(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / EVIDENCE).read_bytes(), type=_Measured).facts
    except (OSError, msgspec.MsgspecError):
        return {}
