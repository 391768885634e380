"""Labelled spans of characters: the forms they come in, offsets in UTF-16, overlaps, and parts of words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadRow
from llmos.abi.recipe import Data
from llmos.data.char_spans import DROPPED, TRIMMED, UTF16, WIDENED
from llmos.data.dataset import gather, keep
from llmos.data.reader import read_rows
from llmos.data.row import Rows, TagRow
from llmos.evaluation.families.tags import count_entities
from llmos.tasks.tag import spans_of

TEXT = "Ada met Bo in New York."
SPANS = ((0, 3, "PER"), (8, 10, "PER"), (14, 22, "LOC"))


def read(folder: Path, *rows: object, options: dict[str, Any] | None = None, **how: Any) -> Rows[TagRow]:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return read_rows(str(path), Data(str(path), **how), "tag", options or {})


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT, "spans": [{"start": s, "end": e, "label": label} for s, e, label in SPANS]},
        {"text": TEXT, "label": [list(span) for span in SPANS]},
        {"text": TEXT, "labels": [list(span) for span in SPANS]},
        {"text": TEXT, "entities": [{"start_offset": s, "end_offset": e, "label": x} for s, e, x in SPANS]},
        {"text": TEXT, "spans": [{"start": str(s), "end": float(e), "labels": [x]} for s, e, x in SPANS]},
        {"text": TEXT, "spans": [{"start": s, "end": e, "label": x, "text": TEXT[s:e]} for s, e, x in SPANS]},
        {"text": TEXT, "spans": json.dumps([list(span) for span in SPANS])},
    ],
    ids=["dicts", "lists", "labels", "offsets", "loose", "own-text", "json"],
)
def test_spans_come_in_many_forms_and_are_the_same(tmp_path: Path, row: object) -> None:
    (found,) = read(tmp_path, row).rows
    assert found.spans == SPANS
    words = found.input["tokens"]
    assert [(label, words[a:b]) for label, a, b in spans_of(found.tags)] == [
        ("PER", ["Ada"]),
        ("PER", ["Bo"]),
        ("LOC", ["New", "York"]),
    ]


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_a_text_in_which_nothing_is_marked_is_a_row(tmp_path: Path, nothing: object) -> None:
    rows = read(tmp_path, {"text": TEXT, "spans": [list(SPANS[0])]}, {"text": TEXT, "spans": nothing})
    assert rows.rows[1].spans == ()


def utf16(text: str, at: int) -> int:
    return len(text[:at].encode("utf-16-le")) // 2


@given(st.lists(st.sampled_from(["Ada", "Bo", "é", "🎉", "𝒳", "中"]), min_size=2, max_size=8), st.data())
def test_offsets_in_utf16_are_told_by_the_spans_own_texts(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], data: st.DataObject
) -> None:
    text, folder = " ".join(["🎉", *words]), tmp_path_factory.mktemp("spans")
    nth = data.draw(st.integers(0, len(words) - 1))
    start = len(" ".join(["🎉", *words[:nth]])) + 1
    end = start + len(words[nth])
    row = {"start": utf16(text, start), "end": utf16(text, end), "label": "X", "text": words[nth]}
    rows = read(folder, {"text": text, "spans": [row]})
    assert [text[a:b] for a, b, _ in rows.rows[0].spans or ()] == [words[nth]]


def test_rows_with_offsets_in_utf16_are_counted(tmp_path: Path) -> None:
    rows = read(tmp_path, {"text": "🎉🎉 Ada left", "spans": [{"start": 5, "end": 8, "label": "PER", "text": "Ada"}]})
    assert rows.rows[0].spans == ((3, 6, "PER"),)
    assert rows.counts == {UTF16: 1}
    assert any(UTF16 in note for note in rows.notes)


@pytest.mark.parametrize(
    ("span", "kind", "hint"),
    [
        ({"start": 2, "end": 99, "label": "X"}, "span_place", False),
        ({"start": 9, "end": 13, "label": "X"}, "span_place", True),
        ({"start": 0, "end": 2, "label": "X", "text": "Bo"}, "span_place", True),
        ({"start": 3, "end": 3, "label": "X"}, "span_place", False),
        ({"start": 2, "end": 3, "label": "X"}, "span_place", False),
        ({"from": 2}, "span_fields", False),
        ({"start": 0, "end": 1, "label": ["X", "Y"]}, "span_labels", False),
        ([1, 2], "span_fields", False),
        ([True, 2, "X"], "span_fields", False),
    ],
)
def test_a_span_that_cannot_be_used_is_named(tmp_path: Path, span: object, kind: str, hint: bool) -> None:
    with pytest.raises(BadRow) as refused:
        read(tmp_path, {"text": "🎉🎉 Ada left", "spans": [span]})
    assert refused.value.detail["kind"] == kind
    assert ("UTF-16" in refused.value.message) is hint


def test_spaces_at_the_ends_of_a_span_are_cut_off_and_counted(tmp_path: Path) -> None:
    rows = read(tmp_path, {"text": TEXT, "spans": [[0, 4, "PER"]]})
    assert rows.rows[0].spans == ((0, 3, "PER"),)
    assert rows.counts == {TRIMMED: 1}


NESTED = {
    "text": "Book for half past seven this evening.",
    "spans": [[14, 37, "time"], [25, 37, "date"], [9, 13, "size"]],
}


def test_overlapping_spans_are_refused_all_in_one_reading(tmp_path: Path) -> None:
    with pytest.raises(BadRow) as refused:
        read(tmp_path, NESTED, {"text": TEXT, "spans": [[0, 3, "PER"]]}, NESTED)
    assert refused.value.detail["kinds"] == {"span_overlap": 2}


@pytest.mark.parametrize(
    ("policy", "order", "kept"),
    [("longest", 1, ["size", "time"]), ("longest", -1, ["size", "time"]), ("first", 1, ["size", "time"]),
     ("first", -1, ["size", "date"])],
)  # fmt: skip
def test_of_overlapping_spans_one_is_kept_as_the_option_says(
    tmp_path: Path, policy: str, order: int, kept: list[str]
) -> None:
    rows = read(tmp_path, {**NESTED, "spans": NESTED["spans"][::order]}, options={"overlaps": policy})
    assert [label for _, _, label in rows.rows[0].spans or ()] == kept
    assert rows.counts == {DROPPED: 1}


def test_a_part_of_a_word_is_learned_as_the_word_and_measured_as_it_is(tmp_path: Path) -> None:
    rows = read(tmp_path, {"text": "The Berliner sat.", "spans": [[4, 10, "LOC"]]})
    (row,) = rows.rows
    assert row.tags == ("O", "B-LOC", "O", "O")
    assert rows.counts == {WIDENED: 1}
    counts = count_entities([row], [row.tags], [row.tags])
    assert (counts["LOC"].hits, counts["LOC"].given, counts["LOC"].true) == (0, 1, 1)


def test_a_stored_dataset_keeps_texts_and_spans(tmp_path: Path) -> None:
    rows = [{"text": f"{name} met Bo in Yorkshire.", "spans": [[0, 3, "PER"], [14, 18, "LOC"]]} for name in
            ("Ada", "Eva", "Ida", "Ola", "Uwe", "Amy", "Joe", "Ned", "Kim", "Lee", "Max", "Sue")]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = Data(str(tmp_path / "rows.jsonl"), validation_share=0.2, test_share=0.2)
    loaded = gather(data, "tag", {}, {})
    keep(loaded, "tag", tmp_path / "kept")
    again = gather(Data("d@1"), "tag", {}, {"d@1": str(tmp_path / "kept")})
    for one, other in zip(loaded.splits.by_name().values(), again.splits.by_name().values(), strict=True):
        assert [(r.input, r.tags, r.text, r.spans) for r in one] == [(r.input, r.tags, r.text, r.spans) for r in other]
    assert again.digest() == loaded.digest()
