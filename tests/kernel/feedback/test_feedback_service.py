"""Feedback that was acknowledged is on the disk, whatever ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from llmos.abi import feedback_file

WRITER = """
import asyncio, sys
from pathlib import Path
from llmos.abi.feedback import FeedbackRow
from llmos.kernel.feedback.feedback_service import FeedbackService

home = Path(sys.argv[1])
service = FeedbackService(home, None, lambda: "00" * 32, lambda name: None)

async def give(number):
    row = FeedbackRow(0, 0.0, "m", "classify", {"text": str(number)}, "label", "a", str(number))
    await service.add(row)
    print(number, flush=True)  # acknowledged

async def main():
    for start in range(0, 1_000_000, 8):
        await asyncio.gather(*(give(start + number) for number in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("rows", [1, 20, 90])
def test_no_acknowledged_row_is_lost_when_the_process_is_killed(tmp_path, rows):
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    told = [int(child.stdout.readline()) for _ in range(rows)]
    os.kill(child.pid, signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().splitlines() if line.strip()]
    child.wait()
    child.stdout.close()
    with feedback_file.open_feedback(tmp_path / feedback_file.FILE) as database:
        kept = {int(row.text_id) for row in feedback_file.rows_of(database, "m")}
    assert set(told) <= kept
    assert len(told) >= rows
