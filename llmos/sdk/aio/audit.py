"""The audit log: who has changed what, and whether the log is as it was written."""

from __future__ import annotations

from llmos.abi.audit import AuditEntry, AuditReport
from llmos.sdk import account_requests
from llmos.sdk.aio.connection import AsyncDaemonConnection


class AsyncAuditClient(AsyncDaemonConnection):
    """The audit log."""

    async def audit(
        self,
        *,
        who: str | None = None,
        what: str | None = None,
        ref: str | None = None,
        within_s: int | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """Who has changed what, the newest first; `what` and `ref` are parts of what is meant."""
        wanted = {"who": who, "what": what or None, "ref": ref or None, "within_s": within_s, "limit": limit}
        return await self._ask(account_requests.audit(wanted))

    async def verify_audit(self) -> AuditReport:
        """Read the whole audit log; its `findings` say where it is not as it was written."""
        return await self._ask(account_requests.verify_audit())
