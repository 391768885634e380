"""Requests made from /openapi.json by schemathesis, right and wrong ones, against a daemon with the null engine.

A lane of its own (`make fuzz`): bounded in time and examples, on a home of its own that goes afterwards. Checked are:
no answer is a mistake of the daemon's own; status, media type and body are those that the document names; what the
document does not allow is refused; the daemon that was there first is there at the end. What comes to light gets a test
in tests/api.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import box_of_null

HERE = Path(__file__).parent
SPARE_S = 120.0  # so much longer than its time a run may take, to load the document and to end


def main() -> int:
    """The fuzzer's own exit status; 1 too where the daemon did not live through it."""
    asked = _asked()
    seed = random.SystemRandom().randrange(2**31) if asked.seed is None else asked.seed
    print(f"· {asked.seconds} s, seed {seed}; again: make fuzz SEED={seed}", flush=True)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["LLMOS_DATA_ROOTS"] = str(home)  # of this machine's files no request reads any other
        with box_of_null(home) as box:
            before = box.ask("GET", "/v1/status")["os_pid"]
            command = [*_command(asked, seed), f"{box.url}/openapi.json"]
            done = subprocess.run(command, cwd=home, timeout=asked.seconds + SPARE_S, check=False)
            after = box.ask("GET", "/v1/status")["os_pid"]
    if before != after:
        print(f"· the daemon is not the one of the beginning: {before} was, {after} is")
        return 1
    return done.returncode


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("schemathesis", type=Path, help="the fuzzer's command")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seconds", type=int, default=120, help="of generated requests")
    parser.add_argument("--examples", type=int, default=30, help="at most, of each route at a time")
    return parser.parse_args()


def _command(asked: argparse.Namespace, seed: int) -> list[str]:
    return [
        str(asked.schemathesis.absolute()),
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"--seed={seed}",
        f"--max-time={asked.seconds}",
        f"--max-examples={asked.examples}",
        "--phases=examples,coverage,fuzzing",
        "--request-timeout=10",
        "--generation-database=none",
        "--continue-on-failure",
    ]


if __name__ == "__main__":
    sys.exit(main())
