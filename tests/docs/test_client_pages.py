"""The page of clients names each that the lane installs, in the version that was tried."""

import json
import re
from pathlib import Path

TREE = Path(__file__).parents[2]
LANE = TREE / "tests" / "clients"
TOOLS = {"pytest", "undici", "zod"}  # what the tests themselves need


def pins():
    for line in (LANE / "requirements.txt").read_text().splitlines():
        if found := re.fullmatch(r"([\w-]+)(?:\[\w+\])?==([\d.]+)", line):
            yield found.groups()
    yield from json.loads((LANE / "node" / "package.json").read_text())["dependencies"].items()


def test_every_client_stands_in_the_table_with_the_version_that_was_tried():
    rows = [line for line in (TREE / "docs" / "clients.md").read_text().splitlines() if line.startswith("| `")]
    for name, version in pins():
        assert name in TOOLS or any(f"`{name}`" in row and version in row for row in rows), (name, version)
