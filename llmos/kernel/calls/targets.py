"""Resolves a model's name and a task to version, engine and device, and caches the result."""

from __future__ import annotations

from dataclasses import dataclass

from llmos.abi.capability import allowed_tasks
from llmos.abi.device import Device
from llmos.abi.engine import device_for, engine_of
from llmos.abi.error import WrongTask
from llmos.abi.form import INT8
from llmos.abi.model import Kind, Manifest
from llmos.kernel.processes.process_table import ProcessTable
from llmos.kernel.store.store import Store


@dataclass(frozen=True, slots=True)
class Target:
    """What answers a call: a version (`model`), for a task, and the base, device and engine of its serve process."""

    model: str
    task: str
    base: str
    device: str
    engine: str


class Targets:
    """Each is kept once it was found; all are forgotten when the store or the devices change."""

    def __init__(self, store: Store, table: ProcessTable, engine: str) -> None:
        self._store = store
        self._table = table
        self._engine = engine  # of the box, where neither call nor manifest names one
        self._index, self._devices = store.index, table.devices  # of what is kept
        self._refs: dict[str, str] = {}
        self._targets: dict[tuple[str, str | None, str | None], Target] = {}

    def ref(self, model: str) -> str:
        """The version that a name means; raises what is wrong with it."""
        self._forget_old()
        found = self._refs.get(model)
        if found is None:
            found = self._refs[model] = self._index.resolve(model).ref
        return found

    def find(self, model: str, task: str | None, engine: str | None) -> Target:
        """Raises what is wrong with the name, the task asked of it, or the engine."""
        self._forget_old()
        key = (model, task, engine)
        found = self._targets.get(key)
        if found is None:
            found = self._targets[key] = self._find(self._index.resolve(model), task, engine)
        return found

    def _forget_old(self) -> None:
        index, devices = self._store.index, self._table.devices
        if index is not self._index or devices is not self._devices:
            self._index, self._devices = index, devices
            self._refs, self._targets = {}, {}

    def _find(self, manifest: Manifest, task: str | None, engine: str | None) -> Target:
        task, engine = task_of(manifest, task), engine_of(manifest, engine, self._engine)
        return Target(manifest.ref, task, manifest.base or manifest.ref, self._device(manifest, engine).name, engine)

    def _device(self, manifest: Manifest, engine: str) -> Device:
        """Where it is served: on a GPU where there is one and the engine may, but for int8, which CPUs compute."""
        found = next((one for one in self._devices if one.kind == "cpu" and manifest.dtype == INT8), None)
        return found or device_for(engine, self._devices)


def task_of(manifest: Manifest, task: str | None) -> str:
    """The task that is asked of a model; WrongTask if it does another."""
    does = allowed_tasks(manifest)
    if task is None:
        return manifest.task
    if task not in does:
        kind = "base" if manifest.kind is Kind.BASE else "model"
        raise WrongTask(
            f"{manifest.ref} is a {kind} for {' and '.join(does)}, not for {task}. Choose another model (llmos ls)",
            model=manifest.ref,
            task=task,
            has=list(does),
        )
    return task
