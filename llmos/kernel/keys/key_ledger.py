"""The ledger of one key's limits: what it has used, what it holds, and whether one more request fits."""

from __future__ import annotations

import math
from typing import NamedTuple

from llmos.abi.error import RateLimited
from llmos.abi.key import ApiKey
from llmos.kernel.keys.rate import MINUTE_S, DayCount, MinuteCount, rest_of_day_s

CONCURRENCY_RETRY_S = 1


class Moment(NamedTuple):  # not a dataclass: a call makes several, and one of these takes a third of the time
    """One moment by two clocks: `steady` never goes back, `now` is in seconds since the epoch."""

    steady: float
    now: float


class Remaining(NamedTuple):
    """How much of a limit is left, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class _Budget:
    """The limits of one unit, requests or tokens: of a minute and of a day."""

    __slots__ = ("_day", "_day_limit", "_minute", "_minute_limit", "_unit", "held")

    def __init__(self, unit: str, minute_limit: int | None, day_limit: int | None) -> None:
        self._unit = unit
        self._minute_limit, self._day_limit = minute_limit, day_limit
        self._minute, self._day = MinuteCount(), DayCount()
        self.held = 0  # by calls under way, whose use is not known yet

    @property
    def is_limited(self) -> bool:
        return self._minute_limit is not None or self._day_limit is not None

    def restore(self, used_today: int, at: Moment) -> None:
        self._day = DayCount(used_today, at.now)

    def add(self, amount: int, at: Moment) -> None:
        if self._minute_limit is not None:
            self._minute.add(amount, at.steady)
        if self._day_limit is not None:
            self._day.add(amount, at.now)

    def check(self, amount: int, key_id: str, at: Moment) -> None:
        """RateLimited unless so much more fits beside what is used and held; more than a limit counts as all of it."""
        limit = self._minute_limit
        if limit is not None:
            used, more = self._minute.amount_at(at.steady), min(amount, limit)
            if used + self.held + more > limit:
                raise self._refusal(key_id, limit, used, "minute", more, at)
        limit = self._day_limit
        if limit is not None:
            used, more = self._day.amount_at(at.now), min(amount, limit)
            if used + self.held + more > limit:
                raise self._refusal(key_id, limit, used, "day", more, at)

    def _refusal(self, key_id: str, limit: int, used: int, per: str, more: int, at: Moment) -> RateLimited:
        if used + more <= limit:  # only what is held is in the way
            wait_s: float = CONCURRENCY_RETRY_S
        elif per == "minute":
            wait_s = self._minute.free_in_s(used + more - limit, at.steady)
        else:
            wait_s = rest_of_day_s(at.now)
        retry_after_s = max(1, math.ceil(wait_s))
        return RateLimited(
            f"The key {key_id} may use {limit:,} {self._unit} a {per}, of which {used:,} are used"
            f"{f' and {self.held:,} are held by calls under way' if self.held else ''}. "
            f"Try again in {retry_after_s} s",
            limit=limit,
            used=used,
            unit=self._unit,
            per=per,
            retry_after_s=retry_after_s,
        )

    def remaining(self, at: Moment) -> Remaining | None:
        """The tighter of the two limits; None if there is none."""
        minute, day = self._minute_limit, self._day_limit
        of_minute = 0 if minute is None else max(0, minute - self._minute.amount_at(at.steady) - self.held)
        of_day = 0 if day is None else max(0, day - self._day.amount_at(at.now) - self.held)
        if minute is not None and (day is None or of_minute <= of_day):
            return Remaining(minute, of_minute, self._minute.empty_in_s(at.steady))
        return None if day is None else Remaining(day, of_day, rest_of_day_s(at.now))


class KeyLedger:
    """What one key has used. `enter` for each request and `leave` at its end; `hold` and `settle` for its calls.

    Requests and concurrency are exact: they are counted before anything is awaited. Tokens are known at a call's end; a
    call holds an estimate until then, and what it really used is counted whatever it was.
    """

    __slots__ = ("_concurrency", "_requests", "_tokens", "_under_way", "key_id")

    def __init__(self, key: ApiKey) -> None:
        limits = key.limits
        self.key_id = key.id
        self._concurrency = limits.concurrency
        self._requests = _Budget("requests", limits.requests_per_minute, limits.requests_per_day)
        self._tokens = _Budget("tokens", limits.tokens_per_minute, limits.tokens_per_day)
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """Requests that have entered and not left."""
        return self._under_way

    def restore(self, requests_today: int, tokens_today: int, at: Moment) -> None:
        """Take over what was used today before a restart."""
        self._requests.restore(requests_today, at)
        self._tokens.restore(tokens_today, at)

    def count(self, at: Moment) -> None:
        """One more request without a connection, such as a line of a batch; RateLimited if it does not fit."""
        if self._requests.is_limited:
            self._requests.check(1, self.key_id, at)
            self._requests.add(1, at)

    def enter(self, at: Moment) -> None:
        """One more request; RateLimited if it does not fit, and then it is not counted."""
        if self._concurrency is not None and self._under_way >= self._concurrency:
            raise RateLimited(
                f"The key {self.key_id} may have {self._concurrency:,} requests under way, and has. "
                f"Try again in {CONCURRENCY_RETRY_S} s",
                limit=self._concurrency,
                used=self._under_way,
                unit="requests",
                per="moment",
                retry_after_s=CONCURRENCY_RETRY_S,
            )
        self.count(at)
        self._under_way += 1

    def leave(self) -> None:
        """A request that had entered is over."""
        assert self._under_way > 0, f"key {self.key_id}: more requests leave than came"
        self._under_way -= 1

    def hold(self, tokens: int, at: Moment) -> int:
        """Hold an estimate of a call's tokens, and return it; RateLimited if so many do not fit."""
        if not self._tokens.is_limited:
            return 0
        self._tokens.check(max(1, tokens), self.key_id, at)
        self._tokens.held += tokens
        return tokens

    def settle(self, held: int, used: int, at: Moment) -> None:
        """A call is over: count what it used in place of what it held."""
        if self._tokens.is_limited:
            self._tokens.held -= held
            self._tokens.add(used, at)

    def remaining(self, at: Moment) -> tuple[Remaining | None, Remaining | None]:
        """What is left of requests and of tokens."""
        return self._requests.remaining(at), self._tokens.remaining(at)


__all__ = ["MINUTE_S", "KeyLedger", "Moment", "Remaining"]
