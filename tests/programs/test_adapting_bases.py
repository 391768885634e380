"""adapt: a base reads texts without labels, and is offered with its gain on held-out ones and its cost on others."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training
from tiny_adapting import job_of, masking_base

from llmos.abi.call import Call
from llmos.abi.error import BadInput, BadSetting, LlmosError
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest, Offer, OfferKind
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch

PEACEFUL = ("masked", "causal", "contrastive")


def run(job: Job) -> FakeDaemon:
    from llmos.programs import adapt

    daemon, channel, close = beside()
    try:
        adapt.main(channel, job)
    finally:
        close()
    return daemon


def offered(daemon: FakeDaemon) -> Offer:
    base, form = daemon.offers
    assert (base.kind, form.kind) == (OfferKind.BASE, OfferKind.RESIDENT)
    return base


@pytest.mark.parametrize(("objective", "architecture"), [("masked", "bert"), ("causal", "llama")])
def test_a_base_that_reads_texts_guesses_others_like_them_better(
    tmp_path: Path, objective: str, architecture: str
) -> None:
    base = masking_base(tmp_path, architecture)
    daemon = run(job_of(tmp_path, base, objective=objective, learning_rate=3e-3, epochs=12.0))
    offer = offered(daemon)
    found = offer.draft["evidence"]["adaptation"]
    assert offer.verdict is not None
    assert offer.verdict.promote
    assert found["held_out"]["after"] < found["held_out"]["before"] - 0.1
    assert found["held_out"]["high"] < 0
    assert math.isfinite(found["other_texts"]["change"])
    assert found["texts"] >= 100
    assert offer.draft["lineage"]["made of"] == "tiny:1"
    phases = {one.phase for one in daemon.progress}
    assert ("fit head" in phases) == (objective == "masked")
    assert daemon.progress[-1].message.startswith("read:1 is promoted: held-out loss ")


def test_a_base_that_has_learned_nothing_stays_a_candidate(tmp_path: Path) -> None:
    daemon = run(job_of(tmp_path, masking_base(tmp_path), objective="contrastive", learning_rate=1e-12, epochs=1.0))
    offer = offered(daemon)
    assert offer.verdict is not None
    assert not offer.verdict.promote
    assert offer.draft["evidence"]["gate"]["promoted"] is False
    assert daemon.progress[-1].message.startswith("read:1 stays a candidate: ")


def test_a_version_that_it_was_not_compared_with_stays_promoted(tmp_path: Path) -> None:
    job = job_of(tmp_path, masking_base(tmp_path, "llama"), objective="causal", learning_rate=3e-3)
    other = ModelPath(Manifest("read", 3, Kind.BASE, "embed", ()), "/nowhere")
    offer = offered(run(replace(job, models={**job.models, "promoted": other})))
    assert offer.verdict is not None
    assert (offer.verdict.promote, offer.verdict.against) == (False, "read:3")


def test_vectors_of_a_matryoshka_base_are_served_at_its_lengths(tmp_path: Path) -> None:
    from llmos.engines.pytorch.engine import PyTorchEngine

    told = job_of(tmp_path, masking_base(tmp_path), objective="contrastive", matryoshka="8,16", epochs=1.0)
    offer = offered(run(told))
    assert offer.draft["options"]["matryoshka"] == [8, 16, 32]
    manifest = Manifest("read", 1, Kind.BASE, "embed", (), options=offer.draft["options"])
    engine = PyTorchEngine()
    engine.load(ModelPath(manifest, offer.folder, offer.folder), "cpu0", "float32", 1)
    for number, wanted in enumerate((8, 16, 32)):
        engine.add(Call(number, "read:1", "embed", ({"text": "plum"},), {"dimensions": wanted}))
        (chunk,) = engine.step()
        assert [one["dim"] for one in chunk.outputs] == [wanted]
    with pytest.raises(BadInput):
        engine.add(Call(9, "read:1", "embed", ({"text": "plum"},), {"dimensions": 9}))


def test_a_head_that_is_kept_is_what_the_next_adaptation_begins_with(tmp_path: Path) -> None:
    first = offered(run(job_of(tmp_path, masking_base(tmp_path), keep_head=True, learning_rate=3e-3, epochs=2.0)))
    Path(tmp_path / "scratch").rename(tmp_path / "first")
    folder = first.folder.replace("/scratch/", "/first/")
    base = replace(masking_base(tmp_path), folder=folder, resident=folder)
    again = run(job_of(tmp_path, base, learning_rate=1e-6, epochs=1.0))
    assert "fit head" not in {one.phase for one in again.progress}
    before = first.draft["evidence"]["adaptation"]["held_out"]["after"]
    assert offered(again).draft["evidence"]["adaptation"]["held_out"]["before"] == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(
    ("architecture", "args", "kind"),
    [
        ("llama", {"objective": "masked"}, BadInput),
        ("llama", {"objective": "contrastive"}, BadInput),
        ("bert", {"objective": "causal"}, BadInput),
        ("t5", {"objective": "causal"}, BadInput),
        ("bert", {"objective": "contrastive", "matryoshka": "32"}, BadSetting),
        ("modernbert", {"objective": "contrastive"}, BadInput),  # it has no dropout
    ],
)
def test_an_objective_that_the_base_cannot_learn_by_is_refused(
    tmp_path: Path, architecture: str, args: dict[str, Json], kind: type[LlmosError]
) -> None:
    with pytest.raises(kind):
        run(job_of(tmp_path, masking_base(tmp_path, architecture), **args))


def test_a_base_without_a_mask_token_and_a_static_one_are_refused(tmp_path: Path) -> None:
    from llmos.nn.shrink import make_static

    with pytest.raises(BadInput) as raised:
        run(job_of(tmp_path, tiny_training.base(tmp_path)))
    assert raised.value.detail["reason"] == "no_mask"
    base = masking_base(tmp_path)
    folder = Path(base.folder)
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    source = tmp_path / "source"
    source.mkdir()
    for file in folder.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").rename(source / "model.safetensors")
    make_static(source, folder, pooling="mean", dimensions=8, neighbours=0, max_tokens=64, on_done=lambda a, b: None)
    with pytest.raises(BadInput) as raised:
        run(job_of(tmp_path, base))
    assert raised.value.detail["reason"] == "static"


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Json]:
    """What adaptations in peace and killed ones ended with: in a process that forks them, as the zygote does."""
    code = str(Path(__file__).parents[1] / "killed_adapting.py")
    done = subprocess.run(
        [sys.executable, code, str(tmp_path_factory.mktemp("killed")), *PEACEFUL],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Json] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("objective", PEACEFUL)
def test_an_adaptation_killed_again_and_again_ends_at_the_same_bits(ends: dict[str, Json], objective: str) -> None:
    assert ends[objective]["kills"] == 5
    assert ends[objective]["killed"] == ends[objective]["undisturbed"]
