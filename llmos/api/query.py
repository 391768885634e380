"""Query parameters: declared by an endpoint, parsed and checked before its handler runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from llmos.abi.error import BadInput

MAX_COUNT = 999_999_999
COUNT = re.compile(r"0*([1-9][0-9]{0,8})")  # from 1 to MAX_COUNT
FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter: an integer from 1 (`integer`), true or false (`boolean`) or a text (`string`); it may be
    given once."""

    name: str
    doc: str
    kind: str

    @property
    def schema(self) -> dict[str, str | int]:
        """Its type as JSON Schema."""
        return {"type": self.kind, **({"minimum": 1, "maximum": MAX_COUNT} if self.kind == "integer" else {})}

    def read(self, given: Sequence[str]) -> int | bool | str:
        """Parse the values given under its name; BadInput unless there is exactly one valid value."""
        if len(given) != 1:
            raise BadInput(f"{self.name} comes {len(given)} times. Send it once", key=self.name)
        if self.kind == "string":
            return given[0]
        if self.kind == "boolean":
            if given[0].lower() in FLAGS:
                return FLAGS[given[0].lower()]
            raise BadInput(f"{self.name}={given[0][:40]!r}: expected true or false", key=self.name)
        if count := COUNT.fullmatch(given[0]):
            return int(count[1])
        said = f"expected a whole number from 1 to {MAX_COUNT:,}"
        raise BadInput(f"{self.name}={given[0][:40]!r}: {said}", key=self.name)


def asked_of(request: Request) -> Mapping[str, Any]:  # Any: an integer, a flag or a text, as the query declares it
    """The parsed query parameters of the request."""
    asked: dict[str, Any] = request.scope["asked"]
    return asked


def read_query(query: Sequence[Query], request: Request) -> dict[str, int | bool | str]:
    """Parse the given parameters; unknown ones are ignored."""
    given = request.query_params
    return {one.name: one.read(given.getlist(one.name)) for one in query if one.name in given}
