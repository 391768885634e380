"""What an order to learn is due: told from journal, store and feedback alone."""

from dataclasses import replace

import pytest

from llmos.abi.error import BadInput, Conflict, DatasetNotFound
from llmos.abi.feedback import FeedbackCounts
from llmos.abi.learning import LearnOrder
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Process, Spec, State
from llmos.kernel.feedback.learner import (
    accuracy_of,
    check_learnable,
    last_begun,
    next_step,
    root_of,
    steps_of,
    verdict_of,
)
from llmos.testing.kernel import manifest

ORDER = LearnOrder("m", 200)
RECIPE = {"task": "classify", "name": "m", "base": "minilm:1", "data": {"train": "/rows.csv"}, "method": "head"}
FIRST = manifest("m", 1, "classify", "minilm:1", lineage={"recipe": RECIPE, "dataset": "m@1"})
ROOT = DatasetManifest("m", 1, "classify", ())


def fed(version, upto=200, **more):
    operation = {"operation": "feedback", "root": "m@1", "upto": upto, "rows": 150, "held_out": 50, **more}
    return DatasetManifest("m-feedback", version, "classify", (), provenance={"operation": operation})


class Shelf:
    """What a store says of these models and datasets; the last of `history` is promoted."""

    def __init__(self, models=(FIRST,), datasets=(ROOT,), history=(1,)):
        self._models, self._datasets, self._history = list(models), list(datasets), history

    def manifests(self):
        return self._models

    def datasets(self):
        return self._datasets

    def promoted(self, name):
        return self._history[-1] if self._history else None

    def promotions(self, name):
        return self._history

    def resolve(self, ref):
        return next(one for one in self._models if one.ref == ref)

    def dataset(self, ref):
        found = next((one for one in self._datasets if one.ref == ref), None)
        if found is None:
            raise DatasetNotFound(ref)
        return found


def gathering(pid, state=State.EXITED, upto=200, **fields):
    return Process(pid, Spec("learn-data", {"model": "m", "upto": upto}), state=state, **fields)


def training(pid, dataset, state=State.EXITED, **fields):
    args = {**RECIPE, "data": {"train": dataset}, "labelling": "m-feedback"}
    return Process(pid, Spec("train", args), state=state, **fields)


def counts(rows, last=500):
    return FeedbackCounts("m", rows, last_id=last)


def test_nothing_is_due_before_so_many_rows():
    assert next_step(ORDER, counts(199), Shelf(), []) is None


def test_rows_are_gathered_with_the_first_rows_and_the_last_id():
    due = next_step(ORDER, counts(200, 321), Shelf(), [])
    assert due.program == "learn-data"
    assert (due.args["data"], due.args["upto"], due.args["name"]) == ("m@1", 321, "m-feedback")


def test_a_gathered_dataset_is_trained_on_by_the_promoted_version_s_recipe():
    due = next_step(ORDER, counts(0), Shelf(datasets=(ROOT, fed(1))), [gathering(7)])
    assert due.program == "train"
    assert (due.args["data"], due.args["method"], due.args["labelling"]) == (
        {"train": "m-feedback@1"}, "head", "m-feedback",
    )  # fmt: skip


@pytest.mark.parametrize("state", [State.QUEUED, State.STARTING, State.READY, State.SUSPENDED])
def test_what_is_at_work_is_waited_for(state):
    assert next_step(ORDER, counts(900), Shelf(), [gathering(7, state)]) is None
    assert next_step(ORDER, counts(900), Shelf(datasets=(ROOT, fed(1))), [training(8, "m-feedback@1", state)]) is None


def test_what_was_interrupted_goes_on_unless_a_user_has_stopped_it():
    left = training(8, "m-feedback@1", State.INTERRUPTED)
    assert next_step(ORDER, counts(900), Shelf(datasets=(ROOT, fed(1))), [left]) == 8
    assert next_step(ORDER, counts(900), Shelf(), [replace(left, reason="stopped by the user")]) is None


