"""The demo's steps against a served kernel: an earlier one's work is gone on with, not begun again beside it."""

import pytest

from llmos.abi.process import Process, Spec, State
from llmos.cli.demo import ensure_pulled
from llmos.config import Config
from llmos.sdk.client import Client
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving


@pytest.mark.parametrize("state", [State.INTERRUPTED, State.EXITED])
def test_a_pull_that_was_interrupted_goes_on_and_one_that_ended_is_begun_again(tmp_path, state):
    kernel = MemoryKernel(plays=True)
    kernel.processes.table[1] = Process(1, Spec("pull", {"source": "other"}), state)
    with serving(kernel, Config(tmp_path)) as url, Client(url) as client:
        assert ensure_pulled(client, "other") == "other is here"
    assert len(kernel.processes.table) == (1 if state is State.INTERRUPTED else 2)
    assert all(process.is_ended and process.exit_code == 0 for process in list(kernel.processes.table.values())[-1:])
