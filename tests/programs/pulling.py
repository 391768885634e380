"""What the tests of pull stand on: a channel that commits into a real store, and a folder that looks like a model."""

import json
import struct
from pathlib import Path

from llmos.abi.frame import Accepted, Job
from llmos.abi.model import Offer
from llmos.abi.process import Progress
from llmos.kernel.programs.pull import bases_of
from llmos.kernel.store.store import Store


class Box:
    """The daemon's side of a pull, without a daemon: keeps reports, commits offers."""

    def __init__(self, home: Path, pid: int = 1) -> None:
        self.home, self.pid, self.store = home, pid, Store(home)
        self.reports: list[Progress] = []
        self.offers: list[Offer] = []
        self.stop_after_bytes: float | None = None

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)

    @property
    def stop_asked(self) -> bool:
        done = max((r.done for r in self.reports if r.phase == "download"), default=0.0)
        return self.stop_after_bytes is not None and done >= self.stop_after_bytes

    def offer(self, offer: Offer) -> Accepted:
        self.offers.append(offer)
        kept = self.store.commit(offer, self.pid)
        if isinstance(kept, str):
            return Accepted(offer.offer_id, "", kept)
        if offer.verdict is not None and offer.verdict.promote:
            self.store.promote(kept.ref)
        return Accepted(offer.offer_id, kept.ref, self.store.located(kept.ref).folder)

    def assignment(self, source: str, dtype: str = "float32", **args: object) -> Job:
        scratch = self.home / "scratch" / str(self.pid)
        scratch.mkdir(parents=True, exist_ok=True)
        named = bases_of(self.store, dtype)
        return Job(self.pid, "pull", {"source": source, **args}, str(scratch), dtype=dtype, models=named)

    def phases(self) -> list[str]:
        return list(dict.fromkeys(report.phase for report in self.reports))


def safetensors(values: bytes = b"\0" * 16) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return struct.pack("<Q", len(header)) + header + values


ENCODER = {
    "config.json": json.dumps({"architectures": ["BertModel"], "max_position_embeddings": 512}).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": json.dumps({"model_max_length": 512}).encode(),
    "sentence_bert_config.json": json.dumps({"max_seq_length": 256}).encode(),
    "1_Pooling/config.json": json.dumps({"pooling_mode_cls_token": True}).encode(),
    "README.md": b"---\nlanguage: en\nlicense: MIT\n---\n# a model\n",
    "model.safetensors": safetensors(),
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
