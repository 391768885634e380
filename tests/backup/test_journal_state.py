"""The journal in a backup."""

from __future__ import annotations

import pytest
from homes import submit

from llmos.abi.error import Corrupt
from llmos.abi.process import State
from llmos.backup.journal_state import compact_stopped, read_state


def test_the_state_of_a_stopped_home_has_all_events_and_no_pid_of_this_machine(tmp_path):
    submit(tmp_path, 7)
    with pytest.raises(Corrupt):
        read_state(tmp_path)
    compact_stopped(tmp_path)
    state, _ = read_state(tmp_path)
    (process,) = state.processes
    assert (process.pid, process.state, process.os_pid) == (7, State.STARTING, None)
