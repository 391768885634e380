"""shrink: a smaller base of a base, offered to the store with what it was made of and how fast it is here.

Arguments: `base`; `layers` (a number, or numbers by commas) or `static` with `dimensions` and `neighbours`; `name`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from llmos.abi.error import BadSetting
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Offer, OfferKind
from llmos.abi.process import DONE, Progress
from llmos.abi.shrinking import Shrinking, shrinking_of
from llmos.nn.called import calling_folder
from llmos.nn.load import Loaded, load_folder
from llmos.nn.packing import cut_rows, forward, pack
from llmos.nn.shrink import count_layers, evenly, keep_layers, make_static
from llmos.nn.speed import Passes, tokens_per_second
from llmos.programs.channel import Channel
from llmos.programs.derived_base import copy_beside, weights_folder
from llmos.programs.describe import choose_files, describe
from llmos.programs.resident import offer_resident

OFFER = 1
STATIC_RATE = 10.0  # of a table: how much faster than a transformer's weights it may learn
SPEED_TOKENS = 2048  # of the rows that speed is measured on
ROW_TOKENS = 512


def main(channel: Channel, assignment: Job) -> None:
    """Write the smaller base, measure it beside the other, and offer it."""
    base, how = assignment.models["base"], shrinking_of(assignment.args)
    torch.set_num_threads(assignment.threads or len(os.sched_getaffinity(0)))
    source = weights_folder(channel, assignment, base)
    out = Path(assignment.scratch) / "shrunk"
    shutil.rmtree(out, ignore_errors=True)
    copy_beside(base, source, out)
    with calling_folder(source, base.manifest.ref):
        made = _make(channel, base, source, how, out)
    speeds = _speeds(source, out)
    files = choose_files([str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()], base.manifest.ref)
    draft = describe(out, [path for path, _ in files])
    before, after = (sum(p.stat().st_size for p in folder.glob("*.safetensors")) for folder in (source, out))
    said = (
        f"{made['kept']} of {base.manifest.ref}; {after / 1e6:,.1f} MB for {before / 1e6:,.1f}; "
        f"{speeds['after']:,.0f} tokens a CPU second for {speeds['before']:,.0f}"
    )
    draft |= {
        "license": base.manifest.license or draft["license"],
        "source": f"shrink, pid {assignment.pid}",
        "options": draft["options"] | _learning(how),
        "lineage": {
            "process": assignment.pid,
            "offer": OFFER,
            "made of": base.manifest.ref,
            "made of digest": base.manifest.base_digest or "",
            **made,
            "tokens per CPU second": round(speeds["after"], 1),
            "tokens per CPU second before": round(speeds["before"], 1),
        },
    }
    name = str(assignment.args["name"])
    accepted = channel.offer(Offer(OFFER, OfferKind.BASE, name, str(out), tuple(files), draft))
    offer_resident(
        channel, accepted.ref, Path(accepted.folder), assignment.dtype, Path(assignment.scratch) / "resident"
    )
    channel.report(Progress(DONE, 1, 1, message=f"{accepted.ref} is ready: {said}"))


def _make(channel: Channel, base: ModelPath, source: Path, how: Shrinking, out: Path) -> dict[str, Json]:
    """Write weights and config; returns what was kept."""
    if how.is_static:
        options = base.manifest.options
        kept = make_static(
            source,
            out,
            pooling=str(options.get("pooling", "mean")),
            dimensions=how.dimensions,
            neighbours=how.neighbours,
            max_tokens=int(options.get("max_tokens", 512)),
            on_done=lambda done, total: channel.report(Progress("embed", done, total, "tokens")),
        )
        return {
            "kept": f"a table of {how.dimensions} dimensions",
            "variance": round(kept, 4),
            **({"neighbours": how.neighbours} if how.neighbours else {}),
        }
    channel.report(Progress("shrink", 0, 1, message=f"leaving out layers of {base.manifest.ref}"))
    count = count_layers(source)
    layers = list(how.layers)
    if not layers and how.count < count:
        layers = evenly(count, how.count)
    if not layers or layers[-1] >= count or len(layers) >= count:
        raise BadSetting(
            f"{base.manifest.ref} has {count} layers, numbered from 0; fewer of them must be kept",
            key="layers",
            value=how.count or list(how.layers),
            expected=f"fewer than {count}",
        )
    keep_layers(source, layers, out)
    return {"kept": f"layers {', '.join(map(str, layers))} of {count}"}


def _learning(how: Shrinking) -> dict[str, Json]:
    """A table learns at a higher rate than the weights of a transformer: recipes multiply their default by it."""
    return {"rate_factor": STATIC_RATE} if how.is_static else {}


def _speeds(source: Path, out: Path) -> dict[str, float]:
    """Tokens per CPU second of both on the same packed rows, without the output layer of models that write."""
    before, after = load_folder(source), load_folder(out)
    length = min(32, before.max_tokens, after.max_tokens)
    ids = [3 + i % max(1, int(before.config.vocab_size) - 3) for i in range(SPEED_TOKENS)]
    rows = [ids[i : i + length] for i in range(0, len(ids), length)]
    return tokens_per_second({"before": _passes(before, rows), "after": _passes(after, rows)})


def _passes(loaded: Loaded, rows: list[list[int]]) -> Passes:
    def compute() -> Any:  # Any: nobody reads it
        lengths = [len(row) for row in rows]
        return [
            forward(loaded.backbone, pack([rows[i] for i in some], loaded.device))
            for some in cut_rows(range(len(rows)), lengths, ROW_TOKENS)
        ]

    return compute, sum(map(len, rows))
