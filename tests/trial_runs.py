"""What the tests of trials share: a trial run to its pause, with a stop on the way."""

from __future__ import annotations

import socket

from llmos.abi.frame import Job, Report
from llmos.abi.process import PAUSED, Progress
from llmos.programs.channel import Channel
from llmos.testing.daemon import FakeDaemon

SHARES = [0.25, 1.0]


class StoppingChannel(Channel):
    """A channel that says every report, and that the process is to stop from this report of a step on."""

    stop_at: int | None = None
    steps = 0

    def report(self, progress: Progress, *, is_last: bool = False) -> None:
        self.steps += progress.phase == "train"
        self.send(Report(progress))

    @property
    def stop_asked(self) -> bool:
        return self.stop_at is not None and self.steps >= self.stop_at


def trial(job: Job, *, stop_at: int | None = None) -> FakeDaemon:
    """Run a trial; it is told to stop at this report of a step."""
    from llmos.programs import trial as program

    up, down = socket.socketpair()
    daemon, channel = FakeDaemon(up), StoppingChannel(down, on_gone=lambda: None)
    channel.stop_at = stop_at
    try:
        program.main(channel, job)
    finally:
        down.shutdown(socket.SHUT_RDWR)
        daemon.join()
        down.close()
    return daemon


def paused(daemon: FakeDaemon) -> Progress:
    (last,) = [one for one in daemon.progress if one.phase == PAUSED]
    assert daemon.progress[-1] == last
    return last
