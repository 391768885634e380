"""Keys for the API: found in memory, written in a thread, each with the ledger of its limits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from llmos.abi.error import Conflict
from llmos.abi.key import ApiKey, NewKey, digest_of, id_in
from llmos.kernel.keys.key_ledger import KeyLedger, Moment
from llmos.kernel.keys.key_store import KeyStore, StoredKey, is_secret_of
from llmos.kernel.keys.local_key import LOCAL, forget_local_key, make_local_key

log = logging.getLogger(__name__)


class KeyService:
    """Finds, makes, rotates and removes keys. With `must_stay`, the last one cannot be removed.

    `clock` is wall time, for what is stored and for days; `steady` is monotonic, for minutes. `used_today` are the
    requests and tokens that a key had used today before this start.
    """

    def __init__(
        self,
        home: Path,
        *,
        must_stay: bool = False,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        used_today: Callable[[str], tuple[int, int]] = lambda key_id: (0, 0),
    ) -> None:
        self._used_today = used_today
        self._home = home
        self._must_stay = must_stay
        self._clock, self._steady = clock, steady
        self._store = KeyStore(home, clock)
        self._local: StoredKey | None = None
        self._ledgers: dict[str, KeyLedger] = {}  # of keys that are there
        self._writing = asyncio.Lock()

    def open_local(self) -> None:
        """Make the key of this user's own commands. Without room for it the daemon starts all the same."""
        try:
            self._local = make_local_key(self._home)
        except OSError as error:
            log.error("no key for this user's own commands: %s. Where keys are needed, give one: LLMOS_API_KEY", error)

    def close(self) -> None:
        """The daemon goes down: its own key is worth nothing any more."""
        forget_local_key(self._home)

    @property
    def is_needed(self) -> bool:
        """Whether requests need a key: as soon as there is one."""
        return len(self._store) > 0

    def moment(self) -> Moment:
        """Now, by both clocks."""
        return Moment(self._steady(), self._clock())

    def find(self, secret: str) -> ApiKey | None:
        """The key of this secret; None for an unknown one, of which nothing is kept."""
        key_id = id_in(secret)
        if self._local is not None and key_id == LOCAL:
            return self._local.key if is_secret_of(self._local, digest_of(secret), self._clock()) else None
        return self._store.find(secret, key_id)

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id as it is now; None if it was removed."""
        if self._local is not None and key_id == LOCAL:
            return self._local.key
        return self._store.get(key_id)

    def ledger(self, key: ApiKey) -> KeyLedger:
        """The ledger of this key's limits."""
        found = self._ledgers.get(key.id)
        if found is None:
            found = self._ledgers[key.id] = KeyLedger(key)
            found.restore(*self._used_today(key.id), self.moment())
        return found

    def all(self) -> list[ApiKey]:
        return self._store.all()

    async def create(self, wanted: ApiKey) -> NewKey:
        async with self._writing:
            return await asyncio.to_thread(self._store.create, wanted)

    async def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        async with self._writing:
            return await asyncio.to_thread(self._store.rotate, key_id, grace_s)

    async def remove(self, key_id: str) -> ApiKey:
        async with self._writing:
            if self._must_stay and [one.id for one in self._store.all()] == [key_id]:
                raise Conflict(
                    f"{key_id} is the last key, and the daemon listens on an address that other machines can reach: "
                    "without a key anybody there could use it. Make another one first: llmos key create",
                    id=key_id,
                )
            removed = await asyncio.to_thread(self._store.remove, key_id)
            self._ledgers.pop(key_id, None)
            return removed
