"""Predictions by row: the file, and which errors are chosen from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput, Corrupt
from llmos.abi.row_outcome import (
    ErrorFilter,
    RowOutcome,
    SpanMark,
    parse_slice,
    read_outcomes,
    select_errors,
    words_of,
    write_outcomes,
)
from llmos.testing.errors import fails_with


def outcome(
    row: int, kind: str = "", *, loss: float = 0.0, label: str = "a", given: str = "b", **more: object
) -> RowOutcome:
    kinds = (kind,) if kind else ()
    return RowOutcome(
        row,
        f"{row:016x}",
        "rows.csv",
        row,
        (f"text {row}",),
        label,
        given,
        float(not kind),
        kinds,
        loss=loss,
        labels=(label,),
        given=(given,),
        **more,  # type: ignore[arg-type]  # fields of the outcome
    )


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=40), st.floats(0, 1), st.text(max_size=8)), max_size=30))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float, str]]
) -> None:
    path = tmp_path_factory.mktemp("outcomes") / "predictions.jsonl.gz"
    made = [
        RowOutcome(
            i,
            "id",
            "f",
            i,
            (text,),
            kind,
            kind,
            share,
            (kind,),
            share,
            share,
            spans=(SpanMark(0, 1, "hit", kind),),
            facets={"length": (kind,)},
        )
        for i, (text, share, kind) in enumerate(rows)
    ]
    write_outcomes(made, path)
    assert list(read_outcomes(path)) == made
    first = path.read_bytes()
    write_outcomes(made, path)
    assert path.read_bytes() == first


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl.gz"
    write_outcomes([outcome(i) for i in range(2000)], path)
    whole = path.read_bytes()
    for broken in (whole[:-9], whole[:40], b"{}", whole[:100] + b"\0\0\0\0" + whole[104:]):
        path.write_bytes(broken)
        with pytest.raises(Corrupt):
            list(read_outcomes(path))


def test_errors_come_worst_first_and_are_counted_by_kind() -> None:
    rows = [outcome(0), outcome(1, "x", loss=1.0), outcome(2, "y", loss=3.0), outcome(3, "x", loss=2.0)]
    found = select_errors(rows, ErrorFilter(limit=2), "m:1", "classify")
    assert (found.rows, found.errors, found.matching, found.kinds) == (4, 3, 3, {"x": 2, "y": 1})
    assert [one.row for one in found.data] == [2, 3]


def test_errors_are_chosen_by_kind_label_and_slice() -> None:
    rows = [
        outcome(0, "x", facets={"language": ("de",)}),
        outcome(1, "y", label="c", facets={"language": ("en",)}),
        outcome(2, "x", given="c", facets={"language": ("de",), "length": ("short",)}),
    ]

    def chosen(**asked: object) -> list[int]:
        return sorted(one.row for one in select_errors(rows, ErrorFilter(**asked)).data)  # type: ignore[arg-type]

    assert chosen(kind="x") == [0, 2]
    assert chosen(label="c") == [1, 2]
    assert chosen(slice="language=de") == [0, 2]
    assert chosen(slice="language=de & length=short") == [2]
    assert chosen(slice="word=1") == [1]
    with fails_with(BadInput, key="slice", expected=["de", "en"]):
        chosen(slice="language=fr")
    with fails_with(BadInput, key="slice", expected=["language", "length"]):
        chosen(slice="Language=de")
    with fails_with(BadInput, key="slice"):
        chosen(slice="word=nothing")
    assert chosen(slice="language=de", kind="y") == []  # the slice has rows, but no such error


def test_a_slice_is_written_as_facet_and_value() -> None:
    assert parse_slice("column=a=b") == (("column", "a=b"),)
    for bad in ("language", "=de", "language=", "a=b & c"):
        with fails_with(BadInput, key="slice"):
            parse_slice(bad)


def test_scripts_without_spaces_have_words_of_two_signs() -> None:
    assert words_of(["Not THE room_key"]) == {"not", "the", "room", "key"}
    assert words_of(["早餐不错"]) == {"早餐", "餐不", "不错"}
