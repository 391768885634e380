"""The daemon itself: its state, devices, disk, keys, usage."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.abi.api_types import DiskUse, JournalSnapshot, Status, Verified
from llmos.abi.device import Device
from llmos.abi.key import ANY_MODEL, ApiKey, KeyLimits, KeyScope, NewKey
from llmos.abi.process import Priority
from llmos.abi.usage import UsagePart, UsageRow
from llmos.sdk import account_requests, request
from llmos.sdk.aio.connection import AsyncDaemonConnection


class AsyncBoxClient(AsyncDaemonConnection):
    """The daemon itself: its state, devices, disk, keys, usage."""

    async def status(self) -> Status:
        """The daemon at a glance."""
        return await self._ask(request.status())

    async def devices(self) -> list[Device]:
        """The processors the daemon owns."""
        return await self._ask(request.devices())

    async def disk(self) -> DiskUse:
        """The bytes in each part of the store."""
        return await self._ask(request.disk())

    async def gc(self) -> int:
        """Delete everything that no name refers to; returns the freed bytes."""
        return await self._ask(request.collect())

    async def snapshot(self) -> JournalSnapshot:
        """Write the snapshot beside the daemon's journal, with all that was acknowledged until now, for a backup."""
        return await self._ask(request.snapshot())

    async def verify(self) -> Verified:
        """Read every byte of the store; returns the files that are damaged."""
        return await self._ask(request.verify())

    async def keys(self) -> list[ApiKey]:
        """All keys, oldest first, without their secrets."""
        return await self._ask(request.keys())

    async def create_key(
        self,
        name: str = "",
        *,
        scopes: Sequence[KeyScope | str] = (KeyScope.INFER,),
        models: Sequence[str] = ANY_MODEL,
        expires_at: float | None = None,
        limits: KeyLimits | None = None,
        priority: Priority | str = Priority.INTERACTIVE,
    ) -> NewKey:
        """Make a key; its `secret` is shown nowhere else. `models` may be globs of names; `priority` is the highest."""
        return await self._ask(request.create_key(name, scopes, models, expires_at, limits, priority))

    async def rotate_key(self, key_id: str, *, grace_s: float = 0.0) -> NewKey:
        """Give a key another secret; the present one is taken for `grace_s` seconds more."""
        return await self._ask(request.rotate_key(key_id, grace_s))

    async def remove_key(self, key_id: str) -> list[str]:
        """Remove a key; returns its id."""
        return await self._ask(request.remove_key(key_id))

    async def usage(
        self,
        *by: UsagePart | str,
        since: str | None = None,
        until: str | None = None,
        key: str | None = None,
        model: str | None = None,
    ) -> list[UsageRow]:
        """Requests, errors and tokens, added up by "key", "model" and "day" or some of them; days are of UTC."""
        return await self._ask(account_requests.usage(by, since=since, until=until, key=key, model=model))
