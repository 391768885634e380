"""The admission of a training without a method: it reserves for the largest that may be chosen, then for the chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.auto_method import choosable
from llmos.abi.device import Device
from llmos.abi.process import Process, Spec
from llmos.config import Config
from llmos.kernel.admission import admit, assignment, footprint_of
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base

MACHINE = Device("cpu0", "cpu", "a processor", 1 << 34)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    add_base(made)
    (tmp_path / "rows.csv").write_text("text,label\n")
    return made


def train(store: Store, **more: str) -> Spec:
    rows = str(store.home / "rows.csv")
    return Spec("train", {"name": "n", "base": "tiny", "task": "classify", "data": {"train": rows}, **more})


def test_a_training_without_a_method_reserves_for_the_largest_that_may_be_chosen(store: Store) -> None:
    spec, needs = admit(train(store), store, 0)
    assert spec.args["method"] == "auto"
    named = [admit(train(store, method=name), store, 0)[1] for name in choosable("classify", is_static=False)]
    assert needs == {kind: max(one[kind] for one in named) for kind in needs}


def test_the_chosen_method_needs_what_it_would_if_it_were_named(store: Store) -> None:
    spec, _ = admit(train(store), store, 0)
    _, named = admit(train(store, method="lora"), store, 0)
    chosen = Spec(spec.program, {**spec.args, "method": "lora", "method_why": "auto: lora, because ..."})
    assert footprint_of(chosen, store, 0) == named


def test_a_training_from_before_the_rule_goes_on_with_its_method(store: Store) -> None:
    spec, _ = admit(train(store), store, 0)
    old = Spec(spec.program, {key: value for key, value in spec.args.items() if key != "method"})
    assert assignment(Process(7, old), store, Config(store.home), MACHINE).args["method"] == "full"
    assert assignment(Process(8, spec), store, Config(store.home), MACHINE).args["method"] == "auto"
