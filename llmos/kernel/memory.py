"""The memory ledger: which process holds how many bytes of which device. It counts; it frees nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.error import Internal, NoRoom
from llmos.abi.model import Manifest, Part
from llmos.abi.process import Program, Spec

MIB = 1024 * 1024
CHILD_BYTES = 160 * MIB  # private memory of a forked child before it loads anything
WORKSPACE_BYTES = 256 * MIB  # activations and scratch buffers of a serving forward pass
BYTES_PER_TOKEN_UNIT = 40  # activations kept for the backward pass: bytes per token, hidden unit and layer, about


class Ledger:
    """The account of all leases. Every sum is kept twice, in the leases and per device, so that it can audit itself."""

    def __init__(self, devices: Iterable[Device] = (), share: float = 1.0) -> None:
        self._capacity: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._leases: dict[tuple[int, str, LeaseKind], int] = {}
        self.own(devices, share)

    def own(self, devices: Iterable[Device], share: float) -> None:
        """Lease from these devices from now on, this share of each one's memory."""
        self._capacity = {device.name: int(device.memory_bytes * share) for device in devices}

    def capacity(self, device: str) -> int:
        if device not in self._capacity:
            raise NoRoom(
                f"No device {device!r} here; there are: {', '.join(self._capacity) or 'none yet'}",
                device=device,
                need_bytes=0,
                free_bytes=0,
            )
        return self._capacity[device]

    def free(self, device: str) -> int:
        """Bytes of this device nobody holds; below zero if the device shrank under its leases."""
        return self.capacity(device) - self._used.get(device, 0)

    def take(self, lease: Lease) -> None:
        """Add a lease to what its process holds; NoRoom, with the numbers, if the device has not the bytes."""
        if lease.size_bytes > self.free(lease.device):
            raise no_room(lease.device, lease.size_bytes, self.free(lease.device))
        self.book(lease)

    def book(self, lease: Lease) -> None:
        """Add a lease that was found to fit; a replay books again what fitted then, whatever the device has now."""
        assert lease.size_bytes >= 0, f"a lease of {lease.size_bytes} bytes for pid {lease.pid}"
        if lease.size_bytes:
            key = (lease.pid, lease.device, lease.kind)
            self._leases[key] = self._leases.get(key, 0) + lease.size_bytes
            self._used[lease.device] = self._used.get(lease.device, 0) + lease.size_bytes

    def give_back(self, lease: Lease) -> None:
        """Take a part of what a process holds away from it again."""
        key = (lease.pid, lease.device, lease.kind)
        left = self._leases.get(key, 0) - lease.size_bytes
        assert left >= 0, f"pid {lease.pid} gives back {lease.size_bytes} bytes and holds {left + lease.size_bytes}"
        self._used[lease.device] = self._used.get(lease.device, 0) - lease.size_bytes
        if left:
            self._leases[key] = left
        else:
            self._leases.pop(key, None)

    def release(self, pid: int) -> int:
        """Everything a process holds comes free; returns how many bytes that were."""
        held = [lease for lease in self.leases() if lease.pid == pid]
        for lease in held:
            self.give_back(lease)
        return sum(lease.size_bytes for lease in held)

    def held(self, pid: int, device: str) -> int:
        return sum(size for (owner, where, _), size in self._leases.items() if owner == pid and where == device)

    def leases(self) -> tuple[Lease, ...]:
        return tuple(Lease(pid, device, kind, size) for (pid, device, kind), size in self._leases.items())

    def audit(self, living: Iterable[int]) -> None:
        """Raises Internal, with the numbers, if sums and leases differ or somebody who is gone still holds bytes."""
        sums: dict[str, int] = dict.fromkeys(self._used, 0)
        for lease in self.leases():
            sums[lease.device] = sums.get(lease.device, 0) + lease.size_bytes
        if sums != self._used:
            raise Internal(f"The ledger says {self._used} bytes are leased, its leases add up to {sums}")
        strays = sorted({lease.pid for lease in self.leases()} - set(living))
        if strays:
            held = {pid: sum(lease.size_bytes for lease in self.leases() if lease.pid == pid) for pid in strays}
            raise Internal(f"The ledger has leases of processes that do not run (pid: bytes): {held}")


def no_room(device: str, need_bytes: int, free_bytes: int) -> NoRoom:
    return NoRoom(
        f"{device} has {max(free_bytes, 0) / MIB:,.0f} MiB free and this needs {need_bytes / MIB:,.0f} MiB. "
        "End a process (llmos ps, llmos kill), or raise memory_share",
        device=device,
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )


def need_of(
    spec: Spec, manifests: Mapping[str, Manifest], kv_bytes: int = 0, resident_bytes: int = 0
) -> dict[LeaseKind, int]:
    """What a process will hold, estimated before it starts from the weights of the models its arguments name, and from
    the base's resident form, for packed weights are smaller on the disk."""
    weights = max((weights_bytes(manifest) for manifest in manifests.values()), default=0)
    is_smaller = any(manifest.dtype for manifest in manifests.values())  # than what it was made from: int8
    weights = resident_bytes if is_smaller and resident_bytes else max(weights, resident_bytes)
    match spec.program:
        case Program.TRAIN:
            return _need_of_training(spec, weights)
        case Program.SERVE | Program.EVALUATE | Program.QUANTIZE:
            needs = {LeaseKind.WEIGHTS: weights, LeaseKind.WORKSPACE: CHILD_BYTES + WORKSPACE_BYTES}
            is_generating = any("generate" in manifest.options.get("tasks", ()) for manifest in manifests.values())
            if spec.program is Program.SERVE and is_generating:
                needs[LeaseKind.KV] = kv_bytes
            return needs
        case Program.PULL | Program.PROBE:
            return {LeaseKind.WORKSPACE: CHILD_BYTES}


def _need_of_training(spec: Spec, weights: int) -> dict[LeaseKind, int]:
    tokens = spec.args.get("token_budget")
    budget = tokens if isinstance(tokens, int) and tokens > 0 else 4096
    is_lora = spec.args.get("method") == "lora"
    # Activations grow with tokens times width times depth; width times depth goes about with the root of the weights.
    activations = int(budget * BYTES_PER_TOKEN_UNIT * (weights / 4) ** 0.5)
    return {
        LeaseKind.WEIGHTS: weights,
        LeaseKind.OPTIMIZER: weights // 8 if is_lora else 3 * weights,  # gradients and two moments
        LeaseKind.ACTIVATIONS: activations,
        LeaseKind.WORKSPACE: CHILD_BYTES,
    }


def weights_bytes(manifest: Manifest) -> int:
    """The bytes of a model's own weights, heads and adapters; its base's are the base's."""
    kinds = (Part.WEIGHTS, Part.ADAPTER, Part.HEAD)
    return sum(file.size_bytes for file in manifest.files if file.part in kinds)
