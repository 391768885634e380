"""up, down, status: starts, stops and shows the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadSetting, Conflict, Fault, Internal, LlmosError, Unavailable, error_of
from llmos.cli.client import box, settings_of
from llmos.cli.terminal import age, note, say, say_json, say_table, size
from llmos.home import OsProcess, config_of, daemon_of, end_children, end_orphans

if TYPE_CHECKING:
    from llmos.abi.api_types import Status

READY_TIMEOUT_S = 60.0
DOWN_MARGIN_S = 10.0  # beyond the processes' grace: to compact the journal and end connections
KILL_TIMEOUT_S = 10.0
NEIGHBOUR_TIMEOUT_S = 2.0
TAIL_LINES = 15


def up(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    engine: Annotated[str | None, typer.Option(help="The default engine: pytorch, llamacpp, vllm or null.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as key=value; may be repeated.")
    ] = None,
    foreground: Annotated[bool, typer.Option(help="Stay in this terminal and log to it.")] = False,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Allow an address that other machines can reach while there is no key."),
    ] = False,
    tls_cert: Annotated[str | None, typer.Option(help="A certificate in PEM: speak TLS, and nothing else.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its key, readable by its owner alone.")] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Replace a damaged journal by the snapshot beside it.")
    ] = False,
) -> None:
    """Start the daemon and wait until it answers."""
    from llmos.config import read_config

    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "engine": engine,
        "insecure": insecure or None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
    }  # Any: settings
    flags |= settings_of(pairs or [])
    config = read_config(flags)  # a bad value is reported here, before anything starts
    roots = config.data_roots or None
    # absolute, because the daemon runs in another folder
    flags |= {"home": config.home, "catalog": config.catalog, "data_roots": roots}
    flags |= {"tls_cert": config.tls_cert, "tls_key": config.tls_key}
    words = [f"--{key.replace('_', '-')}={_word(value)}" for key, value in flags.items() if value is not None]
    command = [sys.executable, "-m", "llmos.daemon", *words, *(["--restore"] if restore else [])]
    if foreground:
        os.execv(sys.executable, command)
    answer = spawn(command, config.home)
    say(f"llmos is up at {answer.get('url', config.url)} (pid {answer['os_pid']}). Stop it: llmos down")


def _word(value: Any) -> str:  # Any: a setting's value
    """A setting's value as one word of a command line."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def spawn(command: list[str], home: Path, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Start the daemon in a session of its own and return what it wrote to its ready pipe. Any: that JSON.

    `environ` are variables that it has besides this process's.
    """
    log = log_of(home)
    was_home = log.parent.exists()
    try:
        os.umask(0o077)  # only the owner may read the home
        log.parent.mkdir(parents=True, exist_ok=True)
        sink = log.open("ab")
    except OSError as error:
        raise Conflict(f"{log} cannot be written: {error.strerror}. Choose another folder with LLMOS_HOME") from error
    reading, writing = os.pipe()
    with sink, os.fdopen(reading, "rb") as ready:
        child = subprocess.Popen(
            [*command, "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            pass_fds=(writing,),
            cwd="/",
            env={**os.environ, **(environ or {})},
        )
        os.close(writing)
        is_told, _, _ = select([ready], [], [], READY_TIMEOUT_S)
        line = ready.readline() if is_told else b""
    try:
        return {"os_pid": child.pid, **_parse_ready(line, log)}
    except LlmosError as error:
        if line:  # it has said why it ends: until it has ended, it looks like a daemon of this home
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(READY_TIMEOUT_S)
        if isinstance(error, BadSetting) and error.detail.get("key") == "home" and not was_home:
            _take_back(log)
        raise


def _take_back(log: Path) -> None:
    """Remove the log of a daemon that refused this folder as a home, so that the folder stays as it was."""
    with contextlib.suppress(OSError):
        log.unlink()
        log.parent.rmdir()


def log_of(home: Path) -> Path:
    """The path of a home's daemon log."""
    return home / "logs" / "daemon.log"


def _parse_ready(line: bytes, log: Path) -> dict[str, Any]:  # Any: as spawn
    try:
        reply = json.loads(line)
    except ValueError:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-TAIL_LINES:])
        raise Internal(f"The daemon did not start. The end of {log}:\n{tail}") from None
    fault = reply.get("error")
    if fault:
        raise error_of(Fault(fault["code"], fault["message"], fault.get("detail") or {}))
    return dict(reply)


