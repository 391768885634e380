"""A suite is read from YAML alone, and what is wrong in one is said with its line and what to write instead."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, BadSuite, LlmosError
from llmos.data.noise import NOISES
from llmos.data.yaml_source import Fields, Items, Scalar, YamlSource, parse
from llmos.suites.draft import quote
from llmos.suites.reading import load_suite, read_suite
from llmos.suites.suite import TestKind as Kind

HEAD = "suite: mine\ntask: {}\ntests:\n  - test: one\n    "


def suite(body, task="classify"):
    return read_suite(HEAD.format(task) + body.replace("\n", "\n    "), "my.suite.yaml")


def refusal(text):
    with pytest.raises(BadSuite) as caught:
        read_suite(text, "my.suite.yaml")
    return caught.value


def message_of(text):
    try:
        read_suite(text, "x.yaml")
    except LlmosError as error:
        return error.message
    return None


def test_a_suite_has_its_tests_with_their_kinds_lines_and_limits():
    read = read_suite(
        """
suite: support
task: classify
model: support
seed: 3
max_failures: 5%
lexicons:
  item: [kettle, lamp, kettle]
tests:
  - test: minimum
    texts: ["My {item} is broken", "{name} wants {item2}"]
    expect: {one_of: [no, 1]}
  - test: same
    about: A person reads it.
    texts: "My {item} is broken"
    unchanged_by: [typo: 0.3, case, lexicon: item]
    max_failures: 0
    variants: 2
  - test: moves
    texts: ["My {item} is broken"]
    changed_by: {append: " Refund me."}
    rises: {refund: 0.2}
    falls: other
