"""The PyTorch engine: what it answers, to whom, and that neighbours do not touch each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

import numpy as np
from driving import CLOSE, exact
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.call import Call
from llmos.abi.error import BadInput, ModelNotFound, TooLong, WrongTask, error_of
from llmos.abi.frame import ModelPath
from llmos.abi.method import method_of, method_specs
from llmos.abi.model import Kind, Manifest
from llmos.abi.task import spec_of
from llmos.engines import driver
from llmos.engines.intake import whole
from llmos.engines.pytorch import PyTorchEngine
from llmos.nn.adapters.head import SequenceHead, TokenHead, save_head
from llmos.nn.load import load_folder
from llmos.testing import adapters, tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

TEXTS = ["one", "a longer text than the first", "zwölf", "x", "the last of these texts is the longest of them all"]


def located(name, folder, task="", method=None, labels=(), options=None):
    kind = Kind.MODEL if method else Kind.BASE
    manifest = Manifest(name, 1, kind, task, (), method=method, labels=labels, options=options or {})
    return ModelPath(manifest, str(folder))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.write(root / name, name) for name in ("bert", "llama")} | {"root": root}


@pytest.fixture
def engine(folders, dtype):
    engine = PyTorchEngine(token_budget=64)
    engine.load(located("base", folders["bert"]), "cpu0", dtype, 0)
    return engine


@pytest.fixture
def speaker(folders, dtype):
    engine = PyTorchEngine(token_budget=64)
    engine.load(located("talk", folders["llama"]), "cpu0", dtype, 0)
    return engine


def run(engine, *calls):
    for call in calls:
        engine.add(call)
    return drain(engine)


def drain(engine):
    chunks = []
    for _ in range(10_000):
        if engine.is_idle:
            return chunks
        chunks += engine.step()
    raise AssertionError("The engine did not come to rest")


def outputs(chunks, call_id=1):
    (chunk,) = [c for c in chunks if c.call_id == call_id]
    assert chunk.fault is None, chunk.fault
    return chunk.outputs


def close(some, others, by=CLOSE["float32"]):
    """The same answers, but for the last digits of their numbers."""
    if isinstance(some, dict):
        return some.keys() == others.keys() and all(close(some[key], others[key], by) for key in some)
    if isinstance(some, list | tuple):
        return len(some) == len(others) and all(close(one, other, by) for one, other in zip(some, others, strict=True))
    if isinstance(some, bytes):
        return np.allclose(np.frombuffer(some, "<f4"), np.frombuffer(others, "<f4"), atol=by)
    return some == pytest.approx(others, abs=by) if isinstance(some, float) else some == others


def embed(call_id, *texts, model="base:1", **params):
    return Call(call_id, model, "embed", texts, params)


def generate(call_id, prompt, stream=False, **params):
    return Call(call_id, "talk:1", "generate", (prompt,), {"temperature": 0, "max_tokens": 12} | params, stream=stream)


def vectors(chunks, call_id=1):
    return np.stack([np.frombuffer(o["data"], "<f4") for o in outputs(chunks, call_id)])


def lora_on(folder, root, name, *, seed, labels=("no", "yes"), head=None):
    """A LoRA model whose adapter does something: its B matrices are not the zeros it would start with."""
    base = load_folder(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tuned = adapters.fresh(base, rank=4, seed=seed)
        for key, weight in tuned.model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=0.5)
        out = root / name
        out.mkdir(exist_ok=True)
        tuned.save(out)
        save_head(head or SequenceHead(base.hidden_size, len(labels)), out)
    return located(name, out, "classify", "lora", labels)


def test_the_driver_is_found_by_name():
    assert isinstance(driver("pytorch"), PyTorchEngine)


def test_a_base_embeds_each_text_as_if_it_were_alone(engine):
    together = vectors(run(engine, embed(1, *TEXTS)))
    alone = np.concatenate([vectors(run(engine, embed(1, text))) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_vector_keeps_its_length_where_the_call_asks_for_that(engine):
    chunks = run(engine, embed(1, "text"), embed(2, "text", normalize=False))
    unit, plain = vectors(chunks, 1), vectors(chunks, 2)
    np.testing.assert_allclose(plain / np.linalg.norm(plain), unit, atol=1e-6)
    assert abs(np.linalg.norm(plain) - 1) > 1e-3


def test_a_call_longer_than_the_budget_is_answered_in_order(engine):
    texts = [f"{'word ' * (i % 7)}{i}" for i in range(40)]
    np.testing.assert_allclose(
        vectors(run(engine, embed(1, *texts)))[17], vectors(run(engine, embed(2, texts[17])), 2)[0], atol=1e-6
    )


def test_the_oldest_call_is_answered_first(engine):
    for i in range(1, 5):
        engine.add(embed(i, "a text of forty bytes, more or less, yes!"))
    assert [chunk.call_id for chunk in drain(engine)] == [1, 2, 3, 4]


@given(
    arrivals=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), min_size=1, max_size=6),
    drop=st.sets(st.integers(0, 5)),
)
@settings(max_examples=15, deadline=None)
def test_every_call_gets_exactly_one_answer_unless_it_was_cancelled(folders, arrivals, drop):
    engine = PyTorchEngine(token_budget=48)
    engine.load(located("base", folders["bert"]), "cpu0", "float32", 0)
    chunks = []
    for i, sizes in enumerate(arrivals):
        engine.add(embed(i, *("x" * size for size in sizes)))
        if i in drop:
            engine.cancel(i)
        if i % 2:
            chunks += engine.step()
    chunks += drain(engine)
    assert sorted(c.call_id for c in chunks) == [i for i in range(len(arrivals)) if i not in drop]
    assert all(len(c.outputs) == len(arrivals[c.call_id]) and c.is_last for c in chunks)


def test_lora_models_answer_by_their_own_adapter_and_leave_the_base_alone(engine, folders, dtype):
    root = folders["root"]
    before = vectors(run(engine, embed(1, *TEXTS)))
    one, two = (lora_on(folders["bert"], root, name, seed=seed) for name, seed in (("one", 1), ("two", 2)))
    for model in (one, two):
        engine.attach(model)
    calls = [Call(i, f"{'one' if i % 2 else 'two'}:1", "classify", tuple(TEXTS)) for i in range(2, 6)]
    mixed = run(engine, *calls, embed(1, *TEXTS))
    np.testing.assert_allclose(vectors(mixed), before, atol=CLOSE[dtype])
    scores = {i: [one["scores"]["yes"] for one in outputs(mixed, i)] for i in range(2, 6)}
    assert scores[2] == pytest.approx(scores[4], abs=CLOSE[dtype])
    assert scores[2] != pytest.approx(scores[3], abs=1e-2)


def test_models_of_one_base_are_answered_by_one_row(engine, folders, dtype):
    for name, seed in (("first", 11), ("second", 12)):
        engine.attach(lora_on(folders["bert"], folders["root"], name, seed=seed))
    texts = ("short", "a bit longer")
    calls = [Call(1, "first:1", "classify", texts), embed(2, *texts), Call(3, "second:1", "classify", texts)]
    for call in calls:
        engine.add(call)
    together = engine.step()
    assert engine.is_idle
    for call in calls:
        assert close(outputs(together, call.call_id), outputs(run(engine, call), call.call_id), CLOSE[dtype])


@given(arrivals=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), min_size=2, max_size=20))
@settings(max_examples=15, deadline=None)
def test_the_oldest_input_is_always_in_the_next_row_whoever_it_is_for(folders, arrivals):
    engine = PyTorchEngine(token_budget=48)
    engine.load(located("base", folders["bert"]), "cpu0", "float32", 0)
    for index, method in enumerate(("lora", "lora", "full")):
        folder = folders["root"] / f"fair-{index}"
        if not folder.exists():
            lora_on(folders["bert"], folders["root"], folder.name, seed=20 + index)
            tiny.write(folder, "bert")
        engine.attach(located(folder.name, folder, "classify", method, ("no", "yes")))
    names = ("fair-0:1", "fair-1:1", "fair-2:1")
    for i, (which, size) in enumerate(arrivals):
        engine.add(embed(i, "x" * size) if which == 3 else Call(i, names[which], "classify", ("x" * size,)))
    waiting = list(range(len(arrivals)))
    while waiting:
        answered = {chunk.call_id for chunk in engine.step()}
        assert waiting[0] in answered
        waiting = [i for i in waiting if i not in answered]
    assert engine.is_idle


@exact
def test_texts_generated_for_several_models_in_one_row_are_each_models_own(speaker, folders):
    names = []
    base = load_folder(folders["llama"])
    for i in range(3):
        folder = adapters.write(folders["root"] / f"poet-{i}", base.backbone, seed=i, targets=("q_proj", "down_proj"))
        speaker.attach(located(folder.name, folder, "generate", "lora"))
        names.append(f"{folder.name}:1")
    calls = [
        Call(i, name, "generate", ("once upon a time",), {"temperature": 0, "max_tokens": 12})
        for i, name in enumerate([*names, "talk:1", *names])
    ]
    together = run(speaker, *calls)
    for call in calls:
        assert outputs(together, call.call_id) == outputs(run(speaker, call), call.call_id)
    assert outputs(together, 0) != outputs(together, 1)


@exact
def test_models_of_every_method_generate_in_one_row_as_each_does_alone(speaker, folders):
    methods = [spec.name for spec in method_specs().values() if spec.reads_as]
    for i, method in enumerate(methods):
        settings = {key: 4 for key in ("rank", "width", "tokens") if key in method_of(method).values({})}
        folder = adapters.write_trained(
            load_folder(folders["llama"]), folders["root"] / method, method, seed=i, **settings
        )
        speaker.attach(located(method, folder, "generate", method))
    calls = [
        Call(
            i,
            f"{name}:1",
            "generate",
            ("once upon a time",),
            {"temperature": 0, "max_tokens": 8, "presence_penalty": 1},
        )
        for i, name in enumerate([*methods, "talk", *methods])
    ]
    together = run(speaker, *calls)
    alone = [outputs(run(speaker, call), call.call_id) for call in calls]
    assert [outputs(together, call.call_id) for call in calls] == alone
    assert sum(one != alone[len(methods)] for one in alone[: len(methods)]) > len(methods) / 2
    for method in methods:
        speaker.detach(f"{method}:1")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_an_adapter_computes_what_peft_computes(engine, folders, dtype):
    from peft import PeftModel

    from llmos.nn.adapters.head import load_head
    from llmos.nn.packing import forward, pack

    model = lora_on(folders["bert"], folders["root"], "checked", seed=3)
    engine.attach(model)
    got = outputs(run(engine, Call(1, "checked:1", "classify", tuple(TEXTS))))
    base = load_folder(folders["bert"])
    wrapped = PeftModel.from_pretrained(base.backbone, model.folder).eval()
    row = pack([one.ids for one in base.tokenizer.encode(TEXTS)])
    with torch.inference_mode():
        logits = load_head(folders["root"] / "checked")(forward(wrapped.base_model.model, row), row.lengths)
    wanted = logits.softmax(-1)[:, 1].tolist()
    assert [one["scores"]["yes"] for one in got] == pytest.approx(wanted, abs=2 * CLOSE[dtype])


@pytest.mark.parametrize(
    ("task", "asked", "head", "labels"),
    [
        ("embed", "hi", None, ()),
        ("similarity", {"text": "a", "other": "b"}, None, ()),
        ("classify", "hi", SequenceHead(32, 2), ("no", "yes")),
        ("tag", {"tokens": ["Ada", "lives"]}, TokenHead(32, 3), ("O", "B-X", "I-X")),
    ],
)
def test_a_model_that_computes_no_numbers_says_so_and_its_neighbours_are_answered(
    engine, folders, task, asked, head, labels
):
    backbone = engine.models["base:1"].loaded.backbone
    folder = adapters.write(folders["root"] / f"huge-{task}", backbone, strength=1e37)  # finite, and too much
    if head is not None:
        save_head(head, folder)
    engine.attach(located("huge", folder, task, "lora", labels))
    before = vectors(run(engine, embed(1, "one")))
    chunks = run(engine, embed(1, "one"), Call(2, "huge:1", task, (asked,)), embed(3, "one"))
    np.testing.assert_allclose(np.concatenate([vectors(chunks, 1), vectors(chunks, 3)]), [*before, *before], atol=1e-6)
    (fault,) = [chunk.fault for chunk in chunks if chunk.call_id == 2]
    assert "huge:1 computes NaN or infinity" in str(error_of(fault))


def test_a_writer_that_computes_no_numbers_is_named_and_its_neighbours_are_answered(speaker, folders):
    backbone = speaker.models["talk:1"].loaded.backbone
    folder = adapters.write(folders["root"] / "loud", backbone, strength=1e37)
    speaker.attach(located("loud", folder, "generate", "lora"))
    (alone,) = outputs(run(speaker, generate(1, "a text")))
    calls = [generate(i, "a text") for i in (1, 3)]
    chunks = run(speaker, calls[0], Call(2, "loud:1", "generate", ("a text",), {"temperature": 0}), calls[1])
    assert outputs(chunks, 1) == outputs(chunks, 3) == (alone,)
    (fault,) = [chunk.fault for chunk in chunks if chunk.call_id == 2]
    assert "loud:1 computes NaN or infinity" in str(error_of(fault))


@pytest.mark.parametrize("head", ["pooled", None])
def test_an_answer_that_cannot_be_parsed_faults_that_call_alone_and_is_logged(speaker, head, capfd):
    """Whatever goes wrong there: a model may write what no parser can take."""
    from llmos.engines.pytorch.model import ServedCall
    from llmos.tasks import Rendered

    class Odd:
        spec = replace(spec_of("similarity"), name="odd", head=head)

        def parse(self, raw, rendered, settings, params):
            raise RecursionError("nested too deeply")

    odd = Odd()
    neighbours = [embed(i, "one", model="talk:1") if head else generate(i, "one") for i in (1, 3)]
    alone = [outputs(run(speaker, call), call.call_id) for call in neighbours]
    speaker.add(neighbours[0])
    call, model = Call(2, "talk:1", "odd", ("one",), {"max_tokens": 2}), speaker.models["talk:1"]
    job = ServedCall(call, odd, model.settings, [Rendered([5, 6])], model=model)
    whole(speaker.prepare(job))()
    speaker.add(neighbours[1])
    chunks = drain(speaker)
    assert [close(outputs(chunks, i), one) for i, one in zip((1, 3), alone, strict=True)] == [True, True]
    (fault,) = [chunk.fault for chunk in chunks if chunk.call_id == 2]
    assert "RecursionError" in fault.message
    assert 'raise RecursionError("nested too deeply")' in capfd.readouterr().err


def test_a_token_that_the_tokenizer_has_and_the_model_lacks_is_refused(folders):
    from tokenizers import Tokenizer

    folder = tiny.write(folders["root"] / "added", "llama")
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.add_tokens(["<extra>"])
    fast.save(str(folder / "tokenizer.json"))
    engine = PyTorchEngine(token_budget=64)
    engine.load(located("talk", folder), "cpu0", "float32", 0)
    engine.add(generate(1, "a text"))
    for call in (generate(2, "an <extra> text"), embed(2, "an <extra> text", model="talk:1")):
        with fails_with(BadInput, token=260, limit=260):
            engine.add(call)
    with fails_with(BadInput, key="logit_bias", token=260):
        engine.add(generate(2, "a text", logit_bias={"260": 5}))
    assert [chunk.fault for chunk in drain(engine)] == [None]


def test_twenty_adapters_cost_their_files_only(engine, folders):
    model = lora_on(folders["bert"], folders["root"], "small", seed=4)
    weights = {id(p): p.clone() for p in engine.models["base:1"].loaded.backbone.parameters()}
    for _ in range(20):
        engine.attach(model)
    backbone = engine.models["small:1"].loaded.backbone
    assert backbone is engine.models["base:1"].loaded.backbone
    assert all(torch.equal(p, weights[id(p)]) for p in backbone.parameters())


def test_a_base_ranks_and_compares_by_its_vectors(engine):
    documents = ["a longer text than the first", "zwölf", "one"]
    chunks = run(
        engine,
        embed(1, "one", *documents),
        Call(2, "base:1", "rerank", ({"query": "one", "documents": documents},)),
        Call(3, "base:1", "similarity", tuple({"text": "one", "other": one} for one in documents)),
    )
    query, *others = vectors(chunks, 1)
    wanted = [float(query @ one) for one in others]
    (ranking,) = outputs(chunks, 2)
    assert [one["index"] for one in ranking] == sorted(range(3), key=lambda i: -wanted[i])
    assert ranking[0] == {"index": 2, "score": pytest.approx(1.0, abs=1e-6)}
    assert [one["score"] for one in outputs(chunks, 3)] == pytest.approx(wanted, abs=1e-5)


def test_an_input_of_many_sequences_is_answered_once_all_have_come_over_many_rows(engine):
    asked = {"query": "q", "documents": [f"document {i} {'x' * (i % 50)}" for i in range(60)]}
    chunks = run(engine, Call(1, "base:1", "rerank", (asked, asked)), embed(2, "beside"))
    one, again = outputs(chunks, 1)
    assert [d["index"] for d in one] == [d["index"] for d in again]
    assert len(one) == 60
    assert len(outputs(chunks, 2)) == 1


def test_a_base_classifies_by_labels_that_the_call_brings(engine, folders):
    labels = {"short": "x", "long": "the last of these texts is the longest of them all"}
    one, two = outputs(run(engine, Call(1, "base:1", "classify", ("x", TEXTS[-1]), {"labels": labels})))
    assert (one["label"], two["label"]) == ("short", "long")
    assert one["scores"].keys() == {"short", "long"}
    with fails_with(WrongTask, model="base:1", task="classify"):
        engine.add(Call(2, "base:1", "classify", ("x",)))
    engine.attach(lora_on(folders["bert"], folders["root"], "fixed", seed=9))
    with fails_with(BadInput, key="labels", model="fixed:1"):
        engine.add(Call(3, "fixed:1", "classify", ("x",), {"labels": ["a", "b"]}))
    assert engine.is_idle


def test_a_sequence_that_inputs_share_is_computed_once():
    from llmos.engines.active_call import ActiveCall
    from llmos.tasks import Rendered, Settings

    shared = [7, 7]

    class Echo:
        def parse(self, raw, rendered, settings, params):
            return raw

    given_to = [Rendered([], None, ([1], shared)), Rendered([], None, ([2], shared)), Rendered([3])]
    job = ActiveCall(Call(1, "m:1", "x", (1, 2, 3)), Echo(), Settings(), given_to)
    assert job.sequences == [[1], [7, 7], [2], [3]]
    assert [job.put(at, f"raw {at}") for at in (1, 3, 0)] == [[], [], []]
    (chunk,) = job.put(2, "raw 2")
    assert chunk.outputs == (["raw 0", "raw 1"], ["raw 2", "raw 1"], "raw 3")
    assert chunk.tokens.prompt == 5


def test_a_full_model_has_weights_of_its_own_and_tags_words_by_token(engine, folders):
    folder = tiny.write(folders["root"] / "own", "bert")
    save_head(TokenHead(32, 3), folder)
    engine.attach(located("own", folder, "tag", "full", labels=("O", "B-X", "I-X")))
    (answer,) = outputs(run(engine, Call(1, "own:1", "tag", ({"tokens": ["Ada", "lives"]},))))
    assert all(set(span) == {"text", "label", "start", "end", "score"} for span in answer["spans"])


def test_a_model_does_its_own_task_only(engine, folders):
    engine.attach(lora_on(folders["bert"], folders["root"], "only", seed=5))
    with fails_with(WrongTask, model="only:1", task="embed", has=["classify"]):
        engine.add(embed(1, "text", model="only:1"))
    assert engine.is_idle


def test_an_encoder_base_does_not_chat(engine):
    with pytest.raises(WrongTask):
        engine.add(Call(1, "base:1", "chat", ({"messages": [{"role": "user", "content": "hi"}]},)))


def test_a_detached_model_is_unknown_but_its_calls_in_hand_are_answered(engine, folders):
    engine.attach(lora_on(folders["bert"], folders["root"], "gone", seed=6))
    engine.add(Call(1, "gone:1", "classify", ("text",)))
    engine.detach("gone:1")
    with fails_with(ModelNotFound, name="gone:1", models=["base:1"]):
        engine.add(Call(2, "gone:1", "classify", ("text",)))
    assert len(outputs(drain(engine))) == 1


def test_a_wrong_parameter_faults_its_call_and_not_its_neighbour(engine, folders):
    engine.attach(lora_on(folders["bert"], folders["root"], "param", seed=7))
    chunks = run(
        engine, Call(1, "param:1", "classify", ("a", "b"), {"top_k": -1}), Call(2, "param:1", "classify", ("a", "b"))
    )
    assert len(outputs(chunks, 2)) == 2
    (failed,) = [c for c in chunks if c.call_id == 1]
    assert isinstance(error_of(failed.fault), BadInput)


def test_a_text_over_the_limit_is_refused_with_the_numbers(engine):
    with pytest.raises(TooLong) as caught:
        engine.add(embed(1, "x" * 500))
    assert caught.value.detail == {"size": 502, "limit": 128, "index": 0}


def test_an_adapter_for_another_base_is_refused(speaker, folders):
    model = lora_on(folders["bert"], folders["root"], "other", seed=8)
    with fails_with(BadInput, layer=...):
        speaker.attach(model)


@exact
def test_greedy_text_is_what_transformers_generates(speaker, folders):
    (got,) = outputs(run(speaker, generate(1, "hello there")))
    loaded = speaker.models["talk:1"].loaded
    (encoded,) = loaded.tokenizer.encode(["hello there"])
    made = tiny.plain("llama").generate(torch.tensor([encoded.ids]), max_new_tokens=12, do_sample=False)
    assert got["text"] == loaded.tokenizer.decode(made[0, len(encoded.ids) :].tolist())


@exact
def test_answers_generated_side_by_side_equal_those_generated_alone(speaker):
    calls = [generate(i, "abc" * (i + 1), temperature=1.0, seed=i, top_p=0.9, top_k=40) for i in range(5)]
    together = run(speaker, *calls, embed(9, "in between", model="talk:1"))
    for call in calls:
        assert outputs(together, call.call_id) == outputs(run(speaker, call), call.call_id)


@exact
def test_a_streamed_answer_adds_up_to_the_whole_one(speaker):
    (whole,) = outputs(run(speaker, generate(1, "stream me", temperature=1.0, seed=3, max_tokens=40)))
    chunks = run(speaker, generate(2, "stream me", stream=True, temperature=1.0, seed=3, max_tokens=40))
    assert "".join(c.outputs[0]["text"] for c in chunks) == whole["text"]
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].outputs[0]["finish_reason"] == whole["finish_reason"]
    assert 0 < chunks[-1].tokens.completion <= 40


@exact
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_names_the_stop_string_that_ended_it(speaker, stream):
    said = {"temperature": 1.0, "seed": 3, "max_tokens": 40}
    (whole,) = outputs(run(speaker, generate(1, "stream me", **said)))
    text = whole["text"]
    stop = text[5:8]
    chunks = run(speaker, generate(2, "stream me", stop=[stop, "never there"], stream=stream, **said))
    ended = [one for chunk in chunks for one in chunk.outputs]
    assert (ended[-1]["stop"], ended[-1]["finish_reason"]) == (stop, "stop")
    assert "".join(one["text"] for one in ended) == text[: text.index(stop)]


@exact
def test_a_long_prompt_is_read_in_pieces_beside_encoder_calls(speaker, folders):
    whole = outputs(run(speaker, generate(1, "y" * 100)))
    piecewise = PyTorchEngine(step_tokens=16)
    piecewise.load(located("talk", folders["llama"]), "cpu0", "float32", 0)
    piecewise.add(generate(1, "y" * 100))
    piecewise.add(embed(2, "quick", model="talk:1"))
    assert [chunk.call_id for chunk in piecewise.step()] == [2]
    assert outputs(drain(piecewise)) == whole


@pytest.mark.parametrize("most", [None, 100, 2**31 - 1])
def test_an_answer_whose_limit_is_beyond_the_context_ends_where_that_does(speaker, most):
    (got,) = outputs(run(speaker, generate(1, "y" * 100, max_tokens=most)))
    assert got["finish_reason"] in ("length", "stop")


def test_a_chat_goes_through_the_template(speaker):
    call = Call(1, "talk:1", "chat", ({"messages": [{"role": "user", "content": "hi"}]},), {"max_tokens": 4})
    (got,) = outputs(run(speaker, call))
    assert got["message"]["role"] == "assistant"


def test_a_cancelled_stream_leaves_its_place(speaker):
    speaker.add(generate(1, "never mind", stream=True))
    speaker.step()
    speaker.cancel(1)
    assert speaker.is_idle
    assert speaker.step() == []


def test_bfloat16_keeps_the_direction_of_a_vector(folders):
    found = {}
    for dtype in ("float32", "bfloat16"):
        engine = PyTorchEngine()
        engine.load(located("base", folders["bert"]), "cpu0", dtype, 0)
        found[dtype] = vectors(run(engine, embed(1, *TEXTS)))
    assert ((found["float32"] * found["bfloat16"]).sum(1) >= 0.999).all()


def test_an_answer_says_how_long_its_stages_took(engine, speaker):
    for chunks in (
        run(engine, embed(1, *TEXTS)),
        run(speaker, generate(1, "hello")),
        run(speaker, generate(2, "a", True)),
    ):
        times = chunks[-1].times
        assert times.batch_s >= 0
        assert times.compute_s > 0
        assert times.parse_s > 0
        assert (times.queue_s, times.tokenize_s) == (0, 0), "others fill these in"
        assert all(chunk.times is None for chunk in chunks[:-1])