def down() -> None:
    """Stop the daemon and all its processes, and wait until they have ended."""
    from llmos.config import read_config

    home = read_config().home
    daemon = daemon_of(home)
    if daemon is None:
        left = end_orphans(home)
        also = f" Processes that an earlier one had left and that were ended now: {left}." if left else ""
        say(f"No daemon is up.{also}{_neighbour()}")
        return
    with daemon:
        was_forced = end_all(daemon, home)
    say(f"llmos is down.{' The daemon did not answer, and was ended by force.' if was_forced else ''}")


def end_all(daemon: OsProcess, home: Path) -> bool:
    """End the daemon and all that it has started; returns whether force was used. Conflict if it is another user's."""
    try:
        was_forced = _end_daemon(daemon)
    except PermissionError:
        raise Conflict(
            f"The daemon of {home} (pid {daemon.os_pid}) runs as another user. End it as that user: llmos down"
        ) from None
    end_children(daemon.os_pid)
    end_orphans(home)
    return was_forced


def _end_daemon(daemon: OsProcess) -> bool:
    """End the daemon, by force if needed; returns whether force was used. Its children end with it in any case."""
    from llmos.config import read_config

    config = config_of(daemon.os_pid) or read_config()
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGCONT)  # a stopped process handles signals only after this
    if daemon.has_ended(config.stop_grace_s + DOWN_MARGIN_S):
        return False
    daemon.signal(signal.SIGKILL)
    if not daemon.has_ended(KILL_TIMEOUT_S):
        raise Unavailable(f"The daemon (pid {daemon.os_pid}) was killed but has not ended. Is a disk stuck? See: dmesg")
    return True


def running() -> bool:
    """Whether this home's daemon runs."""
    from llmos.config import read_config

    daemon = daemon_of(read_config().home)
    if daemon is not None:
        daemon.close()
    return daemon is not None


def same_home(home: str) -> bool:
    """Whether that home is the one in the settings."""
    from llmos.config import read_config

    return Path(home).resolve() == read_config().home.resolve()


def _neighbour() -> str:
    """The home of the daemon that answers on this home's port, if it is another one."""
    from llmos.config import read_config
    from llmos.sdk.client import Client

    url = read_config().url
    try:
        with Client(url, timeout_s=NEIGHBOUR_TIMEOUT_S) as client:
            now = client.status()
    except LlmosError:  # nobody listens, or another program
        return ""
    home = now.home
    if same_home(home):
        return f" One answers at {url} as pid {now.os_pid}, in another container or as another user. End it there"
    return f" The one at {url} is that of {home}. End it: LLMOS_HOME={home} llmos down"


def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show devices, memory and processes."""
    from llmos.config import read_config

    with box() as client:
        now, url = client.status(), client.url
    if as_json:
        say_json(now)
        return
    _say_status(now, url)
    if not same_home(now.home):
        note(f"This is the daemon of {now.home}; that of {read_config().home} is not up. Start it on a port of its own")


def _say_status(now: Status, url: str) -> None:
    states = ", ".join(f"{count} {state}" for state, count in now.processes.items()) or "none"
    say(f"llmos {now.version} at {url}, pid {now.os_pid}, up {age(now.started_at)}, {size(now.rss_bytes)} of memory")
    say(f"home {now.home}, calls in flight {now.in_flight}, {'warm' if now.is_warm else 'warming up'}")
    say(f"processes: {states}")
    leased = {device.name: 0 for device in now.devices}
    for lease in now.leases:
        leased[lease.device] = leased.get(lease.device, 0) + lease.size_bytes
    free = now.free_bytes
    rows = [
        (
            d.name,
            d.title,
            d.cores,
            *map(size, (d.memory_bytes, leased[d.name], free.get(d.name, 0))),
            d.dtype,
            d.kernels,
        )
        for d in now.devices
    ]
    say_table(("DEVICE", "TITLE", "CORES", "MEMORY", "LEASED", "FREE", "DTYPE", "KERNELS"), rows)


VERBS = {"up": up, "down": down, "status": status}
