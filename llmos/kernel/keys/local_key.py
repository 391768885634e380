"""The local key: what this user's own commands call with. Made at each start, readable by the home's owner alone.

Who may read it may write everything else in the home too, so it gives nobody more than they have. A page in a browser
cannot read files. It changes with each start, so that one that another program has overheard is soon worthless.
"""

from __future__ import annotations

import os
from pathlib import Path

from llmos.abi.key import ALL_SCOPES, ApiKey, digest_of, make_secret
from llmos.config import LOCAL_KEY
from llmos.kernel.keys.key_store import StoredKey
from llmos.kernel.store import disk

LOCAL = "local"  # its id


def make_local_key(home: Path) -> StoredKey:
    """Make the key of this start, and write it down for the commands of this user."""
    secret, path = make_secret(LOCAL), home / LOCAL_KEY
    aside = disk.temporary(path)
    number = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(number, "w", encoding="ascii") as file:
            file.write(secret)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return StoredKey(ApiKey(LOCAL, LOCAL, ALL_SCOPES), digest_of(secret))


def forget_local_key(home: Path) -> None:
    """Remove it: the daemon goes down."""
    (home / LOCAL_KEY).unlink(missing_ok=True)
