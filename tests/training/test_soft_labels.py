"""Soft labels: the loss is the cross-entropy with the rules' probabilities, and of other rows with their label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_training

from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch
LABELS = ("a", "b", "c")


def row(label: str, **extra: object) -> StoredRow[LabelRow]:
    return StoredRow("0" * 16, LabelRow({"text": "x"}, (label,), "f", 1), extra)


def test_the_loss_is_the_cross_entropy_with_the_probabilities() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from llmos.tasks import Rendered
    from llmos.training.distillation import SoftLabelLoss
    from llmos.training.examples import Example
    from llmos.training.objectives.labels import LabelTarget
    from llmos.training.soft_labels import BY_RULES, soften

    shares = {"a": 0.7, "b": 0.2, "c": 0.1}
    stored = [row("a", weak_label={"probabilities": shares, "votes": {}}), row("b")]
    hard = [Example(Rendered([1, 2]), LabelTarget([0])), Example(Rendered([1, 2]), LabelTarget([1]))]
    made = soften("classify", [*hard, hard[1]], stored, LABELS)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    wanted = torch.tensor([0.7, 0.2, 0.1])
    entropy = -(wanted * wanted.log()).sum()
    expected = cross_entropy(logits[:1], wanted[None]) - entropy + 2 * cross_entropy(logits[1:], torch.tensor([1, 1]))
    assert SoftLabelLoss(BY_RULES)(logits, made).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("odd", [{}, {"weak_label": "yes"}, {"weak_label": {"probabilities": {"other": 1.0}}}])
def test_a_row_without_probabilities_of_these_labels_keeps_its_label(odd: dict[str, object]) -> None:
    from llmos.training.soft_labels import logits_of

    assert logits_of(row("a", **odd), LABELS).isnan().all()


def test_other_probabilities_are_another_run() -> None:
    from llmos.training.soft_labels import digest_of

    one, other = ([row("a", weak_label={"probabilities": {"a": share, "b": 1 - share}})] for share in (0.9, 0.8))
    assert digest_of(one) != digest_of(other)


def train(folder: Path, **more: object) -> FakeDaemon:
    from llmos.programs import train as program

    lines = tiny_training.sorting(folder).read_text().splitlines()
    rows = [dict(zip(("text", "label"), line.rsplit(",", 1), strict=True)) for line in lines[1:]]
    names = sorted({one["label"] for one in rows})
    weak = [
        {
            **one,
            "text": f"{one['text']} {at}",
            "weak_label": {"probabilities": {n: 0.8 if n == one["label"] else 0.2 / (len(names) - 1) for n in names}},
        }
        for at, one in enumerate(rows)
    ]
    path = folder / "weak.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in [*rows, *weak]))
    recipe = {"task": "classify", "data": {"train": str(path)}, "epochs": 12.0, "learning_curve": False, **more}
    daemon, channel, close = beside()
    try:
        program.main(channel, tiny_training.assignment(folder, recipe))
    finally:
        close()
    return daemon


def test_a_run_learns_probabilities_and_measures_on_labels_of_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = train(tmp_path)
    dataset, model = daemon.offers[0], daemon.offers[-1]
    assert "are learned by their probabilities" in capsys.readouterr().out
    assert next(iter(model.draft["evidence"]["metrics"].values())) > 0.8
    counts = dataset.draft["splits"]
    assert counts["test"] < counts["train"] / 10  # a share of the labelled half alone
    assert not [note for note in dataset.draft["notes"] if "by rules" in note]


def test_a_run_may_take_labels_by_rules_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, soft_labels=False, epochs=1.0)
    assert "are learned by their probabilities" not in capsys.readouterr().out
