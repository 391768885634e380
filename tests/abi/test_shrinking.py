"""What shrink may be asked for: layers by number or by place, or a static table; anything else is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.abi.error import BadSetting
from llmos.abi.shrinking import Shrinking, shrinking_of


@pytest.mark.parametrize(
    ("args", "wanted", "name"),
    [
        ({"layers": "3"}, Shrinking(count=3), "minilm-3-layers"),
        ({"layers": 3}, Shrinking(count=3), "minilm-3-layers"),
        ({"layers": "0, 2,4"}, Shrinking(layers=(0, 2, 4)), "minilm-3-layers"),
        ({"static": True}, Shrinking(), "minilm-static"),
        ({"static": True, "dimensions": 64, "neighbours": 2}, Shrinking(dimensions=64, neighbours=2), "minilm-static"),
    ],
)
def test_layers_or_a_table_are_asked_for_and_give_a_name(args: dict[str, Any], wanted: Shrinking, name: str) -> None:
    found = shrinking_of(args)
    assert found == wanted
    assert found.default_name("minilm:1") == name


@pytest.mark.parametrize(
    ("key", "args"),
    [
        ("layers", {}),
        ("layers", {"layers": "3", "static": True}),
        ("layers", {"layers": "0"}),
        ("layers", {"layers": "half"}),
        ("layers", {"layers": "2,1"}),
        ("layers", {"layers": "1,1"}),
        ("layers", {"layers": "-1"}),
        ("neighbours", {"layers": "3", "neighbours": 3}),
        ("neighbours", {"static": True, "neighbours": -1}),
        ("dimensions", {"static": True, "dimensions": 1}),
        ("dimensions", {"static": True, "dimensions": 2.5}),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_setting(key: str, args: dict[str, Any]) -> None:
    with pytest.raises(BadSetting) as raised:
        shrinking_of(args)
    assert raised.value.detail["key"] == key
