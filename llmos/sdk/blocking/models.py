"""Parts of Client. Made by tools/sync_client.py from aio/models.py: edit that file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from llmos.abi.api_types import Model
from llmos.abi.disagreement import Disagreement
from llmos.abi.gate import Gate
from llmos.abi.json_type import Json
from llmos.abi.process import Process
from llmos.abi.recipe import Data
from llmos.abi.rollout import RolloutView
from llmos.abi.row_outcome import RowErrors
from llmos.abi.wire import from_plain
from llmos.sdk import request
from llmos.sdk.blocking.connection import DaemonConnection, OnProgress


class ModelsClient(DaemonConnection):
    """Models: versions, promotion, gates, rollouts, and what makes versions of versions."""

    def models(self) -> list[Model]:
        """All versions of all models and bases."""
        return self._ask(request.models())

    def model(self, ref: str) -> Model:
        """A version; a bare name means the promoted one."""
        return self._ask(request.model(ref))

    def promote(self, ref: str) -> Model:
        """Make the name mean this version."""
        return self._ask(request.promote(ref))

    def rollback(self, name: str) -> Model:
        """Make the name mean the version promoted before."""
        return self._ask(request.rollback(name))

    def gate(self, name: str) -> Gate:
        """What new versions of this name must meet to be promoted."""
        return self._ask(request.gate(name))

    def set_gate(self, name: str, require: Sequence[str] | None = None, margin: float | None = None) -> Gate:
        """Replace the requirements (`"f1.low>=0.8"`), the margin of the primary metric, or both."""
        return self._ask(request.set_gate(name, require, margin))

    def reset_gate(self, name: str) -> Gate:
        """Back to the default: promote what is at least as good as the promoted version."""
        return self._ask(request.reset_gate(name))

    def rollout(self, name: str) -> RolloutView:
        """The rollout of a name that is under way, else the last one, with what its guards have seen."""
        return self._ask(request.rollout(name))

    def start_rollout(
        self,
        name: str,
        candidate: int | str,
        *,
        mode: str | None = None,
        share: float | None = None,
        steps: Sequence[float] | None = None,
        guards: Sequence[str] | None = None,
        calls: int | None = None,
        alpha: float | None = None,
        promote: bool | None = None,
    ) -> RolloutView:
        """Try a version on live traffic beside the promoted one: as a shadow, a canary (the default) or in an ab test.

        `steps` are its shares of calls, each for `calls` of its calls; `guards` (`"errors<=0.02"`, `"p95<=200ms"`,
        `"agreement>=0.9"`, `"feedback>=promoted-0.05"`) roll it back where they are shown to be broken.
        """
        asked: dict[str, Json] = {"mode": mode, "share": share, "calls": calls, "alpha": alpha, "promote": promote}
        asked |= {"steps": steps and list(steps), "guards": guards and list(guards)}
        return self._ask(request.start_rollout(name, candidate, asked))

    def follow_rollout(self, name: str) -> Iterator[RolloutView]:
        """How a rollout stands now, and after each change, until it has ended."""
        for _, data in self._events("GET", f"/v1/models/{quote(name)}/rollout/events"):
            yield from_plain(data, RolloutView)

    def disagreements(self, name: str, *, user: str | None = None, limit: int | None = None) -> list[Disagreement]:
        """The newest texts that are kept on which versions of this name disagreed in rollouts."""
        return self._ask(request.disagreements(name, user, limit))

    def stop_rollout(self, name: str) -> RolloutView:
        """End a rollout: all calls go to the promoted version again."""
        return self._ask(request.stop_rollout(name))

    def errors(
        self,
        ref: str,
        *,
        kind: str | None = None,
        label: str | None = None,
        slice: str | None = None,
        limit: int | None = None,
        evaluation: int | None = None,
    ) -> RowErrors:
        """The rows that a version answers wrongly, worst first: of a kind, of a label, in a slice (`language=de`).

        They are those of the evaluation that the version was made with, else of its newest `evaluate`, or of the one
        with the pid `evaluation`.
        """
        return self._ask(request.errors(ref, kind, label, slice, limit, evaluation))

    def remove(self, ref: str) -> list[str]:
        """Remove a version, or all versions of a name; returns the removed refs."""
        return self._ask(request.remove(ref))

    def pull(
        self,
        source: str,
        *,
        name: str | None = None,
        base: str | None = None,
        dtype: str | None = None,
        max_drop: float | None = None,
        engine: str | None = None,
        task: str | None = None,
        labels: Sequence[str] | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Bring in a base or an adapter: a catalog name, `hf:org/name`, or a folder.

        `dtype="int8"` also makes an int8 version of the base. `engine` is the engine that serves it. An ONNX graph
        needs `task`, and `labels` if its folder has none.
        """
        said = None if labels is None else list(labels)
        asked = request.pull(source, name, base, dtype, max_drop, engine=engine, task=task, labels=said)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def quantize(
        self,
        model: str,
        *,
        data: str | Path | Data | None = None,
        max_drop: float | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Make an int8 version of the model, if it loses no more than `max_drop` of its primary metric."""
        rows = None if data is None else request.data_of(data, **settings)
        return self._start(request.quantize(model, rows, max_drop), wait=wait, on_progress=on_progress)

    def shrink(
        self,
        base: str,
        *,
        layers: int | str | Sequence[int] | None = None,
        static: bool = False,
        dimensions: int | None = None,
        neighbours: int | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Make a smaller base of a base: so many of its `layers` (or these), or a `static` table of token vectors.

        A model is then distilled into it: `train(..., base=NAME, teacher=MODEL)`.
        """
        asked = request.shrink(base, layers, static, dimensions, neighbours, name)
        return self._start(asked, wait=wait, on_progress=on_progress)