def test_a_dataset_that_was_trained_on_is_not_trained_on_again():
    shelf = Shelf(datasets=(ROOT, fed(1)))
    assert next_step(ORDER, counts(10), shelf, [gathering(7), training(8, "m-feedback@1")]) is None
    later = manifest("m", 2, "classify", "minilm:1", lineage={"recipe": {**RECIPE, "data": {"train": "m-feedback@1"}}})
    assert next_step(ORDER, counts(10), Shelf((FIRST, later), (ROOT, fed(1))), []) is None


def test_the_next_rows_stand_beside_the_first_ones_not_beside_earlier_feedback():
    lineage = {"recipe": {**RECIPE, "data": {"train": "m-feedback@1"}}, "dataset": "m@2"}
    second = manifest("m", 2, "classify", "minilm:1", lineage=lineage)
    shelf = Shelf((FIRST, second), (ROOT, fed(1)), (1, 2))
    assert next_step(ORDER, counts(200), shelf, []).args["data"] == "m@1"


def test_without_a_promoted_version_nothing_is_due():
    assert next_step(ORDER, counts(900), Shelf(history=()), []) is None


def test_rows_that_were_begun_with_are_not_counted_again_after_a_crash_in_between():
    assert last_begun(replace(ORDER, upto=100), [gathering(7, upto=200)]) == 200
    assert last_begun(replace(ORDER, upto=300), [gathering(7, upto=200)]) == 300


def test_rows_that_are_gone_cannot_be_learned_with():
    with pytest.raises(BadInput):
        root_of(FIRST, Shelf(datasets=()))


def test_a_model_that_taught_itself_does_not_learn():
    own = replace(FIRST, lineage={"recipe": {**RECIPE, "teacher": "m:1"}})
    with pytest.raises(Conflict):
        check_learnable(own)
    check_learnable(replace(FIRST, lineage={"recipe": {**RECIPE, "teacher": "other:1"}}))


def test_a_task_whose_feedback_becomes_no_rows_is_refused():
    for task in ("tag", "chat", "generate", "translate", "summarize"):
        check_learnable(manifest("able", 1, task, "minilm:1"))
    for task in ("similarity", "rerank", "answer"):
        with pytest.raises(BadInput):
            check_learnable(manifest("kept", 1, task, "minilm:1"))


def test_how_often_a_model_may_be_right_is_the_upper_end_of_its_interval():
    measured = {"metrics": {"accuracy": 0.8}, "intervals": {"accuracy": {"low": 0.7, "high": 0.85}}}
    assert accuracy_of(replace(FIRST, evidence=measured)) == 0.85
    assert accuracy_of(replace(FIRST, evidence={"metrics": {"accuracy": 0.8}})) == 0.8
    assert accuracy_of(replace(FIRST, evidence={})) == 1.0


def test_each_step_says_what_it_learned_and_what_came_of_it():
    gate = {"standing": "better", "conditions": [{"is_met": True, "sentence": "better than m:1"}]}
    lineage = {"recipe": {**RECIPE, "data": {"train": "m-feedback@1"}}}
    second = manifest("m", 2, "classify", "minilm:1", lineage=lineage, evidence={"gate": gate})
    newest, first = steps_of("m", Shelf((FIRST, second), (ROOT, fed(1), fed(2)), (1, 2)), [])
    assert (newest.dataset, newest.ref, newest.is_promoted) == ("m-feedback@2", "", False)
    assert (first.ref, first.is_promoted, first.verdict, first.rows) == ("m:2", True, "better", 150)


def test_of_a_version_that_was_removed_its_training_tells_the_verdict():
    ended = training(8, "m-feedback@1", made=("m:2",), reason="not met: cannot tell whether better")
    newest, first = steps_of("m", Shelf(datasets=(ROOT, fed(1), fed(2))), [gathering(7), ended])
    assert (first.ref, first.is_promoted, first.verdict) == ("m:2", False, "not met: cannot tell whether better")
    assert (newest.ref, newest.verdict) == ("", "")


def test_of_a_refused_version_the_conditions_that_it_did_not_meet_are_said():
    conditions = [{"is_met": True, "sentence": "fast"}, {"is_met": False, "sentence": "worse than m:1"}]
    assert verdict_of(replace(FIRST, evidence={"gate": {"standing": "worse", "conditions": conditions}})) == (
        "worse than m:1"
    )
    assert verdict_of(replace(FIRST, evidence={})) == ""
