"""Sends a message by a channel. Each function blocks, for `TIMEOUT_S` a step at most, and is called in a thread.

Webhooks follow Standard Webhooks 1.0: the headers webhook-id, webhook-timestamp and webhook-signature, where the
signature is `v1,` and base64 of HMAC-SHA256 of "id.timestamp.body". No redirect is followed and no proxy is asked, so
nothing is called but the address in the file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import signal
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from llmos import __version__
from llmos.abi.alert import AlertDelivery
from llmos.abi.json_type import Json
from llmos.abi.wire import to_json, to_plain
from llmos.kernel.alerts.channel_settings import ChannelSettings, CommandSettings, EmailSettings, WebhookSettings

TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 60.0
MOST_SAID = 300  # characters of what a receiver answers that are kept
GONE = (410,)  # a receiver that wants nothing more (Standard Webhooks)


@dataclass(frozen=True, slots=True)
class SendFailure(Exception):  # named as what it is
    """A message did not arrive; `is_final` if another attempt makes no sense."""

    message: str
    is_final: bool = False

    def __str__(self) -> str:
        return self.message


def body_of(delivery: AlertDelivery) -> dict[str, Json]:
    """What a webhook or a command gets: a type, a time and the alert, as Standard Webhooks has payloads."""
    shown = to_plain(delivery.alert)
    return {
        "type": f"alert.{delivery.status}",
        "timestamp": delivery.created_at,
        "data": {key: shown[key] for key in shown if key not in ("notified_at",)},
    }


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def send_webhook(settings: WebhookSettings, delivery: AlertDelivery, now: float) -> None:
    body = to_json(body_of(delivery))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"llmos/{__version__}",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now)),
    }
    if settings.key:
        headers["webhook-signature"] = signature(settings.key, delivery.id, int(now), body)
    parts = urlsplit(settings.url)
    assert parts.hostname is not None
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
        said = answer.read(MOST_SAID * 4).decode("utf-8", "replace")[:MOST_SAID]
    except (OSError, HTTPException) as error:
        raise SendFailure(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise SendFailure(f"{answer.status} {answer.reason}: {said}".strip(": "), answer.status in GONE)


def send_email(settings: EmailSettings, delivery: AlertDelivery, now: float) -> None:
    from smtplib import SMTP, SMTP_SSL, SMTPException

    message = email_of(settings, delivery)
    context = ssl.create_default_context()
    try:
        with contextlib.ExitStack() as stack:
            if settings.tls == "tls":
                server: SMTP = SMTP_SSL(settings.host, settings.port, timeout=TIMEOUT_S, context=context)
            else:
                server = SMTP(settings.host, settings.port, timeout=TIMEOUT_S)
            stack.enter_context(server)
            if settings.tls == "starttls":
                server.starttls(context=context)
            if settings.user:
                server.login(settings.user, settings.password)
            server.send_message(message)
    except (OSError, SMTPException) as error:
        raise SendFailure(f"{type(error).__name__}: {error}") from error


def email_of(settings: EmailSettings, delivery: AlertDelivery) -> EmailMessage:
    """The message; its id is the delivery's, so that a mailbox shows a repeated attempt once."""
    from datetime import UTC, datetime
    from email.utils import format_datetime

    alert, message = delivery.alert, EmailMessage()
    title = " ".join((alert.summary or alert.expression).split())[:200]
    message["Subject"] = f"[{delivery.status}] {alert.rule}: {title}"
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message["Date"] = format_datetime(datetime.fromtimestamp(delivery.created_at, UTC))
    message["Message-ID"] = f"<{delivery.id}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [
        f"{alert.rule} is {delivery.status} ({alert.severity}).",
        alert.summary,
        "",
        f"expression  {alert.expression}",
        f"value       {'none' if alert.value is None else f'{alert.value:g}'}",
        f"since       {datetime.fromtimestamp(alert.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC",
        *(f"{name:<12}{value}" for name, value in alert.labels.items()),
        *([f"ended       {alert.reason}"] if alert.reason else []),
        "",
        f"Silence it: llmos alerts silence {alert.rule} --for 2h",
    ]
    message.set_content("\n".join(lines))
    return message


def send_command(
    settings: CommandSettings, delivery: AlertDelivery, now: float, *, timeout_s: float = COMMAND_TIMEOUT_S
) -> None:
    """Run the command in a session of its own, which is killed as a whole when its time is over, or when it has ended.

    It gets no secrets of the daemon's environment.
    """
    content = to_json({**body_of(delivery), "id": delivery.id}) + b"\n"
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
    try:
        process = subprocess.Popen(
            settings.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise SendFailure(f"{type(error).__name__}: {error}") from error
    try:
        _, said = process.communicate(content, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise SendFailure(f"it did not end within {timeout_s:g} s") from None
    finally:
        _end_session(process)
    if process.returncode:
        raise SendFailure(f"exit code {process.returncode}: {said.decode('utf-8', 'replace')[-MOST_SAID:].strip()}")


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what the command has left, and wait for it: orphans become children of the daemon."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


SENDERS: dict[type, Callable[..., None]] = {
    WebhookSettings: send_webhook,
    EmailSettings: send_email,
    CommandSettings: send_command,
}


def send(settings: ChannelSettings, delivery: AlertDelivery, now: float) -> None:
    """Send a message; SendFailure if it did not arrive. `now` is seconds since the epoch."""
    SENDERS[type(settings)](settings, delivery, now)
