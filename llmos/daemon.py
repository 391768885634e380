"""The daemon: connects config, kernel and api, holds the home's lock and the port, and shuts down in order."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from llmos import __version__
from llmos.abi import heap
from llmos.abi.audit import OWNER, AuditEntry
from llmos.abi.cpu import check
from llmos.abi.error import AlreadyRunning, LlmosError, Missing, NotLoopback, Unavailable, fault_of
from llmos.abi.wire import to_json
from llmos.api.app import create_app
from llmos.api.connection import Serving
from llmos.config import (
    SETTINGS,
    Config,
    ServiceManager,
    is_loopback,
    read_config,
    standard_otel_endpoint,
    take_service_manager,
)
from llmos.home import LOCK, inode_of
from llmos.kernel.audit.audit_log import AuditLog
from llmos.kernel.file_modes import check_home, check_restored, close_home, make_private
from llmos.kernel.home_format import check_format, mark_format
from llmos.kernel.journal import restore
from llmos.kernel.kernel import JOURNAL, Kernel
from llmos.kernel.keys.audited_keys import AuditedKeys
from llmos.kernel.keys.key_store import has_keys
from llmos.notify import notifying

if TYPE_CHECKING:
    from llmos.api.tls import Certificate

BACKLOG = 2048
ANNOUNCE_EVERY_S = 5.0
FAREWELL_S = 1.0  # so long may open connections take to end when the daemon goes down
log = logging.getLogger(__name__)


def main(words: Sequence[str] | None = None) -> int:
    """Run in the foreground until SIGTERM or SIGINT; whoever holds the ready pipe hears how the start went."""
    make_private()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it would hold texts
    flags = arguments(words)
    ready = flags.pop("ready_fd")
    manager = take_service_manager()
    restores = flags.pop("restore")
    try:
        config = replace(read_config(flags), tls_ca="")  # a client's
        check(config.cpu_kernels)
        logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        config = with_receiver(config, standard_otel_endpoint())
        certificate = certificate_of(config)
        with holding_home(config.home), listening(config) as sock:
            mark_format(config.home, __version__)
            if restores:
                log.warning("%s", restore(config.home / JOURNAL))
                audit_of(config.home).append([AuditEntry(OWNER, "up --restore")])
            asyncio.run(run(config, sock, ready, manager, certificate))
    except LlmosError as error:
        tell(ready, {"error": fault_of(error)})
        print(error.message, file=sys.stderr)  # noqa: T201  # the daemon's own terminal or log
        return 1
    return 0


def arguments(words: Sequence[str] | None) -> dict[str, Any]:  # Any: settings are text here, read_config reads them
    """The flags: every setting, and the pipe to tell when the daemon answers."""
    parser = argparse.ArgumentParser("llmos.daemon", description=__doc__, allow_abbrev=False)
    parser.add_argument("--ready-fd", type=int, help="where to write one line of JSON once the daemon answers")
    parser.add_argument("--restore", action="store_true", help="put a damaged journal back to its last snapshot")
    for setting in SETTINGS:
        parser.add_argument(f"--{setting.key.replace('_', '-')}", dest=setting.key, help=setting.doc.replace("%", "%%"))
    return vars(parser.parse_args(words))


def tell(ready: int | None, message: dict[str, Any]) -> None:  # Any: JSON
    """One line down the ready pipe, where there is one; nobody may be listening any more."""
    if ready is None:
        return
    with contextlib.suppress(OSError):
        os.write(ready, to_json(message) + b"\n")
        os.close(ready)


async def run(
    config: Config,
    sock: socket.socket,
    ready: int | None = None,
    manager: ServiceManager | None = None,
    certificate: Certificate | None = None,
) -> None:
    """Serve the api over this socket until asked to stop, then end every child."""
    if ready is not None:
        os.set_inheritable(ready, False)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    box = Kernel(config)
    await box.start()
    app = create_app(box, config)
    box.route_calls.answered_by(app.answer_route)
    box.alerts.read_from(app.readings)
    box.alerts.begin()  # not before: to a rule, a metric that nobody reads would be one that has ended
    context = certificate.context if certificate else None
    server = DaemonServer(Serving(app, config.max_connections, FAREWELL_S, context))
    serving = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    async with announcing(config, certificate):
        async with notifying(manager or ServiceManager()):
            tell(ready, {"os_pid": os.getpid(), "url": config.url})
            box.warm()
            heap.freeze()
            await stop.wait()
        await box.stop()  # before the connections: whoever watches a process sees how it ended
        server.should_exit = True
        await serving


def certificate_of(config: Config) -> Certificate | None:
    """The certificate of the settings; None for plain HTTP."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    from llmos.api.tls import Certificate  # only who speaks TLS needs it

    return Certificate(config.tls_cert, config.tls_key)


