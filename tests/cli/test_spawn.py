"""Starting a daemon: one that refuses to start has ended when its refusal is said."""

import json
import sys

import pytest

from llmos.abi.error import LlmosError
from llmos.cli.daemon import spawn

REFUSAL = {"error": {"code": "unavailable", "message": "no", "detail": {}}}
SLOW_TO_END = f"""
import os, sys, time
ready = int(sys.argv[sys.argv.index("--ready-fd") + 1])
os.write(ready, {json.dumps(REFUSAL).encode()!r} + b"\\n")
os.close(ready)
time.sleep(0.3)
open(sys.argv[1], "w").close()
"""


def test_who_starts_again_at_once_does_not_meet_a_daemon_that_is_about_to_end(tmp_path):
    ended = tmp_path / "ended"
    with pytest.raises(LlmosError):
        spawn([sys.executable, "-c", SLOW_TO_END, str(ended)], tmp_path / "home")
    assert ended.exists()
