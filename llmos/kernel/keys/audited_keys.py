"""Keys of a home whose daemon does not run: each change is in the audit log, too."""

from __future__ import annotations

from pathlib import Path

from llmos.abi.audit import OWNER, AuditEntry
from llmos.abi.key import ApiKey, NewKey
from llmos.kernel.audit.audit_log import AuditLog
from llmos.kernel.keys.key_store import KeyStore


class AuditedKeys:
    """The keys of one home, changed by its owner, who holds the home."""

    def __init__(self, home: Path) -> None:
        self._keys = KeyStore(home)
        self._audit = AuditLog(home)

    def all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        return self._keys.all()

    def create(self, wanted: ApiKey) -> NewKey:
        """Make a key; without an entry of it, it is not told to anybody."""
        made = self._keys.create(wanted)
        self._note("key create", made.key.id)
        return made

    def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        """Give a key another secret."""
        made = self._keys.rotate(key_id, grace_s)
        self._note("key rotate", key_id)
        return made

    def remove(self, key_id: str) -> ApiKey:
        """Remove a key."""
        removed = self._keys.remove(key_id)
        self._note("key rm", key_id)
        return removed

    def _note(self, what: str, ref: str) -> None:
        self._audit.append([AuditEntry(OWNER, what, ref)])
