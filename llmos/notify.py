"""What the daemon tells systemd over NOTIFY_SOCKET: that it answers, that it stops, and that its loop is alive."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

from llmos.config import ServiceManager

READY, STOPPING, WATCHDOG = "READY=1", "STOPPING=1", "WATCHDOG=1"
log = logging.getLogger(__name__)


def notify(manager: ServiceManager, message: str) -> None:
    """Send one message; where no service manager listens, nothing."""
    if not manager.address:
        return
    address = f"\0{manager.address[1:]}" if manager.address.startswith("@") else manager.address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(message.encode(), address)
    except OSError as error:
        log.warning("the service manager at %s was not told %s: %s", manager.address, message, error)


@contextlib.asynccontextmanager
async def notifying(manager: ServiceManager) -> AsyncIterator[None]:
    """Ready on entry, stopping on exit; in between a sign of life from this loop, twice as often as is asked for."""
    notify(manager, READY)
    watching = asyncio.get_running_loop().create_task(_watch(manager))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        notify(manager, STOPPING)


async def _watch(manager: ServiceManager) -> None:
    while manager.watchdog_s:
        notify(manager, WATCHDOG)
        await asyncio.sleep(manager.watchdog_s / 2)
