"""Runs a short training with each tracker's real package, and reads back what it has: `make trackers`.

The packages are in an environment of their own, which also sees llmos's. Each tracker has a process of its own.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import tiny_training

from llmos.programs import train
from llmos.testing.daemon import beside

Found = tuple[dict[str, str], dict[str, float]]  # parameters, and the last value of each figure


BLOCK, HEADER = 32_768, 7  # of a .wandb file: a LevelDB log, whose first block begins with seven bytes of its own
FULL, FIRST, LAST = 1, 2, 4  # kinds of pieces


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of a .wandb file, each joined from its pieces."""
    data, at, record = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # padding at the end of a block
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        piece = data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        record = piece if kind in (FULL, FIRST) else record + piece
        if kind in (FULL, LAST):
            yield record


def from_wandb(folder: Path) -> Found:
    from wandb.proto import wandb_internal_pb2

    settings: dict[str, str] = {}
    figures: dict[str, float] = {}
    for file in sorted(folder.rglob("*.wandb")):
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            for item in record.history.item:
                value = json.loads(item.value_json)
                if isinstance(value, int | float):
                    figures[item.key or "/".join(item.nested_key)] = float(value)
            for item in (*record.config.update, *record.run.config.update):
                settings[item.key or "/".join(item.nested_key)] = item.value_json.strip('"')
    return settings, figures


def from_mlflow(folder: Path) -> Found:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("llmos").experiment_id])
    return dict(run.data.params), dict(run.data.metrics)


def from_trackio(folder: Path) -> Found:
    import sqlite3

    (file,) = folder.glob("*.db")
    with sqlite3.connect(file) as store:
        figures: dict[str, float] = {}
        for (text,) in store.execute("select metrics from metrics order by step"):
            figures |= {name: one for name, one in json.loads(text).items() if isinstance(one, int | float)}
        settings: dict[str, str] = {}
        for (text,) in store.execute("select config from configs"):
            settings |= {name: str(one) for name, one in json.loads(text).items()}
    return settings, figures


READERS: dict[str, Callable[[Path], Found]] = {"wandb": from_wandb, "mlflow": from_mlflow, "trackio": from_trackio}


def track(name: str) -> None:
    """Train a tiny model with this tracker; its figures must be those of the evidence."""
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        recipe = {"task": "classify", "track": name, "data": {"train": str(tiny_training.sorting(folder))}}
        job = replace(tiny_training.assignment(folder, recipe), tracks=str(folder / "tracks"))
        daemon, channel, close = beside()
        train.main(channel, job)
        close()
        accuracy = daemon.offers[-1].draft["evidence"]["metrics"]["accuracy"]
        settings, figures = READERS[name](folder / "tracks" / name)
        assert abs(figures["test/accuracy"] - accuracy) < 1e-6, (figures, accuracy)
        assert {"train/loss", "train/rate"} <= figures.keys(), sorted(figures)
        assert settings["method"] == daemon.offers[-1].draft["method"], sorted(settings)
        print(f"{name}: {len(settings)} parameters, {len(figures)} figures, test accuracy {accuracy:.3f}", flush=True)


def main() -> None:
    """Every tracker, each in a process of its own; exits with 1 if one failed."""
    if len(sys.argv) > 1:
        track(sys.argv[1])
        return
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "MLFLOW_"))}
    ended = {name: subprocess.run([sys.executable, __file__, name], env=environment, check=False) for name in READERS}
    failed = [name for name, one in ended.items() if one.returncode]
    print(f"trackers that failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
