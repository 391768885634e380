"""Whose calls must leave no text any more: erased users, whose calls or copies of them may still be under way."""

from __future__ import annotations

from llmos.abi.call_record import second_of_call
from llmos.abi.disagreement import CallOrigin

MOST_USERS = 10_000


class ErasedUsers:
    """The last erasure of each user, by the hash of the name; of the oldest only the time, which is then for all."""

    def __init__(self, most: int = MOST_USERS) -> None:
        self._most = most
        self._erased_at: dict[int, float] = {}  # by hash: equal hashes leave a text out, and keep none
        self._all_before = float("-inf")

    def add(self, user: str, at: float) -> None:
        """This user's calls up to this time are erased."""
        if not user:
            return
        self._erased_at.pop(hash(user), None)
        self._erased_at[hash(user)] = at
        while len(self._erased_at) > self._most:
            oldest = next(iter(self._erased_at))
            self._all_before = max(self._all_before, self._erased_at.pop(oldest))

    def has(self, origin: CallOrigin) -> bool:
        """Whether the call came before its user was erased, in the same second at the latest, or nobody knows when."""
        return self.covers(origin.user, second_of_call(origin.call) or 0)

    def covers(self, user: str, at: float) -> bool:
        """Whether a call of this user that came at this time is erased."""
        if not user:
            return False
        return at <= max(self._all_before, self._erased_at.get(hash(user), float("-inf")))
