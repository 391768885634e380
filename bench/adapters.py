"""Mixed adapters: sixteen LoRA models in a row beside the base alone and PEFT's mixed batches; two hundred attached."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from bench import data
from bench.box import Box
from bench.child import Child
from bench.engine import MODEL, TOKEN_BUDGET, base_path, vectors
from bench.equality import least_cosine
from bench.record import Figure, Record, Target, figure, ratios
from bench.rounds import per_second, take_turns
from llmos.abi.call import Call, Chunk
from llmos.abi.error import error_of
from llmos.abi.frame import ModelPath
from llmos.abi.model import Kind, Manifest
from llmos.abi.recipe import Lora
from llmos.engines import driver
from llmos.nn.adapters.adapter_file import WEIGHTS
from llmos.nn.load import load_folder, torch_device
from llmos.testing import adapters

MIXED, ATTACHED = 16, 200
CALL_TEXTS = 4  # texts a call: so many models come to share a row
PEER_BATCH = 32
SINGLES = 100  # calls of one text, one after the other, a round
LORA = Lora()  # the rank and the targets that `llmos train --method lora` has by default
DTYPE = "float32"
MIB = 2**20
SAME = Target(0.99999)
P50 = Target(1.2, at_most=True)
MEMORY = Target(2.0, at_most=True)

BASE = "llmos, base alone"
ONE = "llmos, one LoRA model"
MANY = f"llmos, {MIXED} LoRA models in one row"
PEER = f"PEFT adapter_names, {MIXED} adapters"
PEER_SORTED = f"{PEER}, sorted by length"

RATIOS = (
    (MANY, BASE, Target(0.85)),
    (ONE, BASE, None),
    (MANY, PEER, Target(2.0)),
    (MANY, PEER_SORTED, None),
)


def measure(folder: Path, home: Path, *, rounds: int, count: int, device: str | None, mode: str) -> Record:
    """Engine and PEFT on the same texts and adapters, round by round; then serve processes with one and with many."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    texts = data.ragged_texts(folder, count)
    with ExitStack() as stack:
        with Box(home) as box:
            base, name = box.base(), box.device(device)["name"]
        models = made(base, Path(stack.enter_context(TemporaryDirectory())), ATTACHED)
        engine = Engine(base, models[:MIXED], texts, name)
        peer = Peer(base, models[:MIXED], texts, torch_device(name))
        contenders: dict[str, Callable[[], np.ndarray]] = {
            BASE: lambda: engine.run([MODEL]),
            ONE: lambda: engine.run([models[0].manifest.ref]),
            MANY: lambda: engine.run([model.manifest.ref for model in models[:MIXED]]),
            PEER: lambda: peer.run(range(count)),
            PEER_SORTED: lambda: peer.run(peer.by_length),
        }
        answers = {one: run() for one, run in contenders.items()}  # which is also their warming up
        rates = per_second(take_turns(contenders, rounds), sum(peer.lengths))
        attached = _measure_attached(base, models, texts, rounds, name)
    shown = [figure(f"{ours} / {theirs}", ratios(rates, ours, theirs), "x", target=t) for ours, theirs, t in RATIOS]
    shown.append(Figure("least cosine, mixed rows to PEFT's", least_cosine(answers[MANY], answers[PEER]), target=SAME))
    shown.append(Figure("least cosine, mixed rows to the base's", least_cosine(answers[MANY], answers[BASE])))
    shown += [*attached, *(figure(one, rates[one], "tokens/s") for one in rates)]
    settings = {
        "device": name,
        "dtype": DTYPE,
        "threads": torch.get_num_threads(),
        "rank": LORA.rank,
        "targets": "all linear",
        "texts": count,
        "tokens": f"{sum(peer.lengths):,}",
        "texts a call": CALL_TEXTS,
        "PEFT's batch": PEER_BATCH,
        "rounds": rounds,
    }
    return Record("adapters", mode, settings, tuple(shown))


def made(base: Path, root: Path, count: int) -> list[ModelPath]:
    """So many LoRA models that embed: random adapters of the default rank on every linear layer of the base."""
    backbone = load_folder(base).backbone
    models = []
    for index in range(count):
        folder = adapters.write(
            root / f"lora-{index:03d}", backbone, rank=LORA.rank, seed=index, lora_alpha=LORA.alpha, strength=0.2
        )
        manifest = Manifest(f"lora-{index:03d}", 1, Kind.MODEL, "embed", (), base=MODEL, method="lora")
        models.append(ModelPath(manifest, str(folder)))
    return models


