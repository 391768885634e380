"""What the client's verbs of usage and audit send, and how their answers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.abi.audit import AuditEntry, AuditReport
from llmos.abi.usage import UsagePart, UsageRow
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request


def usage(by: Sequence[UsagePart | str], **wanted: str | None) -> Request[list[UsageRow]]:
    query = {name: value for name, value in wanted.items() if value} | ({"by": ",".join(by)} if by else {})
    return Request("GET", "/v1/usage", lambda answer: from_plain(answer["data"], list[UsageRow]), query=query)


def audit(wanted: Mapping[str, str | int | None]) -> Request[list[AuditEntry]]:
    query = {name: str(value) for name, value in wanted.items() if value is not None}
    return Request("GET", "/v1/audit", lambda answer: from_plain(answer["data"], list[AuditEntry]), query=query)


def verify_audit() -> Request[AuditReport]:
    return Request("GET", "/v1/audit/verify", lambda answer: from_plain(answer, AuditReport))
