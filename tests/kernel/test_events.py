"""Events: what a child reports is the event of its frame's name."""

from __future__ import annotations

from dataclasses import fields

import pytest

from llmos.abi.error import Fault
from llmos.abi.frame import Attached, Beat, Chunks, Failed, Ready
from llmos.kernel import events as ev


@pytest.mark.parametrize("frame", ev.OF_FRAMES, ids=lambda frame: frame.__name__)
def test_an_event_that_a_frame_reports_has_the_frames_fields(frame: type) -> None:
    own = [(field.name, field.type) for field in fields(ev.OF_FRAMES[frame])]
    assert own == [("at", "float"), ("pid", "int"), *((field.name, field.type) for field in fields(frame))]


def test_a_frame_becomes_the_event_of_its_name() -> None:
    fault = Fault("bad_row", "row 7")
    assert ev.reported_event(2.0, 1, Failed(fault)) == ev.Failed(2.0, 1, fault)
    assert ev.reported_event(2.0, 1, Ready(9)) == ev.Ready(2.0, 1, 9)
    assert ev.reported_event(2.0, 1, Attached("ner:1", 0.5)) == ev.Attached(2.0, 1, "ner:1", 0.5)


@pytest.mark.parametrize("frame", [Beat(), Chunks(())])
def test_a_frame_that_changes_nothing_in_the_table_is_no_event(frame: Beat | Chunks) -> None:
    assert ev.reported_event(2.0, 1, frame) is None
