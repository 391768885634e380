"""What is typed at a row: commands, suggestions by number, labels by their beginning, spans of words."""

import pytest

from llmos.abi.error import BadInput
from llmos.cli.typed_label import COMMANDS, read_typed
from llmos.testing.errors import fails_with

LABELS = ["refund", "repair", "shipping"]
SUGGESTED = ["shipping", "refund"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("", "shipping"),
        ("2", "refund"),
        ("repair", "repair"),
        (" Rep ", "repair"),
        ("+lost", "lost"),
        ("ship", "shipping"),
    ],
)
def test_a_label_is_a_suggestion_a_name_a_beginning_or_new(line, value):
    assert read_typed(line, LABELS, SUGGESTED).value == value


def test_a_label_that_is_a_number_goes_before_a_suggestions_number():
    assert read_typed("1", ["0", "1"], ["0", "1"]).value == "1"


def test_where_labels_are_numbers_a_number_is_no_suggestions_number():
    with fails_with(BadInput, key="value"):
        read_typed("2", ["0", "1"], ["0", "1"])


def test_yes_is_the_first_suggestion_and_no_the_other_of_two_labels():
    two = ["spam", "ham"]
    assert [read_typed(line, two, ["ham", "spam"]).value for line in ("y", "Yes", "n", "no")] == [
        "ham",
        "ham",
        "spam",
        "spam",
    ]
    assert read_typed("y", LABELS, SUGGESTED).value == "shipping"
    assert read_typed("n", ["never", "always"], ["always"]).value == "never", "a label that begins so goes first"
    for labels, suggested in ((LABELS, SUGGESTED), (two, []), (["ham"], ["ham"])):
        with fails_with(BadInput, key="value"):
            read_typed("n", labels, suggested)


@pytest.mark.parametrize(
    ("line", "key"), [("re", "value"), ("nonsense", "value"), ("9", "value"), ("+", "value"), ("/x", "command")]
)
def test_what_means_nothing_is_refused_and_nothing_is_answered(line, key):
    with fails_with(BadInput, key=key):
        read_typed(line, LABELS, SUGGESTED)


def test_enter_takes_no_suggestion_where_there_is_none():
    with fails_with(BadInput, key="value"):
        read_typed("", LABELS, [])


def test_several_labels_stand_with_commas_between():
    assert read_typed("ref, +new", LABELS, [["repair"], ["refund"]], is_many=True).value == ["refund", "new"]
    assert read_typed("", LABELS, [["repair"]], is_many=True).value == ["repair"]


@pytest.mark.parametrize(("line", "name"), [(f"/{key} some text", name) for key, name in COMMANDS.items()])
def test_a_slash_begins_a_command(line, name):
    typed = read_typed(line, LABELS, SUGGESTED)
    assert (typed.command, typed.text) == (name, "some text")


def test_spans_are_first_and_last_word_and_label():
    kinds = ["LOC", "ORG", "PER"]
    assert read_typed("3-4 LOC, 0 PER", kinds, [], words=5).value == [[3, 5, "LOC"], [0, 1, "PER"]]
    assert read_typed("3-4 lo,0 +Boat", kinds, [], words=5).value == [[3, 5, "LOC"], [0, 1, "Boat"]]
    assert read_typed("-", [], [], words=5).value == []
    assert read_typed("", [], [[[0, 1, "PER"]]], words=5).value == [[0, 1, "PER"]]


@pytest.mark.parametrize("line", ["PER", "4-3 PER", "5 PER", "0-1 PER, 1 LOC", "0 ", "0 ship"])
def test_spans_outside_of_the_words_or_over_others_are_refused(line):
    with fails_with(BadInput, key="value"):
        read_typed(line, ["LOC", "PER"], [], words=5)
