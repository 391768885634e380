"""A suite on a model in memory: the same answers as its evaluation has, for each family of tasks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import tiny_training
import torch

from llmos.abi.error import BadInput, BadSuite
from llmos.abi.gate import gate_policy
from llmos.abi.recipe import Data, Recipe
from llmos.data.row import LabelRow, TagRow
from llmos.evaluation.behaviour import answer_inputs, run_suite
from llmos.evaluation.conditions.condition import GateFacts
from llmos.evaluation.evaluation_result import EvaluationResult
from llmos.evaluation.evaluator import Evaluator
from llmos.evaluation.gate import Decision, decide
from llmos.tasks import Settings
from llmos.training.candidate import begin

pytestmark = pytest.mark.torch


def evaluator(folder: Path, task: str, labels: tuple[str, ...] = (), architecture: str = "bert") -> Evaluator:
    torch.manual_seed(4)
    base = tiny_training.base(folder, architecture)
    recipe = Recipe(task, "x", "tiny:1", Data("x"), method="full")
    candidate = begin(base, recipe, len(labels), "float32", "cpu")
    return Evaluator(candidate, task, Settings(labels, {}, candidate.loaded.max_tokens))


def test_labels_are_those_that_the_evaluation_gives(tmp_path: Path) -> None:
    model = evaluator(tmp_path, "classify", ("a", "b", "c"))
    texts = [f"text number {i} with {'more ' * (i % 4)}words" for i in range(12)]
    predicted = model.predict([LabelRow({"text": text}, ("a",), "x", 1) for text in texts])
    outputs = answer_inputs(model, texts, {})
    for one, output in zip(predicted, outputs, strict=True):
        assert output["label"] == "abc"[int(np.argmax(one.probabilities))]
        assert output["score"] == pytest.approx(float(one.probabilities.max()), abs=1e-5)


def test_spans_are_read_from_the_logits_of_each_word(tmp_path: Path) -> None:
    model = evaluator(tmp_path, "tag", ("O", "B-X", "I-X"))
    words = ["one", "two", "three", "four", "five"]
    (predicted,) = model.predict([TagRow({"tokens": words}, ("O",) * 5, "x", 1)])
    (output,) = answer_inputs(model, [" ".join(words)], {})
    tagged = {i for i, row in enumerate(predicted.probabilities) if int(np.argmax(row))}
    offsets = np.cumsum([0, *(len(word) + 1 for word in words)])
    covered = {i for i in range(5) if any(one["start"] <= offsets[i] < one["end"] for one in output["spans"])}
    assert covered == tagged


def test_answers_and_texts_are_in_the_form_of_their_task(tmp_path: Path) -> None:
    asked = {"question": "Who?", "passage": "Ada lives here."}
    (answer,) = answer_inputs(evaluator(tmp_path, "answer", ("start", "end")), [asked], {})
    assert answer["text"] == "" or answer["text"] == asked["passage"][answer["start"] : answer["end"]]
    writes = evaluator(tmp_path, "generate", architecture="llama")
    one, again = answer_inputs(writes, ["Once", "Once"], {"max_tokens": 3, "temperature": 0.0})
    assert one == again
    assert one["finish_reason"] == "stop"


def test_a_suite_runs_on_it_and_one_of_another_task_is_refused(tmp_path: Path) -> None:
    model = evaluator(tmp_path, "classify", ("a", "b"))
    file = tmp_path / "x.suite.yaml"
    head = "suite: x\ntask: classify\ntests:\n"
    file.write_text(f"{head}  - {{test: any, texts: [one, two], expect: {{one_of: [a, b]}}}}\n")
    result = run_suite(model, file, "x:1")
    assert (result.model, result.is_passed, result.cases) == ("x:1", True, 2)
    file.write_text(f"{head}  - {{test: any, texts: [one], expect: c}}\n")
    with pytest.raises(BadSuite) as unknown:
        run_suite(model, file, "x:1")
    assert unknown.value.detail == {"file": str(file), "line": 4}
    file.write_text("suite: x\ntask: tag\ntests:\n  - {test: any, texts: [one], expect: none}\n")
    with pytest.raises(BadSuite) as other:
        run_suite(model, file, "x:1")
    assert other.value.detail == {"file": str(file), "line": 1, "task": "tag", "has": "classify"}


def test_the_gate_promotes_what_passes_a_suite_and_says_why_it_does_not(tmp_path: Path) -> None:
    model, file = evaluator(tmp_path, "classify", ("a", "b")), tmp_path / "x.suite.yaml"

    def decision(expected: str) -> Decision:
        file.write_text(f"suite: x\ntask: classify\ntests:\n  - {{test: one, texts: [hi], expect: {expected}}}\n")
        facts = GateFacts("classify", "accuracy", EvaluationResult({"accuracy": 0.9}, {}), evaluator=model)
        return decide(gate_policy([f"suite:{file}"]), facts)

    passed, failed, broken = decision("{one_of: [a, b]}"), decision("{not: [a, b]}"), decision("c")
    assert passed.verdict.promote
    assert "x: 1 of 1 tests passed, 1 of 1 cases" in passed.verdict.reason
    assert not failed.verdict.promote
    assert "Failed: one (1 of 1 cases)" in failed.verdict.reason
    assert not broken.verdict.promote
    assert "line 4: 'one' names the label 'c'" in broken.verdict.reason
    with pytest.raises(BadInput) as relative:
        gate_policy(["suite:x.suite.yaml"])
    assert relative.value.detail["key"] == "require"
