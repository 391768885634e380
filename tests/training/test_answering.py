"""Training on questions: SQuAD's form and tables, answers in their place, EM and F1, and a model that has learned."""

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
from llmos.data.reader import read_rows
from llmos.data.row import Rows, SpanRow
from llmos.data.splits import leaks_of, make_splits
from llmos.tasks import Settings
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer
from llmos.training.examples import make_examples

PASSAGE = "Ada Lovelace lived in London."
WHERE = {"question": "Where did Ada live?", "answers": [{"text": "London", "answer_start": 22}], "id": "1"}
WHEN = {"question": "When?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "x"}], "id": "2"}
EXPECTED = [(("London",), (22,)), ((), ())]  # answers, and where they start


def squad(*asked: Json, passage: str = PASSAGE) -> str:
    return json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": passage, "qas": asked}]}]})


def read(folder: Path, name: str, content: str, **how: object) -> Rows[Any]:
    path = folder / name
    path.write_text(content)
    return read_rows(str(path), Data(str(path), **how), "answer", {})  # type: ignore[arg-type]


def spans(rows: Rows[Any]) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    return [(row.answers, row.starts) for row in rows.rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("squad.json", squad(WHERE, WHEN)),
        ("pretty.json", json.dumps(json.loads(squad(WHERE, WHEN)), indent=1)),
        ("hub.jsonl", "\n".join(json.dumps(one) for one in (
            {"context": PASSAGE, "question": WHERE["question"], "answers": {"text": ["London"], "answer_start": [22]}},
            {"context": PASSAGE, "question": "When?", "answers": {"text": [], "answer_start": []}}))),
        ("list.jsonl", "\n".join(json.dumps(one) for one in (
            {"passage": PASSAGE, "question": "Where did Ada live?", "answers": [{"text": "London", "start": 22}]},
            {"passage": PASSAGE, "question": "When?", "answers": None}))),
        ("table.csv", 'question,passage,answer,start\n'
            f'Where did Ada live?,"{PASSAGE}",London,22\nWhen?,"{PASSAGE}",,\n'),
        ("found.csv", f'question,context,answer\nWhere did Ada live?,"{PASSAGE}",London\nWhen?,"{PASSAGE}",\n'),
    ],
)  # fmt: skip
def test_questions_come_in_many_forms_and_are_the_same(tmp_path: Path, name: str, content: str) -> None:
    rows = read(tmp_path, name, content)
    assert spans(rows) == EXPECTED
    assert rows.rows[0].input == {"question": "Where did Ada live?", "passage": PASSAGE}
    assert rows.format == ("squad" if name.endswith(".json") else name.rpartition(".")[2])


