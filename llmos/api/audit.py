"""/v1/audit: who has changed what, and whether the log of it is as it was written."""

from __future__ import annotations

import time
from functools import partial

import msgspec
from starlette.requests import Request

from llmos.abi.audit import MOST_ENTRIES, AuditEntry, AuditFilter, AuditReport
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.query import Query, asked_of
from llmos.kernel.interface import KernelInterface

QUERY = (
    Query("who", "Only by this: the id of a key, local, daemon, or empty for none.", "string"),
    Query("what", "Only routes and commands that contain this.", "string"),
    Query("ref", "Only what was done to something whose name contains this.", "string"),
    Query("within_s", "Only of the last so many seconds.", "integer"),
    Query("limit", f"At most this many, the newest first (default 50, at most {MOST_ENTRIES:,}).", "integer"),
)


class AuditList(msgspec.Struct):
    """Entries of the audit log, the newest first."""

    data: list[AuditEntry]
    object: str = "list"


class AuditRoutes:
    """The routes of the audit log."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._audit = kernel.audit

    def endpoints(self) -> list[Endpoint]:
        ls = "The audit log: who has changed what"
        check = "Verify the audit log: every entry, their order, and its end"
        endpoint = partial(Endpoint, scope=KeyScope.ADMIN)
        return [
            endpoint("GET", "/v1/audit", self.ls, ls, gives=AuditList, query=QUERY),
            endpoint("GET", "/v1/audit/verify", self.verify, check, gives=AuditReport),
        ]

    async def ls(self, request: Request) -> Reply:
        asked = dict(asked_of(request))
        within_s = asked.pop("within_s", None)
        asked["since"] = 0.0 if within_s is None else time.time() - within_s
        asked["limit"] = min(asked.get("limit", AuditFilter().limit), MOST_ENTRIES)
        return reply(AuditList(await self._audit.find(AuditFilter(**asked))))

    async def verify(self, request: Request) -> Reply:
        return reply(await self._audit.verify())
