"""One page of a dataset's rows as JSON, in a process of its own: python -m llmos.data.datasets.page, asked on stdin.

The daemon reads no rows itself. The question is {"folder", "manifest", "key", "split", "start", "limit"}; the answer
{"split", "total", "start", "rows"}, or {"fault": ...} and exit code 1.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

from llmos.abi.error import LlmosError, fault_of
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest
from llmos.abi.wire import from_plain, to_plain
from llmos.data.datasets.dataset_reader import DatasetReader
from llmos.data.datasets.row_table import plain_row


def read_page(
    folder: Path, manifest: DatasetManifest, key: bytes, split: str | None, start: int, limit: int
) -> dict[str, Json]:
    """Rows from number `start` on, from 0; by default of the first split."""
    reader = DatasetReader(folder, manifest, key=key)
    name = split or reader.splits[0]
    rows = [plain_row(reader.task, reader.options, name, row) for row in islice(reader.rows(name, start=start), limit)]
    return {"split": name, "total": manifest.splits.get(name, 0), "start": start, "rows": rows}


def main() -> int:
    """Answer the question on stdin."""
    asked = json.load(sys.stdin)
    manifest = from_plain(asked["manifest"], DatasetManifest)
    place = (asked["split"], asked["start"], asked["limit"])
    try:
        answer = read_page(Path(asked["folder"]), manifest, bytes.fromhex(asked["key"]), *place)
    except LlmosError as error:
        json.dump({"fault": to_plain(fault_of(error))}, sys.stdout)
        return 1
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
