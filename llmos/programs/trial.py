"""trial: a training run that trains to a rung, measures itself on the validation rows and pauses with its checkpoint.

Its tuner resumes it for the next rung. The rung after the last one makes it a candidate: only then it reads the test
rows, and goes through the gate as any training run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.frame import Job
from llmos.abi.objective import primary_metric_of
from llmos.abi.process import PAUSED, Progress
from llmos.abi.recipe import Recipe
from llmos.abi.tuning import TRIAL_ARGUMENTS
from llmos.abi.wire import from_json, from_plain, to_json
from llmos.programs.channel import Channel, Stopped
from llmos.programs.train import Training, prepare
from llmos.programs.trial_pack import TrialPack, metric_of
from llmos.training.trainer import Trainer

RUNGS = "rungs.json"


@dataclass(frozen=True, slots=True)
class Rung:
    """What a trial has found at a rung: `trained_s` is all that it has trained, `seconds` what this rung took."""

    step: int
    metric: float
    seconds: float
    trained_s: float


def main(channel: Channel, assignment: Job) -> None:
    """Train to the rung in the arguments, or become a candidate; the same call again finds the same."""
    args = assignment.args
    shares, rung = [float(one) for one in args["shares"]], int(args["rung"])
    file = Path(assignment.scratch) / RUNGS
    found = from_json(file.read_bytes(), list[Rung]) if file.exists() else []
    recipe = from_plain({key: value for key, value in args.items() if key not in TRIAL_ARGUMENTS}, Recipe)
    if 0 <= rung < len(found):
        _report(channel, recipe, found, shares, rung)
        return
    began = time.monotonic()
    training = prepare(channel, assignment, recipe)
    if training is None:
        return
    try:
        if args.get("pack"):
            pack = TrialPack(channel, assignment, training)
            pack.finish() if rung == len(shares) else pack.reach(rung, began)
        elif rung == len(shares):
            training.remarks.chosen = f"trial {args['number']} of {args.get('trials', 1)}, by the validation rows"
            _finish(channel, training)
        elif (reached := _reach(channel, training, shares[rung], began)) is not None:
            found.append(reached)
            _keep(file, found)
            _report(channel, recipe, found, shares, rung)
    except Stopped:
        print("Stopped before the first step", flush=True)
    finally:
        training.close()


def _reach(channel: Channel, training: Training, share: float, began: float) -> Rung | None:
    """Train until this share of the run is behind; None if the process was asked to stop before."""
    run: Trainer

    def stop_asked() -> bool:
        return channel.stop_asked or (share < 1 and run.position.step >= target)

    _, run = training.begin(stop_asked)
    training.track()
    target = max(1, round(share * run.total))
    if run.resume():
        print(f"Goes on from step {run.position.step:,}", flush=True)
    is_done = run.position.step < target and run.train()
    if not is_done and run.position.step < target:
        return None
    if is_done:
        run.save()  # the trainer saves when it stops, not when it is done
    metric = metric_of(run)
    return Rung(run.position.step, metric, time.monotonic() - began, run.position.trained_s)


def _keep(file: Path, found: list[Rung]) -> None:
    aside = file.with_suffix(".tmp")
    aside.write_bytes(to_json(found))
    aside.rename(file)


def _report(channel: Channel, recipe: Recipe, found: list[Rung], shares: list[float], rung: int) -> None:
    """The last report of this life, from which the tuner reads the result."""
    one = found[rung]
    before = found[rung - 1].trained_s if rung else 0.0
    figures = {
        "rung": float(rung),
        "metric": one.metric,
        "seconds": one.seconds,
        "trained_s": one.trained_s - before,
        "step": float(one.step),
    }
    name = primary_metric_of(recipe.task, recipe.options)
    said = f"waits at rung {rung + 1} of {len(shares)}, validation {name} {one.metric:.4f}"
    print(said, flush=True)
    channel.report(Progress(PAUSED, shares[rung], 1.0, "runs", figures, said), is_last=True)


def _finish(channel: Channel, training: Training) -> None:
    evaluator, run = training.begin(lambda: channel.stop_asked)
    evaluator.examples(training.data.splits.test)  # a row that is too long is refused now
    dataset = training.offer_dataset()
    training.track()
    run.resume()
    if run.train():
        training.finish(evaluator, run, dataset)
