"""up, down, status: the daemon's life as seen from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import Conflict, Fault, Internal, LlmosError, Unavailable, error_of
from llmos.cli.box import box, settings_of
from llmos.cli.terminal import age, note, say, say_json, say_table, size

if TYPE_CHECKING:
    import psutil

    from llmos.abi.view import Status

READY_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 90.0
NEIGHBOUR_TIMEOUT_S = 2.0
TAIL_LINES = 15


def up(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="The driver that serves what it can: pytorch, llamacpp, vllm or null.")
    ] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="Any other setting, as key=value.")] = None,
    foreground: Annotated[bool, typer.Option(help="Stay in this terminal, and log to it.")] = False,
) -> None:
    """Start the daemon, and wait until it answers."""
    from llmos.config import read_config

    flags = {"host": host, "port": port, "engine": engine, **settings_of(given or [])}
    config = read_config(flags)  # a bad value is said here, before anything starts
    flags |= {"home": config.home, "catalog": config.catalog}  # absolute: the daemon runs in another folder
    words = [f"--{key.replace('_', '-')}={value}" for key, value in flags.items() if value is not None]
    command = [sys.executable, "-m", "llmos.daemon", *words]
    if foreground:
        os.execv(sys.executable, command)
    answer = spawn(command, config.home)
    say(f"llmos is up at {answer.get('url', config.url)} (pid {answer['os_pid']}). Stop it: llmos down")


def spawn(command: list[str], home: Path) -> dict[str, Any]:
    """The daemon in a session of its own; what it wrote to its ready pipe, once it has. Any: that JSON."""
    log = log_of(home)
    try:
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
        )
        os.close(writing)
        is_told, _, _ = select([ready], [], [], READY_TIMEOUT_S)
        line = ready.readline() if is_told else b""
    return {"os_pid": child.pid, **_told(line, log)}


def log_of(home: Path) -> Path:
    """Where the daemon of a home writes what it has to say."""
    return home / "logs" / "daemon.log"


def _told(line: bytes, log: Path) -> dict[str, Any]:  # Any: as spawn
    try:
        told = json.loads(line)
    except ValueError:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-TAIL_LINES:])
        raise Internal(f"The daemon did not start. The end of {log}:\n{tail}") from None
    fault = told.get("error")
    if fault:
        raise error_of(Fault(fault["code"], fault["message"], fault.get("detail") or {}))
    return dict(told)


def down() -> None:
    """Stop the daemon and every process it runs, and wait until it has ended."""
    import psutil

    from llmos.config import read_config

    process = running()
    if process is None:
        say(f"No daemon is up.{_neighbour()}")
        return
    process.terminate()
    try:
        process.wait(DOWN_TIMEOUT_S)
    except psutil.TimeoutExpired:
        raise Unavailable(
            f"The daemon (pid {process.pid}) is still stopping. Its log: {log_of(read_config().home)}"
        ) from None
    say("llmos is down.")


def running() -> psutil.Process | None:
    """The daemon of this home, if it runs: by the pid it wrote down, checked to be a daemon still."""
    import psutil

    from llmos.config import read_config

    try:
        pid = json.loads((read_config().home / "daemon.json").read_text())["os_pid"]
        process = psutil.Process(pid)
        words = process.cmdline()
        homes = [word.removeprefix("--home=") for word in words if word.startswith("--home=")]
        is_ours = all(same_home(home) for home in homes)  # a pid may be another daemon's by now
        return process if "llmos.daemon" in words and is_ours else None
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def same_home(home: str) -> bool:
    """That home is the one that the settings name."""
    from llmos.config import read_config

    return Path(home).resolve() == read_config().home.resolve()


def _neighbour() -> str:
    """Whose daemon it is that answers on this home's port, where it is another home's."""
    from llmos.config import read_config
    from llmos.sdk.client import Client

    url = read_config().url
    try:
        with Client(url, timeout_s=NEIGHBOUR_TIMEOUT_S) as client:
            home = client.status().home
    except LlmosError:  # nobody, or a program that is no daemon
        return ""
    return f" The one at {url} is that of {home}. End it: LLMOS_HOME={home} llmos down"


def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show the daemon at a glance: devices, memory, processes."""
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
        (d.name, d.title, d.cores, size(d.memory_bytes), size(leased[d.name]), size(free.get(d.name, 0)), d.dtype)
        for d in now.devices
    ]
    say_table(("DEVICE", "TITLE", "CORES", "MEMORY", "LEASED", "FREE", "DTYPE"), rows)


VERBS = {"up": up, "down": down, "status": status}
