"""The vLLM engine: starts vLLM's server for a base and sends it the calls."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from llmos.abi.call import Chunk
from llmos.abi.engine import weights_of
from llmos.abi.error import BadInput
from llmos.abi.frame import ModelPath
from llmos.abi.task import open_ended_tasks
from llmos.engines.external_generation import ExternalEngine
from llmos.engines.vllm.server import VllmServer
from llmos.engines.vllm.writer import Vllm
from llmos.nn.text.tokenizer import FastTokenizer
from llmos.tasks import Settings

SLOTS = 128  # answers at a time
KV_BYTES = 1 << 30
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DEFAULT_MAX_TOKENS = 4096  # for a base that states no limit


class VllmEngine(ExternalEngine):
    """Generates with a vLLM server, on a GPU."""

    name = "vllm"

    def __init__(self, token_budget: int = 0, kv_bytes: int = KV_BYTES, command: str = "vllm") -> None:
        """`token_budget` is ignored: vLLM decides how many tokens a step has."""
        super().__init__()
        self._kv_bytes = kv_bytes
        self._command = command
        self.server: VllmServer | None = None

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        manifest, folder = base.manifest, Path(base.folder)
        self.check_base(manifest)
        if not device.startswith("cuda"):
            raise BadInput(
                f"The engine vllm computes on a GPU, and {device} is none. Ask another engine: pytorch",
                key="engine",
                value="vllm",
                device=device,
            )
        tokenizer = FastTokenizer(folder, manifest.ref)
        options = manifest.options
        room = int(options.get("max_tokens") or tokenizer.max_tokens or DEFAULT_MAX_TOKENS)
        self.server = VllmServer(
            self._command, arguments(base, dtype, room, self._kv_bytes), int(device.removeprefix("cuda"))
        )
        self.server.wait_ready()
        tasks = tuple(str(task) for task in options.get("tasks", open_ended_tasks()))
        writer = Vllm(self.server, manifest.ref, tokenizer, SLOTS, room)
        self.serve(writer, manifest.ref, tasks, Settings((), options, room))
        return sum(weights_bytes(folder / path, dtype) for path in weights_of(manifest))

    def step(self) -> list[Chunk]:
        """Raises ProcessDied once the server has ended, because this process is then useless."""
        if self.server is not None and self.server.has_ended:
            raise self.server.death()
        return super().step()

    @property
    def is_idle(self) -> bool:
        return self.server is None or (super().is_idle and not self.server.has_ended)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        self.server = None


def arguments(base: ModelPath, dtype: str, room: int, kv_bytes: int) -> list[str]:
    """The command's arguments, except for its address."""
    return [
        "serve",
        base.folder,
        "--served-model-name",
        base.manifest.ref,
        "--dtype",
        dtype if dtype in ITEM_BYTES else "auto",  # int8 is our own format, unknown to vLLM
        "--max-model-len",
        str(room),
        "--max-num-seqs",
        str(SLOTS),
        "--kv-cache-memory-bytes",
        str(kv_bytes),
    ]


def weights_bytes(path: Path, dtype: str) -> int:
    """The bytes of a file's weights in this dtype."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(size))
    shapes = [entry["shape"] for name, entry in entries.items() if name != "__metadata__"]
    return sum(map(math.prod, shapes)) * ITEM_BYTES.get(dtype, 2)
