"""Training on answers that are texts: rows, lessons, the loss of an answer's tokens, and a model that has learned."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiny_training

from llmos.abi.error import BadInput, BadRow
from llmos.abi.json_type import Json
from llmos.abi.recipe import Data, Recipe
from llmos.data.dataset import gather, keep
from llmos.data.reader import read_rows
from llmos.data.row import Rows, TextRow
from llmos.data.splits import make_splits
from llmos.testing.errors import fails_with

ASKED = {"role": "user", "content": "Where is it?"}
SAID = {"role": "assistant", "content": "On its way."}
CALL = {"type": "function", "function": {"name": "find", "arguments": {"id": 3}}}


def read(folder: Path, name: str, content: str, task: str, **how: object) -> Rows[Any]:
    path = folder / name
    path.write_text(content)
    return read_rows(str(path), Data(str(path), **how), task, {})  # type: ignore[arg-type]


def lines(*rows: Json) -> str:
    return "\n".join(json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "how"),
    [
        ("a.jsonl", lines({"prompt": "Where is it?", "completion": "On its way."}), {}),
        ("a.csv", "instruction,response\nWhere is it?,On its way.\n", {}),
        ("a.csv", "Frage,Antwort\nWhere is it?,On its way.\n", {"text": "Frage", "label": "Antwort"}),
    ],
)
def test_prompts_and_completions_are_found_by_name_or_told(tmp_path: Path, name: str, content: str, how: Json) -> None:
    (row,) = read(tmp_path, name, content, "generate", **how).rows
    assert isinstance(row, TextRow)
    assert (row.input, row.answer, row.message) == ({"prompt": "Where is it?"}, "On its way.", "")
    (row,) = read(tmp_path, name, content, "chat", **how).rows
    assert isinstance(row, TextRow)
    assert (row.input, row.answer, row.message) == ({"messages": [ASKED]}, "On its way.", "")


def test_conversations_keep_their_calls_and_come_back_from_a_kept_dataset_the_same(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    rows = [{"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}], "tools": tools}]
    rows += [{"messages": [{**ASKED, "content": f"{i}?"}, SAID, ASKED, SAID]} for i in range(40)]
    path = tmp_path / "talks.jsonl"
    path.write_text(lines(*rows))
    data = gather(Data(str(path)), "chat", {}, {})
    keep(data, "chat", tmp_path / "kept")
    again = gather(Data("talks@1"), "chat", {}, {"talks@1": str(tmp_path / "kept")})
    assert again.digest() == data.digest()
    first = read_rows(str(path), Data(str(path)), "chat", {}).rows[0]
    assert isinstance(first, TextRow)
    assert first.completion["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    ("content", "line", "detail"),
    [
        (lines({"messages": [ASKED]}), 1, {"value": repr(ASKED["content"])}),
        (lines({"messages": [SAID]}), 1, {"value": repr(SAID["content"])}),
        (lines({"messages": []}), 1, {"value": "[]"}),
        (lines({"messages": "[{"}), 1, {"value": "'[{'"}),
        (lines({"messages": [ASKED, SAID]}, {"messages": [ASKED, {"role": "robot", "content": "x"}]}), 2, {}),
        (lines({"prompt": "a", "completion": " "}), 1, {"value": "' '"}),
        (lines({"prompt": "a", "more": "b"}), 1, {"column": "completion"}),
    ],
)
def test_a_row_that_cannot_be_learnt_is_named(
    tmp_path: Path, content: str, line: int, detail: dict[str, object]
) -> None:
    with fails_with(BadRow, file=str(tmp_path / "a.jsonl"), line=line, **detail):
        read(tmp_path, "a.jsonl", content, "chat")


def test_conversations_are_for_chat(tmp_path: Path) -> None:
    with fails_with(BadInput, column="messages", task="generate"):
        read(tmp_path, "a.jsonl", lines({"messages": [ASKED, SAID]}), "generate")
    with fails_with(BadInput, format="conll", task="generate"):
        read(tmp_path, "a.conll", "a O\n", "generate")


def test_equal_prompts_stand_in_one_split(tmp_path: Path) -> None:
    text = lines(*({"prompt": f"p{i // 2}", "completion": f"c{i}"} for i in range(100)))
    splits = make_splits("generate", read(tmp_path, "a.jsonl", text, "generate").rows, None, None, (0.1, 0.1))
    parts = [{row.input["prompt"] for row in part} for part in splits.by_name().values()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 50


WORDS = {"apple": "fruit", "pear": "fruit", "iron": "metal", "zinc": "metal"}


def sorting(folder: Path, rows: int = 120, task: str = "generate") -> Path:
    chance = random.Random(3)
    made = []
    for i in range(rows):
        word = chance.choice(sorted(WORDS))
        if task == "chat":
            before = chance.choice(sorted(WORDS))
            asked = [{"role": "user", "content": f"{before} {i}"}, {"role": "assistant", "content": WORDS[before]}]
            asked += [{"role": "user", "content": word}, {"role": "assistant", "content": WORDS[word]}]
            made.append({"messages": asked})
        else:
            made.append({"prompt": f"{word} {i}:", "completion": WORDS[word]})
    path = folder / "writing.jsonl"
    path.write_text(lines(*made))
    return path


@pytest.mark.torch
@pytest.mark.parametrize(
    ("task", "method", "dtype"),
    [("generate", "full", "float32"), ("generate", "lora", "bfloat16"), ("chat", "full", "float32")],
    indirect=["dtype"],
)
def test_rows_become_a_model_that_writes_their_answers_and_ends_them(
    tmp_path: Path, task: str, method: str, dtype: str
) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.engines import driver

    told = {"task": task, "method": method, "epochs": 12.0, "learning_rate": 5e-3 if method == "full" else 2e-2}
    options = {"answered_rows": 7}
    base = tiny_training.base(tmp_path, "llama")
    recipe = {**told, "options": options, "data": {"train": str(sorting(tmp_path, 100, task))}}
    _, model = trained(tmp_path, recipe, dtype=dtype, base=base).offers
    metrics = model.draft["evidence"]["metrics"]
    assert list(metrics)[:2] == ["likelihood", "perplexity"]
    assert metrics["likelihood"] > (0.8 if method == "full" else 0.5)  # its frozen last layer knows no more
    assert metrics["answered_rows"] == 7
    assert metrics["exact_match"] > 0.7
    assert model.draft["labels"] == []
    engine = driver("pytorch")
    engine.load(base, "cpu0", dtype, 1)
    engine.attach(located(model, base))
    asked: Json = "zinc 7:" if task == "generate" else [{"role": "user", "content": "zinc"}]
    for name in ("sorter:1", "tiny:1"):  # in one batch with the base, which has not learned
        engine.add(Call(len(name), name, task, (asked,), {"temperature": 0, "max_tokens": 12}))
    said = {chunk.call_id: chunk.outputs[0] for _ in range(20) for chunk in engine.step()}
    text = {key: one["text"] if task == "generate" else one["message"]["content"] for key, one in said.items()}
    assert (text[8], said[8]["finish_reason"]) == ("metal", "stop")
    assert text[6] != "metal"


@pytest.mark.torch
def test_translations_are_learnt_measured_and_served_by_the_same_prompt(tmp_path: Path) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.engines import driver

    path = tmp_path / "pairs.csv"
    path.write_text("source,target\n" + "\n".join(f"eins {i},one {i}" for i in range(60)))
    options = {"target_language": "English", "answered_rows": 2}
    base = tiny_training.base(tmp_path, "llama")
    recipe = {"task": "translate", "method": "lora", "epochs": 1.0, "options": options, "data": {"train": str(path)}}
    dataset, model = trained(tmp_path, recipe, base=base).offers
    assert dataset.draft["columns"].keys() >= {"source", "target"}
    assert list(model.draft["evidence"]["metrics"])[:3] == ["chrf", "likelihood", "perplexity"]
    engine = driver("pytorch")
    engine.load(base, "cpu0", "float32", 1)
    engine.attach(located(model, base))
    engine.add(Call(1, "sorter:1", "translate", ("eins 7",), {"max_tokens": 6}))
    engine.add(
        Call(2, "sorter:1", "translate", ("eins 7",), {"max_tokens": 6, "target_language": "English"}, stream=True)
    )
    with fails_with(BadInput, key="target_language"):
        engine.add(Call(3, "tiny:1", "translate", ("eins 7",)))
    engine.add(Call(4, "tiny:1", "summarize", ("eins 7",), {"max_tokens": 6, "max_words": 3}))
    chunks = [chunk for _ in range(20) for chunk in engine.step()]
    said = {i: "".join(one["text"] for c in chunks if c.call_id == i for one in c.outputs) for i in (1, 2, 4)}
    assert said[1] == said[2]  # greedy, unless a call says otherwise
    assert all(chunk.fault is None for chunk in chunks)


@pytest.mark.torch
def test_training_reads_a_conversation_as_serving_renders_it_with_its_answers(tmp_path: Path) -> None:
    from llmos.nn.load import load_folder
    from llmos.tasks import Settings, writer
    from llmos.testing import tiny

    folder = tiny.write(tmp_path / "base", "llama")
    turned = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}[SEP]\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    about = json.loads((folder / "tokenizer_config.json").read_text())
    for template, sequences in ((tiny.CHAT_TEMPLATE, 2), (turned, 1)):
        (folder / "tokenizer_config.json").write_text(json.dumps({**about, "chat_template": template}))
        tokenizer = load_folder(folder).tokenizer
        chat, settings = writer("chat"), Settings((), {}, 120)
        asked = {"messages": [ASKED, SAID, {**ASKED, "content": "And now?"}]}
        lessons = chat.teach(asked, "It came.", tokenizer, settings).context
        assert len(lessons) == sequences  # one row, where the second prompt is the first one with its answer, and more
        said: list[str] = []
        for lesson in lessons:
            whole = [*lesson.ids, lesson.targets[-1]]
            for at, target in zip(lesson.places, lesson.targets, strict=True):
                assert whole[at + 1] == target
            for first in (p for p in lesson.places if p - 1 not in lesson.places):
                after = next(p for p in range(first, len(whole)) if p not in lesson.places)
                served = {"messages": asked["messages"][: 2 * len(said) + 1]}
                (prompt,) = chat.render([served], tokenizer, settings)
                assert whole[: first + 1] == prompt.ids
                answer = whole[first + 1 : after + 1]
                assert answer[-1] in tokenizer.ends
                said.append(tokenizer.decode(answer))
        assert said == ["On its way.", "It came."]


@pytest.mark.torch
def test_the_loss_is_the_answers_alone_in_any_number_of_chunks_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from llmos.nn import chunked_loss
    from llmos.tasks import Settings
    from llmos.training.candidate import begin
    from llmos.training.examples import make_examples, passes
    from llmos.training.objectives import loss_of

    recipe = Recipe("chat", "n", "tiny:1", Data(str(sorting(tmp_path, 40, "chat"))), method="full")
    data = gather(recipe.data, "chat", {}, {})
    candidate = begin(tiny_training.base(tmp_path, "llama"), recipe, 0, "float32", "cpu0")
    candidate.train(False)
    examples = make_examples("chat", data.splits.train, candidate.loaded.tokenizer, Settings((), {}, 128))
    loss = loss_of(recipe, 0, head=candidate.head)
    normalizer = loss.normalizer(examples)
    found = []
    for budget, chunk_bytes in ((1, 1 << 26), (100_000, 1 << 26), (100_000, 1 << 14)):
        monkeypatch.setattr(chunked_loss, "CHUNK_BYTES", chunk_bytes)
        total = 0.0
        for part in passes(range(len(examples)), [one.size for one in examples], budget):
            some = [examples[i] for i in part]
            one = loss(candidate.logits([ids for e in some for ids in e.sequences]), some) / normalizer
            one.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
            total += float(one.detach())
        gradients = {name: p.grad.clone() for name, p in candidate.weights().items() if p.grad is not None}
        for parameter in candidate.weights().values():
            parameter.grad = None
        found.append((total, gradients))
    causal = candidate.loaded.causal
    assert causal is not None
    theirs = 0.0
    for example in examples:
        for lesson in example.rendered.context:
            labels = torch.full((1, len(lesson.ids)), -100)
            labels[0, lesson.places] = torch.tensor(lesson.targets)
            logits = causal(input_ids=torch.tensor([lesson.ids]), attention_mask=None, layout=layout_of(lesson)).logits
            part = torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum") / normalizer
            part.backward()  # type: ignore[no-untyped-call]
            theirs += float(part.detach())
    for total, gradients in found:
        assert total == pytest.approx(theirs, rel=1e-4)
        for name, parameter in candidate.weights().items():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-3)


def layout_of(lesson: Any) -> Any:
    from llmos.nn.attention import Layout

    return Layout((len(lesson.ids),))


@pytest.mark.torch
def test_an_encoder_cannot_learn_to_write(tmp_path: Path) -> None:
    from test_trainer import trained

    recipe = {"task": "generate", "data": {"train": str(sorting(tmp_path))}}
    with fails_with(BadInput, architecture=...):
        trained(tmp_path, recipe)
