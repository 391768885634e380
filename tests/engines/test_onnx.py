"""The ONNX driver: graphs for each task, what of a graph fits and what does not, and that padding changes nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnx", reason="the tools for tests are not installed")

import numpy as np

from llmos.abi.call import Call
from llmos.abi.error import BadInput, Missing, TooLong
from llmos.abi.frame import ModelPath
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.engines.active_call import ActiveCall
from llmos.engines.onnx import OnnxEngine, graph
from llmos.engines.onnx.batcher import OnnxItem, rectangles
from llmos.testing.errors import fails_with
from llmos.testing.tiny_onnx import LABELS, write_onnx, write_pipeline

pytestmark = pytest.mark.torch

TEXTS = [f"text {'x' * (7 * i % 40)}" for i in range(24)]


def engine_on(folder, task, labels=None, token_budget=256, **options):
    said = LABELS[task] if labels is None else labels
    files = (File("model.onnx", "0" * 64, 1, Part.WEIGHTS),)
    engine = OnnxEngine(token_budget)
    engine.load(
        ModelPath(Manifest("graph", 1, Kind.BASE, task, files, labels=said, options=options), str(folder)),
        "cpu0",
        "float32",
        1,
    )
    return engine


def ask(engine, task, *inputs, **params):
    engine.add(Call(1, "graph:1", task, inputs, params))
    chunks = []
    while not engine.is_idle:
        chunks += engine.step()
    (chunk,) = chunks
    assert chunk.fault is None, chunk.fault
    return list(chunk.outputs)


@pytest.mark.parametrize("inputs", [("input_ids", "attention_mask"), ("input_ids",)], ids=["masked", "without a mask"])
def test_a_text_beside_longer_ones_has_the_scores_that_it_has_alone(tmp_path, inputs):
    engine = engine_on(write_onnx(tmp_path, "classify", inputs=inputs), "classify")
    together = ask(engine, "classify", *TEXTS)
    for text, got in zip(TEXTS, together, strict=True):
        (alone,) = ask(engine, "classify", text)
        assert got["label"] == alone["label"]
        assert got["scores"] == pytest.approx(alone["scores"], abs=1e-5)
    assert sum(together[0]["scores"].values()) == pytest.approx(1)


def test_a_graph_of_one_length_gets_its_texts_padded_to_it_and_refuses_longer_ones(tmp_path):
    engine = engine_on(write_onnx(tmp_path, "classify", length=24), "classify")
    assert len(ask(engine, "classify", "short", "a little longer")) == 2
    with pytest.raises(TooLong) as caught:
        ask(engine, "classify", "x" * 100)
    assert caught.value.detail == {"size": 102, "limit": 24, "index": 0}


def test_tags_lie_on_the_words_of_the_text(tmp_path):
    engine = engine_on(write_onnx(tmp_path, "tag"), "tag")
    for one in ask(engine, "tag", "Ada met Charles in London", "ok", "a longer text with many words to be tagged"):
        for span in one["spans"]:
            assert span["label"] == "PER"
            assert 0 < span["score"] <= 1


def test_vectors_are_pooled_over_the_text_alone_and_have_length_one(tmp_path):
    engine = engine_on(write_onnx(tmp_path, "embed"), "embed")
    for text, got in zip(TEXTS, ask(engine, "embed", *TEXTS), strict=True):
        vector = np.frombuffer(got["data"], "<f4")
        (alone,) = ask(engine, "embed", text)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.allclose(vector, np.frombuffer(alone["data"], "<f4"), atol=1e-5)
    ((wide,), (cls,)) = (ask(engine_on(tmp_path, "embed", pooling=how), "embed", "hello") for how in ("mean", "cls"))
    assert wide != cls


def test_a_graph_that_embeds_compares_and_ranks_as_well(tmp_path):
    engine = engine_on(write_onnx(tmp_path, "embed"), "embed")
    (same,) = ask(engine, "similarity", {"text": "one text", "other": "one text"})
    assert same["score"] == pytest.approx(1, abs=1e-5)
    (ranked,) = ask(engine, "rerank", {"query": "one text", "documents": ["another", "one text"]})
    assert ranked[0]["index"] == 1
    (chosen,) = ask(engine, "classify", "one text", labels=["yes", "no"])
    assert set(chosen["scores"]) == {"yes", "no"}


@pytest.mark.parametrize("zipmap", [True, False], ids=["as maps", "as a tensor"])
def test_a_scikit_learn_pipeline_reads_texts_and_keeps_its_probabilities(tmp_path, zipmap):
    pytest.importorskip("skl2onnx", reason="the tools for tests are not installed")
    engine = engine_on(write_pipeline(tmp_path, zipmap=zipmap), "classify", ("billing", "delivery"))
    bill, parcel = ask(engine, "classify", "the bill please", "where is the parcel")
    assert (bill["label"], parcel["label"]) == ("billing", "delivery")
    session = graph.open_session(tmp_path / "model.onnx", 1)
    shares = session.run(None, {"text": [["the bill please"]]})[1][0]
    expected = shares["billing"] if zipmap else shares[0]
    assert bill["score"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("made", "task", "detail"),
    [
        ({"task": "classify"}, "tag", {"task": "tag", "needs": ...}),
        ({"task": "classify", "inputs": ("words",)}, "classify", {"inputs": ["words"]}),
        ({"task": "classify", "inputs": ("input_ids", "pixels")}, "classify", {"inputs": ["input_ids", "pixels"]}),
        ({"task": "tag"}, "classify", {"task": "classify", "needs": ...}),
        ({"task": "classify"}, "chat", {"task": "chat", "expected": ["classify", "tag", "embed"]}),
    ],
)
def test_a_graph_that_does_not_fit_its_task_is_refused_with_what_it_has(tmp_path, made, task, detail):
    inputs = made.get("inputs", ("input_ids",))
    made = {**made, "inputs": ("input_ids",)}
    folder = write_onnx(tmp_path, **made)
    session = Renamed(graph.open_session(folder / "model.onnx", 1), inputs)
    with fails_with(BadInput, **detail):
        graph.graph_of(session, task)


class Renamed:
    """A session whose inputs are called otherwise."""

    def __init__(self, session, names):
        self._session, self._names = session, names

    def get_outputs(self):
        return self._session.get_outputs()

    def get_inputs(self):
        (one,) = self._session.get_inputs()
        return [Named(name, one.type, one.shape) for name in self._names]


class Named:
    def __init__(self, name, type, shape):
        self.name, self.type, self.shape = name, type, shape


@pytest.mark.parametrize(
    ("labels", "detail"),
    [((), {"task": "classify"}), (("a", "b"), {"width": 3, "count": 2}), (("a", "a", "b"), {"reason": "twice"})],
)
def test_labels_that_are_not_the_graphs_are_refused(tmp_path, labels, detail):
    with fails_with(BadInput, key="labels", **detail):
        engine_on(write_onnx(tmp_path), "classify", labels)


def _half(path, model):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _page(path, model):
    path.write_bytes(b"<html>404</html>")


def _nothing(path, model):
    path.write_bytes(b"")


def _newer(path, model):
    model.opset_import[0].version = 99
    path.write_bytes(model.SerializeToString())


def _newer_file(path, model):
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())


def _strange(path, model):
    model.graph.node[0].op_type = "Nothing"
    path.write_bytes(model.SerializeToString())


def _apart(path, model):
    import onnx

    onnx.save(model, str(path), save_as_external_data=True, location="beside", size_threshold=0)
    (path.parent / "beside").unlink()


def _untyped(path, model):
    model.graph.node[-1].input[0] = "nobody"
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (_half, "it is no ONNX graph, or is cut short or damaged. Fetch or export it again"),
        (_page, "it is no ONNX graph, or is cut short or damaged. Fetch or export it again"),
        (_nothing, "it is no ONNX graph, or is cut short or damaged. Fetch or export it again"),
        (_newer, "it is made for a newer one. Export it with an older opset"),
        (_newer_file, "it is made for a newer one. Export it with an older opset"),
        (_strange, "it has operations that are not onnxruntime's own. Export it with standard"),
        (_apart, "weights that it keeps in a file of their own are not there. Put that beside it"),
        (_untyped, "nobody"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_graph_that_cannot_be_run_is_refused_in_a_sentence_that_says_what_to_do(tmp_path, harm, sentence):
    import onnx

    path = write_onnx(tmp_path) / "model.onnx"
    harm(path, onnx.load(str(path)))
    with fails_with(BadInput, file="model.onnx") as refused:
        engine_on(tmp_path, "classify")
    assert sentence in refused.value.message
    assert not any(raw in refused.value.message for raw in ("ONNXRuntimeError", "onnxruntime_src", str(tmp_path)))
    assert "xport it" in refused.value.message or "Put that beside it" in refused.value.message


def test_weights_that_are_no_numbers_fault_their_call_and_not_the_engine(tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(write_onnx(tmp_path) / "model.onnx"))
    (weight,) = [one for one in model.graph.initializer if one.name == "out"]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(np.nan), "out"))
    onnx.save(model, str(tmp_path / "model.onnx"))
    engine = engine_on(tmp_path, "classify")
    engine.add(Call(1, "graph:1", "classify", ("hello",)))
    (chunk,) = engine.step()
    assert "NaN" in chunk.fault.message
    assert engine.is_idle


def test_the_library_that_is_absent_is_named_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(Missing) as caught:
        engine_on(write_onnx(tmp_path), "classify")
    assert caught.value.detail == {"extra": "onnx"}


def test_rectangles_waste_little_keep_their_budget_and_lose_nothing():
    job = ActiveCall(Call(1, "m:1", "classify", ()), None, None, [])
    job.sequences = [[0] * (1 + 13 * i % 47) for i in range(60)]
    items = [OnnxItem(job, at) for at in range(60)]
    pieces = list(rectangles(items, None, is_exact=False, budget=200))
    assert sorted(item.at for piece in pieces for item in piece) == list(range(60))
    for piece in pieces:
        lengths = [len(item.ids) for item in piece]
        assert len(piece) == 1 or max(lengths) * len(piece) <= 200
        assert min(lengths) >= 0.75 * max(lengths)
    assert all(
        len({len(item.ids) for item in piece}) == 1 for piece in rectangles(items, 3, is_exact=True, budget=1000)
    )
    assert all(len(piece) <= 3 for piece in rectangles(items, 3, is_exact=True, budget=1000))


def test_a_text_beside_large_calls_is_answered_in_the_next_step(tmp_path):
    engine = engine_on(write_onnx(tmp_path, "embed"), "embed", token_budget=4096)
    for number in (1, 2):
        engine.add(Call(number, "graph:1", "embed", tuple(f"a text of some words {i}" for i in range(600)), {}))
    for number in range(10, 15):
        engine.add(Call(number, "graph:1", "embed", ("one",), {}))
        assert number in {chunk.call_id for chunk in engine.step()}
    assert set(engine.progress) == {1, 2}, "they are still under way"
    assert all(0 <= share < 1 for share in engine.progress.values())
