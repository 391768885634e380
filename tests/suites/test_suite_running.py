"""A suite is filled, changed and judged: the same for the same seed, and each failure is shown with what was given."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadSuite
from llmos.suites.junit import describe_failures, junit_xml
from llmos.suites.page import page, section
from llmos.suites.plan import plan_of
from llmos.suites.reading import read_suite
from llmos.suites.result import run_plan
from llmos.suites.templates import MarkedSpan, fill_marked, fill_text, fills_of, seeded_rng, slots_of

HEAD = "suite: mine\ntask: {}\nlexicons: {{item: [kettle, lamp, mug]}}\ntests:\n  - test: one\n    "


def suite(body, task="classify"):
    return read_suite(HEAD.format(task) + body.replace("\n", "\n    "), "my.suite.yaml")


def outcome(body, answer, task="classify"):
    (test,) = run_plan(plan_of(suite(body, task)), lambda inputs: [answer(one) for one in inputs], "m:1").tests
    return test


def labelled(**scores):
    best = max(scores, key=scores.get)
    return {"label": best, "score": scores[best], "scores": scores}


# ── Templates ──


def test_slots_are_filled_and_doubled_braces_are_braces():
    values = {"name": "Olga", "name2": "Ivan"}
    assert slots_of(["{name} and {name2}", "{name} {{x}}"]) == ["name", "name2"]
    assert fill_text('{name} wrote {{"a": {name2}}} {', values) == 'Olga wrote {"a": Ivan} {'


def test_marked_spans_lie_where_the_filled_text_has_them():
    text, spans = fill_marked("Hi [{name}](PERSON), [rice cooker](PRODUCT)!", {"name": "Li [x](Y)"})
    assert text == "Hi Li [x](Y), rice cooker!"
    assert spans == (MarkedSpan("PERSON", 3, 12), MarkedSpan("PRODUCT", 14, 25))
    assert [text[one.start : one.end] for one in spans] == ["Li [x](Y)", "rice cooker"]


@given(st.integers(1, 40), st.integers(0, 5), st.integers(2, 9))
def test_fills_are_bounded_different_and_the_same_for_a_seed(most, seed, size):
    lexicons = {"a": tuple(f"a{i}" for i in range(size)), "b": ("x", "y")}
    fills = fills_of(["a", "a2", "b"], lexicons, most, seeded_rng(seed))
    assert fills == fills_of(["a", "a2", "b"], lexicons, most, seeded_rng(seed))
    assert len(fills) == min(most, size * (size - 1) * 2)
    assert len({tuple(one.items()) for one in fills}) == len(fills)
    assert all(one["a"] != one["a2"] for one in fills)


def test_of_very_many_ways_to_fill_so_many_are_drawn():
    lexicons = {"a": tuple(map(str, range(1000)))}
    fills = fills_of(["a", "a2", "a3", "a4"], lexicons, 30, seeded_rng(1))
    assert len({tuple(one.values()) for one in fills}) == 30


# ── Plans ──


def test_each_input_is_asked_about_once_and_a_plan_repeats_itself():
    read = suite("texts: ['A {item}', '{item} for {name}']\nexpect: a\nunchanged_by: [name, upper]\nmax_texts: 6")
    plan = plan_of(read)
    assert plan.inputs == plan_of(read).inputs
    assert len(set(plan.inputs)) == len(plan.inputs)
    clean = [one for one in plan.cases if one.before is None]
    assert len(clean) == 6
    assert {one.how for one in plan.cases} == {"", "name", "upper"}
    assert all(plan.inputs[one.asked].isupper() for one in plan.cases if one.how == "upper")


def test_a_test_that_is_added_changes_no_other():
    body = "texts: ['{name} has {item}']\nexpect: a\nmax_texts: 4"
    alone = plan_of(suite(body)).inputs
    text = HEAD.format("classify") + body.replace("\n", "\n    ")
    two = read_suite(f"{text}\n  - test: two\n    texts: ['{{name}}']\n    expect: a\n", "x.yaml")
    assert plan_of(two).inputs[: len(alone)] == alone


def test_a_change_that_changes_nothing_is_refused_with_its_line():
    with pytest.raises(BadSuite) as caught:
        plan_of(suite("texts: ['A kettle']\nunchanged_by: [name]"))
    assert caught.value.detail == {"file": "my.suite.yaml", "line": 7}


def test_texts_that_write_are_asked_for_steadily_and_chats_as_messages():
    plan = plan_of(suite("texts: ['Say {item}']\nexpect: {contains: '{item}'}", "chat"))
    assert plan.params == {"temperature": 0.0}
    assert plan.inputs[0] == {"messages": [{"role": "user", "content": "Say kettle"}]}


# ── Labels ──


@pytest.mark.parametrize(
    ("expect", "label", "is_met"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("{one_of: [a, b]}", "b", True),
        ("{one_of: [a, b]}", "c", False),
        ("{not: [b, c]}", "a", True),
        ("{not: [b, c]}", "b", False),
        ("{label: a, at_least: 0.9}", "a", False),
        ("{label: a, at_least: 0.8}", "a", True),
    ],
)
def test_a_label_is_as_expected_or_not(expect, label, is_met):
    test = outcome(f"texts: ['x']\nexpect: {expect}", lambda text: {"label": label, "scores": {label: 0.85}})
    assert test.is_passed is is_met


def test_several_labels_are_compared_as_sets():
    given = {"labels": ["a", "b"], "scores": {"a": 0.9, "b": 0.6}}
    assert outcome("texts: ['x']\nexpect: {labels: [b, a]}", lambda text: given).is_passed
    assert outcome("texts: ['x']\nexpect: {includes: a}", lambda text: given).is_passed
    assert not outcome("texts: ['x']\nexpect: a", lambda text: given).is_passed
    assert outcome("texts: ['x']\nexpect: {not: a}", lambda text: {"labels": [], "scores": {}}).is_passed


def test_so_many_failures_are_allowed_and_each_is_shown():
    def answer(text):
        return labelled(a=0.9, b=0.1) if "kettle" in text else labelled(a=0.2, b=0.8)

    test = outcome("texts: ['My {item}']\nexpect: a\nmax_failures: 0.5", answer)
    assert (test.cases, len(test.failures), test.is_passed) == (3, 2, False)
    first = test.failures[0]
    assert (first.text, first.expected, first.given, first.score) == ("My lamp", "a", "b", 0.8)
    assert outcome("texts: ['My {item}']\nexpect: a\nmax_failures: 0.67", answer).is_passed
    assert "My lamp\n  expected: a\n  given:    b (0.800)" in describe_failures(test)
    assert describe_failures(test, 1).endswith("... and 1 more")


def test_an_answer_that_changes_with_a_name_is_shown_with_the_text_before():
    def answer(text):
        return labelled(a=0.9) if "Olga" in text else labelled(b=0.7)

    body = "texts: ['Olga has a {item}']\nunchanged_by: [name]\nmax_texts: 1"
    (failure,) = outcome(body, answer).failures
    assert failure.before.startswith("Olga has a")
    assert "Olga" not in failure.text
    assert (failure.how, failure.expected, failure.given) == ("name", "as before: a", "b")


@pytest.mark.parametrize(
    ("old", "new", "is_met"),
    [(0.2, 0.4, True), (0.2, 0.35, False), (0.95, 0.96, True), (0.95, 0.9, False), (0.85, 0.9, True)],
)
def test_a_score_rises_by_so_much_or_to_its_end(old, new, is_met):
    body = "texts: ['x']\nchanged_by: [append: ' now']\nrises: {a: 0.2}"
    rises = outcome(body, lambda text: labelled(a=new if "now" in text else old, b=0.0))
    assert rises.is_passed is is_met
    falls = outcome(body.replace("rises", "falls"), lambda text: labelled(a=1 - (new if "now" in text else old), b=0.0))
    assert falls.is_passed is is_met


# ── Spans, answers, texts ──


def spans(*places):
    return {"spans": [{"text": "", "label": label, "start": a, "end": b, "score": 0.9} for label, a, b in places]}


def test_spans_are_those_that_are_marked():
    body = "texts: ['[Olga](PER) paid [3 euros](SUM)']\nexpect: {}"
    both = spans(("PER", 0, 4), ("SUM", 10, 17))
    assert outcome(body.format("marked"), lambda text: both, "tag").is_passed
    assert not outcome(body.format("marked"), lambda text: spans(("PER", 0, 4)), "tag").is_passed
    assert outcome(body.format("{spans: exactly, of: [PER]}"), lambda text: spans(("PER", 0, 4)), "tag").is_passed
    more = spans(("PER", 0, 4), ("SUM", 10, 17), ("X", 5, 9))
    assert not outcome(body.format("marked"), lambda text: more, "tag").is_passed
    assert outcome(body.format("{spans: at_least}"), lambda text: more, "tag").is_passed
    assert not outcome(body.format("{spans: at_least, not: X}"), lambda text: more, "tag").is_passed
    failed = outcome(body.format("marked"), lambda text: spans(("PER", 0, 3)), "tag")
    assert failed.failures[0].expected == "[Olga](PER), [3 euros](SUM)"


def test_spans_move_with_a_change_before_them():
    def answer(text):
        at = text.index("lamp")
        return spans(("PRODUCT", at, at + 4))

    body = "texts: ['Olga Rossi has a [lamp](PRODUCT)']\nunchanged_by: [name, prepend: 'Hello. ', append: ' ok']"
    assert outcome(body, answer, "tag").is_passed
    assert not outcome(body, lambda text: spans(("PRODUCT", 17, 21)), "tag").is_passed


def test_an_answer_in_a_passage_moves_with_the_names_of_both_texts():
    body = "inputs:\n  - question: Where is {name}?\n    passage: Last year {name} went to Lisbon.\n"

    def answer(one):
        assert one["question"].removeprefix("Where is ").rstrip("?") in one["passage"]
        start = one["passage"].rindex("to ") + 3
        place = one["passage"][start:-1]
        return {"text": place, "start": start, "end": start + len(place), "score": 0.9, "no_answer": 0.1}

    assert outcome(body + "expect: lisbon\nunchanged_by: [name, place]\nmax_texts: 5", answer, "answer").is_passed
    silent = {"text": "", "start": None, "end": None, "score": 0.1, "no_answer": 0.9}
    assert outcome(body + "expect: {no_answer: true}", lambda one: silent, "answer").is_passed
    assert not outcome(body + "expect: Lisbon", lambda one: silent, "answer").is_passed
    assert outcome(body + "expect: {contains: LIS, one_of: [Lisbon, Oslo]}", answer, "answer").is_passed


@pytest.mark.parametrize(
    ("expect", "text", "is_met"),
    [
        ("{contains: [Paris, '{item}']}", "paris KETTLE", True),
        ("{contains: Paris}", "Rome", False),
        ("{contains_one_of: [Rome, Paris]}", "rome", True),
        ("{not_contains: sorry}", "I am Sorry", False),
        ("{matches: '\\d+ days'}", "in 3 days", True),
        ("{matches: '\\d+ days'}", "soon", False),
        ("{not_matches: '^As an'}", "As an AI", False),
        ("{json: true}", '{"a": [1]}', True),
        ("{json: true}", '{"a": [1', False),
        ("{most_words: 2}", "one two three", False),
    ],
)
def test_a_written_text_is_as_expected_or_not(expect, text, is_met):
    body = f"texts: ['About a {{item}}']\nexpect: {expect}\nmax_texts: 1"
    test = outcome(body, lambda prompt: {"text": text.replace("KETTLE", prompt.split()[-1].upper())}, "generate")
    assert test.is_passed is is_met


def test_what_is_expected_of_a_written_text_holds_after_a_change_too():
    def answer(one):
        said = one["messages"][0]["content"]
        return {"message": {"role": "assistant", "content": "Paris" if said.islower() else "Rome"}}

    test = outcome("texts: ['capital of france?']\nexpect: {contains: Paris}\nunchanged_by: [upper]", answer, "chat")
    assert (test.cases, [one.how for one in test.failures]) == (2, ["upper"])


# ── Reports ──


@pytest.fixture(scope="module")
def result():
    read = read_suite(
        "suite: '<b>&mine'\ntask: classify\nlexicons: {item: [kettle, \"a\\x07b\"]}\ntests:\n"
        "  - {test: good, texts: [x], expect: a}\n"
        "  - {test: '<i>bad', texts: ['{item} <script>'], expect: b, about: why}\n"
        "  - {test: allowed, texts: [x], expect: b, max_failures: 1}\n",
        "my.suite.yaml",
    )
    return run_plan(plan_of(read), lambda inputs: [labelled(a=0.75, b=0.25)] * len(inputs), "m:1")


def test_json_says_every_test_with_its_failures(result):
    said = result.plain()
    assert (said["passed"], said["cases"], said["failed"], said["model"]) == (False, 4, 3, "m:1")
    assert [one["passed"] for one in said["tests"]] == [True, False, True]
    assert said["tests"][1]["failures"][0] == {
        "text": "kettle <script>", "how": "", "before": "", "expected": "b", "given": "a", "score": 0.75,
    }  # fmt: skip
    assert result.summary() == "<b>&mine: 2 of 3 tests passed, 1 of 4 cases. Failed: <i>bad (2 of 2 cases)"


def test_junit_has_a_testcase_for_each_test_and_any_text_can_be_read_back(result):
    root = ElementTree.fromstring(junit_xml([result]))
    assert root.attrib == {"tests": "3", "failures": "1", "errors": "0"}
    good, bad, allowed = root.iter("testcase")
    assert [one.get("name") for one in (good, bad, allowed)] == ["good", "<i>bad", "allowed"]
    assert (len(good), allowed[0].tag) == (0, "system-out")
    failure = bad.find("failure")
    assert failure.get("message") == "2 of 2 cases failed"
    assert "a\N{REPLACEMENT CHARACTER}b <script>" in failure.text
    assert bad.get("line") == "6"


def test_the_page_escapes_every_text_and_a_section_is_a_part_of_it(result):
    whole = page([result])
    assert whole.startswith("<!doctype html>")
    assert "<script>" not in whole
    assert "kettle &lt;script&gt;" in whole
    assert section([result]).strip().startswith("<section>")
