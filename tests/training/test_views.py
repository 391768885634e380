"""Views of unlabelled texts: a sure answer is what a changed copy must be answered, and steps draw them all in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_training
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadSetting
from llmos.abi.recipe import check, recipe_of
from llmos.tasks import Rendered
from llmos.testing.daemon import beside

pytestmark = pytest.mark.torch
PLAIN = {"task": "classify", "name": "x", "base": "tiny", "data": {"train": "f.csv", "unlabelled": "g.csv"}}


def view(ids: list[int], copy: list[int]) -> Any:  # Any: an example, whose module imports torch
    from llmos.training.views import view_example

    return view_example("classify", Rendered(ids), Rendered(copy), [True])


def test_a_view_is_both_texts_and_counts_for_the_units_that_are_the_same() -> None:
    from llmos.tasks.tag import Words
    from llmos.training.views import view_example

    one = view([1, 2, 3], [1, 3])
    assert (one.sequences, one.size) == (([1, 2, 3], [1, 3]), 5)
    assert (one.target.places, one.target.outputs) == (((0, 0),), (1, 1))
    text, copy = Rendered([0, 1, 2, 3], Words("", (), (1, 2, None))), Rendered([0, 9, 9, 2], Words("", (), (1, 3, 3)))
    tagged = view_example("tag", text, copy, [False, True, True])
    assert (tagged.target.places, tagged.target.outputs) == (((2, 3),), (4, 4))


def test_only_answers_that_are_sure_are_learned_and_they_are_sharpened() -> None:
    import torch

    from llmos.training.views import SHARPENED, agreement

    text = torch.tensor([[3.0, 0.0], [0.3, 0.0], [0.0, 2.0]])
    copy = torch.tensor([[0.0, 1.0], [5.0, 0.0], [0.0, 2.0]])
    confidence = text.softmax(-1).amax(-1)
    least = torch.tensor([float(confidence[0]) - 0.01, float(confidence[2]) + 0.01])
    loss, seen = agreement(text, copy, least, torch.tensor([0.5, 1.0, 1.0]))
    wanted = -((text[0] / SHARPENED).softmax(-1) * copy[0].log_softmax(-1)).sum() * 0.5
    assert float(loss) == pytest.approx(float(wanted))
    assert seen[1].tolist() == [2, 1]
    assert seen[0].tolist() == pytest.approx([float(confidence[0] + confidence[1]), float(confidence[2])])


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.floats(0.34, 1)), max_size=6), max_size=20))
def test_a_labels_threshold_lies_among_the_confidences_seen_and_is_bounded(
    steps: list[list[tuple[int, float]]],
) -> None:
    from llmos.training.views import MOST, Thresholds

    found = Thresholds(3)
    assert found.least() == [MOST] * 3
    for answers in steps:
        sums = [sum(sure for label, sure in answers if label == i) for i in range(3)]
        found.learn([*sums, *(sum(label == i for label, _ in answers) for i in range(3))])
    for i, least in enumerate(found.least()):
        own = [sure for answers in steps for label, sure in answers if label == i] or [MOST]
        assert min(MOST, min(own)) - 1e-6 <= least <= min(MOST, max(own) + 1e-6)


def learned(folder: Path, task: str, **settings: Any) -> dict[str, Any]:  # Any: settings, and evidence
    from llmos.programs import train

    path = tiny_training.sorting(folder, 120) if task == "classify" else tiny_training.naming(folder)
    data = {"train": str(path), "unlabelled": str(tiny_training.unlabelled(folder, task))}
    daemon, channel, close = beside()
    try:
        train.main(channel, tiny_training.assignment(folder, {"task": task, "data": data, "epochs": 9.0, **settings}))
    finally:
        close()
    evidence: dict[str, Any] = daemon.offers[1].draft["evidence"]
    return evidence


@pytest.mark.parametrize(("task", "method"), [("classify", "full"), ("classify", "lora"), ("tag", "full")])
def test_a_run_with_views_learns_and_its_evidence_says_how_many(tmp_path: Path, task: str, method: str) -> None:
    evidence = learned(tmp_path, task, method=method, views=1.0, contrastive=False if task == "classify" else None)
    assert evidence["metrics"]["accuracy" if task == "classify" else "f1"] > 0.7
    said = evidence["self_training"]["views"]
    assert said["rows"] == evidence["self_training"]["unlabelled"] == 60
    assert 50 < said["changed"] <= 60  # a word may be drawn in its own place


@pytest.mark.parametrize("workers", [1, 2])
def test_every_view_is_drawn_in_turn_beside_the_batches_of_a_plain_run(tmp_path: Path, workers: int) -> None:
    from llmos.training.candidate import begin
    from llmos.training.checkpoint import Checkpoints
    from llmos.training.examples import Example
    from llmos.training.objectives import loss_of
    from llmos.training.objectives.labels import LabelTarget
    from llmos.training.recipe import resolve
    from llmos.training.trainer import Hooks, Trainer
    from llmos.training.views import STATE, ViewTrainer

    recipe = resolve(recipe_of(PLAIN | {"method": "full", "batch_size": 8, "views": 0.5, "epochs": 2.0}), 20, 2)
    examples = [Example(Rendered([2 + i, 30, 40]), LabelTarget([i % 2])) for i in range(20)]
    views = [view([5 + i, 31], [31, 5 + i]) for i in range(10)]

    def trainer(**more: Any) -> Trainer:
        candidate = begin(tiny_training.base(tmp_path), recipe, 2, "float32", "cpu")
        kind = ViewTrainer if more else Trainer
        hooks = Hooks(lambda progress: None, lambda: False, None)
        folder = Checkpoints(tmp_path / kind.__name__)
        made = kind(candidate, loss_of(recipe, 2), examples, recipe, folder, hooks, "d", **more)
        made.position.threads = workers
        return made

    plain, own = trainer(), trainer(views=views, labels=2)
    assert own.total == plain.total == 6
    drawn = []
    with own.workers() as crew:
        own.candidate.train()
        while not own.is_over:
            batch = own.next_batch()
            plain.position.step = own.position.step
            assert batch[:-4] == plain.next_batch()
            drawn += batch[-4:]
            own.step(crew, batch)
    assert sorted(drawn[:20]) == sorted([*range(20, 30)] * 2)
    counts = own.own_state()[STATE][1]
    assert 20 < float(counts.sum()) < 24  # four a step, those of earlier steps for a little less


@pytest.mark.parametrize(
    "settings",
    [
        {"views": -1.0},
        {"views": 1.0, "data": {"train": "f.csv"}},
        {"views": 1.0, "method": "head"},
        {"views": 1.0, "teacher": "big"},
        {"views": 1.0, "consistency": 1.0},
    ],
)
def test_they_are_refused_where_they_have_no_meaning(settings: dict[str, Any]) -> None:
    check(recipe_of(PLAIN | {"views": 2.0}))
    with pytest.raises(BadSetting) as refused:
        check(recipe_of(PLAIN | settings))
    assert refused.value.detail["key"] == "views"
