"""Distilling whole: a teacher's answers reach a smaller student, once, and evidence says what that cost and gained."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training

from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath, Stop
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, Offer
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


def run(job: Job, *, stop: bool = False) -> FakeDaemon:
    from llmos.programs import train

    daemon, channel, close = beside()
    if stop:
        daemon.send(Stop())
    try:
        train.main(channel, job)
    finally:
        close()
    return daemon


def located(offer: Offer, base: ModelPath) -> ModelPath:
    draft = {key: offer.draft[key] for key in ("task", "base", "method", "options", "lineage")}
    manifest = Manifest(offer.name, 1, Kind.MODEL, files=(), labels=tuple(offer.draft["labels"]), **draft)
    return ModelPath(manifest, offer.folder, base=base)


ROWS = {"classify": tiny_training.sorting, "tag": tiny_training.naming}


@pytest.fixture(scope="module", params=["classify", "tag"])
def teacher(request, tmp_path_factory) -> tuple[str, ModelPath, ModelPath]:
    """The task, a model that has learned it, and a base of one of its three layers."""
    from llmos.nn.shrink import keep_layers

    task, folder = request.param, tmp_path_factory.mktemp("teacher")
    base = tiny_training.base(folder)
    recipe = {"task": task, "data": {"train": str(ROWS[task](folder))}, "epochs": 12.0, "learning_curve": False}
    offer = run(tiny_training.assignment(folder, recipe, base=base)).offers[-1]
    assert next(iter(offer.draft["evidence"]["metrics"].values())) > 0.9
    small = folder / "small"
    small.mkdir()
    for path in Path(base.folder).glob("tokenizer*"):
        (small / path.name).write_bytes(path.read_bytes())
    keep_layers(Path(base.folder), [0], small)
    return task, located(offer, base), replace(base, folder=str(small), resident=str(small))


def unlabelled(folder: Path, task: str) -> str:
    """The same kind of rows, of which nobody has said what they are."""
    lines = {
        "classify": [f"{sign} {one} {i}" for i in range(8) for sign, one in (("xx", "plum"), ("yy", "zinc"))],
        "tag": [f"saw ADA {i}" for i in range(16)],
    }[task]
    path = folder / "bare.txt"
    path.write_text("\n".join(lines))
    return str(path)


def student(folder: Path, taught: tuple[str, ModelPath, ModelPath], **more: Json) -> Job:
    task, model, small = taught
    recipe = {
        "task": task,
        "data": {"train": str(ROWS[task](folder)), "unlabelled": unlabelled(folder, task)},
        "teacher": "sorter:1",
        "learning_curve": False,
        "epochs": 12.0,
        **more,
    }
    return tiny_training.assignment(folder, recipe, base=small, teacher=model)


def test_a_student_learns_from_labels_and_from_rows_without_any(tmp_path: Path, teacher) -> None:
    daemon = run(student(tmp_path, teacher))
    evidence = daemon.offers[-1].draft["evidence"]
    found = evidence["distillation"]
    assert next(iter(evidence["metrics"].values())) > 0.8
    assert (found["teacher"], found["unlabelled"], found["weight"], found["temperature"]) == ("sorter:1", 16, 0.7, 2.0)
    assert found["labelled"] == evidence["rows"]["train"]
    assert found["ours"] == pytest.approx(next(iter(evidence["metrics"].values())))
    assert 0.8 < found["theirs"] <= 1
    assert found["low"] <= found["ours"] - found["theirs"] <= found["high"]
    assert all(found["speed"][who][what] > 0 for who in ("teacher", "student") for what in ("tokens", "rows"))
    assert found["bytes"]["student"] < found["bytes"]["teacher"]
    page = (Path(daemon.offers[-1].folder) / "report.html").read_text()
    assert "times its speed" in page
    assert "16 without labels" in page
    assert any("Distilled from sorter:1" in one.message for one in daemon.progress)


def test_a_run_that_goes_on_does_not_ask_its_teacher_again(tmp_path: Path, teacher) -> None:
    job = student(tmp_path, teacher)
    first = run(job, stop=True)
    assert not any(offer.kind == "model" for offer in first.offers)
    kept = Path(job.scratch) / "teacher.safetensors"
    if not kept.exists():  # it was stopped while the teacher answered: nothing is kept of that
        run(job)
        assert kept.exists()
    answers = kept.read_bytes()
    again = run(job)
    assert kept.read_bytes() == answers
    assert not any(one.phase == "teach" for one in again.progress)
    assert again.offers[-1].draft["evidence"]["distillation"]["teacher"] == "sorter:1"


def test_answers_about_other_rows_are_not_taken(tmp_path: Path, teacher) -> None:
    job = student(tmp_path, teacher, epochs=0.1)
    run(job)
    (tmp_path / "bare.txt").write_text("xx plum 999")
    for path in (Path(job.scratch) / "checkpoints").glob("*"):
        path.rename(path.with_name(f"gone-{path.name}"))
    again = run(job)
    assert any(one.phase == "teach" for one in again.progress)
    assert again.offers[-1].draft["evidence"]["distillation"]["unlabelled"] == 1


def test_a_teacher_that_lacks_a_label_is_refused(tmp_path: Path, teacher) -> None:
    task, model, small = teacher
    fewer = replace(model, manifest=replace(model.manifest, labels=model.manifest.labels[:-1]))
    with pytest.raises(BadInput) as raised:
        run(student(tmp_path, (task, fewer, small)))
    assert raised.value.detail["labels"] == [model.manifest.labels[-1]]


def soft(logits: Any, label: int | None, place: int | None = 0) -> Any:
    from llmos.training.distillation import SoftTarget
    from llmos.training.examples import Example
    from llmos.training.objectives.objective import IGNORED

    labels = [IGNORED if label is None else label]
    return Example(None, SoftTarget(labels, (place,), 1, logits, is_labelled=label is not None))  # type: ignore[arg-type]


def test_the_loss_mixes_the_softened_divergence_and_the_label() -> None:
    import torch

    from llmos.abi.distillation import Distillation
    from llmos.training.distillation import SoftLabelLoss

    mine, its = torch.tensor([[1.0, -0.5, 0.2]]), torch.tensor([[2.0, 0.0, -1.0]])
    heat = 3.0
    p, q = (its / heat).softmax(-1), (mine / heat).softmax(-1)
    apart = float((p * (p / q).log()).sum()) * heat**2
    hard = -float(mine.log_softmax(-1)[0, 1])
    loss = SoftLabelLoss(Distillation("t", 0.25, heat))
    assert float(loss(mine, [soft(its, 1)])) == pytest.approx(0.25 * apart + 0.75 * hard, rel=1e-5)
    assert float(loss(mine, [soft(its, None)])) == pytest.approx(apart, rel=1e-5)  # without a label it is all teacher
    unseen = torch.full((1, 3), math.nan)
    assert float(loss(mine, [soft(unseen, 1)])) == pytest.approx(hard, rel=1e-5)
    assert float(loss(mine, [soft(unseen, None)])) == 0.0
    both = torch.cat([mine, mine])
    total = loss(both, [soft(its, 1), soft(its, None)])
    assert float(total) == pytest.approx(1.25 * apart + 0.75 * hard, rel=1e-5)
    assert loss.normalizer([soft(its, 1), soft(its, None, None)]) == 1.0


def test_no_gradient_of_an_unseen_unit_is_not_a_number() -> None:
    import torch

    from llmos.abi.distillation import Distillation
    from llmos.training.distillation import SoftLabelLoss

    given = torch.zeros(2, 3, requires_grad=True)
    unseen, seen = torch.full((1, 3), math.nan), torch.tensor([[1.0, 2.0, 3.0]])
    SoftLabelLoss(Distillation("t"))(given, [soft(unseen, None), soft(seen, 2)]).backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    assert not given.grad[0].any()
    assert given.grad[1].any()


def test_texts_with_many_labels_learn_the_mixture_of_each() -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from llmos.abi.distillation import Distillation
    from llmos.training.distillation import SoftManyLabelsLoss

    mine, its = torch.tensor([[0.3, -0.2]]), torch.tensor([[2.0, -2.0]])
    loss = SoftManyLabelsLoss(Distillation("t", 0.5, 1.0), 2)
    wanted = 0.5 * its.sigmoid() + 0.5 * torch.tensor([[0.0, 1.0]])
    expected = binary_cross_entropy_with_logits(mine, wanted, reduction="sum")
    assert float(loss(mine, [soft(its, 1)])) == pytest.approx(float(expected), rel=1e-5)
    bare = binary_cross_entropy_with_logits(mine, its.sigmoid(), reduction="sum")
    assert float(loss(mine, [soft(its, None)])) == pytest.approx(float(bare), rel=1e-5)
