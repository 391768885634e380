"""The supervisor: what the operating system makes of a class."""

from __future__ import annotations

import subprocess
import sys

ORDINARY_USER = """
import os, resource
from llmos.abi.process import Class
from llmos.kernel.supervisor import schedule
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)
print(schedule(os.getpid(), Class.BACKGROUND), schedule(os.getpid(), Class.INTERACTIVE))
"""


def test_an_ordinary_user_s_process_goes_down_to_the_background_and_learns_that_it_cannot_come_up_again() -> None:
    said = subprocess.run([sys.executable, "-c", ORDINARY_USER], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "False"]
