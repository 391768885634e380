"""Labels: the queue of rows to label, weak labels, and what a labelling has reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmos.abi.json_type import Json
from llmos.abi.labelling import LabellingState
from llmos.abi.process import Process
from llmos.sdk import request
from llmos.sdk.aio.connection import OnProgress
from llmos.sdk.aio.datasets import AsyncDatasetsClient


class AsyncLabellingClient(AsyncDatasetsClient):
    """Labels: the queue of rows to label, weak labels, and what a labelling has reached."""

    async def queue_dataset(
        self,
        ref: str,
        *,
        n: int | None = None,
        strategy: str | None = None,
        base: str | None = None,
        model: str | None = None,
        seed: int | None = None,
        without: Sequence[str] = (),
        second: str | None = None,
        disagreements: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """The unlabelled rows whose labels are worth most, with suggestions, and how good a head on the labels is.

        `strategy` is badge, margin or random; `without` are ids that are being answered already. The newest version of
        `model` is asked as well, and suggests where it is right as often as the head. With `second`, a person's name,
        these are rows that others have answered and this person has not, without suggestions. Texts on which versions
        of `disagreements`, by default of `model`, disagreed in rollouts are among the rows.
        """
        args: dict[str, Json] = {"n": n, "strategy": strategy, "base": base, "model": model, "seed": seed}
        args |= {"without": list(without) or None, "second": second, "disagreements": disagreements}
        process = await self.operate_dataset(ref, "queue", on_progress=on_progress, **args)
        return await self.result(process.pid)

    async def label_dataset(
        self,
        ref: str,
        answers: str | Path,
        *,
        split: str | None = None,
        name: str | None = None,
        model: str | None = None,
        retrain: int | None = None,
        base: str | None = None,
        disagreements: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Put the answers in a file of JSON lines, or upload:ID, to a dataset's rows, in a new version.

        `model` is trained on it in the background when `retrain` labels more than at its last training have come (by
        default a quarter more, 50 at least; 0: never). Settings are those of `train`; `labelling` says how it stands.
        """
        trained = request.retraining(model, retrain, base, settings)
        args = {"answers": request.answers_of(answers), "split": split, "name": name, **trained}
        args["disagreements"] = disagreements
        return await self.operate_dataset(ref, "label", wait=wait, on_progress=on_progress, **args)

    async def weak_label_dataset(
        self,
        ref: str,
        rules: str | Path,
        *,
        models: Sequence[str] | None = None,
        combine: str | None = None,
        least: float | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Label the unlabelled rows by the rules in a file, or upload:ID, in a new version; `result` has the report.

        `models` are those that rules ask, by default as the file has them. `combine` is dawid-skene or majority; rows
        whose likeliest label is less likely than `least` stay unlabelled.
        """
        asked = request.models_of_rules(rules) if models is None else list(models)
        args = {"rules": request.answers_of(rules), "models": asked or None, "combine": combine, "least": least}
        args["name"] = name
        return await self.operate_dataset(ref, "weak-label", wait=wait, on_progress=on_progress, **args)

    async def labelling(self, ref: str, *, model: str | None = None, retrain: int | None = None) -> LabellingState:
        """How many rows of a dataset have labels, and how the training of this model on them stands."""
        return await self._ask(request.labelling(ref, model, retrain))
