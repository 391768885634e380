"""A run that names no method: the rule chooses one, the kernel keeps it, and the model says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_training

from llmos.abi.frame import Act, FromChild, Report, Requested, Stop
from llmos.abi.json_type import Json
from llmos.abi.model import OfferKind
from llmos.testing.daemon import FakeDaemon, beside

pytestmark = pytest.mark.torch


def trained(folder: Path, recipe: dict[str, Json], *, stops: bool = False) -> FakeDaemon:
    """A run; if it `stops`, it is asked to end after its first steps."""
    from llmos.programs import train

    def on_frame(frame: FromChild) -> None:
        if stops and isinstance(frame, Report) and frame.progress.phase == "train":
            daemon.send(Stop("a test"))

    daemon, channel, close = beside(on_frame)
    try:
        train.main(channel, tiny_training.assignment(folder, recipe))
    finally:
        close()
    return daemon


def settled(daemon: FakeDaemon) -> list[dict[str, Json]]:
    return [one.args for one in daemon.said if isinstance(one, Requested) and one.act is Act.SETTLE]


def test_the_chosen_method_is_told_to_the_kernel_and_kept_with_the_reason(tmp_path: Path):
    rows = {"train": str(tiny_training.sorting(tmp_path))}
    daemon = trained(tmp_path, {"task": "classify", "method": "auto", "data": rows})
    (told,) = settled(daemon)
    offer = daemon.offers[-1]
    assert offer.draft["method"] == told["method"]
    assert {key: offer.draft["lineage"]["recipe"][key] for key in told} == told
    assert told["method_why"].startswith(f"auto: {told['method']}, because ")
    assert told["method_why"] in (Path(offer.folder) / "report.html").read_text()


def test_a_resumed_run_chooses_no_more_and_goes_on_from_its_checkpoint(tmp_path: Path):
    rows = {"train": str(tiny_training.sorting(tmp_path))}
    recipe = {"task": "classify", "method": "auto", "data": rows, "epochs": 6.0, "checkpoint_every_s": 1e-9}
    first = trained(tmp_path, recipe, stops=True)
    assert not [one for one in first.offers if one.kind is OfferKind.MODEL]
    (told,) = settled(first)
    second = trained(tmp_path, {**recipe, **told})
    assert settled(second) == []
    assert next(one.done for one in second.progress if one.phase == "train") > 1
    assert second.offers[-1].draft["lineage"]["recipe"]["method_why"] == told["method_why"]


def test_a_run_that_names_its_method_tells_nothing(tmp_path: Path):
    rows = {"train": str(tiny_training.sorting(tmp_path))}
    daemon = trained(tmp_path, {"task": "classify", "method": "head", "data": rows, "epochs": 1.0})
    assert settled(daemon) == []
    assert daemon.offers[-1].draft["lineage"]["recipe"]["method_why"] == ""
