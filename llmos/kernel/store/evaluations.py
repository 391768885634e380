"""Evaluations: the folders that `evaluate` keeps its evidence in, by pid, and the predictions by row of a version."""

from __future__ import annotations

from pathlib import Path

import msgspec

from llmos.abi.error import NotFound
from llmos.abi.model import Manifest
from llmos.abi.row_outcome import PREDICTIONS

EVIDENCE = "evidence.json"


class _Measured(msgspec.Struct):
    """The part of an evidence.json that says which model was measured."""

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


def _model_of(folder: Path) -> str:
    """The ref of the model that was measured; empty where it is unknown."""
    try:
        return msgspec.json.decode((folder / EVIDENCE).read_bytes(), type=_Measured).facts.get("model", "")
    except (OSError, msgspec.MsgspecError):
        return ""
