"""What learning from a teacher that answers in words has cost and gained: its own answers to the same test rows, and
the seconds that they took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmos.abi.endpoint import is_address
from llmos.abi.json_type import Json
from llmos.abi.process import Progress
from llmos.abi.task import is_generative, spec_of
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.generation_eval import write
from llmos.evaluation.statistics.comparison import compare
from llmos.nn.speed import Passes, tokens_per_second
from llmos.programs.distilled import Distilled
from llmos.programs.served_answers import ServedJudge
from llmos.programs.teaching import SpokenLessons, load_teacher
from llmos.tasks import task as task_of

WRITTEN_ROWS = 8  # test rows that the speed of writing is measured on


def compare_told(student: Distilled, told: SpokenLessons) -> dict[str, Json]:
    """For the evidence. Of the test rows, those count that both have answered."""
    student.channel.report(Progress("compare", message=f"comparing with its teacher {told.teacher}"))
    said: dict[str, Json] = {
        "teacher": told.teacher,
        "labelled": told.labelled,
        "asked": told.asked,
        "refused": told.refused,
        "unlabelled": told.asked - told.refused,
        **_metrics(student, told.tested),
        "speed": _speeds(student, told),
    }
    return {**said, "summary": _summary(said)}


def _metrics(student: Distilled, tested: Mapping[int, Any]) -> dict[str, Json]:  # Any: predictions of the family
    task = student.recipe.task
    name = spec_of(task).primary_metric
    if name == "likelihood":
        name = "f1"  # of what is written: an answer in words does not say how likely another would be
    places = [i for i in sorted(tested) if getattr(student.predicted[i], "answer", "") is not None]
    if not places:
        return {"metric": name, "note": "the teacher has answered no test row"}
    rows = [student.rows[i] for i in places]
    mine, its = [student.predicted[i] for i in places], [tested[i] for i in places]
    plain = replace(student.evaluator.settings, calibration=None)
    theirs = ServedJudge(task, plain).sample(rows, its)
    found = compare(student.evaluator.sample(rows, mine), theirs, name)
    if found is None:
        return {"metric": name, "note": f"{name} cannot be computed of both on these rows"}
    return {**found.plain(), "rows": len(rows)}


def _speeds(student: Distilled, told: SpokenLessons) -> dict[str, Json]:
    """The teacher's seconds an answer, as they passed here; and what the student computes in a CPU second of one core,
    as a teacher of the store does, which is measured beside it."""
    served = replace(student.evaluator, candidate=student.as_served())
    if not is_generative(student.recipe.task):
        rates = {"student": student.speed_of(served)}
    else:
        models = {"student": served}
        if not is_address(str(student.recipe.teacher)):
            models["teacher"] = load_teacher(
                student.channel, student.job, student.recipe, student.job.models["teacher"]
            )
        rates = _writing_speeds(student, models, told.most_tokens)
    return {**rates, "teacher_seconds": round(told.seconds, 4)}


def _writing_speeds(student: Distilled, models: Mapping[str, Evaluator], most: int) -> dict[str, Json]:
    """Tokens and answers per CPU second of one core, together with their prompts."""
    rows = student.rows[:: max(1, len(student.rows) // WRITTEN_ROWS)][:WRITTEN_ROWS]
    runs: dict[str, Passes] = {}
    for who, one in models.items():
        tokenizer = one.candidate.loaded.tokenizer
        cut = replace(one.settings, options={**student.recipe.options, **one.settings.options, "truncate": True})
        prompts = [task_of(student.recipe.task).render([row.input], tokenizer, cut)[0] for row in rows]

        def compute(one: Evaluator = one, prompts: Any = prompts) -> list[str]:  # Any: a list of rendered inputs
            return write(one.candidate, prompts, most)

        written = tokenizer.encode(compute(), special=False)
        runs[who] = compute, max(1, sum(len(text.ids) for text in written))
    found = tokens_per_second(runs, rounds=1)
    return {
        who: {"tokens": round(rate, 1), "rows": round(rate / runs[who][1] * len(rows), 2)}
        for who, rate in found.items()
    }


def _summary(said: Mapping[str, Json]) -> str:
    """One sentence: points lost or gained, rows refused, and how fast both answer."""
    speed, name = said["speed"], str(said["metric"]).replace("_", " ")
    if said.get("ours") is None:
        points = f"{name} not compared: {said.get('note')}"
    else:
        ends = f" ({said['low']:+.3f} to {said['high']:+.3f})"
        points = f"{name} {said['ours']:.3f} for {said['theirs']:.3f}, {said['ours'] - said['theirs']:+.3f}{ends}"
    mine = speed["student"]["rows"]
    if "teacher" in speed:
        fast = f"{mine / max(speed['teacher']['rows'], 1e-9):.1f} times its speed"
    else:
        fast = f"{1 / max(mine, 1e-9):.4f} CPU seconds an answer for {speed['teacher_seconds']:.2f} seconds"
    return f"{said['teacher']}: {points}; {fast}; {said['refused']:,} of {said['asked']:,} answers left out"