def with_receiver(config: Config, standard: str) -> Config:
    """The settings, with the OpenTelemetry receiver of its `standard` variable if they name none.

    Missing if they name one and the extra is not installed. The variable is for all programs: it stops no start.
    """
    if not (wanted := config.otel_endpoint or standard):
        return config
    from llmos.kernel.telemetry.trace_exporter import INSTALL, is_installed  # only who has a receiver needs it

    if is_installed():
        log.info("traces of calls go to %s", wanted)
        return replace(config, otel_endpoint=wanted)
    if config.otel_endpoint:
        raise Missing(
            f"otel_endpoint = {wanted!r} needs OpenTelemetry, which is not installed. Install it: {INSTALL}. Or take "
            "the setting away",
            extra="otel",
            key="otel_endpoint",
        )
    log.warning("no traces go to %s: OpenTelemetry is not installed. Install it: %s", wanted, INSTALL)
    return config


class DaemonServer(uvicorn.Server):
    """Uvicorn's server, whose signals are the daemon's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def holding_home(home: Path, *, is_restoring: bool = False) -> Iterator[None]:
    """The home is this process's alone; the lock goes with the process, however it ends.

    Conflict if a restore was broken off there, unless this one goes on with it.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        check_home(home)
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"The home {home} cannot be written: {error.strerror}. Choose another: LLMOS_HOME",
            key="home",
            value=str(home),
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AlreadyRunning(
            f"A daemon runs on {home} already. Ask it: llmos status; end it: llmos down", home=str(home)
        ) from None
    try:
        if not is_restoring:
            check_restored(home)
            check_runnable(home)
        close_home(home)
        yield
    finally:
        os.close(lock)


def check_runnable(home: Path) -> None:
    """Raise Conflict for a home that a later llmos has changed."""
    check_format(home, __version__)


@contextlib.contextmanager
def own_keys(home: Path) -> Iterator[AuditedKeys]:
    """The keys of a home whose daemon does not run; AlreadyRunning if it does."""
    make_private()
    with holding_home(home):
        yield AuditedKeys(home)


def audit_of(home: Path) -> AuditLog:
    """The audit log of a home, to be read; to append, hold the home."""
    return AuditLog(home)


@contextlib.contextmanager
def listening(config: Config) -> Iterator[socket.socket]:
    """The socket that the api will be served on."""
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise Unavailable(
            f"No address {config.host!r}: {error.strerror}. Choose another: LLMOS_HOST", key="host", value=config.host
        ) from error
    if not (is_loopback(str(address[0])) or config.insecure or has_keys(config.home)):
        raise NotLoopback(
            f"{config.host} can be reached from other machines, and there is no key: whoever reaches the port could "
            "use it. Make a key first: llmos key create. Or listen on 127.0.0.1, or allow it: llmos up --insecure",
            key="insecure",
            value=config.host,
        )
    # The protocol is named: asyncio turns Nagle's algorithm off only where an accepted socket says that it is TCP.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            raise AlreadyRunning(
                f"Port {config.port} on {config.host} cannot be opened: {error.strerror}. Choose another: LLMOS_PORT",
                port=config.port,
            ) from error
        sock.listen(BACKLOG)
        yield sock


@contextlib.asynccontextmanager
async def announcing(
    config: Config, certificate: Certificate | None = None, every_s: float = ANNOUNCE_EVERY_S
) -> AsyncIterator[None]:
    """`daemon.json` says where this daemon is, while it is there; it is written again when it was lost or damaged."""
    page = _Announcement(config, certificate)
    page.write()
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(page.keep(every_s))]
    if certificate is not None:
        tasks.append(loop.create_task(certificate.watch(page.write)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        page.remove()


class _Announcement:
    """`daemon.json`, with the certificate that this user's own commands trust."""

    def __init__(self, config: Config, certificate: Certificate | None) -> None:
        self._path = config.home / "daemon.json"
        self._certificate = certificate
        self._facts = {"os_pid": os.getpid(), "url": config.url, "started_at": time.time(), "version": __version__}
        self._content = b""

    def write(self) -> None:
        pem = {} if self._certificate is None else {"certificate": self._certificate.pem}
        self._content = to_json({**self._facts, **pem}) + b"\n"
        _announce(self._path, self._content)

    async def keep(self, every_s: float) -> None:
        lock = inode_of(self._path.with_name(LOCK))
        while True:
            await asyncio.sleep(every_s)
            is_ours = lock is not None and inode_of(self._path.with_name(LOCK)) == lock
            if is_ours and _read(self._path) != self._content:
                _announce(self._path, self._content)

    def remove(self) -> None:
        if _read(self._path) == self._content:  # not another daemon's, whose home now lies where this one's was
            self._path.unlink(missing_ok=True)


def _announce(path: Path, content: bytes) -> None:
    aside = path.with_suffix(".new")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:  # a full disk: whoever asks at the configured address still finds it
        log.warning("%s is not written: %s", path, error)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
