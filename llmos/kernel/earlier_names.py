"""Reads journals of earlier versions, whose events and fields had other names."""

from __future__ import annotations

import msgspec

EVENTS = {
    "MoveAsked": "PromotionAsked",
    "Moved": "PromotionChanged",
    "MoveRefused": "PromotionRefused",
    "BecameReady": "Ready",
    "Progressed": "Report",
    "ChildFailed": "Failed",
    "OfferMade": "Offered",
    "DevicesProbed": "Probed",
}


def kind_of(name: str) -> str:
    """The event type of this name."""
    return EVENTS.get(name, name)


def current(body: bytes | str) -> bytes:
    """An event's or snapshot's JSON with today's names: `priority` of processes was `klass`."""
    body = body.encode() if isinstance(body, str) else body
    if b'"klass":' not in body:
        return body
    plain = msgspec.json.decode(body)
    if not isinstance(plain, dict):
        return body
    specs = [plain.get("spec"), *(one.get("spec") for one in plain.get("processes", ()))]
    for holder in (plain, *specs):
        if isinstance(holder, dict) and "klass" in holder:
            holder["priority"] = holder.pop("klass")
    return msgspec.json.encode(plain)
