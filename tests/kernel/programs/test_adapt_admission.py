"""The admission of adapt: objective and name follow from the base; what cannot be adapted is refused before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.error import BadInput, BadSetting, Conflict, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.model import Manifest, OfferKind, Verdict
from llmos.abi.process import Spec
from llmos.kernel.admission import admit
from llmos.kernel.store.store import Store
from llmos.testing.errors import fails_with
from llmos.testing.models import add_base, add_model, offer, safetensors


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "home")
    add_base(made)
    add_base(made, "teller", "chat", floats=32, pid=900_002)
    return made


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.txt"
    path.write_text("one text\n")
    return str(path)


@pytest.mark.parametrize(("base", "objective"), [("tiny", "masked"), ("teller", "causal")])
def test_the_objective_and_the_name_follow_from_the_base(store: Store, texts: str, base: str, objective: str) -> None:
    spec, needs = admit(Spec("adapt", {"base": base, "data": texts}), store, 0)
    assert spec.args == {"base": f"{base}:1", "data": texts, "name": f"{base}-adapted", "objective": objective}
    assert spec.title == f"adapt {base}:1 to {base}-adapted"
    assert sum(needs.values()) > 0


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (BadSetting, {"objective": "causal"}),
        (BadSetting, {"base": "teller", "objective": "masked"}),
        (BadSetting, {"base": "teller", "objective": "contrastive"}),
        (BadSetting, {"objective": "nothing"}),
        (BadSetting, {"matryoshka": "8,16"}),
        (BadSetting, {"objective": "contrastive", "matryoshka": "16,8"}),
        (BadSetting, {"objective": "contrastive", "pairs": True}),
        (BadSetting, {"objective": "contrastive", "keep_head": True}),
        (BadSetting, {"mask_share": 0.95}),
        (BadSetting, {"max_tokens": 2}),
        (BadInput, {"name": "mood"}),
        (BadInput, {"name": "No Name"}),
        (BadInput, {"general": "/nowhere.txt"}),
        (BadInput, {"data": "/nowhere.txt"}),
    ],
)
def test_what_cannot_be_is_refused(store: Store, texts: str, kind: type[LlmosError], args: dict[str, Json]) -> None:
    add_model(store, "mood", "tiny:1", pid=902)
    with pytest.raises(kind):
        admit(Spec("adapt", {"base": "tiny", "data": texts, **args}), store, 0)


def test_lengths_that_are_refused_are_said_as_they_were_given(store: Store, texts: str) -> None:
    with fails_with(BadSetting, key="matryoshka", value="8,16"):
        admit(Spec("adapt", {"base": "tiny", "data": texts, "matryoshka": "8,16"}), store, 0)


def commit(store: Store, verdict: Verdict) -> Manifest:
    files = {"model.safetensors": safetensors(64), "config.json": b"{}"}
    draft = {"task": "embed", "evidence": {"gate": {"promoted": verdict.promote}}}
    made = offer(store.home / "scratch" / "7" / "offer", OfferKind.BASE, "read", files, draft)
    object.__setattr__(made, "verdict", verdict)
    kept = store.commit(made, 7)
    assert isinstance(kept, Manifest)
    return kept


def test_a_base_that_its_gate_refused_is_a_candidate_until_somebody_promotes_it(store: Store) -> None:
    assert commit(store, Verdict(False, "it is not better")).ref == "read:1"
    assert store.promoted("read") is None
    with pytest.raises(Conflict):
        store.resolve("read")
    assert store.resolve("read:1").ref == "read:1"
    store.promote("read:1")
    assert store.resolve("read").ref == "read:1"


def test_a_base_that_its_gate_passed_is_promoted(store: Store) -> None:
    commit(store, Verdict(True, "it is better"))
    assert store.resolve("read").ref == "read:1"


def test_an_empty_file_is_refused_before_it_waits_for_its_turn(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    with fails_with(BadInput, kind="empty_file"):
        admit(Spec("adapt", {"base": "tiny", "data": str(tmp_path / "empty.txt")}), store, 0)
