"""Where the daemon is, and what its answers mean: shared by both clients."""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from llmos.abi.error import BadInput, Internal, LlmosError, Unavailable
from llmos.abi.json_type import Json
from llmos.abi.wire import to_json
from llmos.config import read_config
from llmos.sdk.wait import fault_in

CONNECT_TIMEOUT_S = 5.0


def address(base_url: str | None) -> str:
    """The daemon's address: the given one, else the one that the daemon wrote down, else the one in the settings."""
    if base_url is not None:
        return base_url.rstrip("/")
    config = read_config()
    url = announcement(config.home).get("url")
    return url if isinstance(url, str) else config.url


def announcement(home: Path) -> dict[str, Json]:
    """What the daemon of this home wrote down about itself; empty if there is none that can be read here."""
    try:
        written = json.loads((home / "daemon.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no daemon has run here yet, or one is writing it now
        return {}
    return written if isinstance(written, dict) else {}


def encode_body(body: Json) -> bytes | None:
    """A body as JSON; BadInput for NaN and infinity, which JSON cannot represent."""
    if body is None:
        return None
    key = _not_finite(body, "a value")
    if key is not None:
        raise BadInput(f"{key} is not a finite number. Give one, or leave it out", key=key)
    return to_json(body)


def _not_finite(value: Json, key: str) -> str | None:
    """The key of the first NaN or infinity in a body, if there is one."""
    if isinstance(value, float):
        return None if math.isfinite(value) else key
    if isinstance(value, Mapping):
        return next((bad for name, one in value.items() if (bad := _not_finite(one, str(name)))), None)
    if isinstance(value, list | tuple):
        return next((bad for one in value if (bad := _not_finite(one, key))), None)
    return None


def timeouts(timeout_s: float | None) -> httpx.Timeout:
    """How long to wait for an answer; connecting to a daemon that is there takes no time."""
    return httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)


def check_reply(response: httpx.Response) -> Json:
    """The answer's JSON; the error it carries is raised. The body must have been read."""
    try:
        body = response.json()
    except ValueError as error:
        url = response.request.url
        raise Internal(f"{url} did not answer in JSON. Is it the address of a daemon?") from error
    if not response.is_success:
        raise error_of_reply(response, body)
    return body


def error_of_reply(response: httpx.Response, body: Json) -> LlmosError:
    """The error in a response, also if its body is not JSON of ours."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict) and "code" in body["error"]:
        return fault_in(body)
    return Internal(f"{response.request.url} answered {response.status_code} in an unknown format. Is it a daemon?")


def unreachable(url: str, error: httpx.TransportError) -> LlmosError:
    """The error for a failed connection."""
    if failure := _tls_failure(error):
        return Unavailable(
            f"{url} is not trusted, or speaks no TLS ({failure}). Name the authority of its certificate: LLMOS_TLS_CA",
            url=url,
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unavailable(f"No daemon answers at {url}. Start it: llmos up", url=url)
    if isinstance(error, httpx.TimeoutException):
        return Unavailable(f"{url} did not answer in time. See what it does: llmos status", url=url)
    return Unavailable(f"The connection to {url} broke ({error}). Is the daemon still up? llmos status", url=url)


def _tls_failure(error: BaseException | None) -> str:
    """What went wrong with TLS, where that is the reason of an error."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return getattr(error, "verify_message", "") or error.reason or str(error)
        error = error.__cause__ or error.__context__
    return ""
