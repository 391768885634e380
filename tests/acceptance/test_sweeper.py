"""Tests that are stopped half-way leave no daemon: whoever they are, their sweeper ends what is in their folders."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SWEEPER = Path(__file__).with_name("sweeper.py")
WAITING = "import signal; print(flush=True); signal.pause()"


@contextmanager
def waiting(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that looks like the daemon of this home."""
    words = [sys.executable, "-c", WAITING, "llmos.daemon", f"--home={home}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_a_daemon_in_a_named_folder_ends_with_who_named_it_and_no_other_does(tmp_path: Path) -> None:
    with waiting(tmp_path / "ours" / "home") as left, waiting(tmp_path / "others" / "home") as other:
        subprocess.run([sys.executable, str(SWEEPER)], input=f"{tmp_path / 'ours'}\n", text=True, check=True)
        assert left.wait() == -signal.SIGTERM
        assert other.poll() is None
