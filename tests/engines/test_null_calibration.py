"""The null engine keeps a model's calibration, so that abstention can be tried without one that computes."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.call import Call
from llmos.abi.frame import ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import Kind, Manifest
from llmos.abi.wire import to_json
from llmos.engines.null import NullEngine
from llmos.tasks.calibration import FILE, Calibration


def answers(folder: Path, **params: Json) -> tuple[Json, ...]:
    engine = NullEngine()
    manifest = Manifest("mood", 1, Kind.MODEL, "classify", (), labels=("no", "yes"))
    engine.attach(ModelPath(manifest, str(folder)))
    engine.add(Call(1, "mood:1", "classify", tuple(f"text {i}" for i in range(40)), dict(params)))
    (chunk,) = engine.step()
    assert chunk.fault is None, chunk.fault
    return chunk.outputs


def test_a_model_with_a_calibration_withholds_its_unsure_answers(tmp_path: Path) -> None:
    plain = answers(tmp_path)
    (tmp_path / FILE).write_bytes(to_json(Calibration(1.0, 200, risks=((0.1, 1.0),), abstain=0.1)))
    abstaining = answers(tmp_path)
    assert {one["abstained"] for one in abstaining} == {True, False}
    for before, after in zip(plain, abstaining, strict=True):
        assert after["label"] == (None if after["abstained"] else before["label"])
        assert abs(after["score"] - before["score"]) < 1e-9


def test_a_model_without_one_refuses_to_promise(tmp_path: Path) -> None:
    engine = NullEngine()
    engine.attach(ModelPath(Manifest("mood", 1, Kind.MODEL, "classify", (), labels=("no", "yes")), str(tmp_path)))
    engine.add(Call(1, "mood:1", "classify", ("text",), {"abstain": 0.1}))
    (chunk,) = engine.step()
    assert chunk.fault is not None
    assert "was not. Train it again" in chunk.fault.message
