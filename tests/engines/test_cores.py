"""Rows on several cores: what each core computes is a part of the row, and together it is the row."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from llmos.abi.call import Call  # noqa: E402
from llmos.abi.frame import Located  # noqa: E402
from llmos.abi.model import Kind, Manifest  # noqa: E402
from llmos.engines.pytorch import PyTorchEngine  # noqa: E402
from llmos.engines.pytorch.rows import parts  # noqa: E402
from llmos.nn.load import load_folder  # noqa: E402
from llmos.testing import adapters, tiny  # noqa: E402

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Sized:
    ids: list[int]


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=50), st.integers(1, 8))
def test_parts_follow_each_other_in_order_and_none_is_much_heavier_than_its_share(lengths, count):
    items = [Sized([0] * length) for length in lengths]
    found = parts(items, count)
    assert [item for part in found for item in part] == items
    assert len(found) <= count
    assert all(found)
    heaviest = max(sum(len(item.ids) for item in part) for part in found)
    assert heaviest <= sum(lengths) / count + max(lengths)


def test_a_long_row_of_mixed_models_is_the_same_on_two_cores_as_on_one(tmp_path):
    base = tiny.write(tmp_path / "bert", "bert")
    adapted = adapters.write(tmp_path / "adapter", load_folder(base).backbone)
    texts = tuple("word " * (1 + i % 20) for i in range(120))
    found = []
    threads = torch.get_num_threads()
    for cores in (1, 2):
        engine = PyTorchEngine(token_budget=8192)
        engine.load(Located(Manifest("base", 1, Kind.BASE, "embed", ()), str(base)), "cpu0", "float32", cores)
        manifest = Manifest("mine", 1, Kind.MODEL, "embed", (), method="lora", base="base:1")
        engine.attach(Located(manifest, str(adapted)))
        for number, model in enumerate(("base:1", "mine:1")):
            engine.add(Call(number, model, "embed", texts))
        chunks = []
        while not engine.is_idle:
            chunks += engine.step()
        found.append({c.call_id: np.stack([np.frombuffer(o["data"], "<f4") for o in c.outputs]) for c in chunks})
    torch.set_num_threads(threads)
    for number in (0, 1):
        assert np.allclose(found[0][number], found[1][number], atol=1e-5)
    assert not np.allclose(found[1][0], found[1][1], atol=1e-3), "the adapter changes its own model's vectors alone"
