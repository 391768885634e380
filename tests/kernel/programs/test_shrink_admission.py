"""The admission of shrink: the new base's name is chosen and checked, and what cannot be made smaller is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.error import BadInput, BadSetting
from llmos.abi.process import Spec
from llmos.kernel.admission import admit
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model


def test_the_new_base_gets_a_name_and_the_other_is_pinned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    spec, needs = admit(Spec("shrink", {"base": "tiny", "layers": "3"}), store, 0)
    assert spec.args == {"base": "tiny:1", "layers": "3", "name": "tiny-3-layers"}
    assert spec.title == "shrink tiny:1 to tiny-3-layers"
    assert sum(needs.values()) > 0


def test_names_of_models_and_impossible_settings_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    add_model(store, "mood", "tiny:1", pid=902)
    for kind, args in (
        (BadInput, {"base": "tiny", "static": True, "name": "mood"}),
        (BadInput, {"base": "tiny", "static": True, "name": "No Name"}),
        (BadInput, {"base": "mood:1", "static": True}),
        (BadSetting, {"base": "tiny"}),
    ):
        with pytest.raises(kind):
            admit(Spec("shrink", args), store, 0)
