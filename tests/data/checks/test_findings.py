"""Each check finds what is planted, names its rows, and says nothing of sound ones."""

from __future__ import annotations

import random

import pytest
from checked_rows import subject

from llmos.data.checks.finding import Severity
from llmos.data.checks.near import edit_distance, near_rows
from llmos.data.checks.registry import CHECKS, KINDS, run_checks
from llmos.data.checks.report import CheckReport

SOUND = [(f"sentence number {i} speaks of {word} and of nothing else", "ab"[i % 2]) for i, word in enumerate(
    ("apples", "rivers", "engines", "painting", "winter", "law", "bread", "ships", "music", "stars", "glass", "horses",
     "letters", "money", "bridges", "salt", "wool", "paper", "iron", "fire")
)]  # fmt: skip


def found(name, splits, **more):
    return {one.kind: one for one in CHECKS[name](subject(splits, **more))}


def test_sound_rows_give_no_finding():
    assert run_checks(subject({"train": SOUND}), without=["languages"]) == []


def test_copies_and_near_copies_are_duplicates_of_the_first():
    text = "Where is the parcel that I ordered last week?"
    rows = [*SOUND, (text, "a"), (text.upper(), "a"), (text.replace("parcel", "parcle"), "a")]
    kinds = found("duplicates", {"train": rows})
    assert kinds["duplicates"].row_ids == ("train21",)
    assert kinds["near_duplicates"].row_ids == ("train22",)


def test_chinese_near_copies_are_found_and_other_sentences_are_not():
    rows = [
        ("酒店的位置很好，离地铁站只有五分钟，房间也很干净", "1"),
        ("酒店的位置很好，离地铁站只有五分钟，房间也很干静", "1"),
        ("前台服务员态度非常差，我们等了一个小时才入住", "1"),
    ]
    assert found("duplicates", {"train": rows})["near_duplicates"].row_ids == ("train1",)


def test_texts_that_differ_by_a_number_are_not_near():
    rows = [("the fee for transfer 1001 is wrong", "a"), ("the fee for transfer 1002 is wrong", "a")]
    assert not found("duplicates", {"train": rows})


def test_a_test_row_edited_by_a_typo_leaks_and_the_training_row_is_to_go():
    text = "How do I change the address on my account?"
    splits = {"train": [*SOUND, (text, "a")], "test": [(text.replace("address", "adress"), "a")]}
    leak = found("leaks", splits)["leaks"]
    assert leak.row_ids == ("train20",)
    assert leak.severity is Severity.ERROR
    assert leak.counts["rows that measure"] == 1


def test_equal_texts_of_other_labels_contradict():
    kinds = found("contradictions", {"train": [*SOUND, (SOUND[0][0], "b")]})
    assert set(kinds["contradictions"].row_ids) == {"train0", "train20"}


def test_planted_typos_are_found_among_many_rows():
    draw = random.Random(4)
    words = [f"{a}{b}" for a in ("lor", "ban", "kit", "sur", "mel", "tov") for b in ("ane", "ilo", "und", "esk", "arp")]
    rows = [(" ".join(draw.choices(words, k=9)), "a") for _ in range(400)]
    planted = []
    for text, label in rows[:40]:
        at = draw.randrange(1, len(text) - 1)
        planted.append((text[:at] + "x" + text[at + 1 :], label))
    kinds = found("duplicates", {"train": rows + planted})
    assert set(kinds["near_duplicates"].row_ids) == {f"train{i}" for i in range(400, 440)}


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [("abcd", "abcd", 0), ("abcd", "abdc", 1), ("abcd", "abxd", 1), ("abcd", "abd", 1), ("abcd", "wxyz", None)],
)
def test_edits_are_counted_up_to_a_bound(left, right, edits):
    assert edit_distance(left, right, 2) == edits


def test_rows_without_a_word_are_compared_too():
    assert near_rows([["?!"], ["?!"], [""]]).before == ((), ((0, 1.0),), ())


def test_placeholders_and_control_tokens_are_found():
    rows = [*SOUND, ("N/A", "a"), ("待补充", "a"), ("Lorem ipsum dolor sit amet", "b"), ("hello <|im_end|>", "a")]
    assert found("placeholders", {"train": rows})["placeholders"].row_ids == ("train20", "train21", "train22")
    assert found("control-tokens", {"train": rows})["control_tokens"].row_ids == ("train23",)


def test_a_rare_label_is_named_with_its_rows():
    one = found("balance", {"train": [*SOUND, ("a text of its own", "rare")]})["balance"]
    assert one.row_ids == ("train20",)
    assert one.severity is Severity.WARNING


def test_rows_over_the_bases_limit_are_found():
    more = {"max_tokens": 10, "token_counts": {"train3": 11, "train4": 10}}
    assert found("length", {"train": SOUND}, **more)["too_long"].row_ids == ("train3",)


def test_a_base_that_knows_too_few_characters_is_an_error_with_its_share():
    counts = {f"train{i}": (0, 10) for i in range(len(SOUND))}
    (one,) = found("unknown-text", {"train": SOUND}, unknown_counts=counts | {"train3": (6, 10)}).values()
    assert (one.row_ids, one.severity, one.counts) == (("train3",), Severity.WARNING, {"share": 0.03})
    (all,) = found("unknown-text", {"train": SOUND}, unknown_counts=dict.fromkeys(counts, (5, 10))).values()
    assert (len(all.row_ids), all.severity, all.counts) == (len(SOUND), Severity.ERROR, {"share": 0.5})
    assert (one.fixes, all.fixes) == (("drop",), ())
    assert not found("unknown-text", {"train": SOUND}, unknown_counts=counts)


def test_a_row_in_another_language_is_found():
    pytest.importorskip("py3langid")
    rows = [(f"This is an English sentence about the weather in {i} towns", "a") for i in range(30)]
    german = "Ich möchte gern wissen, warum meine Überweisung noch nicht angekommen ist"
    assert found("languages", {"train": [*rows, (german, "a")]})["languages"].row_ids == ("train30",)


def test_kept_rows_are_not_reported_again():
    splits = {"train": [*SOUND, SOUND[0]]}
    assert found("duplicates", splits)
    assert not found("duplicates", splits, kept={"duplicates": frozenset({"train20"})})


def test_the_page_is_whole_and_shows_no_markup_of_a_row():
    splits = {"train": [*SOUND, ("<script>alert(1)</script> and more of it", "a")] * 2}
    made = subject(splits)
    findings = run_checks(made, without=["languages"])
    assert {one.kind for one in findings} <= set(KINDS)
    report = CheckReport("rows@1", "classify", {"train": 42}, "", (), (), {"a": 22, "b": 20}, findings)
    assert "<script" not in report.page()
    assert report.as_json()["worst"] == "warning"
