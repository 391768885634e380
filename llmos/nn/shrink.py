"""Makes a smaller base of a base: with some of its layers, or as a table of its tokens' vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from llmos.abi.error import BadInput
from llmos.nn.load import WEIGHTS, Loaded, load_folder, read_model
from llmos.nn.packing import cut_rows, forward, pack, pool
from llmos.nn.static_embeddings import ARCHITECTURE, StaticConfig, StaticEmbeddings
from llmos.nn.windows import frame_of

ROW_TOKENS = 4096
SIF = 1e-4  # Arora et al. 2017: a token of probability p weighs SIF / (SIF + p)
FIRST_RANK = 2  # of Zipf's law


def evenly(layers: int, wanted: int) -> list[int]:
    """So many layers at equal distances from the first on, as in DistilBERT (Sanh et al. 2019, arXiv:1910.01108)."""
    return [i * layers // wanted for i in range(wanted)]


def count_layers(folder: Path) -> int:
    """The layers of the model in this folder; BadInput for one that is not one stack of them."""
    return len(_stack(read_model(folder, torch.float32))[1])


def keep_layers(folder: Path, layers: Sequence[int], out: Path) -> None:
    """Write the model with these layers alone, in float32: weights and config, without the tokenizer."""
    model = read_model(folder, torch.float32)
    parent, stack, name = _named_stack(model)
    before = len(stack)
    setattr(parent, name, nn.ModuleList(stack[i] for i in layers))
    config: Any = model.config  # Any: transformers' config class of this architecture
    config.num_hidden_layers = len(layers)
    kinds = getattr(config, "layer_types", None)
    if kinds and len(kinds) == before:
        config.layer_types = [kinds[i] for i in layers]
    write_model(model, out)


def make_static(
    folder: Path,
    out: Path,
    *,
    pooling: str,
    dimensions: int,
    neighbours: int,
    max_tokens: int,
    on_done: Callable[[int, int], None],
) -> float:
    """Write a table of the vectors of all tokens of this model, and its config; returns the share of the variance that
    the dimensions keep.

    Each token is computed alone, between the tokens that open and close a text. Principal components make the vectors
    short, and Zipf's law by the rank in the vocabulary makes frequent tokens weigh less (Model2Vec).
    """
    loaded = load_folder(folder)
    if not 2 <= dimensions <= loaded.hidden_size:
        raise BadInput(
            f"dimensions is {dimensions}; it must be from 2 to {loaded.hidden_size}, which the base has",
            key="dimensions",
            value=dimensions,
        )
    vectors = token_vectors(loaded, pooling, on_done)
    table, kept = principal(vectors, dimensions)
    table = table * zipf_weights(len(table)).unsqueeze(1)
    for token in loaded.tokenizer.controls.ids.values():
        table[token] = 0.0
    config = StaticConfig(len(table), dimensions, neighbours, max_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StaticEmbeddings(config)
    with torch.no_grad():
        model.table.weight.copy_(table)
        if neighbours:
            model.around.bias.zero_()
            model.added.weight.zero_()
            model.added.bias.zero_()
    config.architectures = [ARCHITECTURE]
    write_model(model, out)
    return kept


def token_vectors(loaded: Loaded, pooling: str, on_done: Callable[[int, int], None]) -> Tensor:
    """The vector of each token of the vocabulary as a text alone, [vocabulary, hidden]."""
    frame = frame_of(loaded.tokenizer)
    count = int(loaded.config.vocab_size)
    lengths = [1 + frame.size] * count
    parts = []
    with torch.inference_mode():
        done = 0
        for some in cut_rows(range(count), lengths, ROW_TOKENS):
            packed = pack([frame.around([token]) for token in some], loaded.device)
            parts.append(pool(forward(loaded.backbone, packed), packed.lengths, pooling))
            done += len(some)
            on_done(done, count)
    return torch.cat(parts).clone()


def principal(vectors: Tensor, dimensions: int) -> tuple[Tensor, float]:
    """The vectors in their first principal components, [tokens, dimensions], and the share of the variance in these."""
    centred = (vectors - vectors.mean(0)).double()
    values, axes = torch.linalg.eigh(centred.T @ centred)  # in rising order
    kept = axes[:, -dimensions:].flip(1)
    share = float(values[-dimensions:].sum() / values.sum().clamp(min=1e-12))
    return (centred @ kept).float(), share


def zipf_weights(tokens: int) -> Tensor:
    """The weight of each token by its rank, [tokens]: vocabularies list frequent tokens first."""
    odds = 1.0 / torch.arange(FIRST_RANK, tokens + FIRST_RANK, dtype=torch.float64)
    return (SIF / (SIF + odds / odds.sum())).float()


def write_model(model: Any, out: Path) -> None:  # Any: as `keep_layers` has it
    """Write a model's weights and config, each shared tensor once."""
    out.mkdir(parents=True, exist_ok=True)
    tied = set(model.all_tied_weights_keys)
    kept = {name: x.contiguous() for name, x in model.state_dict().items() if name not in tied}
    save_file(kept, out / WEIGHTS, {"format": "pt"})
    model.config.save_pretrained(out)


def _named_stack(model: nn.Module) -> tuple[nn.Module, nn.ModuleList, str]:
    config: Any = model.config  # Any: as above
    count = getattr(config, "num_hidden_layers", 0)
    if not config.is_encoder_decoder:
        for path, module in model.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == count > 1:
                parent, _, name = path.rpartition(".")
                return model.get_submodule(parent), module, name
    raise BadInput(
        f"{type(model).__name__} is not one stack of layers, some of which could be left out",
        architecture=type(model).__name__,
        reason="no_layers",
    )


def _stack(model: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    parent, stack, _ = _named_stack(model)
    return parent, stack
