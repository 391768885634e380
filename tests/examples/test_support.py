"""The example rows keep their promises: counts, labels, and a test split that shares no template with training."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from llmos.suites.plan import plan_of
from llmos.suites.reading import load_suite

SUPPORT = Path(__file__).parents[2] / "examples" / "support"
SPLITS = ("train", "validation", "test")
LABELS = {"ORDER", "PRODUCT", "DATE", "AMOUNT", "PERSON"}


def loaded():
    spec = importlib.util.spec_from_file_location("baseline", SUPPORT / "baseline.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


baseline = loaded()
MESSAGES = {split: list(zip(*baseline.intents(split), strict=True)) for split in SPLITS}
SENTENCES = {split: baseline.entities(split) for split in SPLITS}


def skeleton(text):
    """A message less case, signs and figures: what a template would leave."""
    return " ".join(re.findall(r"[a-z']+", re.sub(r"\d+(?:st|nd|rd|th)?", " ", text.lower())))


def frame(sentence):
    """A tagged sentence with each entity replaced by its label: the template it was filled from."""
    return " ".join(tag[2:] if tag[0] == "B" else word.lower() for word, tag in sentence if tag[0] != "I")


def fillers(split, label):
    """All entities of a label in a split, as lower-case text."""
    found = set()
    for sentence in SENTENCES[split]:
        text = " ".join(
            f"<{word.lower()}" if tag == f"B-{label}" else word.lower() for word, tag in sentence if tag[2:] == label
        )
        found |= {piece.strip() for piece in text.split("<") if piece.strip()}
    return found


def test_there_are_600_messages_over_12_intents_with_every_intent_in_every_split():
    assert sum(map(len, MESSAGES.values())) >= 600
    counts = {split: Counter(label for _, label in rows) for split, rows in MESSAGES.items()}
    assert len(counts["train"]) == 12
    assert set(counts["train"]) == set(counts["validation"]) == set(counts["test"])
    assert min(counts["test"].values()) >= 12


def test_no_two_messages_have_the_same_skeleton():
    skeletons = Counter(skeleton(text) for rows in MESSAGES.values() for text, _ in rows)
    assert [text for text, count in skeletons.items() if count > 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_message_to_measure_by_is_a_training_message_with_other_words_in_it(split):
    train = [skeleton(text).split() for text, _ in MESSAGES["train"]]
    close = [
        (text, " ".join(other))
        for text, _ in MESSAGES[split]
        for other in train
        if len(other) >= 4 and SequenceMatcher(None, skeleton(text).split(), other, autojunk=False).ratio() > 0.8
    ]
    assert close == []


def test_there_are_400_tagged_sentences_with_every_label_in_every_split():
    assert sum(map(len, SENTENCES.values())) >= 400
    for sentences in SENTENCES.values():
        assert {tag[2:] for sentence in sentences for _, tag in sentence if tag != "O"} == LABELS


@pytest.mark.parametrize("split", SPLITS)
def test_tags_are_iob2(split):
    for sentence in SENTENCES[split]:
        before = "O"
        for word, tag in sentence:
            assert word
            assert re.fullmatch(r"O|[BI]-[A-Z]+", tag)
            assert tag[0] != "I" or before[2:] == tag[2:], (sentence, "an entity starts with I")
            before = tag


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_no_sentence_frame_occurs_in_two_splits(one, other):
    assert not {frame(s) for s in SENTENCES[one]} & {frame(s) for s in SENTENCES[other]}


def test_no_sentence_occurs_twice():
    sentences = [tuple(word for word, _ in sentence) for split in SENTENCES.values() for sentence in split]
    assert len(sentences) == len(set(sentences))


@pytest.mark.parametrize("label", ["PERSON", "PRODUCT", "ORDER"])
def test_the_test_split_names_persons_products_and_orders_of_its_own(label):
    assert not fillers("train", label) & fillers("test", label)


def test_most_amounts_of_the_test_split_are_of_its_own():
    assert len(fillers("test", "AMOUNT") - fillers("train", "AMOUNT")) > 0.9 * len(fillers("test", "AMOUNT"))


@pytest.mark.slow
def test_the_baseline_needs_no_package_that_llmos_does_not_need_itself():
    """`make demo` runs it in an environment without what only tests have."""
    tree = ast.parse((SUPPORT / "baseline.py").read_text(encoding="utf-8"))
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    named |= {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    assert {name.partition(".")[0] for name in named} - sys.stdlib_module_names == {"llmos", "sklearn"}


def test_the_baseline_prints_its_scores_as_numbers_for_the_demo():
    ran = subprocess.run(
        [sys.executable, SUPPORT / "baseline.py", "--json"], capture_output=True, text=True, check=True
    )
    scores = json.loads(ran.stdout)
    assert set(scores) == {"classify", "tag"}
    assert all(0.2 < score < 0.8 for score in scores.values()), "neither hopeless nor already solved"


@pytest.mark.parametrize(
    ("name", "labels"),
    [("intents", {label for _, label in MESSAGES["train"]}), ("entities", {f"B-{label}" for label in LABELS})],
)
def test_the_suites_name_labels_of_the_rows_and_ask_little(name, labels):
    suite = load_suite(SUPPORT / f"{name}.suite.yaml")
    suite.check_labels(sorted(labels))
    plan = plan_of(suite)
    assert {case.test.name for case in plan.cases} == {test.name for test in suite.tests}
    assert len(plan.inputs) <= 512


def test_every_intent_has_a_test_of_its_own():
    suite = load_suite(SUPPORT / "intents.suite.yaml")
    expected = {label for test in suite.tests if test.expectation for label in test.expectation.exactly}
    assert expected == {label for _, label in MESSAGES["train"]}
