"""The admission of a training with a teacher: it is pinned, counted and comes with the job, or is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.device import Device
from llmos.abi.error import BadInput, BadSetting, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.process import Process, Spec
from llmos.config import Config
from llmos.kernel.admission import admit, assignment
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A base, a model for texts and one for words on it."""
    made = Store(tmp_path)
    add_base(made)
    add_model(made, "mood", "tiny:1", pid=902)
    add_model(made, "names", "tiny:1", task="tag", pid=903)
    (tmp_path / "rows.csv").write_text("text,label\n")
    return made


def train(store: Store, **more: Json) -> Spec:
    rows = str(store.home / "rows.csv")
    return Spec("train", {"name": "less", "base": "tiny", "task": "classify", "data": {"train": rows}, **more})


def test_a_teacher_is_pinned_and_comes_with_the_job_and_its_bytes(store: Store) -> None:
    spec, needs = admit(train(store, teacher="mood:1"), store, 0)
    _, without = admit(train(store), store, 0)
    assert spec.args["teacher"] == "mood:1"
    bytes_of = {ref: store.resolve(ref).size_bytes for ref in ("mood:1",)}
    assert sum(needs.values()) - sum(without.values()) >= bytes_of["mood:1"]
    device = Device("cpu0", "cpu", "a processor", 1 << 34)
    job = assignment(Process(7, spec), store, Config(store.home), device)
    assert job.models["teacher"].manifest.ref == "mood:1"
    assert job.models["teacher"].base is not None


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (BadInput, {"teacher": "tiny:1"}),
        (BadInput, {"teacher": "names:1"}),
        (BadInput, {"teacher": "mood:1", "options": {"multi_label": True}}),
        (LlmosError, {"teacher": "nobody"}),
        (BadSetting, {"teacher": "mood:1", "teacher_weight": 1.5}),
        (BadSetting, {"teacher": "mood:1", "teacher_temperature": 0.5}),
        (BadSetting, {"teacher": "mood:1", "label_smoothing": 0.1}),
        (BadSetting, {"teacher": "mood:1", "class_weights": "balanced"}),
        (BadSetting, {"teacher": "mood:1", "augment": "swap"}),
        (BadSetting, {"teacher_weight": 0.5}),
        (BadSetting, {"teacher": "mood:1", "task": "similarity"}),
        (BadSetting, {"teacher": "http://models.example/v1"}),
        (BadInput, {"teacher": "http://me:word@models.example/v1#big"}),
        (BadSetting, {"teacher": "http://models.example/v1#big", "task": "tag"}),
        (BadSetting, {"teacher": "http://models.example/v1#big", "options": {"multi_label": True}}),
        (BadSetting, {"teacher": "http://models.example/v1#big", "task": "generate", "teacher_weight": 0.5}),
        (BadInput, {"teacher": "mood:1", "task": "generate"}),
    ],
)
def test_what_cannot_be_taught_is_refused(store: Store, kind: type[LlmosError], args: dict[str, Any]) -> None:
    with pytest.raises(kind):
        admit(train(store, **args), store, 0)


def test_rows_without_labels_are_taught_by_a_teacher_or_by_the_run_itself(store: Store) -> None:
    rows = str(store.home / "rows.csv")
    assert admit(train(store, data={"train": rows, "unlabelled": rows}), store, 0)
    assert admit(train(store, data={"train": rows, "unlabelled": rows}, teacher="mood:1"), store, 0)


def test_a_teacher_behind_an_address_comes_with_the_key_of_the_daemon_and_no_bytes(store: Store) -> None:
    address = "https://models.example/v1#big"
    spec, needs = admit(train(store, teacher=address), store, 0)
    assert spec.args["teacher"] == address
    assert needs == admit(train(store), store, 0)[1]
    config = Config(store.home, endpoint_hosts=("models.example:443",), endpoint_key="the-key")
    device = Device("cpu0", "cpu", "a processor", 1 << 34)
    job = assignment(Process(7, spec), store, config, device)
    assert "teacher" not in job.models
    assert (job.args["endpoint_hosts"], job.args["api_key"]) == (["models.example:443"], "the-key")
    assert "api_key" not in spec.args
    other = assignment(Process(7, admit(train(store, teacher="mood:1"), store, 0)[0]), store, config, device)
    assert not {"api_key", "endpoint_hosts"} & other.args.keys()


def test_a_search_asks_no_address(store: Store) -> None:
    args = {"teacher": "https://models.example/v1#big", "budget": "2 trials"}
    with fails_with(BadInput, key="teacher"):
        admit(replace(train(store, **args), program="tune"), store, 0)
