"""The supervisor: what the operating system makes of a class."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from llmos.home import OsProcess
from llmos.kernel.calls.router import Router
from llmos.kernel.children.supervisor import Heartbeats, Supervisor, own_children
from llmos.kernel.children.zygote import Zygote

ORDINARY_USER = """
import os, resource
from llmos.abi.process import Priority
from llmos.kernel.children.supervisor import schedule
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)
print(schedule(os.getpid(), Priority.BACKGROUND), schedule(os.getpid(), Priority.INTERACTIVE))
"""


def test_an_ordinary_users_process_cannot_leave_the_background_class_again() -> None:
    said = subprocess.run([sys.executable, "-c", ORDINARY_USER], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "False"]


ORPHAN = """
import os, signal
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.write(writing, b"there")
    signal.pause()
os.read(reading, 5)
print(os.getpid(), child)
"""


class Parent(Zygote):
    """Knows sessions that no zygote of its own began."""

    def adopt(self, session: int) -> None:
        self._sessions.add(session)


def test_who_has_lost_his_parent_is_ended_and_buried_and_nobody_else_is(tmp_path):
    async def main() -> None:
        zygote = Parent("null", tmp_path / "zygote.log", "")
        heartbeats = Heartbeats(30.0, 60.0, lambda os_pid: False)
        supervisor = Supervisor(zygote, heartbeats, clock=time.time, steady=time.monotonic)
        router = Router(supervisor.send, lambda pid, model: None, time.monotonic, max_waiting_calls=1)
        supervisor.start(router, lambda event: None, lambda pid, request: None)
        session, orphan = orphaned()
        with OsProcess(orphan) as held:
            for _ in range(3):
                supervisor.tick(1.0, 30.0)
            assert not held.has_ended()
            zygote.adopt(session)
            supervisor.tick(1.0, 30.0)
            assert not held.has_ended(), "it may have been born a moment ago"
            supervisor.tick(1.0, 30.0)
            assert held.has_ended(within_s=60.0)
            supervisor.tick(1.0, 30.0)
            assert orphan not in own_children()
        supervisor.close()

    asyncio.run(main())


def orphaned() -> tuple[int, int]:
    """A process whose parent has ended, and the session that this parent began."""
    done = subprocess.run([sys.executable, "-c", ORPHAN], start_new_session=True, stdout=subprocess.PIPE, check=True)
    session, orphan = map(int, done.stdout.split())
    return session, orphan
