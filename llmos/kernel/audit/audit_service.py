"""The audit log for the daemon: entries of one moment are written together, by a thread, then acknowledged."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from dataclasses import fields
from pathlib import Path

from llmos import __version__
from llmos.abi.audit import DAEMON, AuditEntry, AuditFilter, AuditReport
from llmos.config import Config
from llmos.kernel.audit.audit_files import FOLDER
from llmos.kernel.audit.audit_log import AuditLog
from llmos.kernel.store import disk

SETTINGS = "settings.json"  # in the log's folder: a digest of each setting, so that a change is seen
SALT_BYTES = 16
log = logging.getLogger(__name__)


class AuditService:
    """Writes, finds and verifies entries. An entry that cannot be written is said in the daemon's log."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._log = AuditLog(home)
        self._waiting: list[AuditEntry] = []
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost_count = 0

    async def add(self, entry: AuditEntry) -> None:
        """Write this entry; at the end it is on the disk, or was lost and counted."""
        self._waiting.append(entry)
        async with self._writing:
            waiting, self._waiting = self._waiting, []
            if waiting:  # else another has written it with its own
                await asyncio.shield(asyncio.to_thread(self._write, waiting))

    def note(self, entry: AuditEntry) -> None:
        """Write this entry soon."""
        task = asyncio.get_running_loop().create_task(self.add(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def find(self, wanted: AuditFilter) -> list[AuditEntry]:
        """The newest entries that are wanted, the newest first."""
        return await asyncio.to_thread(self._log.find, wanted)

    async def verify(self) -> AuditReport:
        """Read the whole log, and say where it is not as it was written."""
        return await asyncio.to_thread(self._log.verify)

    async def began(self, config: Config) -> None:
        """The daemon has started; which settings differ from those of its last start."""
        changed = await asyncio.to_thread(self._changed_settings, config)
        await self.add(AuditEntry(DAEMON, "start", f"version {__version__}"))
        if changed:
            await self.add(AuditEntry(DAEMON, "settings", ", ".join(changed)))

    async def note_end(self) -> None:
        """The daemon ends: what waits is written, and that it ends."""
        if self._tasks:
            await asyncio.gather(*self._tasks)
        await self.add(AuditEntry(DAEMON, "stop"))

    def _write(self, entries: list[AuditEntry]) -> None:
        try:
            self._log.append(entries)
        except OSError as error:
            self.lost_count += len(entries)
            said = ", ".join(f"{one.what} {one.ref} by {one.who or 'nobody'}: {one.outcome}" for one in entries[:3])
            log.error("the audit log lost %d entries (%s): %s", len(entries), said, error)

    def _changed_settings(self, config: Config) -> list[str]:
        """The names of settings that differ from the last start; nothing of their values is kept but a digest."""
        path = self._home / FOLDER / SETTINGS
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError):
            before = {}
        before = before if isinstance(before, dict) else {}
        salt = bytes.fromhex(before["salt"]) if isinstance(before.get("salt"), str) else secrets.token_bytes(SALT_BYTES)
        now = {
            one.name: hmac.digest(salt, repr(getattr(config, one.name)).encode(), "sha256").hex()
            for one in fields(config)
        }
        changed = [name for name, digest in now.items() if before and before.get(name) != digest]
        if changed or not before:
            try:
                disk.make_folder(path.parent)
                disk.write(path, json.dumps({"salt": salt.hex(), **now}).encode())
            except OSError as error:
                log.error("%s is not written: %s", path, error)
        return changed
