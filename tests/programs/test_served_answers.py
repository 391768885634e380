"""Evaluation by the engine that serves: an ONNX graph and a GGUF file are measured by their own answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from llmos.abi.error import BadInput
from llmos.abi.frame import Job, ModelPath
from llmos.abi.json_type import Json
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.row_outcome import read_outcomes
from llmos.programs import evaluate
from llmos.testing.daemon import FakeDaemon, beside
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch


def measured(
    folder: Path, weights: str, task: str, rows: str, **more: Json
) -> tuple[FakeDaemon, dict[str, Json], Path]:
    """What is kept of an evaluation of these weights on these rows."""
    data, kept = folder / "rows.csv", folder / "evaluations" / "1"
    data.write_text(rows)
    (folder / "scratch").mkdir(exist_ok=True)
    labels, engine = tuple(more.pop("labels", ())), more.pop("engine")
    files = (File(weights, "0" * 64, 1, Part.WEIGHTS),)
    model = ModelPath(Manifest("graph", 1, Kind.BASE, task, files, labels=labels, options=more), str(folder))
    args = {"model": "graph:1", "data": {"train": str(data)}, "reports": str(kept), "engine": engine}
    args |= {"token_budget": 256, "kv_bytes": 1 << 24}
    daemon, channel, close = beside()
    try:
        job = Job(1, "evaluate", args, str(folder / "scratch"), device="cpu0", threads=1, models={"model": model})
        evaluate.main(channel, job)
    finally:
        close()
    return daemon, json.loads((kept / "evidence.json").read_bytes()), kept


def test_an_onnx_graph_is_measured_by_what_it_answers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnx", reason="the tools for tests are not installed")
    from llmos.abi.call import Call
    from llmos.engines.onnx import OnnxEngine
    from llmos.testing.tiny_onnx import LABELS, write_onnx

    write_onnx(tmp_path, "classify")
    texts = [f"text number {i} {'x' * (7 * i % 40)}" for i in range(70)]
    rows = "text,label\n" + "".join(f"{text},{LABELS['classify'][i % 3]}\n" for i, text in enumerate(texts))
    daemon, evidence, kept = measured(
        tmp_path, "model.onnx", "classify", rows, labels=LABELS["classify"], engine="onnx"
    )
    engine = OnnxEngine(256)
    files = (File("model.onnx", "0" * 64, 1, Part.WEIGHTS),)
    model = Manifest("graph", 1, Kind.BASE, "classify", files, labels=LABELS["classify"])
    engine.load(ModelPath(model, str(tmp_path)), "cpu0", "float32", 1)
    engine.add(Call(1, "graph:1", "classify", tuple(texts)))
    outputs: list[Json] = []
    while not engine.is_idle:
        outputs += [one for chunk in engine.step() for one in chunk.outputs]
    right = sum(one["label"] == LABELS["classify"][i % 3] for i, one in enumerate(outputs))
    assert evidence["metrics"]["accuracy"] == right / 70
    assert evidence["facts"]["engine"].startswith("onnx")
    found = list(read_outcomes(kept / "predictions.jsonl.gz"))
    assert [one.prediction for one in found] == [one["label"] for one in outputs]
    assert found[3].confidence == pytest.approx(outputs[3]["score"], abs=1e-6)
    assert daemon.progress[-1].figures["accuracy"] == right / 70


def test_the_spans_of_an_onnx_graph_are_measured_on_the_words_of_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnx", reason="the tools for tests are not installed")
    from llmos.testing.tiny_onnx import LABELS, write_onnx

    write_onnx(tmp_path, "tag")
    words = ["Ada", "lives", "in", "York", "now"]
    lines = "".join(
        "".join(f"{word} {'B-PER' if word == 'Ada' else 'O'}\n" for word in words) + "\n" for _ in range(12)
    )
    _, evidence, kept = measured(tmp_path, "model.onnx", "tag", lines, labels=LABELS["tag"], engine="onnx")
    found = list(read_outcomes(kept / "predictions.jsonl.gz"))
    assert len(found) == 12
    given = {(mark.start, mark.end) for mark in found[0].spans if mark.given}
    offsets = {0: 3, 4: 9, 10: 12, 13: 17, 18: 21}
    assert all(start in offsets and end in offsets.values() for start, end in given)
    assert "f1" in evidence["metrics"]
    assert "calibration" not in evidence


def test_a_gguf_file_is_measured_by_its_answers_without_a_likelihood(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    from llmos.testing.tiny_gguf import write_gguf

    write_gguf(tmp_path / "tiny.gguf")
    rows = "prompt,answer\n" + "".join(f"say {i},word {i}\n" for i in range(6))
    _, evidence, kept = measured(tmp_path, "tiny.gguf", "generate", rows, engine="llamacpp", answered_rows=4)
    assert next(iter(evidence["metrics"])) == "f1"
    assert "likelihood" not in evidence["metrics"]
    assert evidence["metrics"]["answered_rows"] == 4
    found = list(read_outcomes(kept / "predictions.jsonl.gz"))
    assert [one.score is None for one in found].count(True) == 2


def test_an_engine_refuses_what_it_does_not_do(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra gguf is not installed")
    from llmos.testing.tiny_gguf import write_gguf

    write_gguf(tmp_path / "tiny.gguf")
    rows = "prompt,answer\n" + "".join(f"say {i} {'x' * 300},word {i}\n" for i in range(6))
    with fails_with(BadInput, size=..., limit=..., index=0):
        measured(tmp_path, "tiny.gguf", "chat", rows, engine="llamacpp")
