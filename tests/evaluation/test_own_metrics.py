"""A task from outside is judged by its own metric, beside those of its family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

PLUGIN = """
from dataclasses import replace

from llmos.tasks.classify import Classify


def given(predicted, settings):
    return [settings.labels[one.probabilities.argmax()] for one in predicted]


def least_recall(rows, predicted, settings):
    said = list(zip(rows, given(predicted, settings), strict=True))
    recalls = []
    for label in settings.labels:
        right = [answer == label for row, answer in said if row.labels == (label,)]
        recalls.append(sum(right) / len(right))
    return min(recalls)


def both(rows, predicted, settings):
    return {"least_recall": least_recall(rows, predicted, settings), "first_share": 0.25}


class Language(Classify):
    spec = replace(Classify.spec, name="language", primary_metric="least_recall", metric="outside:METRIC")


class ByFamily(Classify):
    spec = replace(Classify.spec, name="by_family", primary_metric="macro_recall")


class Lacking(Classify):
    spec = replace(Classify.spec, name="lacking", primary_metric="charm")


LANGUAGE, BY_FAMILY, LACKING = Language(), ByFamily(), Lacking()
"""
JUDGE = """
import json, sys
sys.path.append(sys.argv[1])
import numpy as np
from llmos.abi.error import BadInput
from llmos.data.row import LabelRow
from llmos.evaluation.families.labels import LabelPrediction
from llmos.evaluation.metrics import judge, primary_metric
from llmos.tasks import Settings

rows = [LabelRow({"text": str(i)}, (label,), "f", i) for i, label in enumerate(("de", "de", "en", "en"))]
predicted = [LabelPrediction(np.array(one, dtype=np.float32)) for one in ([0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0, 1])]
settings = Settings(("de", "en"))
found = {}
for task in sys.argv[2:]:
    try:
        first = primary_metric(task, rows, predicted, settings)
        found[task] = [first, list(judge(task, rows, predicted, settings).metrics.items())]
    except BadInput as error:
        found[task] = str(error)
print(json.dumps(found))
"""


def judged(folder: Path, metric: str, *tasks: str) -> dict[str, Any]:  # Any: what JUDGE prints
    """What a fresh interpreter that sees these tasks judges."""
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    names = ("language", "by_family", "lacking")
    (info / "entry_points.txt").write_text(
        "[llmos.tasks]\n" + "".join(f"{name} = outside:{name.upper()}\n" for name in names)
    )
    (folder / "outside.py").write_text(PLUGIN.replace("METRIC", metric))
    command = [sys.executable, "-c", JUDGE, str(folder), *tasks]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_task_s_own_number_comes_first_and_decides(tmp_path: Path) -> None:
    first, metrics = judged(tmp_path, "least_recall", "language")["language"]
    assert first == 0.5
    assert metrics[:2] == [["least_recall", 0.5], ["accuracy", 0.75]]
    assert dict(metrics)["macro_recall"] == 0.75


def test_a_task_may_bring_several_numbers(tmp_path: Path) -> None:
    first, metrics = judged(tmp_path, "both", "language")["language"]
    assert first == metrics[0][1] == 0.5
    assert dict(metrics)["first_share"] == 0.25


def test_a_task_may_be_decided_by_another_number_of_its_family(tmp_path: Path) -> None:
    found = judged(tmp_path, "both", "by_family", "lacking")
    assert found["by_family"][0] == 0.75
    assert found["by_family"][1][:2] == [["macro_recall", 0.75], ["accuracy", 0.75]]
    assert "decided by charm, which was not computed. There are: accuracy" in found["lacking"]
