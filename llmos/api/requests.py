"""/v1/requests: the request log, which calls were made and how they ended; shown, and erased by user."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request

from llmos.abi.call_record import DAY, CallRecord, RequestFilter, user_of
from llmos.abi.call_trace import CallTrace
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.query import Query, asked_of
from llmos.kernel.interface import KernelInterface

MOST_RECORDS = 1_000
QUERY = (
    Query("model", "Only calls to this version, or to all versions of this name.", "string"),
    Query("user", "Only calls on behalf of this user.", "string"),
    Query("outcome", "Only calls that ended so: ok, or an error's code.", "string"),
    Query("day", "Only calls of this day in UTC, such as 2026-01-31.", "string"),
    Query("limit", f"At most this many, the newest first (default 20, at most {MOST_RECORDS:,}).", "integer"),
)
ERASED = (Query("user", "Whose records are erased.", "string"),)


class RequestList(msgspec.Struct):
    """Records of calls, the newest first, without their texts."""

    data: list[CallRecord]
    object: str = "list"


class Erased(msgspec.Struct):
    """How many rows were erased."""

    erased: int


class Requests:
    """The routes of the request log."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._requests = kernel.requests

    def endpoints(self) -> list[Endpoint]:
        ls = "The request log: calls and how they ended, without their texts"
        show = "One call of the request log, with its text where it was kept"
        erase = "Erase the records of a user"
        trace = "How long each stage of a recent call took"
        path, endpoint = "/v1/requests", partial(Endpoint, scope=KeyScope.ADMIN)
        return [
            endpoint("GET", path, self.ls, ls, gives=RequestList, query=QUERY),
            endpoint("GET", f"{path}/{{call}}", self.show, show, gives=CallRecord),
            endpoint("GET", f"{path}/{{call}}/trace", self.trace, trace, gives=CallTrace),
            endpoint("DELETE", path, self.erase, erase, gives=Erased, query=ERASED),
        ]

    async def ls(self, request: Request) -> Reply:
        asked = asked_of(request)
        if (day := asked.get("day")) and not DAY.fullmatch(day):
            raise BadInput(f"day={day[:40]!r}: expected a day such as 2026-01-31", key="day")
        limit = min(asked.get("limit", RequestFilter().limit), MOST_RECORDS)
        wanted = RequestFilter(**{**asked, "user": user_of(asked.get("user")), "limit": limit})
        return reply(RequestList(await self._requests.find(wanted)))

    async def show(self, request: Request) -> Reply:
        return reply(await self._requests.get(request.path_params["call"]))

    async def trace(self, request: Request) -> Reply:
        return reply(self._requests.trace(request.path_params["call"]))

    async def erase(self, request: Request) -> Reply:
        return reply(Erased(await self._requests.erase(named_user(asked_of(request).get("user")))))


def named_user(given: Json) -> str:
    """The user that is named; BadInput for none, so that nothing is erased by mistake."""
    if not (user := user_of(given)):
        raise BadInput("Name the user whose rows are to be erased", key="user")
    return user
