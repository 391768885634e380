"""Smaller bases: a stack of some of the layers computes what these layers compute, and a table what its tokens mean."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmos.abi.error import BadInput
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack, pool
from llmos.nn.shrink import (
    count_layers,
    evenly,
    keep_layers,
    make_static,
    principal,
    token_vectors,
    zipf_weights,
)
from llmos.testing import tiny

pytestmark = pytest.mark.torch

ROWS = [[2, 9, 77, 5, 3], [2, 41, 3], [2, 8, 8, 8, 200, 3]]
TOKENS = [token for row in ROWS for token in row]


def beside(folder: Path, architecture: str) -> tuple[Path, Path]:
    """A tiny base, and a folder with all of it but its weights."""
    source, out = tiny.write(folder / architecture, architecture), folder / f"{architecture}-less"
    shutil.copytree(source, out)
    (out / "model.safetensors").unlink()
    return source, out


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_base_of_some_layers_computes_as_these_layers_alone(tmp_path: Path, architecture: str) -> None:
    source, out = beside(tmp_path, architecture)
    assert count_layers(source) == 3
    keep_layers(source, [0, 2], out)
    made = load_folder(out)
    assert made.config.num_hidden_layers == 2
    whole = load_folder(source)
    for parent in list(whole.backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.ModuleList) and len(child) == 3:
                setattr(parent, name, torch.nn.ModuleList([child[0], child[2]]))
    config = whole.backbone.config
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[0], config.layer_types[2]]
    with torch.inference_mode():
        mine, theirs = forward(made.backbone, pack(ROWS)), forward(whole.backbone, pack(ROWS))
    assert torch.allclose(mine, theirs, atol=1e-5)


def test_layers_are_kept_at_equal_distances_from_the_first() -> None:
    assert evenly(6, 3) == [0, 2, 4]
    assert evenly(6, 4) == [0, 1, 3, 4]
    assert evenly(12, 1) == [0]


def test_an_encoder_with_a_decoder_is_not_one_stack(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        count_layers(tiny.write(tmp_path / "t5", "t5"))
    assert raised.value.detail["reason"] == "no_layers"


def static(folder: Path, neighbours: int = 0, architecture: str = "bert") -> tuple[Path, Path]:
    source, out = beside(folder, architecture)
    done: list[tuple[int, int]] = []
    kept = make_static(
        source,
        out,
        pooling="mean",
        dimensions=12,
        neighbours=neighbours,
        max_tokens=64,
        on_done=lambda some, all_: done.append((some, all_)),
    )
    assert 0.5 < kept <= 1
    assert done[-1] == (260, 260)
    return source, out


@pytest.mark.parametrize("architecture", ["bert", "llama", "mpnet"])
def test_a_static_base_has_the_weighted_principal_parts_of_each_tokens_vector(
    tmp_path: Path, architecture: str
) -> None:
    source, out = static(tmp_path, architecture=architecture)
    loaded, made = load_folder(source), load_folder(out)
    expected, _ = principal(token_vectors(loaded, "mean", lambda done, total: None), 12)
    expected = expected * zipf_weights(260).unsqueeze(1)
    expected[:4] = 0  # control tokens say nothing
    assert torch.allclose(made.backbone.get_input_embeddings().weight, expected, atol=1e-5)
    with torch.inference_mode():
        hidden = forward(made.backbone, pack(ROWS))
    assert torch.equal(hidden, made.backbone.get_input_embeddings()(torch.tensor(TOKENS)))
    assert (made.max_tokens, made.hidden_size, made.is_causal) == (64, 12, False)


def test_a_tokens_vector_is_that_of_a_text_of_it_alone(tmp_path: Path) -> None:
    loaded = load_folder(tiny.write(tmp_path / "bert", "bert"))
    vectors = token_vectors(loaded, "mean", lambda done, total: None)
    ids = loaded.tokenizer.encode(["q"])[0].ids
    with torch.inference_mode():
        alone = pool(forward(loaded.backbone, pack([ids])), [len(ids)], "mean")[0]
    assert torch.allclose(vectors[ids[1]], alone, atol=1e-5)


def test_frequent_tokens_weigh_less_than_rare_ones() -> None:
    weights = zipf_weights(30_000)
    assert torch.all(weights[1:] > weights[:-1])
    assert 0 < weights[0] < 0.01 < weights[-1] < 1


def test_neighbours_start_as_nothing_and_are_of_the_same_sequence_alone(tmp_path: Path) -> None:
    _, out = static(tmp_path, neighbours=1)
    made = copy.deepcopy(load_folder(out).backbone)
    table = made.get_input_embeddings()
    with torch.inference_mode():
        assert torch.equal(forward(made, pack(ROWS)), table(torch.tensor(TOKENS)))
        torch.nn.init.normal_(made.added.weight)
        torch.nn.init.normal_(made.around.bias)
        packed = forward(made, pack(ROWS)).split([len(row) for row in ROWS])
        alone = [forward(made, pack([row])) for row in ROWS]
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(packed, alone, strict=True))
        changed = forward(made, pack([[2, 9, 77, 5, 4]]))
        differs = (changed - alone[0]).abs().amax(-1) > 1e-6
        assert differs.tolist() == [False, False, False, True, True]
        padded = torch.stack([made(input_ids=torch.tensor([row])).last_hidden_state[0] for row in [ROWS[0]]])
        assert torch.allclose(padded[0], alone[0], atol=1e-5)
