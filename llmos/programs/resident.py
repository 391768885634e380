"""A base's resident form, needed before loading: made once if it is missing, and offered to the store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from llmos.abi.frame import Job, ModelPath
from llmos.abi.model import Offer, OfferKind, split_ref
from llmos.abi.process import Progress
from llmos.programs.channel import Channel
from llmos.programs.describe import part_of
from llmos.programs.disk_full import room_said

OFFER = 9  # beyond the numbers of offers that programs make themselves


def with_resident(channel: Channel, assignment: Job, located: ModelPath) -> ModelPath:
    """The base, or the model with its base, in the assignment's dtype: memory-mapped by every process that loads it."""
    if located.base is not None:
        return replace(located, base=with_resident(channel, assignment, located.base))
    if located.resident is not None:
        return located
    out = Path(assignment.scratch) / "resident"
    made = offer_resident(channel, located.manifest.ref, Path(located.folder), assignment.dtype, out)
    return replace(located, resident=made)


def offer_resident(channel: Channel, ref: str, base: Path, dtype: str, out: Path) -> str:
    """Write the base's form in this dtype into `out`, and offer it; returns its place in the store."""
    channel.report(Progress("convert", message=f"writing the {dtype} form"))
    form = import_module("llmos.nn.resident")  # imports torch, only if there is something to convert
    shutil.rmtree(out, ignore_errors=True)
    with room_said(out.parent):
        form.make(base, dtype, out, ref)
    paths = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    files = tuple((path, part_of(path)) for path in paths)
    draft = {"base": ref, "dtype": dtype}
    return channel.offer(Offer(OFFER, OfferKind.RESIDENT, split_ref(ref)[0], str(out), files, draft)).folder
