"""Every method trains, is saved and read, answers the same then, goes on after a stop, and mixes with others."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training

torch = pytest.importorskip("torch")

from llmos.abi.method import MethodFamily, method_of, method_specs
from llmos.abi.model import Kind, Manifest, Part
from llmos.abi.recipe import Data, Recipe, settings_of_method
from llmos.data.dataset import gather
from llmos.kernel.processes.footprint import shape_of
from llmos.nn.adapters.adapter import Segment, applying_segments
from llmos.nn.adapters.adapter_file import load_adapter
from llmos.nn.adapters.virtual import ids_of
from llmos.nn.frozen_linear import exactly
from llmos.nn.load import load_folder
from llmos.nn.packing import forward, pack
from llmos.tasks import Settings
from llmos.testing import adapters, tiny
from llmos.training.candidate import begin, load_stored
from llmos.training.checkpoint import Checkpoints
from llmos.training.examples import make_examples
from llmos.training.objectives import loss_of
from llmos.training.recipe import resolve
from llmos.training.trainer import Hooks, Trainer

pytestmark = pytest.mark.torch

BASES = {"bert": "classify", "llama": "generate"}
PEFT = [spec.name for spec in method_specs().values() if spec.reads_as and spec.peft_type != "BOTTLENECK"]
ON_BASE = [spec.name for spec in method_specs().values() if spec.reads_as]
RUNS = [
    (name, base)
    for name, spec in method_specs().items()
    for base, task in BASES.items()
    if spec.trains_layers or task == "classify"
]
TEXTS = ((5, 9, 30, 7), (40, 41), (60, 5, 61, 62, 63, 64, 65))
SMALL = {"rank": 4, "first_rank": 6, "width": 8, "tokens": 5, "network": 8}  # the bases have 32 hidden units
STEPS_BEFORE_STOP = 7


@dataclass
class Made:
    """A finished run, its files and its model as the store locates it."""

    run: Trainer
    folder: Path
    files: tuple[tuple[str, Part], ...]
    model: Any  # Any: a ModelPath


def run_of(
    folder: Path, method: str, base: str, *, stops_at: int | None = None, base_dtype: str | None = None
) -> Trainer:
    """A run of 24 steps on rows that can be learned."""
    folder.mkdir(exist_ok=True)
    task = BASES[base]
    known = {one.name for one in method_of(method).settings}
    own = {key: value for key, value in SMALL.items() if key in known}
    recipe = Recipe(
        task,
        "n",
        "tiny:1",
        Data(str(tiny_training.sorting(folder, rows=60))),
        method=method,
        method_settings=own,
        epochs=4.0,
        batch_size=8,
        learning_rate=None if method_of(method).keeps_base else 1e-3,
        save_best=False,
        base_dtype=base_dtype,
    )
    data = gather(recipe.data, task, {}, {})
    recipe = resolve(recipe, len(data.splits.train), 3)
    candidate = begin(tiny_training.base(folder, base), recipe, 3, "float32", "cpu0")
    settings = Settings(data.splits.labels, recipe.options, candidate.loaded.max_tokens)
    examples = make_examples(task, data.splits.train, candidate.loaded.tokenizer, settings)
    seen: list[int] = []
    around = Hooks(lambda progress: seen.append(progress.done), lambda: seen[-1:] == [stops_at], lambda: 0.5)
    loss = loss_of(recipe, 3, None, candidate.head)
    return Trainer(candidate, loss, examples, recipe, Checkpoints(folder / "checkpoints"), around, "")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run of a method on a base, trained at the first use."""
    done: dict[tuple[str, str], Made] = {}

    def trained(method: str, base: str) -> Made:
        if (method, base) not in done:
            folder = tmp_path_factory.mktemp(f"{method}-{base}")
            run = run_of(folder, method, base)
            assert run.train()
            run.candidate.train(False)
            located = tiny_training.base(folder, base)
            files = run.candidate.save(folder / "model", located)
            manifest = Manifest(
                "m", 1, Kind.MODEL, BASES[base], (), base="tiny:1", method=method, labels=("a", "b", "c")
            )
            model = replace(located, manifest=manifest, folder=str(folder / "model"), resident=None, base=located)
            done[method, base] = Made(run, folder / "model", files, model)
        return done[method, base]

    return trained


@pytest.mark.parametrize(("method", "base"), RUNS)
def test_a_method_learns(made, method, base):
    marks = made(method, base).run.position.marks
    assert marks[-1].loss < marks[0].loss


@pytest.mark.parametrize(("method", "base"), RUNS)
def test_what_is_read_answers_as_what_was_trained(made, method, base):
    one = made(method, base)
    stored = load_stored(one.model, "float32", "cpu0")
    with torch.inference_mode():
        wanted = one.run.candidate.logits(TEXTS)
        got = stored.logits(TEXTS)
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=2e-4)
    assert all((one.folder / name).is_file() for name, _ in one.files)


ROUNDED = [(method, base, "int8") for method, base in RUNS if method in ON_BASE]
ROUNDED += [(method, base, "int4") for method, base, _ in ROUNDED if method in ("lora", "ia3", "head")]


