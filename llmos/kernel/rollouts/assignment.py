"""Which version a call goes to: by a hash, so that the same user always gets the same one."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from llmos.abi.json_type import Json

SIZE = 8


def place_of(rollout_id: str, user: str | None, inputs: Sequence[Json]) -> float:
    """A number from 0 to 1, the same for the same user in this rollout; without a user, for the same inputs.

    Calls below the candidate's share go to the candidate, so that a rising share takes nobody back.
    """
    digest = blake2b(rollout_id.encode(), digest_size=SIZE)
    if user:
        digest.update(b"\0u" + user.encode("utf-8", "surrogatepass"))
    else:
        digest.update(b"\0i" + msgspec.msgpack.encode(inputs))
    return int.from_bytes(digest.digest(), "big") / (1 << (8 * SIZE))
