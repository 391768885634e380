"""restart, upgrade: the daemon ends and starts again on its home, maybe with new code, and trainings go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmos import __version__
from llmos.abi.error import BadInput, LlmosError, Missing, Unavailable
from llmos.abi.process import State
from llmos.cli.client import box
from llmos.cli.daemon import end_all, spawn
from llmos.cli.terminal import note, say
from llmos.home import Launch, OsProcess, daemon_of, launch_of

if TYPE_CHECKING:
    from llmos.service.running import RunningUnit

RESUMES = "--resume-at-start"
CHECK = """
import pathlib, sys
from llmos import __version__
from llmos.kernel import home_format
if not home_format.__file__.startswith(sys.argv[2]):
    raise ImportError(f"{__version__} knows no formats of homes")
home_format.check_format(pathlib.Path(sys.argv[1]), __version__)
print(__version__)
"""  # what the new code is asked, before anything is stopped. A file that it lacks may come from an editable install


def restart() -> None:
    """Stop the daemon and start it again with the same settings; trainings go on from their checkpoints."""
    from llmos.config import read_config
    from llmos.daemon import check_runnable

    config = read_config()
    home = config.home
    daemon = daemon_of(home)
    if daemon is None:
        raise Unavailable("No daemon is up. Start it: llmos up", url=config.url)
    check_runnable(home)  # before anything is stopped
    with daemon:
        launch = launch_of(daemon.os_pid)
        end = _unit_of(launch)
        if end is not None:
            end.restart()
        else:
            end_all(daemon, home)
            start_again(launch, home)
    _say_state()


def upgrade(
    source: Annotated[
        Path,
        typer.Argument(metavar="WHEEL|FOLDER", help="The new llmos: a wheel, or its source folder."),
    ],
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="A folder of wheels: install from it, without the network.")
    ] = None,
) -> None:
    """Install another llmos here and run it on the same home; trainings go on from their checkpoints."""
    from llmos.config import read_config

    _check_source(source)
    home = read_config().home
    version = _check_new_code(source, home)
    if find_spec("pip") is None:
        raise Missing(
            "This environment has no pip: it was made by uv or pipx. Install the new llmos with that, for example "
            f"`uv tool install --force {source}`, then: llmos restart"
        )
    install = Installation(
        source.resolve(), None if wheels is None else wheels.resolve(), is_same=version == __version__
    )
    daemon = daemon_of(home)
    if daemon is None:
        with ending_in_order() as ending:
            ending.hold()
            install.run()
        say(f"llmos {version} is installed. Start it: llmos up")
        return
    note("asking pip whether it can be installed")
    install.check()
    with daemon, ending_in_order() as ending:
        _replace(daemon, install, home, ending)
    _say_state()


class Ending:
    """The handler of the signals that end this: the first one raises KeyboardInterrupt, unless they are held by then.

    A later one does nothing: it must not end the way back. No signal is ignored, for the daemon would inherit that.
    """

    def __init__(self) -> None:
        self._is_held = False

    def hold(self) -> None:
        """From now on this goes on to its end, whatever comes."""
        self._is_held = True

    def __call__(self, number: int, frame: object) -> None:
        if not self._is_held:
            self._is_held = True
            raise KeyboardInterrupt


@contextmanager
def ending_in_order() -> Iterator[Ending]:
    """Inside this block, a terminal that closes or a kill ends it as Ctrl-C does: what was stopped is started again.

    What is ignored already stays so, as SIGHUP under nohup.
    """
    ending = Ending()
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        for one, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(one, ending)
        yield ending
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _replace(daemon: OsProcess, install: Installation, home: Path, ending: Ending) -> None:
    launch = launch_of(daemon.os_pid)
    unit = _unit_of(launch)
    note("stopping the daemon; trainings write their checkpoints")
    if unit is None:
        exchange(partial(end_all, daemon, home), install.run, partial(start_again, launch, home), ending)
    else:
        exchange(unit.stop, install.run, unit.start, ending)


def exchange(
    stop: Callable[[], object], install: Callable[[], object], start: Callable[[], object], ending: Ending
) -> None:
    """Stop, install, start; where one of the first two fails, what was there is started again.

    An installation that has begun goes on to its end: half of one could not be started.
    """
    try:
        stop()
        ending.hold()
        install()
    except (LlmosError, KeyboardInterrupt):
        note("it was not installed; what was there is started again")
        raise
    finally:
        ending.hold()
        stop()  # one that was interrupted may still be under way
        start()


def start_again(launch: Launch, home: Path) -> None:
    """Start the daemon as it was started before, with what its end interrupted going on."""
    words = [word for word in launch.words if not word.startswith(f"{RESUMES}=")]
    words = [f"--home={home}", *(word for word in words if not word.startswith("--home=")), f"{RESUMES}=true"]
    spawn([sys.executable, "-m", "llmos.daemon", *words], home, launch.environ)


def _unit_of(launch: Launch) -> RunningUnit | None:
    """The service that the daemon is, if systemd has started it."""
    from llmos.service.control import SystemdControl
    from llmos.service.running import RunningUnit, unit_of

    if not launch.is_service:
        return None
    unit, is_user = unit_of(launch.cgroup)
    return RunningUnit(unit, SystemdControl(is_user=is_user))


def _say_state() -> None:
    with box() as client:
        now = client.status()
        left = [one for one in client.processes() if one.state not in (State.EXITED, State.INTERRUPTED)]
        on = [one for one in left if one.spec.parent is None and one.started_at is not None]
        say(f"llmos {now.version} is up at {client.url} (pid {now.os_pid}).")
    for process in on:
        say(f"process {process.pid} goes on: {process.spec.title}")


def _check_source(source: Path) -> None:
    is_wheel = source.suffix == ".whl" and source.is_file()
    if is_wheel and not source.name.startswith("llmos-"):
        raise BadInput(f"{source} is the wheel of another package. Expected llmos-VERSION-py3-none-any.whl")
    if not is_wheel and not (source / "pyproject.toml").is_file():
        raise BadInput(
            f"{source} is no wheel and no folder with a pyproject.toml. For a clone that this llmos runs from: "
            "git pull, then llmos restart"
        )


def _check_new_code(source: Path, home: Path) -> str:
    """The version of the new code, which has said that it reads this home. Nothing is stopped or installed for that."""
    if source.suffix == ".whl" and not zipfile.is_zipfile(source):
        raise BadInput(f"{source} is no whole wheel. Fetch it again")
    path = source.resolve()
    environ = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run_apart([sys.executable, "-c", CHECK, str(home), str(path)], environ)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2].partition(": ")
        raise BadInput(
            f"The new llmos does not run on {home}: {said[2] or said[0]}. Nothing was stopped or installed",
            key="source",
            value=str(source),
        )
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Installation:
    """pip's installation of a source; `wheels` is the folder to take everything from, without the network."""

    source: Path
    wheels: Path | None
    is_same: bool  # as the version that is there: pip leaves that alone, although the code may be another

    def check(self) -> None:
        """Raise Unavailable if pip cannot find all that it needs; nothing is changed."""
        self._pip("--dry-run")

    def run(self) -> None:
        note(f"installing {self.source}")
        self._pip()
        if self.is_same:
            self._pip("--force-reinstall", "--no-deps")

    def _pip(self, *more: str) -> None:
        flags = [] if self.wheels is None else ["--no-index", "--find-links", str(self.wheels)]
        words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--upgrade", *flags, *more]
        done = run_apart([*words, str(self.source)])
        if done.returncode:
            raise Unavailable(
                f"pip does not install {self.source}: {' '.join(done.stderr.split())}", path=str(self.source)
            )


def run_apart(words: Sequence[str], environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it in a session of its own, which a terminal's Ctrl-C does not reach."""
    return subprocess.run(
        words, env=environ, capture_output=True, text=True, check=False, cwd="/", start_new_session=True
    )


VERBS = {"restart": restart, "upgrade": upgrade}