@pytest.mark.parametrize(("method", "base", "rounded_to"), ROUNDED)
def test_a_method_learns_on_a_rounded_base_and_is_measured_as_served(tmp_path, method, base, rounded_to):
    run = run_of(tmp_path, method, base, base_dtype=rounded_to)
    assert run.train()
    assert run.position.marks[-1].loss < run.position.marks[0].loss
    run.candidate.train(False)
    located = tiny_training.base(tmp_path, base)
    run.candidate.save(tmp_path / "model", located)
    manifest = Manifest("m", 1, Kind.MODEL, BASES[base], (), base="tiny:1", method=method, labels=("a", "b", "c"))
    stored = load_stored(
        replace(located, manifest=manifest, folder=str(tmp_path / "model"), resident=None, base=located),
        "float32",
        "cpu0",
    )
    with torch.inference_mode():
        served, rounded = stored.logits(TEXTS), run.candidate.logits(TEXTS)
        with exactly(run.candidate.loaded.backbone):
            exact = run.candidate.logits(TEXTS)
    torch.testing.assert_close(exact, served, atol=2e-4, rtol=2e-4)
    assert not torch.equal(rounded, exact)


@pytest.mark.parametrize(("method", "base"), RUNS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(made, tmp_path, method, base):
    stopped = run_of(tmp_path / "stopped", method, base, stops_at=STEPS_BEFORE_STOP)
    assert not stopped.train()
    again = run_of(tmp_path / "stopped", method, base)
    assert again.resume()
    assert again.position.step == STEPS_BEFORE_STOP
    assert again.train()
    wanted = made(method, base).run.weights
    for name, p in again.weights.items():
        torch.testing.assert_close(p, wanted[name], atol=1e-5, rtol=1e-4, msg=name)


def hidden(backbone, parts):
    """The last hidden states of a row of (adapter, sequences)."""
    segments, row, start = [], [], 0
    for adapter, texts in parts:
        opening = ids_of(adapter.virtual.count) if adapter is not None and adapter.virtual is not None else ()
        row += [(*opening, *ids) for ids in texts]
        end = start + sum(len(opening) + len(ids) for ids in texts)
        segments.append(Segment(adapter, start, end))
        start = end
    with torch.inference_mode(), applying_segments(segments):
        return forward(backbone, pack(row))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", ON_BASE)
def test_in_a_mixed_row_each_model_answers_as_alone(made, tmp_path, method, base):
    backbone = load_folder(tiny.write(tmp_path / "base", base)).backbone
    mine = load_adapter(made(method, base).folder, backbone)
    other = load_adapter(adapters.write(tmp_path / "other", backbone, rank=8, seed=5), backbone)
    parts = [(None, TEXTS[:1]), (mine, TEXTS), (other, TEXTS[1:]), (mine, [TEXTS[2] * 9])]
    wanted = torch.cat([hidden(backbone, [part]) for part in parts])
    torch.testing.assert_close(hidden(backbone, parts), wanted, atol=1e-4, rtol=1e-4)
    bare = torch.cat([hidden(backbone, [(None, texts)]) for _, texts in parts])
    start = len(TEXTS[0])
    assert not torch.allclose(wanted[start:], bare[start:], atol=1e-3), "an adapter that changes nothing would pass"


@pytest.mark.filterwarnings("ignore")  # peft's and transformers' own
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", PEFT)
def test_peft_reads_it_and_computes_the_same(made, tmp_path, method, base):
    from peft import PeftModel

    one = made(method, base)
    plain = tiny.plain(base)
    import copy

    with_peft = PeftModel.from_pretrained(copy.deepcopy(plain), str(one.folder)).eval()
    backbone = load_folder(tiny.write(tmp_path / "base", base)).backbone
    mine = load_adapter(one.folder, backbone)
    for ids in TEXTS:
        with torch.inference_mode():
            out = with_peft(input_ids=torch.tensor([ids]), output_hidden_states=True)
        got = hidden(backbone, [(mine, [ids])])
        torch.testing.assert_close(got, out.hidden_states[-1][0][-len(ids) :], atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", ON_BASE)
def test_admission_reserves_what_is_trained_and_not_much_more(made, method, base):
    run, spec = made(method, base).run, method_of(method)
    trained = sum(p.numel() for name, p in run.weights.items() if not name.startswith("head."))
    widths = shape_of(run.candidate.loaded.config.to_dict()).widths
    assert trained <= spec.count_weights(widths, settings_of_method(run.recipe))
    is_small = spec.family in (MethodFamily.PER_TOKEN, MethodFamily.CONVERTED)
    assert spec.count_weights(widths, settings_of_method(run.recipe)) <= trained * (12 if is_small else 6)


@pytest.mark.parametrize("method", PEFT)
def test_its_files_name_the_method_that_made_them(made, method):
    from llmos.nn.adapters.methods import tuner_for

    config = json.loads((made(method, "bert").folder / "adapter_config.json").read_text())
    assert tuner_for(config, "m").method_of(config) == method
    assert config["peft_type"] == method_of(method).peft_type
