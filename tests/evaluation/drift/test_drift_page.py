"""The report page of a monitor, and the looks that it is drawn from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from llmos.abi.monitoring import AccuracyState, DriftAlarm, LookRecord, MonitorState, SignalState
from llmos.evaluation.drift.look_history import LookHistory
from llmos.evaluation.drift.page import MOST_LOOKS, page

LOOK = LookRecord(1_000.0, "mood:1", 250, {"labels": (2.0, 20.0, 0.3), "unknown_tokens": (50.0, 30.0, 1e-9)})
STATE = MonitorState(
    "mood",
    "mood:1",
    "drift",
    reference="evaluation",
    reference_rows=500,
    window=200,
    calls=1_250,
    looks=2,
    looked_at=1_000.0,
    signals=(
        SignalState("labels", 2.0, 20.0, 0.3),
        SignalState("unknown_tokens", 50.0, 30.0, 1e-9, is_drifting=True, since=900.0),
    ),
    accuracy=AccuracyState(0.9, 0.8, 0.75, 0.85, 0.7, 0.6, 0.79, 80),
    labels={"<b>good</b>": (0.5, 0.8)},
    texts=(("<script>alert(1)</script>", 2.5),),
    alarms=(DriftAlarm(900.0, "mood:1", "unknown_tokens", 50.0, 30.0, 1e-9),),
)


def test_the_page_says_first_whether_calls_still_look_alike_and_escapes_every_text():
    made = page(STATE, [replace(LOOK, calls=200), LOOK])
    assert re.search(r'class="word">No<', made)
    assert "They differ by unknown tokens." in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made
    assert "<script" not in made
    assert "&lt;b&gt;good&lt;/b&gt;" in made
    assert "60.0 % to 79.0 %" in made
    assert made.count("<svg") == 2
    assert made.index("unknown tokens: ") < made.index("labels: ")  # the least p value first
    assert not re.search(r"(src|href)=", made)  # it stands alone
    quiet = replace(STATE, status="quiet", signals=(), texts=(), alarms=(), labels={}, accuracy=AccuracyState())
    assert "No signal differs more than chance explains." in page(quiet, [])
    assert "Not yet known" in page(MonitorState("mood"), [])


def test_looks_of_other_versions_are_not_drawn_and_many_are_thinned():
    many = [replace(LOOK, calls=50 * at) for at in range(3 * MOST_LOOKS)]
    drawn = page(STATE, [*(replace(LOOK, ref="mood:0") for _ in range(5)), *many])
    assert MOST_LOOKS <= drawn.count('class="dot b"') + 1 <= MOST_LOOKS + 1
    assert page(STATE, [replace(LOOK, ref="mood:0")]).count("<svg") == 0


def test_looks_outlive_a_cut_line_and_are_bounded(tmp_path: Path):
    path = tmp_path / "monitors" / "looks.jsonl"
    history = LookHistory(path, most=3)
    for at in range(10):
        history.add(replace(LOOK, calls=at))
    assert [one.calls for one in history.newest] == [7, 8, 9]
    assert len(path.read_bytes().splitlines()) <= 6
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes() + b'{"at": 1.0, "re')
    again = LookHistory(path, most=3)
    again.add(replace(LOOK, calls=10))
    assert [one.calls for one in LookHistory(path, most=3).newest] == [8, 9, 10]
    complete = path.read_bytes().rstrip(b"\n")
    path.write_bytes(complete)  # cut before the end of the line
    LookHistory(path, most=3).add(replace(LOOK, calls=11))
    assert [one.calls for one in LookHistory(path, most=3).newest] == [9, 10, 11]
