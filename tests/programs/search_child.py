"""A search in a process of its own, which a test may kill: `python search_child.py FD JOB`, the job as JSON."""

from __future__ import annotations

import socket
import sys

from llmos.abi.frame import Job
from llmos.abi.wire import from_json
from llmos.programs import tune
from llmos.programs.channel import Channel

if __name__ == "__main__":
    tune.main(Channel(socket.socket(fileno=int(sys.argv[1]))), from_json(sys.argv[2], Job))
