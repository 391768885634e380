"""What of a request is written to the audit log: who, which route, what it was done to, from where, how it ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Scope

from llmos.abi.audit import DAEMON, MOST_REF, AuditEntry
from llmos.api.key_guard import OWN

REFS = "audit_refs"  # in a request's scope: what its handler has named
OUTCOME = "outcome"  # in a request's scope: the code of the error that it was refused with


def name_ref(request: Request, *refs: object) -> None:
    """Name what a request was done to, beyond what its path says: an id that it has made, a program. Never a text."""
    request.scope[REFS] = refs


def entry_of(scope: Scope, method: str, path: str) -> AuditEntry:
    """The entry of a request to the route with this method and path, once it is answered."""
    named = [*scope.get("path_params", {}).values(), *scope.get(REFS, ())]
    ref = " ".join(str(one) for one in named if one not in (None, ""))
    who = DAEMON if OWN in scope else scope.get("key") or ""
    client = scope.get("client")
    return AuditEntry(who, f"{method} {path}", _plain(ref), client[0] if client else "", scope.get(OUTCOME, "ok"))


def _plain(ref: str) -> str:
    """A ref in one line, bounded."""
    return "".join(sign if sign.isprintable() else "?" for sign in ref)[:MOST_REF]
