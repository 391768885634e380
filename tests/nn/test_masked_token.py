"""The masked language modelling head: a base's own is read as transformers computes it, and a new one knows little."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from llmos.nn.load import load_folder
from llmos.nn.masked_token import MaskedHead
from llmos.nn.packing import forward, pack
from llmos.testing import tiny

pytestmark = pytest.mark.torch

IDS = [2, 9, 77, 5, 41, 3]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_a_published_head_gives_the_losses_that_transformers_gives(tmp_path: Path, architecture: str) -> None:
    folder = tiny.write(tmp_path / architecture, architecture)
    config = AutoConfig.for_model(architecture, **tiny.ARCHITECTURES[architecture])
    torch.manual_seed(0)
    theirs = AutoModelForMaskedLM.from_config(config, attn_implementation="eager").eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tied = set(theirs.all_tied_weights_keys)
    save_file(
        {name: x.contiguous() for name, x in theirs.state_dict().items() if name not in tied},
        folder / "model.safetensors",
    )
    loaded = load_folder(folder)
    head = MaskedHead(loaded)
    assert head.read(folder, architecture)
    targets = torch.tensor([4, 5, 6, 7, 8, 9])
    with torch.no_grad():
        ours = head.losses(forward(loaded.backbone, pack([IDS])), targets)
        expected = torch.nn.functional.cross_entropy(
            theirs(input_ids=torch.tensor([IDS])).logits[0], targets, reduction="none"
        )
    assert torch.allclose(ours, expected, atol=1e-4)


def test_a_new_head_guesses_tokens_by_how_often_they_come(tmp_path: Path) -> None:
    loaded = load_folder(tiny.write(tmp_path / "bert", "bert"))
    head = MaskedHead(loaded)
    assert not head.read(tmp_path / "bert", "bert")
    counts = torch.zeros(head.vocabulary, dtype=torch.long)
    counts[40], counts[50] = 900, 100
    head.start(counts)
    with torch.no_grad():
        hidden = forward(loaded.backbone, pack([IDS]))
        often, seldom, never = (
            float(head.losses(hidden, torch.full((len(IDS),), token)).mean()) for token in (40, 50, 60)
        )
    assert often < seldom < never


def test_the_loss_has_gradients_of_head_and_table(tmp_path: Path) -> None:
    loaded = load_folder(tiny.write(tmp_path / "bert", "bert"), trainable=True)
    head = MaskedHead(loaded)
    head.start(torch.ones(head.vocabulary, dtype=torch.long))
    head.sum_losses(forward(loaded.backbone, pack([IDS])), torch.tensor([4, 5, 6, 7, 8, 9])).backward()
    table = loaded.backbone.get_input_embeddings().weight
    for weight in (head.dense.weight, head.bias, table):
        assert weight.grad is not None
        assert float(weight.grad.abs().sum()) > 0


def test_a_kept_head_is_read_again(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "bert", "bert")
    loaded = load_folder(folder)
    first, again = MaskedHead(loaded), MaskedHead(loaded)
    first.start(torch.arange(first.vocabulary))
    kept = {name: x.detach().contiguous() for name, x in first.tensors("bert").items()}
    save_file(load_file(folder / "model.safetensors") | kept, folder / "model.safetensors")
    assert again.read(folder, "bert")
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    load_folder(folder)  # the base's own weights are found beside it