""",
        "x.yaml",
    )
    minimum, same, moves = read.tests
    assert (read.name, read.model, read.seed) == ("support", "support", 3)
    assert read.lexicons["item"] == ("kettle", "lamp")
    assert [one.kind for one in read.tests] == [Kind.MINIMUM, Kind.INVARIANCE, Kind.DIRECTION]
    assert minimum.expectation.one_of == ("no", "1")
    assert (minimum.max_failures, same.max_failures, same.line, same.variants) == (0.05, 0.0, 13, 2)
    assert [one.what for one in same.changes] == ["typo 30%", "case", "another item"]
    assert [(one.label, one.least, one.is_rise) for one in moves.moves] == [
        ("refund", 0.2, True),
        ("other", 0.01, False),
    ]


@pytest.mark.parametrize(
    ("body", "line", "what", "write"),
    [
        ("texts:\n  - {name} wants a refund\nexpect: a", 6, "begins with {", "'{name} wants a refund'"),
        ("texts:\n  - {name}\nexpect: a", 6, "is a mapping", "'{name}'"),
        ("texts:\n  - Hello: I want it\nexpect: a", 6, "a colon begins one", "'Hello: I want it'"),
        ("texts:\n  - Hello: I want: it\nexpect: a", 6, "a colon or a #", "'Hello: I want: it'"),
        ('texts:\n  - "{name}" wants it\nexpect: a', 6, "do not hold the whole", "'{name} wants it'"),
        ("texts: ['{nam} x']\nexpect: a", 5, "{nam}", "{name}"),
        ("texts: ['x']\nunchanged_by: [tpyo]", 6, "'tpyo'", "typo"),
        ("texts: ['x']\nunchanged_by: [name: 0.3]", 6, "no more or less of name", "name alone"),
        ("texts: ['x']\nunchanged_by: [typo: 7]", 6, "'7'", "a number from 0 to 1"),
        ("texts: ['x']\nunchanged_by: [typo]\nrises: a", 4, "two kinds", "unchanged_by, or changed_by"),
        ("texts: ['x']\nchanged_by: [append: y]", 4, "neither rises nor falls", "rises: {LABEL: 0.1}"),
        ("texts: ['x']\nrises: a", 4, "no changed_by", "changed_by: [append: TEXT]"),
        ("texts: ['x']", 4, "expects nothing", "expect, unchanged_by"),
        ("expect: a", 4, "no texts", "texts:"),
        ("texts: []\nexpect: a", 5, "empty list", "texts:"),
        ("texts: ['x', 'y']\nmax_texts: 1\nexpect: a", 4, "has 2 texts", "max_texts: 2"),
        ("texts: ['x']\nexpects: a", 6, "did you mean expect?", "one of test"),
        ("texts: ['x']\nexpect: {at_least: 0.3}", 6, "names no label", "expect: LABEL"),
        ("texts: ['x']\nexpect: {one_of: a, at_least: 0.3}", 6, "no label", "label: LABEL"),
        ("texts: ['x']\nunchanged_by: [lexicon: nam]", 6, "'nam'", "name"),
        ("texts: ['x']\nunchanged_by: [replace: [a]]", 6, "no old and new", "replace: {OLD: NEW}"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_what_to_write(body, line, what, write):
    error = refusal(HEAD.format("classify") + body.replace("\n", "\n    "))
    assert error.message.startswith(f"my.suite.yaml, line {line}: ")
    said, _, way_out = error.message.partition(". Write: ")
    assert what in said
    assert write in way_out
    assert error.detail == {"file": "my.suite.yaml", "line": line}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "empty"),
        ("suite: x\ntask: clasify\ntests: []", 2, "'clasify'"),
        ("suite: x\ntask: embed\ntests: []", 2, "embed gives none"),
        ("suite: x\nsuite: y", 2, "twice"),
        ("suite: x\ntests: []", 1, "no key 'task'"),
        ("suite: x\ntask: classify\ntests:\n\t- test: a", 4, "tab"),
        ("suite: &a x\ntask: *a", 1, "anchors"),
        ("suite: !!python/object/apply:os.system [x]", 1, "the tag"),
        ("suite: 'x\ntask: classify", 1, "not closed"),
        ("suite: x\x07", 1, "does not allow"),
        ("suite: x\n---\nsuite: y", 2, "second document"),
        ("suite: " + "[" * 50 + "]" * 50, 1, "deep"),
        ("? [a]\n: b", 1, "a key is a list"),
        ("- suite", 1, "a list where keys"),
    ],
)
def test_a_file_that_is_no_suite_says_why(text, line, what):
    error = refusal(text)
    assert error.message.startswith(f"my.suite.yaml, line {line}: ")
    assert what in error.message


def test_the_sentence_says_which_two_things_do_not_go_together():
    again = "\n- test: one\n  texts: ['y']\n  expect: a"
    with pytest.raises(BadSuite, match=r"line 7: a test of line 4 has this name"):
        read_suite(HEAD.format("classify") + "texts: ['x']\n    expect: a" + again.replace("\n", "\n  "), "x.yaml")
    with pytest.raises(BadSuite, match=r"line 6: .* no marked spans"):
        suite("texts: ['Olga paid']\nexpect: marked", "tag")
    with pytest.raises(BadSuite, match="tag gives labels no scores"):
        suite("texts: ['Olga paid']\nchanged_by: [append: x]\nrises: PERSON", "tag")
    with pytest.raises(BadSuite, match="an input of answer is more than a text"):
        suite("texts: ['who?']\nexpect: x", "answer")
    with pytest.raises(BadSuite, match="no question"):
        suite("inputs:\n  - passage: x\nexpect: x", "answer")
    with pytest.raises(BadSuite, match=r"the slot \{place\}, which no text has"):
        suite("texts: ['{name}']\nexpect: {contains: '{place}'}", "generate")
    with pytest.raises(BadSuite, match="no regular expression"):
        suite("texts: ['x']\nexpect: {matches: '('}", "generate")


def test_the_sentence_names_the_test_whose_label_the_model_does_not_have():
    read = suite("texts: ['x']\nexpect: {not: [refnd]}")
    read.check_labels(())
    read.check_labels(("refnd",))
    with pytest.raises(BadSuite, match=r"line 4: 'one' names the label 'refnd'.*Write: refund"):
        read.check_labels(("refund", "other"))
    tags = suite("texts: ['[Olga](PERSO) paid']\nexpect: marked", "tag")
    with pytest.raises(BadSuite, match="'PERSO'"):
        tags.check_labels(("O", "B-PERSON", "I-PERSON"))


def test_a_file_that_is_not_there_or_no_utf8_is_refused(tmp_path):
    with pytest.raises(BadInput):
        load_suite(tmp_path / "no.yaml")
    (tmp_path / "x.yaml").write_bytes(b"suite: caf\xe9")
    with pytest.raises(BadSuite) as caught:
        load_suite(tmp_path / "x.yaml")
    assert caught.value.detail == {"file": str(tmp_path / "x.yaml"), "line": 1}


PRINTABLE = st.characters(exclude_categories=("Cs",), exclude_characters="\x00")


@given(st.text(PRINTABLE, min_size=1, max_size=30).filter(str.strip))
def test_any_text_that_is_quoted_reads_as_itself(text):
    read = parse(f"key: {quote(text)}\n", YamlSource("x"))
    assert isinstance(read, Fields)
    assert read.of["key"] == Scalar(text, 1, is_quoted=quote(text)[0] == '"')


@given(st.text(max_size=80), st.sampled_from(["", "suite: x\n", "suite: x\ntask: classify\ntests:\n  - test: a\n    "]))
def test_no_text_ends_in_anything_but_a_suite_or_an_error_with_its_line(text, head):
    said = message_of(head + text)
    assert said is None or re.match(r"x\.yaml, line \d+: .+ Write: .+", said, re.DOTALL)


def test_values_stay_the_text_that_is_written():
    read = parse("a: no\nb: 1.0\nc: ~\nd: [yes, 'x']\n", YamlSource("x"))
    assert [read.of[key].text for key in "abc"] == ["no", "1.0", "~"]
    assert isinstance(read.of["d"], Items)
    assert [one.text for one in read.of["d"].of] == ["yes", "x"]


def test_every_noise_can_be_named():
    for noise in NOISES:
        assert suite(f"texts: ['x']\nunchanged_by: {noise}").tests[0].changes[0].noise == noise
