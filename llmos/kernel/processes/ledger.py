"""The memory ledger: bytes leased by each process on each device. It counts; it frees nothing itself."""

from __future__ import annotations

from collections.abc import Iterable

from llmos.abi.device import Device, Lease, LeaseKind
from llmos.abi.error import Internal, NoRoom

MIB = 1024 * 1024


class Ledger:
    """The account of all leases. Every sum is kept twice, per lease and per device, so that it can audit itself."""

    def __init__(self, devices: Iterable[Device] = (), share: float = 1.0) -> None:
        self._capacity: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._leases: dict[tuple[int, str, LeaseKind], int] = {}
        self.own(devices, share)

    def own(self, devices: Iterable[Device], share: float) -> None:
        """Set the devices, and the share of each one's memory that may be leased."""
        self._capacity = {device.name: int(device.memory_bytes * share) for device in devices}

    def capacity(self, device: str) -> int:
        if device not in self._capacity:
            raise NoRoom(
                f"No device {device!r} here; there are: {', '.join(self._capacity) or 'none yet'}",
                device=device,
                need_bytes=0,
                free_bytes=0,
                expected=list(self._capacity),
            )
        return self._capacity[device]

    def free(self, device: str) -> int:
        """The free bytes of this device; negative if the device shrank below its leases."""
        return self.capacity(device) - self._used.get(device, 0)

    def take(self, lease: Lease) -> None:
        """Add a lease; NoRoom, with the numbers, if the device lacks the bytes."""
        if lease.size_bytes > self.free(lease.device):
            raise no_room(lease.device, lease.size_bytes, self.free(lease.device))
        self.book(lease)

    def book(self, lease: Lease) -> None:
        """Add a lease without a check, because a replay must repeat what fitted then."""
        assert lease.size_bytes >= 0, f"a lease of {lease.size_bytes} bytes for pid {lease.pid}"
        if lease.size_bytes:
            key = (lease.pid, lease.device, lease.kind)
            self._leases[key] = self._leases.get(key, 0) + lease.size_bytes
            self._used[lease.device] = self._used.get(lease.device, 0) + lease.size_bytes

    def give_back(self, lease: Lease) -> None:
        """Return a part of what a process holds."""
        key = (lease.pid, lease.device, lease.kind)
        left = self._leases.get(key, 0) - lease.size_bytes
        assert left >= 0, f"pid {lease.pid} gives back {lease.size_bytes} bytes and holds {left + lease.size_bytes}"
        self._used[lease.device] = self._used.get(lease.device, 0) - lease.size_bytes
        if left:
            self._leases[key] = left
        else:
            self._leases.pop(key, None)

    def release(self, pid: int) -> int:
        """Release everything that a process holds; returns the bytes."""
        held = [lease for lease in self.leases() if lease.pid == pid]
        for lease in held:
            self.give_back(lease)
        return sum(lease.size_bytes for lease in held)

    def held_bytes(self, pid: int, device: str) -> int:
        return sum(size for (owner, where, _), size in self._leases.items() if owner == pid and where == device)

    def leases(self) -> tuple[Lease, ...]:
        return tuple(Lease(pid, device, kind, size) for (pid, device, kind), size in self._leases.items())

    def audit(self, living: Iterable[int]) -> None:
        """Raise Internal, with the numbers, if sums and leases differ or an ended process holds bytes."""
        sums: dict[str, int] = dict.fromkeys(self._used, 0)
        for lease in self.leases():
            sums[lease.device] = sums.get(lease.device, 0) + lease.size_bytes
        if sums != self._used:
            raise Internal(
                f"The ledger says {self._used} bytes are leased, its leases add up to {sums}", used=dict(self._used)
            )
        strays = sorted({lease.pid for lease in self.leases()} - set(living))
        if strays:
            held = {pid: sum(lease.size_bytes for lease in self.leases() if lease.pid == pid) for pid in strays}
            raise Internal(f"The ledger has leases of processes that do not run (pid: bytes): {held}", strays=held)


def no_room(device: str, need_bytes: int, free_bytes: int) -> NoRoom:
    return NoRoom(
        f"{device} has {max(free_bytes, 0) / MIB:,.0f} MiB free and this needs {need_bytes / MIB:,.0f} MiB. "
        "End a process (llmos ps, llmos kill), or raise memory_share",
        device=device,
        need_bytes=need_bytes,
        free_bytes=free_bytes,
    )
