"""Parts of Client. Made by tools/sync_client.py from aio/trainings.py: edit that file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.json_type import Json
from llmos.abi.process import Priority, Process
from llmos.abi.recipe import Data
from llmos.abi.tuning import Leaderboard
from llmos.sdk import request
from llmos.sdk.blocking.box import BoxClient
from llmos.sdk.blocking.connection import OnProgress
from llmos.sdk.blocking.models import ModelsClient

if TYPE_CHECKING:
    from llmos.suites.result import SuiteResult
    from llmos.suites.robustness import NoisePoint, NoisyRow
    from llmos.suites.suite import Suite


BATCH_INPUTS = 256  # of one call of many: each has the time of a call, and others come between


class TrainingsClient(BoxClient, ModelsClient):
    """Training, tuning, adaptation and evaluation."""

    def train(
        self,
        task: str,
        *,
        data: str | Path | Data,
        name: str,
        base: str | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Fine-tune `base` on labelled rows into a new version of `name`; the process's `made` is its ref.

        The default base is minilm, or smollm2 for generative tasks. Settings are the recipe's (`method`, `epochs`,
        `seed` ...), the data's (`validation`, `test`, `text` ...), LoRA's with the prefix `lora_`, and the task's
        options (`multi_label` ...).
        """
        recipe = request.recipe(task, name, base, data, settings)
        return self._start(request.train(recipe, device), wait=wait, on_progress=on_progress)

    def tune(
        self,
        task: str,
        *,
        data: str | Path | Data,
        name: str,
        budget: str | None = None,
        base: str | None = None,
        methods: Sequence[str] | None = None,
        sampler: str | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Search the settings of a training run in a budget (`15m`, `24 trials`), and train the best into a version.

        Settings are those of `train`: what is given is the same in all trials, and the search has the others. It tries
        these `methods`, or some that fit. `leaderboard` of its pid says how it stands; the version's ref is in it.
        """
        if method := settings.pop("method", None):
            methods = [*(methods or ()), method]
        recipe = request.recipe(task, name, base, data, settings)
        asked = request.tune(recipe, budget, methods, sampler, device)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def leaderboard(self, pid: int) -> Leaderboard:
        """The trials of a search by its pid, best first, as they stand now."""
        return self._ask(request.leaderboard(pid))

    def evaluate(
        self,
        model: str,
        *,
        data: str | Path | Data,
        task: str | None = None,
        options: Mapping[str, Json] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        engine: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Evaluate a model on labelled rows, by default by the engine that serves it, in the dtype that it has there.

        A generative base is evaluated at the given `task`, with that task's `options`.
        """
        asked = request.evaluate(model, request.data_of(data, **settings), device, dtype, task, options, engine)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def adapt(
        self,
        base: str,
        *,
        data: str | Path | Data,
        general: str | Path | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Let a base read texts without labels; `made` names the new base.

        Settings: name, objective (masked, causal, contrastive), epochs, learning_rate, batch_size, max_tokens,
        matryoshka, pairs, keep_head, seed, and how texts are read (text, format, validation, test ...).
        """
        asked = request.adapt(base, data, general, device, settings)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def test(
        self,
        model: str,
        suite: str | Path | Suite,
        *,
        timeout_s: float | None = None,
        engine: str | None = None,
    ) -> SuiteResult:
        """Run a behaviour suite (a YAML file) on what is served under this name, and say what came of each test."""
        from llmos.suites.plan import plan_of
        from llmos.suites.reading import load_suite
        from llmos.suites.result import judge_outputs
        from llmos.suites.suite import Suite

        read = suite if isinstance(suite, Suite) else load_suite(suite)
        plan = plan_of(read)
        found = self.model(model)
        read.check_labels(found.labels)
        outputs = self._outputs(read.task, found.ref, plan.inputs, plan.params, timeout_s, engine)
        return judge_outputs(plan, outputs, found.ref)

    def robustness(
        self,
        model: str,
        rows: Sequence[NoisyRow],
        *,
        noises: Sequence[str] | None = None,
        levels: Sequence[float] | None = None,
        seed: int = 7,
        most_rows: int = 300,
        timeout_s: float | None = None,
        engine: str | None = None,
    ) -> tuple[NoisePoint, ...]:
        """How many answers stay the same, and stay right, as more of the words of these texts are noisy.

        `rows` are what `llmos.suites.rows.noisy_rows` reads from a file. `levels` are shares of words.
        """
        from llmos.suites.robustness import KINDS, LEVELS, judge_robustness, plan_robustness

        found = self.model(model)
        plan = plan_robustness(found.task, rows, noises or KINDS, levels or LEVELS, seed, most_rows)
        outputs = self._outputs(found.task, found.ref, plan.inputs, {}, timeout_s, engine)
        return judge_robustness(plan, outputs)

    def draft_suite(self, model: str, data: str | Path | None = None) -> str:
        """A behaviour suite to begin with, in YAML: from the model's labels, and the rows of a file or its own dataset.

        A dataset's rows are read from the daemon's home, which must be on this machine.
        """
        from llmos.suites.draft import draft_suite
        from llmos.suites.rows import measured_rows, rows_in

        found = self.model(model)
        if data is None:
            rows = measured_rows(found, (self.status()).home)
        else:
            rows = rows_in(str(data), found.task, found.options)
        return draft_suite(found.task, found.ref, rows, found.labels)

    def _outputs(
        self,
        task: str,
        ref: str,
        inputs: Sequence[Json],
        params: Mapping[str, Json],
        timeout_s: float | None,
        engine: str | None,
    ) -> list[Json]:
        """The outputs of any number of inputs, as HTTP has them."""
        options = request.call_options(timeout_s, Priority.BATCH, engine, {})
        found: list[Json] = []
        for start in range(0, len(inputs), BATCH_INPUTS):
            some = inputs[start : start + BATCH_INPUTS]
            answered: list[Json] = self._ask(request.outputs(task, ref, some, params, options))
            found += answered
        return found