class Engine:
    """The PyTorch engine in this process with a base and LoRA models on it."""

    def __init__(self, base: Path, models: Sequence[ModelPath], texts: Sequence[str], device: str) -> None:
        self._engine = driver("pytorch", TOKEN_BUDGET)
        self._engine.load(base_path(base), device, DTYPE, threads=0)
        for model in models:
            self._engine.attach(model)
        self._texts = texts

    def run(self, models: Sequence[str]) -> np.ndarray:
        """All texts as calls of a few, in the order of arrival, to each of these models in turn."""
        for index, start in enumerate(range(0, len(self._texts), CALL_TEXTS)):
            some = tuple(self._texts[start : start + CALL_TEXTS])
            self._engine.add(Call(index, models[index % len(models)], "embed", some))
        chunks: list[Chunk] = []
        while not self._engine.is_idle:
            chunks += self._engine.step()
        return vectors(chunks)


class Peer:
    """PEFT's way: one model with all adapters, and the name of an adapter for each text of a padded batch."""

    def __init__(self, base: Path, models: Sequence[ModelPath], texts: Sequence[str], device: torch.device) -> None:
        plain = AutoModel.from_pretrained(base, dtype=torch.float32, add_pooling_layer=False)
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        first, *rest = models
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft reads names that transformers is about to drop
            self._model = PeftModel.from_pretrained(plain, first.folder, adapter_name=first.manifest.name)
            for model in rest:
                self._model.load_adapter(model.folder, adapter_name=model.manifest.name)
        self._model.to(device).eval()
        self._device = device
        self._texts = texts
        self._names = [models[i // CALL_TEXTS % len(models)].manifest.name for i in range(len(texts))]
        self.lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        self.by_length = sorted(range(len(texts)), key=lambda i: self.lengths[i])

    @torch.inference_mode()
    def run(self, order: Sequence[int]) -> np.ndarray:
        """Every text's vector, computed in batches of this order."""
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), PEER_BATCH):
            some = order[start : start + PEER_BATCH]
            inputs = self._tokenizer([self._texts[i] for i in some], padding=True, return_tensors="pt").to(self._device)
            hidden = self._model(**inputs, adapter_names=[self._names[i] for i in some]).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = (hidden * mask).sum(1) / mask.sum(1)
            found |= zip(some, torch.nn.functional.normalize(means).cpu().numpy(), strict=True)
        return np.stack([found[i] for i in range(len(order))])


def _measure_attached(
    base: Path, models: Sequence[ModelPath], texts: Sequence[str], rounds: int, device: str
) -> list[Figure]:
    """Two serve processes, one with a model, the other with all of them: single calls by turns, and what they hold."""
    refs = [model.manifest.ref for model in models]
    singles = [texts[i % len(texts)] for i in range(SINGLES)]
    one, other = (Child(base_path(base), device=device, dtype=DTYPE) for _ in range(2))
    with one as few, other as many:
        few.attach(models[:1])
        for text in singles[: SINGLES // 2]:  # warms both up, so that what grows from here on is the models
            _seconds(few, refs[0], text)
            _seconds(many, MODEL, text)
        before_bytes = many.rss_bytes
        start = time.perf_counter()
        many.attach(models)
        _seconds(many, refs[-1], singles[0])
        attach_s = time.perf_counter() - start
        p50 = [_p50s(few, many, refs, singles) for _ in range(rounds)]
        grown_bytes = many.rss_bytes - before_bytes
    file_bytes = sum((Path(model.folder) / WEIGHTS).stat().st_size for model in models)
    count = len(models)
    return [
        figure(f"p50 of a call, {count} attached / 1", [all_s / one_s for one_s, all_s in p50], "x", target=P50),
        figure("p50 of a call, 1 attached", [one_s * 1e3 for one_s, _ in p50], "ms"),
        figure(f"p50 of a call, {count} attached", [all_s * 1e3 for _, all_s in p50], "ms", note="each model in turn"),
        Figure("memory of a model over its files", (grown_bytes - file_bytes) / count / MIB, "MiB", target=MEMORY),
        Figure("files of a model", file_bytes / count / MIB, "MiB", note="mapped; all of it read"),
        Figure("attaching a model", attach_s / count * 1e3, "ms", note=f"{count} at once"),
    ]


def _p50s(few: Child, many: Child, refs: Sequence[str], texts: Sequence[str]) -> tuple[float, float]:
    """Seconds of a call to the one model here and to each of the many there, call by call in turn."""
    pairs = [
        (_seconds(few, refs[0], text), _seconds(many, refs[index % len(refs)], text))
        for index, text in enumerate(texts)
    ]
    return median(one for one, _ in pairs), median(other for _, other in pairs)


def _seconds(child: Child, model: str, text: str) -> float:
    start = time.perf_counter()
    chunk = child.ask(Call(0, model, "embed", (text,)))
    took = time.perf_counter() - start
    if chunk.fault is not None:
        raise error_of(chunk.fault)
    return took
