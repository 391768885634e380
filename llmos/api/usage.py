"""/v1/usage: requests, errors and tokens by key, model and day."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from llmos.abi.key import KeyScope
from llmos.abi.usage import ALL_PARTS, MOST_ROWS, UsageFilter, UsageRow, check_day, usage_parts
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.query import Query, asked_of
from llmos.kernel.interface import KernelInterface

QUERY = (
    Query("by", f"What it is added up by: some of {', '.join(ALL_PARTS)}, with commas (default: all).", "string"),
    Query("since", "From this day of UTC on, such as 2026-01-31.", "string"),
    Query("until", "To this day, included.", "string"),
    Query("key", "Only of the key with this id.", "string"),
    Query("model", "Only of this version, or of all versions of this name.", "string"),
    Query("limit", f"At most this many rows (default and most: {MOST_ROWS:,}).", "integer"),
)


class UsageList(msgspec.Struct):
    """Usage: the newest days first, and of a day the most requests first."""

    data: list[UsageRow]
    object: str = "list"


class UsageRoutes:
    """The route of usage."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._usage = kernel.usage

    def endpoints(self) -> list[Endpoint]:
        doc = "Requests, errors and tokens by key, model and day"
        return [Endpoint("GET", "/v1/usage", self.show, doc, gives=UsageList, query=QUERY, scope=KeyScope.ADMIN)]

    async def show(self, request: Request) -> Reply:
        asked = dict(asked_of(request))
        for name in ("since", "until"):
            check_day(name, asked.get(name, ""))
        asked["by"] = usage_parts([asked.get("by", "")])
        asked["limit"] = min(asked.get("limit", MOST_ROWS), MOST_ROWS)
        return reply(UsageList(await self._usage.find(UsageFilter(**asked))))
