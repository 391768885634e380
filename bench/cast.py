"""The cast of a soak: the models that are asked. Some are trained, some are random LoRA models, some come and go."""

from __future__ import annotations

from pathlib import Path

from bench import pupils
from bench.box import Box
from llmos.abi.model import File, Kind, Manifest
from llmos.abi.wire import from_plain
from llmos.kernel.store.resident_forms import form_name
from llmos.nn.load import load_folder
from llmos.testing import adapters

BASES = ("smollm2", "minilm")
TRAINED = {"soak-mood": "classify", "soak-names": "tag"}
LORA = {"soak-voice-1": "smollm2", "soak-voice-2": "smollm2", "soak-vector-1": "minilm", "soak-vector-2": "minilm"}
GUESTS = {"soak-guest": ("soak-voice-1", "soak-voice-2"), "soak-passing": ("soak-vector-1", "soak-vector-2")}


class Cast:
    """Everybody is in the store once this is made; a guest is another name for the adapter of one who stays."""

    def __init__(self, box: Box, scratch: Path, folder: Path) -> None:
        self._box, self._scratch = box, scratch
        for name in BASES:
            box.base(name)
        for name, task in zip(BASES, ("generate", "embed"), strict=True):  # which makes the form that is served
            box.ask("POST", f"/v1/tasks/{task}", {"model": name, "input": "Hello."})
        pupils.ensure(box, TRAINED, folder, scratch)
        there = {model["name"] for model in box.ask("GET", "/v1/models")["data"]}
        for name in {*LORA, *GUESTS} & there:
            self.go(name)
        self._write()
        for name in LORA:
            self.come(name, name)

    def come(self, name: str, which: str) -> None:
        """The adapter of `which` as a model of this name."""
        body = {"source": str(self._scratch / which), "name": name, "base": LORA[which]}
        pupils.finish(self._box, self._box.ask("POST", "/v1/models/pull", body)["pid"], f"the pull of {name}")

    def go(self, name: str) -> None:
        """Forget all versions of this name."""
        self._box.ask("DELETE", f"/v1/models/{name}")

    def _write(self) -> None:
        """Random adapters: they know nothing, and each answers in a way of its own."""
        for base in BASES:
            files = from_plain(self._box.ask("GET", f"/v1/models/{base}")["files"], tuple[File, ...])
            form = form_name(Manifest(base, 1, Kind.BASE, "", files), "float32")
            backbone = load_folder(self._box.home / "resident" / form).backbone
            for seed, name in enumerate(one for one, on in LORA.items() if on == base):
                adapters.write(self._scratch / name, backbone, rank=8, seed=seed, strength=0.1)
