"""The journal of a search: what was written is read again, and what a kill has cut off never happened."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.abi.error import BadInput
from llmos.tuning.history import Advanced, Begun, Chosen, Dropped, Reached, VersionMade, history_of
from llmos.tuning.journal import SearchJournal

RECORDS = [
    Begun(0, {"method": "lora", "rate": 1.5, "pooling": "cls"}),
    Reached(0, 0, 0.75, 3.25, 2.0),
    Begun(1, {"method": "full"}),
    Dropped(1, "failed", "it diverged", 1.0),
    Advanced(0, 1),
    Reached(0, 1, 0.875, 6.0, 5.0),
    Chosen(0),
    VersionMade(0, "mood:3", "mood:3 is promoted"),
]


def written(path):
    journal = SearchJournal(path)
    for record in RECORDS:
        journal.append(record)
    journal.close()
    return path.read_bytes()


def test_records_are_read_as_they_were_written(tmp_path):
    written(tmp_path / "search")
    journal = SearchJournal(tmp_path / "search")
    assert journal.records == RECORDS
    journal.close()


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_a_journal_that_ends_anywhere_has_its_whole_records_and_can_be_continued(tmp_path_factory, at):
    path = tmp_path_factory.mktemp("cut") / "search"
    data = written(path)
    cut = at % (len(data) + 1)
    path.write_bytes(data[:cut])
    journal = SearchJournal(path)
    count = len(journal.records)
    assert journal.records == RECORDS[:count]
    assert data[:cut].count(b"\n") == count
    for record in RECORDS[count:]:
        journal.append(record)
    journal.close()
    assert path.read_bytes() == data


def test_a_damaged_record_is_said(tmp_path):
    (tmp_path / "search").write_bytes(b'{"kind":"begun","trial":"x"}\n')
    with pytest.raises(BadInput):
        SearchJournal(tmp_path / "search")


def test_a_chosen_trial_that_ends_is_chosen_no_more():
    history = history_of([*RECORDS[:7], Dropped(0, "stopped")])
    assert history.chosen is None
    assert not history.pending


def test_all_seconds_count_those_of_failed_trials_too():
    assert history_of(RECORDS).spent_s == 10.25
