"""The journal: what was written is replayed, after a kill as well, and it stays short."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.abi.device import LeaseKind
from llmos.abi.error import Corrupt, Fault, LlmosError
from llmos.abi.model import Offer, OfferKind, Part, Verdict
from llmos.abi.process import Class, Program, Progress, Spec
from llmos.kernel import events as ev
from llmos.kernel.journal import Journal
from llmos.kernel.loop import replay
from llmos.kernel.table import Table

PIDS = st.integers(1, 4)
FAULTS = st.builds(Fault, st.sampled_from(["bad_row", "offline"]), st.text(max_size=20))
OFFERS = st.builds(
    Offer,
    st.integers(1, 3),
    st.sampled_from([OfferKind.MODEL, OfferKind.DATASET]),
    st.just("ner"),
    st.just("/scratch"),
    st.just((("head.safetensors", Part.HEAD),)),
    verdict=st.none() | st.builds(Verdict, st.booleans(), st.text(max_size=9), st.none() | st.just("ner:1")),
)
SPECS = st.builds(Spec, st.sampled_from(Program), st.just({"base": "tiny:1"}), klass=st.sampled_from(Class))
EVENTS = st.one_of(
    st.builds(ev.Submitted, st.floats(0, 9), PIDS, SPECS, st.just({LeaseKind.WEIGHTS: 3})),
    st.builds(ev.Admitted, st.floats(0, 9), PIDS),
    st.builds(ev.Forked, st.floats(0, 9), PIDS, st.integers(2, 99), st.floats(0, 9)),
    st.builds(ev.BecameReady, st.floats(0, 9), PIDS, st.integers(0, 9)),
    st.builds(ev.KillAsked, st.floats(0, 9), PIDS, st.booleans()),
    st.builds(ev.ChildFailed, st.floats(0, 9), PIDS, FAULTS),
    st.builds(ev.ChildExited, st.floats(0, 9), PIDS, st.just(7), st.integers(-11, 2)),
    st.builds(ev.OfferMade, st.floats(0, 9), PIDS, OFFERS),
    st.builds(ev.Committed, st.floats(0, 9), PIDS, st.integers(1, 3), st.just("ner:2"), st.just("/f")),
    st.builds(ev.Moved, st.floats(0, 9), st.just("ner"), st.just(2), st.just("1/1")),
    st.builds(ev.DaemonStarted, st.floats(0, 9)),
    st.builds(ev.Progressed, st.floats(0, 9), PIDS, st.builds(Progress, st.text(max_size=5))),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(EVENTS, max_size=25), st.integers(0, 25))
def test_a_replay_gives_the_same_table_wherever_it_was_compacted(tmp_path, events, compacted_at):
    path = tmp_path / "journal.db"
    path.unlink(missing_ok=True)
    journal, live = Journal(path), Table()
    for number, event in enumerate(events):
        if number == compacted_at:
            journal.compact(live.snapshot())
        journal.append(event)
        with suppress(AssertionError, LookupError, LlmosError):  # as in the loop: it is passed over
            live.apply(event)
    journal.close()
    journal = Journal(path)
    again = Table(journal.snapshot())
    replay(journal, again)
    journal.close()
    kept, found = live.snapshot(), again.snapshot()
    assert [_less_passing(p) for p in kept.processes] == [_less_passing(p) for p in found.processes]
    assert (kept.lives, sorted(kept.leases, key=str), kept.promises) == (
        found.lives,
        sorted(found.leases, key=str),
        found.promises,
    )


def _less_passing(process):
    return process.pid, process.spec, process.state, process.made, process.fault, process.restarts


def test_passing_events_are_not_written(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    journal.append(ev.Progressed(1.0, 1, Progress("downloading")))
    assert list(journal.events()) == []
    journal.close()


WRITER = """
import sys
from pathlib import Path
from llmos.kernel.events import KillAsked
from llmos.kernel.journal import Journal
journal = Journal(Path(sys.argv[1]))
for pid in range(1, 1_000_000):
    journal.append(KillAsked(1.0, pid))
    print(pid, flush=True)
"""


def test_every_promise_that_was_out_is_there_after_a_kill(tmp_path):
    path = tmp_path / "journal.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            last = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        last = int(rest[-1]) if rest else last
    journal = Journal(path)
    pids = [event.pid for event in journal.events() if isinstance(event, ev.KillAsked)]
    journal.close()
    assert pids in (list(range(1, last + 1)), list(range(1, last + 2)))


def test_the_last_word_of_a_process_is_kept_and_how_far_it_was_is_not(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    journal.append(ev.Progressed(1.0, 1, Progress("evaluate", 1, 2)))
    last = ev.Progressed(2.0, 1, Progress("done", 2, 2, figures={"f1": 0.5}))
    journal.append(last)
    assert list(journal.events()) == [last]
    journal.close()


def test_the_end_of_a_process_that_an_older_version_wrote_is_read(tmp_path):
    Journal(tmp_path / "journal.db").close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        body = '{"at": 1.0, "pid": 1, "os_pid": 77, "code": -9}'
        db.execute("INSERT INTO events (kind, body) VALUES ('ChildExited', ?)", (body,))
    db.close()
    journal = Journal(tmp_path / "journal.db")
    assert list(journal.events()) == [ev.ChildExited(1.0, 1, 77, -9)]
    journal.close()


def test_an_unreadable_journal_is_said_to_be_one(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Corrupt, match="Move it away"):
        Journal(tmp_path / "journal.db")


def test_an_event_of_another_version_is_said_to_be_unreadable(tmp_path):
    Journal(tmp_path / "journal.db").close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("INSERT INTO events (kind, body) VALUES ('Invented', '{}')")
    db.close()
    journal = Journal(tmp_path / "journal.db")
    with pytest.raises(Corrupt):
        list(journal.events())
    journal.close()
