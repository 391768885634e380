"""Redaction: finds secrets in texts and arguments, and masks them wherever these are stored or shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from llmos.abi.error import Fault
from llmos.abi.json_type import Json

HIDDEN = "(hidden)"
SECRET_ARGS = frozenset({"token", "hub_token", "password", "api_key", "authorization"})
MACHINE_ARGS = frozenset({"catalog", "downloads", "vllm_command", "reports"})  # the daemon's own settings and paths
MOST_ARGS_BYTES = 64 * 1024  # of all arguments of a process, as JSON
MOST_TITLE = 200  # characters
LEAST_SECRET = 6  # shorter values occur in too many ordinary words
USERINFO = re.compile(r"(?<=://)[^/?#\s@'\"]+@")  # RFC 3986: user and password
HEADER = re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)[^\s'\",]+")  # RFC 9110
# RFC 6750; it must contain a digit, unlike prose
BEARER = re.compile(r"\b([Bb]earer) (?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}")
HUB_TOKEN = re.compile(r"\bhf_(?=[A-Za-z]*[0-9A-Z])[A-Za-z0-9]{8,}\b")  # hf_transfer is a library's name
SIGNED = re.compile(r"(?i)([?&](?:token|access_token|signature|sig|x-amz-[\w-]+|policy|key-pair-id)=)[^&\s'\"]+")


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """The text without these secrets, and without passwords in addresses and tokens in headers."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= LEAST_SECRET:
            text = text.replace(secret, HIDDEN)
    text = USERINFO.sub("", text)
    text = HEADER.sub(rf"\1{HIDDEN}", text)
    text = BEARER.sub(rf"\1 {HIDDEN}", text)
    return SIGNED.sub(rf"\1{HIDDEN}", HUB_TOKEN.sub(HIDDEN, text))


def redacted_fault(fault: Fault, secrets: Collection[str] = ()) -> Fault:
    """The fault with secrets masked in message and details."""
    return replace(fault, message=redact(fault.message, secrets), detail=_redact_value(fault.detail, secrets))


def kept_args(args: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments as they may be stored and shown: without secrets and daemon settings, long texts cut."""
    return {key: _without_userinfo(value) for key, value in args.items() if key not in SECRET_ARGS | MACHINE_ARGS}


def _without_userinfo(value: Json) -> Json:
    return USERINFO.sub("", shorten(value)) if isinstance(value, str) else value


def secrets_in(args: Mapping[str, Json]) -> tuple[str, ...]:
    """The secret values in the arguments."""
    return tuple(value for key, value in args.items() if key in SECRET_ARGS and isinstance(value, str))


def _redact_value(value: Json, secrets: Collection[str]) -> Json:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {key: HIDDEN if key in SECRET_ARGS else _redact_value(one, secrets) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(one, secrets) for one in value]
    return value


def shorten(text: str, most: int = MOST_ARGS_BYTES) -> str:
    """The text, cut if it is longer than `most`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
