"""Superseded candidates: versions trained while people labelled, once a newer one of the same labelling is here.

The promoted version stays, the one promoted before it, to which a rollback returns, and the best of a labelling by its
evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.process import Process, State

if TYPE_CHECKING:
    from llmos.kernel.store.store import Store

ROLLBACK = 2  # the promoted version, and the one before it
NAMING = ("base", "model", "teacher")  # the arguments of processes that name a model


def superseded_candidates(name: str, store: Store, processes: Iterable[Process]) -> list[str]:
    """The refs of this name's versions that nobody needs: not promoted, not the way back from what is, named by
    nothing, and older than another one of the same labelling and dtype.

    What a process works with, or may go on with, stays until it has ended.
    """
    at_work = [_models_in(one) for one in processes if one.state is not State.EXITED]
    if any(name in named for named in at_work):
        return []
    versions = [one for one in store.manifests() if one.name == name and one.kind is Kind.MODEL and _labelling(one)]
    newest = {(_labelling(one), one.dtype): one.version for one in sorted(versions, key=lambda one: one.version)}
    best = {(_labelling(one), one.dtype): one.ref for one in sorted(versions, key=_metric)}
    kept = {f"{name}:{version}" for version in store.promotions(name)[-ROLLBACK:]}.union(best.values(), *at_work)
    old = [one for one in versions if one.version < newest[_labelling(one), one.dtype] and one.ref not in kept]
    return [one.ref for one in old if not _is_referred_to(one, store)]


def _labelling(manifest: Manifest) -> str:
    """The dataset whose labelling made the version; empty if a user did."""
    recipe = manifest.lineage.get("recipe")
    return str(recipe.get("labelling") or "") if isinstance(recipe, dict) else ""


def _metric(manifest: Manifest) -> tuple[float, int]:
    """The primary metric of its evidence, which is the first, and its version; none is less than any."""
    metrics = manifest.evidence.get("metrics")
    found = next(iter(metrics.values()), None) if isinstance(metrics, dict) else None
    return (float(found) if isinstance(found, int | float) else -math.inf, manifest.version)


def _models_in(process: Process) -> set[str]:
    args = process.spec.args
    refs = args.get("refs")
    named = [*(args.get(key) for key in NAMING), *(refs.values() if isinstance(refs, dict) else ())]
    return {one for one in named if isinstance(one, str)}


def _is_referred_to(manifest: Manifest, store: Store) -> bool:
    """Whether another model, or a dataset, stands on it or was made with it."""
    models = any(
        other.base == manifest.ref or _says(other.lineage, manifest.ref)
        for other in store.manifests()
        if other.ref != manifest.ref
    )
    return models or any(_says(one.provenance, manifest.ref) for one in store.datasets())


def _says(value: Json, ref: str) -> bool:
    if isinstance(value, dict):
        return any(_says(one, ref) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_says(one, ref) for one in value)
    return bool(value == ref)
