"""Adapters in a row: every stretch is computed as if its model were alone, whatever stands beside it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.nn.adapters.adapter import Adapter, Segment, applying_segments
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.testing import adapters, tiny

pytestmark = pytest.mark.torch

KINDS = {
    "bert": ((1, ("query",)), (3, ("value", "dense")), (8, ()), (33, ("key", "intermediate.dense")), (16, ("query",))),
    "modernbert": ((2, ("Wqkv",)), (8, ()), (5, ("Wo", "Wi"))),
    "llama": ((1, ("q_proj", "v_proj")), (8, ()), (6, ("down_proj",)), (24, ("gate_proj", "o_proj"))),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Each architecture's base with adapters of several ranks and targets, and none."""
    root = tmp_path_factory.mktemp("adapters")
    made = {}
    for name, kinds in KINDS.items():
        base = load_folder(tiny.write(root / name, name))
        folders = [
            adapters.write(root / f"{name}-{i}", base.backbone, rank=rank, targets=targets, seed=i)
            for i, (rank, targets) in enumerate(kinds)
        ]
        made[name] = base.backbone, [None, *(load_adapter(folder, base.backbone) for folder in folders)]
    return made


def solo(backbone, adapter, sequences):
    row = pack(sequences)
    with applying_segments([Segment(adapter, 0, sum(row.lengths))]):
        return forward(backbone, row)


def together(backbone, parts):
    segments, start = [], 0
    for adapter, sequences in parts:
        end = start + sum(map(len, sequences))
        segments.append(Segment(adapter, start, end))
        start = end
    with applying_segments(segments):
        return forward(backbone, pack([ids for _, sequences in parts for ids in sequences]))


def sequences(lengths, seed):
    random = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 260, (n,), generator=random).tolist() for n in lengths]


@pytest.mark.parametrize("name", KINDS)
@given(
    mix=st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.integers(1, 60), min_size=1, max_size=4)), min_size=1, max_size=7
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_every_model_of_a_mixed_row_computes_what_it_computes_alone(loaded, name, mix, seed):
    backbone, there = loaded[name]
    parts = [(there[which % len(there)], sequences(lengths, seed + i)) for i, (which, lengths) in enumerate(mix)]
    with torch.inference_mode():
        got = together(backbone, parts)
        wanted = torch.cat([solo(backbone, adapter, some) for adapter, some in parts])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_in_bfloat16_a_mixed_row_points_where_each_model_does_alone(tmp_path, name):
    """Its numbers have 8 bits, and their sums another order."""
    backbone = load_folder(tiny.write(tmp_path / name, name), dtype="bfloat16").backbone
    parts = [(None, sequences((9, 20), 1))]
    for i, (rank, targets) in enumerate(KINDS[name]):
        folder = adapters.write(tmp_path / str(i), backbone, rank=rank, targets=targets, seed=i)
        parts.append((load_adapter(folder, backbone), sequences((5, 30), i)))
    with torch.inference_mode():
        got = together(backbone, parts).float()
        wanted = torch.cat([solo(backbone, adapter, some) for adapter, some in parts]).float()
        bare = torch.cat([solo(backbone, None, some) for _, some in parts]).float()
    assert torch.cosine_similarity(got, wanted, dim=-1).min() > 0.98
    assert torch.cosine_similarity(got, bare, dim=-1).min() < 0.98, "adapters that change nothing would pass as well"


def test_an_adapter_changes_its_own_stretch_and_nothing_is_left_after_it(loaded):
    backbone, there = loaded["bert"]
    texts = sequences((20, 20), 1)
    before = solo(backbone, None, texts)
    mixture = together(backbone, [(None, texts[:1]), (there[3], texts[1:])])
    torch.testing.assert_close(mixture[:20], before[:20])
    assert (mixture[20:] - before[20:]).abs().max() > 0.1
    torch.testing.assert_close(solo(backbone, None, texts), before, atol=0, rtol=0)


def test_a_stretch_of_any_length_gets_the_same_numbers(loaded):
    """Short ones by two thin products, long ones by weights made on the way."""
    backbone, there = loaded["bert"]
    (text,) = sequences((30,), 2)
    few = together(backbone, [(there[3], [text]), (None, [text])])[:30]
    many = together(backbone, [(there[3], [text] * 40), (None, [text])])[: 30 * 40]
    torch.testing.assert_close(many.view(40, 30, -1), few.expand(40, 30, -1), atol=1e-5, rtol=1e-5)


def test_a_failure_inside_leaves_the_base_as_it_was(loaded):
    backbone, there = loaded["bert"]
    row = pack([[5, 6]], torch.device("cpu"))
    before = forward(backbone, row)
    with pytest.raises(ZeroDivisionError), applying_segments([Segment(there[1], 0, 1), Segment(there[2], 1, 2)]):
        raise ZeroDivisionError
    assert torch.equal(forward(backbone, row), before)


def test_an_empty_row_changes_nothing():
    with applying_segments([]):
        pass
    assert Adapter(()).size_bytes == 0
