"""Parts of Client. Made by tools/sync_client.py from aio/audit.py: edit that file."""

from __future__ import annotations

from llmos.abi.audit import AuditEntry, AuditReport
from llmos.sdk import account_requests
from llmos.sdk.blocking.connection import DaemonConnection


class AuditClient(DaemonConnection):
    """The audit log."""

    def audit(
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
        return self._ask(account_requests.audit(wanted))

    def verify_audit(self) -> AuditReport:
        """Read the whole audit log; its `findings` say where it is not as it was written."""
        return self._ask(account_requests.verify_audit())
