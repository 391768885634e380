"""Training on pairs: rows, splits that part no query, numbers against known ones, and models that have learned."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow, BadSetting
from llmos.abi.recipe import Data, Recipe
from llmos.data.families.pairs import scale_of
from llmos.data.reader import read_rows
from llmos.data.row import PairRow, Rows
from llmos.data.splits import key_of, leaks_of, make_splits
from llmos.tasks import Settings
from llmos.testing.errors import fails_with


def read(folder: Path, name: str, content: str, task: str, **how: object) -> Rows[Any]:
    path = folder / name
    path.write_text(content)
    return read_rows(str(path), Data(str(path), **how), task, {})  # type: ignore[arg-type]


def test_queries_documents_and_grades_are_found_by_name_or_order(tmp_path: Path) -> None:
    expected = [({"query": "q", "documents": ["d"]}, 1.0), ({"query": "q", "documents": ["e"]}, 0.0)]
    named = read(tmp_path, "a.csv", "id,document,query,label\n1,d,q,1\n2,e,q,0\n", "rerank")
    bare = read(tmp_path, "b.tsv", "q\td\t1\nq\te\t0\n", "rerank")
    lines = "\n".join(json.dumps({"question": "q", "passage": d, "relevance": g}) for d, g in (("d", 1), ("e", 0)))
    for rows in (named, bare, read(tmp_path, "c.jsonl", lines, "rerank")):
        assert [(row.input, row.score) for row in rows.rows] == expected
    assert "taken as query, document, label" in bare.note
    told = read(tmp_path, "d.csv", "x,y,z\n1,d,q\n0,e,q\n", "rerank", text="z,y", label="x", has_header=True)
    assert [(row.input, row.score) for row in told.rows] == expected
    assert told.columns == {"query": "z", "document": "y", "label": "x"}


def test_pairs_of_texts_are_read_with_their_scores(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", "sentence1,sentence2,score\na,b,4.5\nc,d,-1\n", "similarity")
    assert [(row.input, row.score) for row in rows.rows] == [
        ({"text": "a", "other": "b"}, 4.5),
        ({"text": "c", "other": "d"}, -1.0),
    ]


@pytest.mark.parametrize(
    ("task", "content", "line", "detail"),
    [
        ("rerank", "query,document,label\nq,d,good\n", 2, {"value": "'good'"}),
        ("rerank", "query,document,label\nq,d,nan\n", 2, {"value": "'nan'"}),
        ("rerank", "query,document,label\nq,d,-1\n", 2, {"value": "-1.0"}),
        ("rerank", "query,document,label\nq, ,1\n", 2, {"value": "' '"}),
        ("rerank", "query,label,more\nq,1,x\n", 1, {"column": "document", "value": ["query", "label", "more"]}),
        ("similarity", "text,label\na,1\n", 1, {"column": "other"}),
        ("similarity", "text,other,score\na,b,\n", 2, {"value": "''"}),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_where_it_stands(
    tmp_path: Path, task: str, content: str, line: int, detail: dict[str, object]
) -> None:
    with fails_with(BadRow, file=str(tmp_path / "rows.csv"), line=line, **detail):
        read(tmp_path, "rows.csv", content, task)


def test_columns_of_pairs_are_told_both_or_none(tmp_path: Path) -> None:
    with fails_with(BadInput, key="text", value="query", expected=["query", "document"]):
        read(tmp_path, "rows.csv", "query,document,label\nq,d,1\n", "rerank", text="query")
    with fails_with(BadInput, format="conll", task="rerank"):
        read(tmp_path, "rows.conll", "a O\n", "rerank")


def ranked(query: str, document: str, grade: float, line: int = 1) -> PairRow:
    return PairRow({"query": query, "documents": [document]}, grade, "rows.csv", line)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=60))
def test_a_query_s_documents_all_stand_in_one_split(pairs: list[tuple[int, int]]) -> None:
    sure = [(100 + i, i % 2) for i in range(30)]
    rows = [ranked(f"query {q}", f"document {i}", g, i) for i, (q, g) in enumerate([*pairs, *sure])]
    splits = make_splits("rerank", rows, None, None, (0.2, 0.2))
    queries = [{row.input["query"] for row in part} for part in splits.by_name().values()]
    assert all(not a & b for a, b in combinations(queries, 2))
    assert sum(map(len, splits.by_name().values())) == len(rows)
    assert (splits.labels, leaks_of(splits)) == (("relevance",), ())


def test_rows_that_all_have_one_number_teach_nothing() -> None:
    with fails_with(BadInput, reason="one_number"):
        make_splits("rerank", [ranked(f"q{i}", "d", 1.0) for i in range(40)], None, None, (0.1, 0.1))


def test_numbers_are_scaled_so_that_the_best_is_one() -> None:
    assert scale_of([ranked("q", "d", 3.0), ranked("q", "d", 0.0)]) == 3
    assert scale_of([PairRow({"text": "a", "other": "b"}, -0.5, "f", 1)]) == 1
    assert key_of(ranked("Q", "D", 1)) == "q | d"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"options": {"scale": 0}}, "scale"),
        ({"options": {"multi_label": True}}, "multi_label"),
        ({"class_weights": "balanced"}, "class_weights"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_settings_that_mean_nothing_for_pairs_are_refused(changes: dict[str, object], key: str) -> None:
    from llmos.abi.recipe import check

    with fails_with(BadSetting, key=key):
        check(Recipe("rerank", "n", "b:1", Data("/x"), **changes))  # type: ignore[arg-type]


GRADED = st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=2, max_size=15)


@pytest.mark.torch
@settings(deadline=None)  # the first example imports scikit-learn
@given(GRADED)
def test_ndcg_and_correlations_are_those_of_scikit_learn_and_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import ndcg_score

    from llmos.evaluation.families.pairs import correlation, ndcg, ranks

    grades, scores = (np.array(one, dtype=float) for one in zip(*pairs, strict=True))
    distinct = scores + np.arange(len(scores)) / 100  # without ties, on which the two differ knowingly
    if grades.max() > 0:
        assert ndcg(grades, distinct) == pytest.approx(ndcg_score([grades], [distinct], k=10))
    if len(set(grades)) > 1 and len(set(scores)) > 1:
        assert correlation(grades, scores) == pytest.approx(pearsonr(grades, scores)[0], abs=1e-9)
        assert correlation(ranks(grades), ranks(scores)) == pytest.approx(spearmanr(grades, scores)[0], abs=1e-9)
    else:
        assert correlation(grades, scores) == 0


@pytest.mark.torch
def test_a_ranking_is_judged_by_query_and_ties_count_against_it() -> None:
    from llmos.evaluation.families.pairs import PairPrediction
    from llmos.evaluation.metrics import judge, primary_metric

    rows = [ranked("a", "right", 1), ranked("a", "wrong", 0), ranked("b", "wrong", 0), ranked("b", "right", 1)]
    rows.append(ranked("c", "nothing fits", 0))
    given_scores = [PairPrediction(float(np.float32(s))) for s in (0.9, 0.2, 0.7, 0.6, 0.1)]
    judged = judge("rerank", rows, given_scores, Settings(("relevance",)))
    second = 1 / np.log2(3)
    assert judged.metrics["ndcg_at_10"] == primary_metric("rerank", rows, given_scores, Settings()) == (1 + second) / 2
    assert (judged.metrics["mrr"], judged.metrics["accuracy"], judged.metrics["queries"]) == (0.75, 0.8, 2)
    assert [(one.text, one.expected, one.given) for one in judged.mistakes] == [("b", "right", "wrong")]
    same = [PairPrediction(0.5) for _ in rows]
    assert primary_metric("rerank", rows, same, Settings()) == second


def answering(folder: Path, rows: int = 160) -> Path:
    """Queries with four documents each, of which those that name a fruit are right."""
    chance = random.Random(3)
    lines = ["query,document,label"]
    for i in range(rows):
        kind = chance.choice(["fruit", "metal"])
        lines.append(f"Q{i // 4},{chance.choice(tiny_training.SIGNS[kind])} {i},{int(kind == 'fruit')}")
    path = folder / "answering.csv"
    path.write_text("\n".join(lines))
    return path


def comparing(folder: Path, rows: int = 120) -> Path:
    """Pairs that score 5 where both texts are of one kind."""
    chance = random.Random(3)
    lines = ["text,other,score"]
    for i in range(rows):
        one, other = (chance.choice(sorted(tiny_training.SIGNS)) for _ in range(2))
        words = (chance.choice(tiny_training.SIGNS[kind]) for kind in (one, other))
        lines.append(f"{' '.join(words).replace(' ', f' {i},')} {i},{5 if one == other else 0}")
    path = folder / "comparing.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.torch
@pytest.mark.parametrize(
    ("task", "method", "dtype"),
    [("rerank", "full", "float32"), ("rerank", "lora", "bfloat16"), ("similarity", "lora", "float32")],
    indirect=["dtype"],
)
def test_pairs_become_a_model_that_has_learned_them_and_answers(
    tmp_path: Path, task: str, method: str, dtype: str
) -> None:
    from test_trainer import located, trained

    from llmos.abi.call import Call
    from llmos.abi.model import Part
    from llmos.engines import driver

    path = answering(tmp_path) if task == "rerank" else comparing(tmp_path)
    epochs = 6.0 if task == "rerank" else 12.0
    recipe = {"task": task, "method": method, "epochs": epochs, "data": {"train": str(path)}}
    dataset, model = trained(tmp_path, recipe, dtype=dtype).offers
    assert model.verdict is not None
    assert model.verdict.promote
    metrics = model.draft["evidence"]["metrics"]
    assert next(iter(metrics)) == ("ndcg_at_10" if task == "rerank" else "spearman")
    assert model.draft["options"]["scale"] == (1 if task == "rerank" else 5)
    assert (Part.HEAD in {part for _, part in model.files}) == (task == "rerank")
    assert dataset.draft["labels"] == (["relevance"] if task == "rerank" else [])
    page = (Path(model.folder) / "report.html").read_text()
    assert "By label" not in page
    base = tiny_training.base(tmp_path)
    engine = driver("pytorch")
    engine.load(base, "cpu0", dtype, 1)
    engine.attach(located(model, base))
    if task == "rerank":
        asked = {"query": "F900", "documents": ["iron", "pear", "pig"]}
        engine.add(Call(1, "sorter:1", "rerank", (asked,)))
        (chunk,) = engine.step()
        assert chunk.outputs[0][0].keys() == {"index", "score"}
        assert metrics["accuracy"] > 0.8
    else:
        near = {"text": "apple 900", "other": "pear 901"}
        far = {"text": "apple 900", "other": "iron 901"}
        engine.add(Call(1, "sorter:1", "similarity", (near, far)))
        (chunk,) = engine.step()
        assert chunk.outputs[0]["score"] > chunk.outputs[1]["score"]
        assert metrics["spearman"] > 0.5
        engine.add(Call(2, "sorter:1", "rerank", ({"query": "apple", "documents": ["iron", "pear"]},)))
        (chunk,) = engine.step()
        assert {one["index"] for one in chunk.outputs[0]} == {0, 1}


@pytest.mark.torch
@pytest.mark.parametrize("task", ["rerank", "similarity"])
def test_a_kept_dataset_of_pairs_is_read_back_the_same(tmp_path: Path, task: str) -> None:
    from llmos.data.dataset import gather, keep

    path = answering(tmp_path) if task == "rerank" else comparing(tmp_path)
    data = gather(Data(str(path)), task, {}, {})
    keep(data, task, tmp_path / "kept")
    again = gather(Data("pairs@1"), task, {}, {"pairs@1": str(tmp_path / "kept")})
    assert again.digest() == data.digest()


@pytest.mark.torch
@pytest.mark.parametrize("task", ["rerank", "similarity"])
def test_a_batch_of_pairs_in_many_passes_is_the_batch_in_one(tmp_path: Path, task: str, dtype: str) -> None:
    import torch

    from llmos.data.dataset import gather
    from llmos.training.candidate import begin
    from llmos.training.examples import make_examples, passes
    from llmos.training.objectives import loss_of

    path = answering(tmp_path, 24) if task == "rerank" else comparing(tmp_path, 24)
    recipe = Recipe(task, "n", "tiny:1", Data(str(path)), method="full")
    data = gather(recipe.data, task, {}, {})
    candidate = begin(tiny_training.base(tmp_path), recipe, len(data.splits.labels), dtype, "cpu0")
    candidate.train(False)
    told = Settings(data.splits.labels, {"scale": 5.0}, candidate.loaded.max_tokens)
    examples = make_examples(task, data.splits.train, candidate.loaded.tokenizer, told)
    loss = loss_of(recipe, 1)
    sizes = [one.size for one in examples]
    sums = []
    for budget in (1, 100_000):
        parts = [[examples[i] for i in part] for part in passes(range(len(examples)), sizes, budget)]
        given_by = [candidate.logits([ids for one in part for ids in one.sequences]) for part in parts]
        sums.append(sum(float(loss(g, part).detach()) for g, part in zip(given_by, parts, strict=True)))
    assert sums[0] == pytest.approx(sums[1], rel=tiny_training.RELATIVE[dtype])
    assert torch.is_grad_enabled()
