"""A page of a dataset's rows, read by a process of its own: the daemon reads no rows itself."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress

from llmos.abi.error import Fault, Internal, TimedOut, error_of
from llmos.abi.json_type import Json
from llmos.abi.wire import from_plain

READER = "llmos.data.datasets.page"
WITHIN_S = 60.0


async def read_dataset_page(question: Mapping[str, Json]) -> dict[str, Json]:
    """The reader's answer to this question; its error is raised. What has the key goes through a pipe."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", READER, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(json.dumps(question).encode()), WITHIN_S)
    except TimeoutError as error:
        raise TimedOut(f"The rows were not read within {WITHIN_S:g} s. Ask for rows nearer to the start") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer: dict[str, Json] = json.loads(said)
    except ValueError as error:
        raise Internal(f"The reader of rows ended with {process.returncode} and said nothing") from error
    if "fault" in answer:
        raise error_of(from_plain(answer["fault"], Fault))
    return answer
