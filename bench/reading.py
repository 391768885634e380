"""Reading and importing rows: a large CSV and a large JSONL; speed, and the most memory it takes.

The files are written into a temporary folder. Each is read in a Python of its own, whose memory is then its alone; then
a daemon on a home of its own imports it. A child of a daemon shares the libraries that were loaded before it was
forked: its own memory is what it does not share, its resident memory has both.
"""

from __future__ import annotations

import csv
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.box import Box
from bench.record import Figure, Record, Target
from llmos import Client
from llmos.abi.recipe import Data
from llmos.data.reader import stream_rows

MIB = 1024 * 1024
WORDS = (
    *("parcel", "refund", "kettle", "lamp", "mirror", "courier", "broken", "late", "again", "order", "number"),
    *("please", "café", "naïve", "über", "房间", "very"),
)
LABELS = ("billing", "shipping", "repair")
BLOCK_ROWS = 20_000
LEAST_MB_A_MINUTE = 100.0
MOST_RESIDENT_MB = 500.0


def measure(*, mode: str, megabytes: int) -> Record:
    """Megabytes a minute and resident megabytes, for each of the two formats."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder, Box(Path(folder) / "home") as box:
        for form in ("csv", "jsonl"):
            path = Path(folder) / f"rows.{form}"
            rows = _write(path, form, megabytes * MIB)
            found = _read_in_a_child(path)
            if found["rows"] != rows:
                raise AssertionError(f"{form}: {found['rows']:,} rows were read of {rows:,}")
            size = path.stat().st_size / 1e6
            rate = size / found["seconds"] * 60
            note = f"{size:,.0f} MB, {rows:,} rows in {found['seconds']:.1f} s, {found['cpu']:.1f} s of CPU"
            figures += [
                Figure(f"{form}: read", rate, "MB/min", target=Target(LEAST_MB_A_MINUTE), note=note),
                Figure(f"{form}: resident", found["resident"], "MB", target=Target(MOST_RESIDENT_MB, at_most=True)),
            ]
            figures += _import(box, path, form, rows)
            path.unlink()
    return Record("data", mode, {"megabytes": megabytes}, tuple(figures))


def _import(box: Box, path: Path, form: str, rows: int) -> list[Figure]:
    """The same file imported by a process of the daemon."""
    body = {"name": form, "task": "classify", "data": str(path)}
    with Client(box.url) as client:
        pid = int(box.ask("POST", "/v1/datasets", body)["pid"])
        peaks = {"own": 0.0, "resident": 0.0}
        for event in client.watch(pid):
            if event.process is not None and event.process.os_pid is not None:
                found = _memory_mb(event.process.os_pid)
                peaks = {name: max(peaks[name], found.get(name, 0.0)) for name in peaks}
        process = client.wait(pid)
        if client.dataset(form).splits != {"train": rows}:
            raise AssertionError(f"{form}: the import has {client.dataset(form).splits}, not {rows:,} rows")
    size = path.stat().st_size / 1e6
    seconds = (process.ended_at or 0.0) - (process.started_at or 0.0)
    note = f"{rows:,} rows in {seconds:.1f} s, {process.usage.cpu_s:.1f} s of CPU"
    return [
        Figure(f"{form}: imported", size / seconds * 60, "MB/min", target=Target(LEAST_MB_A_MINUTE), note=note),
        Figure(f"{form}: import, own", peaks["own"], "MB"),
        Figure(f"{form}: import, resident", peaks["resident"], "MB", target=Target(MOST_RESIDENT_MB, at_most=True)),
    ]


def _memory_mb(os_pid: int) -> dict[str, float]:
    """What a process holds now, alone and with what it shares; nothing if it has ended."""
    try:
        lines = Path(f"/proc/{os_pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    sizes = {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines)}
    return {"own": sizes["Private_Clean"] + sizes["Private_Dirty"], "resident": sizes["Rss"]}


def _write(path: Path, form: str, size: int) -> int:
    """Rows of made texts until the file has this size; every block is written again and again with another number."""
    block = _block(form)
    count = 0
    with path.open("w", encoding="utf-8", newline="") as out:
        if form == "csv":
            out.write("text,label\n")
        written = 0
        while written < size:
            written += out.write(block)
            count += BLOCK_ROWS
    return count


def _block(form: str) -> str:
    drawn = random.Random(7)
    rows = [
        (
            " ".join(drawn.choices(WORDS, k=drawn.randint(5, 40))) + drawn.choice((".", ', "said".')),
            drawn.choice(LABELS),
        )
        for _ in range(BLOCK_ROWS)
    ]
    if form == "jsonl":
        return "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _read_in_a_child(path: Path) -> dict[str, Any]:  # Any: numbers
    done = subprocess.run([sys.executable, "-m", "bench.reading", path], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _read(path: str) -> dict[str, float]:
    start = time.monotonic()
    rows = sum(1 for _ in stream_rows(path, Data(path), "classify", {}))
    seconds, cpu = time.monotonic() - start, time.process_time()
    return {
        "rows": rows,
        "seconds": seconds,
        "cpu": cpu,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


if __name__ == "__main__":
    print(json.dumps(_read(sys.argv[1])))
