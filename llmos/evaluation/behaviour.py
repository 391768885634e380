"""Behaviour suites on a model in memory: what it would answer if it were served, before anything is promoted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from llmos.abi.error import BadSuite
from llmos.abi.json_type import Json
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.generation_eval import write
from llmos.evaluation.predictions import TOKENS_AT_ONCE
from llmos.suites.plan import plan_of
from llmos.suites.reading import load_suite
from llmos.suites.result import SuiteResult, judge_outputs
from llmos.tasks import Rendered
from llmos.tasks import task as task_of
from llmos.training.candidate import Candidate
from llmos.training.examples import passes

MAX_NEW_TOKENS = 256  # of a written answer, where the suite's params do not say


def run_suite(evaluator: Evaluator, path: str | Path, model: str) -> SuiteResult:
    """The result of a suite on this model; BadSuite if it is of another task, or names labels that it does not have."""
    suite = load_suite(path)
    if suite.task != evaluator.task:
        said = f"{path} tests the task {suite.task}, and {model} does {evaluator.task}. Name a suite for that"
        raise BadSuite(said, file=str(path), line=1, task=suite.task, has=evaluator.task)
    suite.check_labels(evaluator.settings.labels)
    plan = plan_of(suite)
    return judge_outputs(plan, answer_inputs(evaluator, plan.inputs, plan.params), model)


def answer_inputs(evaluator: Evaluator, inputs: Sequence[Json], params: Mapping[str, Json]) -> list[Json]:
    """The outputs for these inputs, as HTTP has them; rendered and parsed as in serving, texts written greedily."""
    candidate, settings, doing = evaluator.candidate, evaluator.settings, task_of(evaluator.task)
    rendered = doing.render([doing.check(one) for one in inputs], candidate.loaded.tokenizer, settings)
    candidate.train(False)
    if doing.spec.is_generative:
        texts = write(candidate, rendered, int(params.get("max_tokens") or MAX_NEW_TOKENS))
        raws: list[Json] = [{"text": text, "finish_reason": "stop"} for text in texts]
    else:
        raws = _raw_answers(candidate, rendered, by_token=doing.spec.head == "token")
    return [doing.parse(raw, one, settings, dict(params)) for raw, one in zip(raws, rendered, strict=True)]


@torch.inference_mode()
def _raw_answers(candidate: Candidate, rendered: Sequence[Rendered], *, by_token: bool) -> list[Json]:
    """What the head gives for each input: of one sequence its logits, of several a list of theirs."""
    found: list[Json] = [None] * len(rendered)
    for part in passes(range(len(rendered)), [one.size for one in rendered], TOKENS_AT_ONCE):
        sequences = [ids for i in part for ids in rendered[i].sequences]
        logits = candidate.logits(sequences).cpu()
        pieces: Iterator[torch.Tensor] = iter(
            torch.split(logits, [len(ids) for ids in sequences]) if by_token else logits
        )
        for i in part:
            of_input = [next(pieces).tolist() for _ in rendered[i].sequences]
            found[i] = of_input if rendered[i].parts else of_input[0]
    return found
