"""What the frozen base says of a run's answers: log-probabilities, computed once and kept beside the checkpoints.

The base is memory-mapped, as the candidate's own is, and gone again before training: no second model is in memory.
"""

from __future__ import annotations

import hashlib
import os
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from llmos.abi.wire import from_json, to_json
from llmos.training.candidate import Candidate
from llmos.training.examples import Example, passes
from llmos.training.log_probabilities import answer_log_probabilities
from llmos.training.objectives.preferences import PreferenceTarget

FILE = "reference.json"
TOKENS_AT_ONCE = 8192
SAVE_EVERY_S = 20.0

Preferences = Sequence[Example[PreferenceTarget]]


@dataclass(slots=True)
class References:
    """Log-probabilities by the digest of an example's tokens; with a path, in a file that another start reads.

    `digest` says of which base and data they are: a file of another is not read.
    """

    path: Path | None = None
    digest: str = ""
    known: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def read(self) -> None:
        if self.path is None or not self.path.exists():
            return
        said: dict[str, Any] = from_json(self.path.read_bytes(), dict[str, Any])  # Any: a text, and an object
        if said["digest"] == self.digest:
            self.known = {key: tuple(map(float, values)) for key, values in said["known"].items()}

    def write(self) -> None:
        """Write to a draft, then rename, so that the file is whole at any time."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as out:
            out.write(to_json({"digest": self.digest, "known": self.known}))
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self.path)


def with_reference(
    candidate: Candidate,
    examples: Sequence[Example[Any]],  # Any: examples of other rows than preferences are returned as they are
    references: References | None = None,
    *,
    on_done: Callable[[int], None] = lambda done: None,
) -> list[Example[Any]]:
    """The preference examples with the log-probabilities of the candidate's base; those that have some, as they are.

    Without a frozen base (a model with weights of its own, or a base itself) they stay without.
    """
    lacking = [
        i for i, one in enumerate(examples) if isinstance(one.target, PreferenceTarget) and not one.target.reference
    ]
    if not lacking or not candidate.has_reference:
        return list(examples)
    references = references or References()
    keys = {i: _key(examples[i]) for i in lacking}
    unknown = [i for i in lacking if keys[i] not in references.known]
    if unknown:
        _compute(candidate.reference(), examples, unknown, keys, references, on_done)
    found = list(examples)
    for i in lacking:
        found[i] = replace(found[i], target=replace(found[i].target, reference=references.known[keys[i]]))
    return found


def _compute(
    base: Candidate,
    examples: Preferences,
    unknown: Sequence[int],
    keys: dict[int, str],
    references: References,
    on_done: Callable[[int], None],
) -> None:
    sizes = [one.size for one in examples]
    saved_at, done = time.monotonic(), 0
    base.train(False)
    try:
        for part in passes(unknown, sizes, TOKENS_AT_ONCE):
            for i, values in zip(part, _answers(base, [examples[i] for i in part]), strict=True):
                references.known[keys[i]] = values
            done += len(part)
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                references.write()
                saved_at = time.monotonic()
            on_done(done)
    finally:
        references.write()


@torch.inference_mode()
def _answers(base: Candidate, examples: Preferences) -> list[tuple[float, ...]]:
    """Of each example, the log-probability of each of its answers."""
    given = base.logits([ids for one in examples for ids in one.sequences])
    values = answer_log_probabilities(base.next_head, given, examples).double().cpu()
    return [tuple(its.tolist()) for its in torch.split(values, [len(one.target.sizes) for one in examples])]


def _key(one: Example[PreferenceTarget]) -> str:
    seen = hashlib.blake2b(digest_size=16)
    for ids in one.sequences:
        seen.update(len(ids).to_bytes(4, "little") + array("q", ids).tobytes())
    seen.update(repr([lesson.places[:1] for lesson in one.rendered.context]).encode())
    return seen.hexdigest()
