"""What the client's verbs of usage send, and how their answers are read."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.abi.usage import UsagePart, UsageRow
from llmos.abi.wire import from_plain
from llmos.sdk.request import Request


def usage(by: Sequence[UsagePart | str], **wanted: str | None) -> Request[list[UsageRow]]:
    query = {name: value for name, value in wanted.items() if value} | ({"by": ",".join(by)} if by else {})
    return Request("GET", "/v1/usage", lambda answer: from_plain(answer["data"], list[UsageRow]), query=query)
