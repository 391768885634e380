"""The keys of a home, in one small file: written whole and synced before anybody learns of a change.

It is not the journal. The first key is made before a daemon runs; and a journal that is put back to an earlier snapshot
would bring back keys that were removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hmac import compare_digest
from pathlib import Path

import msgspec

from llmos.abi.error import Conflict, Corrupt, KeyNotFound
from llmos.abi.key import ApiKey, NewKey, check_key, digest_of, id_in, make_id, make_secret
from llmos.kernel.store import disk

FILE = "keys.json"
MOST_KEYS = 10_000
FORM = 1


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with the SHA-256 of its secret, and that of the one before it, while that is still taken."""

    key: ApiKey
    sha256: str
    earlier_sha256: str = ""
    earlier_until: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyPage:
    """The content of the file."""

    keys: tuple[StoredKey, ...] = ()
    form: int = FORM


NOBODY = StoredKey(ApiKey(""), digest_of(""), digest_of(""))  # unknown keys are compared with it


def has_keys(home: Path) -> bool:
    """Whether a home has a key; Corrupt if its file cannot be read."""
    return bool(_read(home / FILE).keys)


class KeyStore:
    """The keys of one home. Open it once: whoever writes holds the home's lock."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = home / FILE
        self._clock = clock
        self._held: Mapping[str, StoredKey] = {one.key.id: one for one in _read(self._path).keys}

    def all(self) -> list[ApiKey]:
        """All keys, oldest first; those whose time is over, too."""
        return [one.key for one in self._held.values()]

    def __len__(self) -> int:
        return len(self._held)

    def find(self, secret: str, key_id: str | None = None) -> ApiKey | None:
        """The key of this secret, which names `key_id`, or None.

        It takes as long for an unknown one, and nothing is kept of it.
        """
        one = self._held.get(id_in(secret) if key_id is None else key_id, NOBODY)
        is_it = is_secret_of(one, digest_of(secret), self._clock())
        return one.key if is_it and one is not NOBODY else None

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, or None."""
        one = self._held.get(key_id)
        return None if one is None else one.key

    def create(self, wanted: ApiKey) -> NewKey:
        """Make a key with these rights under a new id; BadInput for one that could do nothing."""
        now = self._clock()
        check_key(wanted, now)
        if len(self._held) >= MOST_KEYS:
            raise Conflict(f"There are {MOST_KEYS:,} keys. Remove some: llmos key rm ID", limit=MOST_KEYS)
        key_id = make_id()
        while key_id in self._held:
            key_id = make_id()
        key, secret = replace(wanted, id=key_id, created_at=now), make_secret(key_id)
        self._write({**self._held, key_id: StoredKey(key, digest_of(secret))})
        return NewKey(key, secret)

    def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        """Give a key another secret; the present one is taken for `grace_s` seconds more."""
        one, secret = self._get(key_id), make_secret(key_id)
        until = self._clock() + grace_s if grace_s > 0 else 0.0
        new = StoredKey(one.key, digest_of(secret), one.sha256 if until else "", until)
        self._write({**self._held, key_id: new})
        return NewKey(one.key, secret)

    def remove(self, key_id: str) -> ApiKey:
        """Remove a key: from now on nobody gets in with it."""
        one = self._get(key_id)
        self._write({other: kept for other, kept in self._held.items() if other != key_id})
        return one.key

    def _get(self, key_id: str) -> StoredKey:
        if key_id not in self._held:
            raise KeyNotFound(f"No key {key_id!r}. See them: llmos key ls", id=key_id)
        return self._held[key_id]

    def _write(self, held: Mapping[str, StoredKey]) -> None:
        """The file first: a key that was told to somebody is there after a kill, and a removed one is not."""
        with disk.room_for(self._path.parent):
            disk.write(self._path, msgspec.json.format(msgspec.json.encode(KeyPage(tuple(held.values())))))
        self._held = held


def is_secret_of(one: StoredKey, digest: str, now: float) -> bool:
    """Whether a secret with this SHA-256 is this key's; the time that it takes tells nothing of either."""
    is_newest = compare_digest(one.sha256, digest)
    is_earlier = compare_digest(one.earlier_sha256 or NOBODY.sha256, digest)
    return is_newest or (is_earlier and now < one.earlier_until)


def _read(path: Path) -> KeyPage:
    try:
        page = msgspec.json.decode(path.read_bytes(), type=KeyPage)
    except FileNotFoundError:
        return KeyPage()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damage(path, str(error)) from error
    if page.form > FORM:
        raise _damage(path, f"a newer llmos wrote it (form {page.form})")
    return page


def _damage(path: Path, why: str) -> Corrupt:
    return Corrupt(
        f"{path} cannot be read: {why}. Bring it back from a copy of the home. Without one, remove the file: no key is "
        "valid then, and new ones can be made",
        path=str(path),
    )
