"""What a run decides before and after training: splits, defaults, batches, rates."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadRow, BadSetting
from llmos.abi.recipe import Data, Lora, Recipe, check
from llmos.data.families import labels, tags
from llmos.data.row import LabelRow, TagRow
from llmos.data.splits import key_of, leaks_of, make_splits
from llmos.tasks import Settings
from llmos.testing.errors import fails_with
from llmos.testing.tokenizer import PieceTokenizer
from llmos.training.examples import batches, make_examples, passes
from llmos.training.recipe import resolve


def row(text: str, label: str | tuple[str, ...], line: int = 1) -> LabelRow:
    is_multi = isinstance(label, tuple)
    return LabelRow({"text": text}, label if isinstance(label, tuple) else (label,), "rows.csv", line, is_multi)


def tagged(*tags: str, tokens: tuple[str, ...] = ("a",)) -> TagRow:
    return TagRow({"tokens": list(tokens)}, tags, "f", 1)


def recipe(**changes: object) -> Recipe:
    return Recipe(**{"task": "classify", "name": "n", "base": "b:1", "data": Data("/x"), "method": "full", **changes})  # type: ignore[arg-type]


ROWS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abc")), max_size=80)


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_splits_hold_every_row_once_share_no_text_and_come_again(pairs: list[tuple[int, str]], chance: Random) -> None:
    alone = [(100 + i, "abc"[i % 3]) for i in range(30)]
    rows = [row(f"text {n}", label, i) for i, (n, label) in enumerate([*pairs, *alone])]
    splits = make_splits("classify", rows, None, None, (0.2, 0.2))
    parts = list(splits.by_name().values())
    assert sorted(r.line for part in parts for r in part) == [r.line for r in rows]
    assert all(parts)
    assert leaks_of(splits) == ()
    assert set(splits.labels) == {"a", "b", "c"}
    again = list(rows)
    chance.shuffle(again)
    shuffled = make_splits("classify", again, None, None, (0.2, 0.2))
    if len({key_of(r) for r in rows}) == len(rows):  # where equal texts have several labels, the first row decides
        assert [sorted(part, key=lambda r: r.line) for part in shuffled.by_name().values()] == [
            sorted(part, key=lambda r: r.line) for part in parts
        ]


LABELLED = st.lists(st.sampled_from("abcd"), min_size=40, max_size=160)


@pytest.mark.slow
@settings(deadline=None)
@given(LABELLED, st.lists(st.sampled_from("abcd"), max_size=60))
def test_a_file_that_grows_moves_no_more_rows_into_its_test_split_than_it_grows_by(old: str, new: str) -> None:
    base = [row(f"base {i} {label}", label) for label in "abcd" for i in range(2)]
    before = base + [row(f"text {i}", label, i) for i, label in enumerate(old)]
    after = before + [row(f"more {i}", label, i) for i, label in enumerate(new)]
    was = make_splits("classify", before, None, None, (0.1, 0.1))
    now = make_splits("classify", after, None, None, (0.1, 0.1))
    moved = {key_of(r) for r in was.train} & {key_of(r) for r in now.test}
    assert len(moved) <= 0.1 * len(new) + 2 * 4


SETS = st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=3).map(lambda s: tuple(sorted(s))), max_size=60)


@settings(deadline=None)
@given(SETS)
def test_no_label_loses_its_last_row_to_train_on(sets: list[tuple[str, ...]]) -> None:
    plain = [row(f"plain {i}", ("x", "y")[i % 2 : i % 2 + 1]) for i in range(20)]
    rows = plain + [row(f"text {i}", labels) for i, labels in enumerate(sets)]
    splits = make_splits("classify", rows, None, None, (0.3, 0.3))
    assert set(splits.labels) == {label for r in rows for label in r.labels}
    assert set(splits.labels) == {label for r in splits.train for label in r.kinds}


def test_every_label_has_its_share_in_every_split() -> None:
    rows = [row(f"text {i}", "rare" if i % 10 == 0 else "often", i) for i in range(400)]
    splits = make_splits("classify", rows, None, None, (0.1, 0.1))
    for part in (splits.validation, splits.test):
        assert Counter(kind for r in part for kind in r.kinds) == {"often": 36, "rare": 4}


def test_a_given_split_is_left_as_it_is() -> None:
    rows = [row(f"text {i}", "ab"[i % 2], i) for i in range(40)]
    test = [row("other", "a")]
    splits = make_splits("classify", rows, None, test, (0.1, 0.1))
    assert splits.test == tuple(test)
    assert (len(splits.train), len(splits.validation)) == (36, 4)


def test_too_few_rows_and_single_labels_are_refused() -> None:
    with fails_with(BadInput, reason="too_few_rows", split=...):
        make_splits("classify", [row("x", "a"), row("y", "b")], None, None, (0.1, 0.1))
    with fails_with(BadInput, reason="one_label"):
        labels.labels_of("classify", [row("x", "a")])
    with fails_with(BadInput, reason="no_tags"):
        tags.labels_of("tag", [tagged("O")])


def test_labels_stand_in_an_order_a_reader_expects() -> None:
    assert labels.labels_of("classify", [row("x", "10"), row("y", "9")]) == ("9", "10")
    assert tags.labels_of("tag", [tagged("I-PER")]) == ("O", "B-PER", "I-PER")
    assert labels.labels_of("classify", [row("x", ("b", "a")), row("y", ())]) == ("a", "b")


def test_a_label_that_training_has_not_seen_is_named_where_it_stands() -> None:
    train = [row("x", "a"), row("y", "b")]
    with fails_with(BadRow, file="rows.csv", line=9, value="'c'", expected=["a", "b"]):
        make_splits("classify", train, [row("z", "a")], [row("w", "c", 9)], (0.1, 0.1))


def test_leakage_is_counted_whatever_case_width_and_spaces() -> None:
    train = [row("Hello  World", "a"), row("other", "b")]
    splits = make_splits("classify", train, [row("new", "a")], [row("hello ｗorld", "a"), row("y", "b")], (0.1, 0.1))
    (leak,) = leaks_of(splits)
    assert (leak.seen_in, leak.again_in, leak.count, leak.share) == ("train", "test", 1, 0.5)
    assert "'hello world'" in str(leak)
    assert key_of(train[0]) == "hello world"


def test_what_was_left_open_is_decided_by_rule() -> None:
    tag = resolve(recipe(task="tag"), rows=14_041, labels=9)
    assert (tag.epochs, tag.learning_rate, tag.batch_size, tag.head_rate_ratio) == (3, 2e-4, 16, 10)
    two = resolve(recipe(), rows=6_920, labels=2)
    assert (two.epochs, two.learning_rate, two.batch_size, two.options["pooling"]) == (4, 1e-4, 32, "mean")
    many = resolve(recipe(), rows=9_003, labels=77)
    assert (many.epochs, many.learning_rate, many.batch_size) == (6, 3e-4, 32)
    few = resolve(recipe(), rows=480, labels=12)
    assert few.epochs == 27
    assert resolve(recipe(epochs=1.5, learning_rate=1e-3), rows=480, labels=2).epochs == 1.5
    assert resolve(recipe(method="lora"), rows=9_003, labels=77).learning_rate == 2e-3
    writer = resolve(recipe(task="generate", base="smollm2", method="lora"), rows=240, labels=0)
    assert (writer.epochs, writer.learning_rate, writer.batch_size, writer.token_budget) == (4, 1.5e-3, 16, 1024)
    assert resolve(recipe(task="chat", base="smollm2"), rows=2_000, labels=0).learning_rate == 1.5e-4


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"task": "embed"}, "task"),
        ({"method": "qlora"}, "method"),
        ({"epochs": 0.0}, "epochs"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"schedule": "step"}, "schedule"),
        ({"label_smoothing": 1.5}, "label_smoothing"),
        ({"lora": Lora(rank=0)}, "lora.rank"),
        ({"options": {"poling": "mean"}}, "options"),
        ({"options": {"pooling": "sum"}}, "pooling"),
        ({"options": {"multi_label": True}, "class_weights": "balanced"}, "class_weights"),
        ({"options": {"abstain": 1.5}}, "abstain"),
        ({"options": {"precision": True}}, "precision"),
        ({"options": {"abstain": 0.05, "precision": 0.9}}, "precision"),
        ({"options": {"abstain": 0.05}, "task": "tag"}, "abstain"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: dict[str, object], key: str) -> None:
    with fails_with(BadSetting, key=key):
        check(recipe(**changes))


def test_a_recipe_as_it_comes_is_fine() -> None:
    check(recipe())
    check(resolve(recipe(method="lora", task="tag"), 100, 5))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200), st.integers(1, 20), st.integers(0, 3))
def test_an_epoch_has_every_example_once_and_the_same_order_again(lengths: list[int], size: int, epoch: int) -> None:
    made = batches(lengths, size, 7, epoch)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    assert len(made) == -(-len(lengths) // size)
    assert batches(lengths, size, 7, epoch) == made


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 100))
def test_passes_keep_the_token_budget(lengths: list[int], budget: int) -> None:
    parts = list(passes(range(len(lengths)), lengths, budget))
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    assert all(len(part) == 1 or sum(lengths[i] for i in part) <= budget for part in parts)


def test_a_row_too_long_for_the_model_is_named_unless_it_may_be_cut() -> None:
    rows = [row("short", "a", 1), row("long " * 40, "a", 2)]
    with fails_with(BadRow, line=2, size=42, limit=16):
        make_examples("classify", rows, PieceTokenizer(), Settings(("a",), {}, 16))
    cut = make_examples("classify", rows, PieceTokenizer(), Settings(("a",), {"truncate": True}, 16))
    assert [len(one.ids) for one in cut] == [4, 16]


def test_a_word_s_first_token_carries_its_tag() -> None:
    words = tagged("B-PER", "O", "B-LOC", tokens=("Lovelace", "in", "London"))
    (one,) = make_examples("tag", [words], PieceTokenizer(), Settings(("O", "B-LOC", "B-PER"), {}, 16))
    assert one.target.labels == [-100, 2, -100, 0, 1, -100, -100]
