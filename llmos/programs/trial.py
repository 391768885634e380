"""trial: a training run that trains to a rung, measures itself on the validation rows and pauses with its checkpoint.

Its tuner resumes it for the next rung. The rung after the last one makes it a candidate: only then it reads the test
rows, and goes through the gate as any training run. Several trials of one process train together.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from llmos.abi.frame import Job
from llmos.abi.objective import primary_metric_of
from llmos.abi.recipe import Recipe
from llmos.abi.tuning import TRIAL_ARGUMENTS, active_of
from llmos.abi.wire import from_plain
from llmos.programs.channel import Channel, Stopped
from llmos.programs.rung_results import RungResult, RungResults, report_rung
from llmos.programs.train import Training, prepare
from llmos.programs.trial_pack import RungTraining, TrialPack, metric_of
from llmos.training.trainer import Trainer


class Trials(Protocol):
    """The trials of a process."""

    def reach(self, share: float) -> RungTraining | None:
        """Train until this share of each run is behind; None if the process was asked to stop before."""
        ...

    def finish(self) -> None:
        """Make the one active trial a candidate: only now it reads the test rows."""
        ...


def main(channel: Channel, assignment: Job) -> None:
    """Train to the rung in the arguments, or become a candidate; the same call again finds the same."""
    args = assignment.args
    shares, rung, active = [float(one) for one in args["shares"]], int(args["rung"]), active_of(args)
    results = RungResults(Path(assignment.scratch))
    recipe = from_plain({key: value for key, value in args.items() if key not in TRIAL_ARGUMENTS}, Recipe)
    found = results.at(rung, active)
    if found is None:
        began = time.monotonic()
        training = prepare(channel, assignment, recipe)
        if training is None:
            return
        try:
            is_pack = bool(args.get("pack"))
            trials: Trials = (
                TrialPack(channel, assignment, training) if is_pack else SoloTrial(channel, args["number"], training)
            )
            if rung == len(shares):
                training.remarks.chosen = f"trial {active[0]} of {args.get('trials', 1)}, by the validation rows"
                trials.finish()
            elif (reached := trials.reach(shares[rung])) is not None:
                seconds = time.monotonic() - began
                found = RungResult(rung, active, reached.metrics, seconds, reached.trained_s, reached.steps)
                results.keep(found)
        except Stopped:
            print("Stopped before the first step", flush=True)
        finally:
            training.close()
    if found is not None:
        report_rung(channel, found, shares, primary_metric_of(recipe.task, recipe.options))


class SoloTrial:
    """A trial that trains alone, as any training run does."""

    def __init__(self, channel: Channel, number: int, training: Training) -> None:
        self._channel, self._number, self._training = channel, number, training

    def reach(self, share: float) -> RungTraining | None:
        """Train until this share of the run is behind; None if the process was asked to stop before."""
        run: Trainer

        def stop_asked() -> bool:
            return self._channel.stop_asked or (share < 1 and run.position.step >= target)

        _, run = self._training.begin(stop_asked)
        self._training.track()
        target = max(1, round(share * run.total))
        if run.resume():
            print(f"Goes on from step {run.position.step:,}", flush=True)
        before_s = run.position.trained_s
        is_done = run.position.step < target and run.train()
        if not is_done and run.position.step < target:
            return None
        if is_done:
            run.save()  # the trainer saves when it stops, not when it is done
        metrics = {self._number: metric_of(run)}
        return RungTraining(metrics, run.position.trained_s - before_s, run.position.step)

    def finish(self) -> None:
        """Make the trial a candidate: only now it reads the test rows."""
        training = self._training
        evaluator, run = training.begin(lambda: self._channel.stop_asked)
        evaluator.examples(training.data.splits.test)  # a row that is too long is refused now
        dataset = training.offer_dataset()
        training.track()
        run.resume()
        if run.train():
            training.finish(evaluator, run, dataset)