@pytest.mark.parametrize(
    ("name", "content", "line", "detail"),
    [
        ("a.json", squad({**WHERE, "answers": [{"text": "London", "answer_start": 20}]}), 1, {"value": "20"}),
        ("a.json", squad({"question": "x"}), 1, {"value": "None"}),
        ("a.json", '{"data": [\n{"par', 2, {}),
        ("a.json", '{"data": []}', 1, {"kind": "columns"}),
        ("a.csv", 'question,passage,answer\nq,"a b a",a\n', 2, {"value": "'a'", "count": 2}),
        ("a.csv", 'question,passage,answer\nq,"a b a",c\n', 2, {"value": "'c'", "count": 0}),
        ("a.csv", 'question,passage,answer,start\nq,"a b a",a,-1\n', 2, {"value": "'-1'"}),
        ("a.csv", 'question,passage,answer,start\nq,"a b a",a,two\n', 2, {"value": "'two'"}),
        ("a.csv", "question,answer,more\nq,a,b\n", 1, {"column": "passage"}),
        ("a.jsonl", '{"question": "q", "passage": "a", "answers": ["a", "b"], "starts": [0]}', 1, {"value": "[0]"}),
        ("a.jsonl", '{"question": "q", "passage": "a b", "answers": [3]}', 1, {"value": "3"}),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_used_is_named_where_it_stands(
    tmp_path: Path, name: str, content: str, line: int, detail: dict[str, object]
) -> None:
    with fails_with(BadRow, file=str(tmp_path / name), line=line, **detail):
        read(tmp_path, name, content)


def test_squad_s_form_is_for_answers_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(squad(WHERE))
    with fails_with(BadInput, file=str(path), format="squad", task="classify"):
        read_rows(str(path), Data(str(path), format="squad"), "classify", {})
    with fails_with(BadInput, file=str(tmp_path / "a.conll"), format="conll", task="answer"):
        read(tmp_path, "a.conll", "a O\n")


def asked(number: int, answers: tuple[str, ...] = ("London",), starts: tuple[int, ...] = (22,)) -> SpanRow:
    return SpanRow({"question": f"q{number}", "passage": f"{PASSAGE} {number // 3}"}, answers, starts, "a.json", number)


def test_a_passage_s_questions_all_stand_in_one_split() -> None:
    splits = make_splits("answer", [asked(i) for i in range(90)], None, None, (0.1, 0.1))
    passages = [{row.input["passage"] for row in part} for part in splits.by_name().values()]
    assert len(set().union(*passages)) == sum(map(len, passages)) == 30
    assert (splits.labels, leaks_of(splits)) == (("start", "end"), ())
    with fails_with(BadInput, reason="no_answers"):
        make_splits("answer", [asked(i, (), ()) for i in range(90)], None, None, (0.1, 0.1))


def test_every_window_has_its_own_target() -> None:
    words = [f"w{i}" for i in range(40)]
    passage = " ".join(words)
    row = SpanRow({"question": "q", "passage": passage}, ("w20",), (passage.index("w20"),), "f", 1)
    (one,) = make_examples("answer", [row], PieceTokenizer(), Settings((), {"stride": 4}, 20))
    assert len(one.target.places) == len(one.sequences)
    holds = [any(passage[a:b] == "w20" for a, b in window.offsets) for window in one.rendered.context.windows]
    assert [first > 0 for first, _ in one.target.places] == holds
    assert one.size == sum(map(len, one.sequences))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("gold", "given", "exact", "f1"),
    [
        ("The Eiffel Tower", "eiffel tower!", 1, 1),
        ("in 14 days", "14 days", 0, 0.8),
        ("London", "Paris", 0, 0),
        ("", "", 1, 1),
        ("", "London", 0, 0),
        ("London", "", 0, 0),
        ("the", "a", 1, 1),
        ("a a b", "a b b", 0, 0.5 * 4 / 3),
    ],
)
def test_answers_are_compared_as_squad_does(gold: str, given: str, exact: float, f1: float) -> None:
    from llmos.evaluation.families import spans as qa_metrics

    assert qa_metrics.exact(gold, given) == exact
    assert qa_metrics.f1(gold, given) == pytest.approx(f1)


@pytest.mark.torch
def test_answers_are_judged_against_the_nearest_and_those_without_apart() -> None:
    from llmos.evaluation.families.spans import SpanPrediction
    from llmos.evaluation.metrics import judge, primary_metric

    rows = [asked(0, ("London", "in London"), (22, 19)), asked(1), asked(2, (), ()), asked(3, (), ())]
    said = [SpanPrediction(text, 0.9, 0.1) for text in ("in London", "Ada", "", "Ada")]
    judged = judge("answer", rows, said, Settings())
    assert judged.metrics == {
        "f1": 0.5,
        "exact_match": 0.5,
        "f1_with_answer": 0.5,
        "exact_match_with_answer": 0.5,
        "accuracy_without_answer": 0.5,
    }
    assert primary_metric("answer", rows, said, Settings()) == 0.5
    assert {(one.expected, one.given) for one in judged.mistakes} == {("London", "Ada"), ("(no answer)", "Ada")}


def looking(folder: Path, rows: int = 240) -> Path:
    """Passages of small words with one in capitals, which is the answer; some have none."""
    chance = random.Random(3)
    paragraphs = []
    for i in range(rows):
        words = [chance.choice(("saw", "met", "and", "it")) for _ in range(chance.randint(3, 9))]
        answers: list[Json] = []
        if i % 5:
            at = chance.randrange(len(words))
            words[at] = chance.choice(("ADA", "BOB", "EVE"))
            answers = [{"text": words[at], "answer_start": len(" ".join(words[:at])) + (at > 0)}]
        qas = [{"question": "who?", "answers": answers, "id": str(i)}]
        paragraphs.append({"context": f"{' '.join(words)} {i}", "qas": qas})
    path = folder / "looking.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


@pytest.mark.torch
@pytest.mark.parametrize(("method", "dtype"), [("full", "float32"), ("lora", "bfloat16")], indirect=["dtype"])
def test_questions_become_a_model_that_has_learned_to_answer_them(tmp_path: Path, method: str, dtype: str) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.engines import driver

    recipe = {
        "task": "answer",
        "method": method,
        "epochs": 10.0 if method == "full" else 18.0,
        "options": {"max_tokens": 40, "stride": 8},
        "data": {"train": str(looking(tmp_path))},
    }
    dataset, model = trained(tmp_path, recipe, dtype=dtype).offers
    assert dataset.draft["columns"].keys() >= {"question", "passage", "answers", "starts"}
    assert model.draft["labels"] == ["start", "end"]
    metrics = model.draft["evidence"]["metrics"]
    assert list(metrics)[:2] == ["f1", "exact_match"]
    assert metrics["f1"] > 0.8
    base = tiny_training.base(tmp_path)
    engine = driver("pytorch")
    engine.load(base, "cpu0", dtype, 1)
    engine.attach(located(model, base))
    passage = f"{'saw it and met ' * 6}BOB and saw it"
    engine.add(Call(1, "sorter:1", "answer", ({"question": "who?", "passage": passage},)))
    chunks = [chunk for _ in range(3) for chunk in engine.step()]
    (said,) = chunks[0].outputs
    assert said["text"] == passage[said["start"] : said["end"]] == "BOB"


@pytest.mark.torch
def test_a_kept_dataset_of_questions_is_read_back_the_same(tmp_path: Path) -> None:
    from llmos.data.dataset import gather, keep

    data = gather(Data(str(looking(tmp_path))), "answer", {}, {})
    keep(data, "answer", tmp_path / "kept")
    again = gather(Data("asked@1"), "answer", {}, {"asked@1": str(tmp_path / "kept")})
    assert again.digest() == data.digest()


@pytest.mark.torch
def test_the_loss_of_a_batch_in_many_passes_is_that_in_one(tmp_path: Path, dtype: str) -> None:
    from llmos.data.dataset import gather
    from llmos.training.candidate import begin
    from llmos.training.examples import passes
    from llmos.training.objectives import loss_of

    recipe = Recipe("answer", "n", "tiny:1", Data(str(looking(tmp_path, 40))), method="full")
    data = gather(recipe.data, "answer", {}, {})
    candidate = begin(tiny_training.base(tmp_path), recipe, 2, dtype, "cpu0")
    candidate.train(False)
    told = Settings(data.splits.labels, {"max_tokens": 30}, candidate.loaded.max_tokens)
    examples = make_examples("answer", data.splits.train, candidate.loaded.tokenizer, told)
    assert any(len(one.sequences) > 1 for one in examples)
    loss = loss_of(recipe, 2)
    sums = []
    for budget in (1, 100_000):
        parts = [[examples[i] for i in p] for p in passes(range(len(examples)), [e.size for e in examples], budget)]
        made = [candidate.logits([ids for one in part for ids in one.sequences]) for part in parts]
        sums.append(sum(float(loss(logits, part).detach()) for logits, part in zip(made, parts, strict=True)))
    assert sums[0] == pytest.approx(sums[1], rel=tiny_training.RELATIVE[dtype])
    assert loss.normalizer(examples) == sum(len(one.sequences) for one in examples)
