"""The note of what a process takes in: it can be read after the process has ended, however that was."""

from __future__ import annotations

import signal
import subprocess
import sys

from llmos.abi.note import Note, open_note, read

DYING = """
import os, sys
from llmos.abi.note import Note
note = Note()
print(note.fd, flush=True)
sys.stdin.readline()
note.write(0, 0)
note.write(1, 7)
note.write(2, 9)
note.write(2, None)
os.abort()
"""


def test_what_stood_there_at_last_is_read_after_a_crash() -> None:
    with subprocess.Popen([sys.executable, "-c", DYING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dying:
        assert dying.stdin is not None
        assert dying.stdout is not None
        page = open_note(dying.pid, int(dying.stdout.readline()))
        assert read(page) == ()
        dying.stdin.write(b"go on\n")
        dying.stdin.flush()
        assert dying.wait(20) == -signal.SIGABRT
    assert read(page) == (0, 7)
    page.close()


def test_a_note_is_no_file_that_others_inherit() -> None:
    note = Note()
    with subprocess.Popen([sys.executable, "-c", f"import os; os.fstat({note.fd})"], stderr=subprocess.PIPE) as other:
        assert other.wait(20) != 0
    note.close()
