"""The main of the process that sends traces: reads batches from its standard input, until that ends."""

from __future__ import annotations

import os
import signal
import sys

from llmos.abi.trace_batch import read_batch, write_reason
from llmos.programs.telemetry.spans import open_sender

NICENESS = 5  # below calls, which it must not slow down


def main() -> None:
    """Send every batch, and answer whether it was taken. The daemon's end closes the pipe, so no signal is needed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a package prints is no answer
    sender = open_sender(sys.argv[1])
    while (entries := read_batch(sys.stdin.buffer)) is not None:
        try:
            reason = sender.send(entries)
        except Exception as error:  # noqa: BLE001  # foreign code: the next batch may be sent
            reason = f"{type(error).__name__}: {error}"
        write_reason(answers, reason)
    sender.close()


if __name__ == "__main__":
    main()
