"""The lines of a batch's file: what fits, what does not, and the body that the route gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.batch import LineFault
from llmos.programs.batch_lines import MOST_FAULTS, BatchFile

ROUTE = "/v1/embeddings"
LINE_BYTES = 400


def line(number: int, **changes: Any) -> str:  # Any: JSON
    body = {"model": "m", "input": f"text {number}"}
    said = {"custom_id": f"id-{number}", "method": "POST", "url": ROUTE, "body": body, **changes}
    return json.dumps({key: value for key, value in said.items() if value is not None})


def file_of(tmp_path: Path, *lines: str) -> BatchFile:
    path = tmp_path / "in.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return BatchFile(path, ROUTE, LINE_BYTES)


def test_lines_that_fit_are_read_in_order_with_blank_ones_and_a_mark_left_out(tmp_path: Path):
    file = file_of(tmp_path, "\ufeff" + line(1), "", "  ", line(2), line(3) + "\r")
    assert file.faults() == (3, [])
    assert [(one.number, one.custom_id) for one in file.requests()] == [(1, "id-1"), (4, "id-2"), (5, "id-3")]


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        ("{", "invalid_json_line", None),
        ("[1]", "invalid_line", None),
        ('{"custom_id": "\udcff"}', "invalid_json_line", None),
        (line(2, custom_id=None), "invalid_line", None),
        (line(2, custom_id=""), "invalid_custom_id", "custom_id"),
        (line(2, custom_id="id-1"), "duplicate_custom_id", "custom_id"),
        (line(2, body="x"), "invalid_line", None),
        (line(2, method="GET"), "invalid_method", "method"),
        (line(2, url="/v1/completions"), "mismatched_url", "url"),
        (line(2, body={"stream": True}), "stream_not_supported", "body.stream"),
        (line(2, body={"input": "x" * LINE_BYTES}), "line_too_long", None),
    ],
)
def test_a_line_that_does_not_fit_is_named_with_its_number(tmp_path: Path, bad: str, code: str, param: str | None):
    count, faults = file_of(tmp_path, line(1), bad, line(3)).faults()
    assert (count, [(one.code, one.line, one.param) for one in faults]) == (3, [(code, 2, param)])


def test_a_file_without_lines_does_not_fit(tmp_path: Path):
    count, faults = file_of(tmp_path, "", " ").faults()
    assert (count, faults) == (0, [LineFault("empty_file", faults[0].message)])


def test_a_file_full_of_faults_is_not_read_to_its_end(tmp_path: Path):
    count, faults = file_of(tmp_path, *["{"] * (3 * MOST_FAULTS)).faults()
    assert (count, len(faults)) == (MOST_FAULTS, MOST_FAULTS)


@pytest.mark.parametrize("size", [LINE_BYTES, LINE_BYTES + 1])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_longest_line_fits_and_one_byte_more_does_not(tmp_path: Path, size: int, end: str):
    text = line(1, body={"input": ""})
    text = text.replace('"input": ""', '"input": "' + "x" * (size - len(text)) + '"')
    path = tmp_path / "in.jsonl"
    path.write_text(text + end)
    count, faults = BatchFile(path, ROUTE, LINE_BYTES).faults()
    assert (count, [one.code for one in faults]) == (1, [] if size == LINE_BYTES else ["line_too_long"])


@pytest.mark.parametrize(
    ("given", "priority"),
    [
        ({}, "batch"),
        ({"priority": "interactive"}, "batch"),
        ({"class": "interactive"}, "batch"),
        ({"priority": 0, "stream": False, "stream_options": {}}, "batch"),
        ({"priority": "background"}, "background"),
    ],
)
def test_a_line_goes_behind_live_calls_whatever_it_says(tmp_path: Path, given: dict[str, Any], priority: str):
    (request,) = file_of(tmp_path, line(1, body={"model": "m", **given})).requests()
    assert json.loads(request.body) == {"model": "m", "priority": priority}


JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5), st.lists, max_leaves=5)


@given(st.dictionaries(st.text("abc", max_size=3), JSON, max_size=4))
def test_a_body_comes_to_the_route_as_it_was_written(body: dict[str, Any]):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder, "in.jsonl")
        path.write_text(line(1, body=body))
        (request,) = BatchFile(path, ROUTE, 10_000).requests()
        assert json.loads(request.body) == {**body, "priority": "batch"}
