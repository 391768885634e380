"""The admission of augment-data: what can be told before the rows are read is refused at once."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.abi.error import BadInput, BadSetting, LlmosError, WrongTask
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest, Kind, Manifest
from llmos.abi.process import Spec
from llmos.kernel.programs.augment_data import PROGRAM
from llmos.kernel.programs.declaration import AdmissionFacts
from llmos.testing.errors import fails_with


class Shelf:
    """What the store is asked: a dataset with training rows, one without, a base and a model."""

    def dataset(self, ref: str) -> DatasetManifest:
        name = ref.partition("@")[0]
        splits, task = {"test": 5} if name == "bare" else {"train": 9}, "tag" if name == "named" else "classify"
        counts = {"train": {"PER": 4, "O": 5} if name == "named" else {"refund": 5, "lost": 4}}
        return DatasetManifest(name, 3, task, (), splits=splits, label_counts=counts)

    def resolve(self, ref: str) -> Manifest:
        kind = Kind.BASE if ref in BASES else Kind.MODEL
        task = "tag" if ref == "tagger" else BASES.get(ref, "classify")
        return Manifest(ref, 2, kind, task, (), labels=MODEL_LABELS.get(ref, ()))


BASES = {"minilm": "embed", "talker": "chat", "opus": "translate"}
MODEL_LABELS = {"sorter": ("lost", "other", "refund"), "stars": ("1", "2", "refund"), "tagger": ("O", "B-PER", "I-PER")}


def checked(data: str = "rows", **args: Json) -> Spec:
    store: Any = Shelf()  # Any: as much of a store as the check asks
    return PROGRAM.check(Spec(PROGRAM.name, {"data": data, **args}), None, AdmissionFacts(store))


def test_datasets_and_models_are_named_with_their_versions():
    args = checked(by="neighbour", base="minilm", model="sorter").args
    assert (args["data"], args["base"], args["model"], args["name"]) == (
        "rows@3",
        "minilm:2",
        "sorter:2",
        "rows-augmented",
    )
    assert checked(balance=True, name="even").args["name"] == "even"


@pytest.mark.parametrize(
    ("kind", "key", "args"),
    [
        (BadInput, "by", {}),
        (BadInput, "by", {"by": "auto"}),
        (BadSetting, "augment", {"by": "sawp"}),
        (BadSetting, "copies", {"by": "swap", "copies": 99}),
        (BadInput, "base", {"by": "neighbour"}),
        (BadInput, "base", {"by": "neighbour", "base": "sorter"}),
        (BadSetting, "model", {"by": "swap", "model": "minilm"}),
        (BadInput, "writer", {"by": "paraphrase"}),
        (BadInput, "writer", {"by": "swap", "writer": "talker"}),
        (BadInput, "writer", {"by": "paraphrase", "writer": "minilm"}),
        (BadInput, "writer", {"by": "paraphrase", "writer": "opus"}),
        (BadInput, "translators", {"by": "back-translation"}),
        (BadInput, "translators", {"by": "back-translation", "translators": ["opus", "opus", "opus"]}),
        (BadInput, "translators", {"by": "back-translation", "translators": ["opus", "minilm"]}),
    ],
)
def test_arguments_that_cannot_work_are_refused(kind: type[LlmosError], key: str, args: dict[str, Json]):
    with fails_with(kind, key=key):
        checked(**args)


def test_a_dataset_without_training_rows_has_nothing_to_copy():
    with fails_with(BadInput, split="train"):
        checked(by="swap", data="bare")


def test_a_model_of_other_labels_or_of_another_task_is_refused_before_any_work():
    with fails_with(BadInput, key="model", expected=["lost"]):
        checked(by="swap", model="stars")
    with fails_with(WrongTask, task="classify", has="tag"):
        checked(by="swap", model="tagger")
    assert checked(by="swap", model="stars", only_labels=["refund"]).args["model"] == "stars:2"
    assert checked(data="named", by="mention", model="tagger").args["model"] == "tagger:2"


def test_models_that_say_texts_anew_are_pinned_with_their_engines():
    args = checked(by="paraphrase", writer="talker").args
    assert (args["writer"], args["engines"]) == ("talker:2", {"writer": "pytorch"})
    args = checked(by="back-translation", translators=["opus", "talker"], via="German").args
    assert (args["there"], args["back"], set(args["engines"])) == ("opus:2", "talker:2", {"there", "back"})
    assert checked(by="back-translation", translators=["talker"], via="German").args["back"] == "talker:2"
