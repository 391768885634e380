"""The llama.cpp engine: starts llama.cpp's server in this process and sends it the calls."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from llmos.abi.engine import ENGINES, weights_of
from llmos.abi.error import BadInput, Missing
from llmos.abi.frame import ModelPath
from llmos.abi.task import open_ended_tasks, spec_of
from llmos.engines.external_generation import ExternalEngine
from llmos.engines.llamacpp.header import Header, read_controls, read_header
from llmos.engines.llamacpp.place import Place
from llmos.engines.llamacpp.tokenizer import ServedTokenizer
from llmos.engines.llamacpp.writer import LlamaCpp
from llmos.tasks import Settings

SLOTS = 16  # answers at a time
BATCH_TOKENS = 256  # of one prefill pass: streams and cancellations wait no longer than this takes
KV_BYTES = 1 << 30


class LlamaCppEngine(ExternalEngine):
    """Generates with llama.cpp from a GGUF file."""

    name = "llamacpp"

    def __init__(self, token_budget: int = BATCH_TOKENS, kv_bytes: int = KV_BYTES) -> None:
        super().__init__()
        self._batch = min(token_budget, BATCH_TOKENS)
        self._kv_bytes = kv_bytes
        self._llamacpp: LlamaCpp | None = None

    def load(self, base: ModelPath, device: str, dtype: str, threads: int) -> int:
        self.check_base(base.manifest)
        path = Path(base.folder) / weights_of(base.manifest)[0]
        header = read_header(path)
        room, capacity = room_of(header, self._kv_bytes, base.manifest.options.get("max_tokens"))
        place = Place()
        try:
            server = _server(path, place.socket, capacity, self._batch, threads)
        except BaseException:
            place.close()
            raise
        tokenizer = ServedTokenizer(place.socket, header, read_controls(path), base.manifest.ref)
        self._llamacpp = LlamaCpp(server, place, tokenizer, SLOTS, room, capacity, header)
        chats = "tokenizer.chat_template" in header.entries
        tasks = tuple(name for name in open_ended_tasks() if chats or not spec_of(name).is_conversation)
        settings = Settings((), base.manifest.options, room)
        self.serve(self._llamacpp, base.manifest.ref, tasks, settings)
        return path.stat().st_size

    def close(self) -> None:
        """Free the weights. A serve process does not call it: its exit frees them."""
        if self._llamacpp is not None:
            self._llamacpp.close()
        self._llamacpp = None


def room_of(header: Header, kv_bytes: int, limit: object) -> tuple[int, int]:
    """The most tokens of one answer with its prompt, and of all answers together."""
    most = int(limit) if isinstance(limit, int) else header.max_tokens
    capacity = min(kv_bytes // max(header.token_bytes, 1), SLOTS * most)
    if capacity < 1 or most < 1:
        raise BadInput(
            f"kv_bytes is {kv_bytes:,}, and one token takes {header.token_bytes:,} bytes of KV cache. Raise kv_bytes",
            key="kv_bytes",
            value=kv_bytes,
            least=header.token_bytes,
        )
    return min(most, capacity), capacity


def _server(path: Path, socket: Path, capacity: int, batch: int, threads: int) -> object:
    try:
        library = import_module("xllamacpp")
    except ImportError as error:
        extra = ENGINES["llamacpp"].extra
        raise Missing(
            f"The engine llamacpp needs xllamacpp, which is not installed here ({error}). "
            f"Install it in llmos's folder: .venv/bin/pip install -e '.[{extra}]'",
            extra=extra,
        ) from error
    params = library.CommonParams()
    params.model.path = str(path)
    params.n_ctx = capacity
    params.n_parallel, params.kv_unified = SLOTS, True  # one pool, shared by all slots as needed
    params.n_batch = params.n_ubatch = batch
    params.cache_ram_mib = 0  # no prompt cache beside the pool, because its memory is in no account
    params.flash_attn_type = (
        library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )  # results in half precision depend on the other sequences in a batch
    params.fit_params = False
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or len(os.sched_getaffinity(0))
    params.hostnames = [str(socket)]
    params.ui = False
    params.verbosity = 1
    try:
        return library.Server(params)
    except RuntimeError as error:
        raise BadInput(
            f"llama.cpp cannot load {path.name}: {error}. Its log says more; llmos logs PID", file=path.name
        ) from error
