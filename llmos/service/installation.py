"""Installs, removes and shows the unit of one home's daemon, for the machine or for one user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmos.abi.error import Conflict, Forbidden, LlmosError, NotFound, Unavailable
from llmos.service.control import Ran, UnitControl
from llmos.service.unit import MARK, STATES, ServiceUnit, check_unit_name

SHOWN = {  # of `systemctl show`, and what it is called here
    "LoadState": "load",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "state",
    "MainPID": "os_pid",
    "NRestarts": "restarts",
    "Result": "result",
    "StatusText": "says",
    "ActiveEnterTimestamp": "since",
}
PRINT = "To see the unit alone: llmos service install --print"


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where a unit's file goes, and whether it is one of a user's."""

    folder: Path
    name: str
    is_user: bool

    @property
    def unit(self) -> str:
        return f"{check_unit_name(self.name)}.service"

    @property
    def path(self) -> Path:
        return self.folder / self.unit


def install(
    unit: ServiceUnit, place: UnitPlace, control: UnitControl, *, daemon: int | None, starts: bool = True
) -> str:
    """Write the unit, have systemd check and enable it, and start it; what systemd says of the file, if anything.

    `daemon` is the operating system's pid of the home's daemon, if one runs. Conflict if systemd did not start that
    one, or if there is a unit that was not written here; Forbidden without the rights; Unavailable without systemd.
    """
    check_booted(control)
    _check_rights(place)
    _check_ours(place)
    if daemon is not None and daemon != main_pid(show(place, control)):
        raise Conflict(
            f"A daemon runs on {unit.home} that is no service (pid {daemon}). End it first: llmos down", os_pid=daemon
        )
    if unit.user and unit.home.parent != STATES:  # there systemd makes it
        _make_home(unit)
    said = _write(unit, place, control)
    order(control, "daemon-reload")
    order(control, "enable", place.unit)
    if starts:
        order(control, "restart", place.unit)
    return said


def uninstall(place: UnitPlace, control: UnitControl) -> None:
    """Stop the service and remove its unit; the home stays. NotFound if there is none."""
    if not place.path.exists():
        raise NotFound(f"There is no unit {place.path}. {_other(place)}", path=str(place.path))
    check_booted(control)
    _check_rights(place)
    _check_ours(place)
    order(control, "disable", "--now", place.unit)
    place.path.unlink()
    order(control, "daemon-reload")


def show(place: UnitPlace, control: UnitControl) -> Mapping[str, str]:
    """What systemd says of the service, by our names; Unavailable if it says nothing."""
    check_booted(control)
    done = control.systemctl("show", place.unit, f"--property={','.join(SHOWN)}")
    _check_done(done, "show")
    pairs = (line.partition("=") for line in done.out.splitlines())
    return {SHOWN[key]: value for key, _, value in pairs if key in SHOWN}


def main_pid(shown: Mapping[str, str]) -> int | None:
    """The operating system's pid of the service's daemon, if it runs."""
    number = shown.get("os_pid", "")
    return int(number) if number.isdecimal() and number != "0" else None


def owner_of(home: Path) -> str:
    """The name of the user whom the home, or the nearest folder above it that is there, belongs to."""
    while not home.exists():
        home = home.parent
    return name_of(home.stat().st_uid)


def name_of(uid: int) -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_of(user: str) -> str:
    """The number of the user's own group; NotFound if there is no such user."""
    try:
        return str(pwd.getpwnam(user).pw_gid)
    except KeyError:
        raise NotFound(
            f"There is no user {user!r}. Make it: useradd --system --home-dir /var/lib/{user} {user}", value=user
        ) from None


def _write(unit: ServiceUnit, place: UnitPlace, control: UnitControl) -> str:
    """The file under another name first, which systemd checks; an earlier unit stays until then."""
    aside = place.folder / f".{place.name}-new.service"
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        aside.write_text(unit.text, encoding="utf-8")
        aside.chmod(0o644)
        said = control.verify(aside)
        if said is not None and said.code:
            raise Unavailable(f"systemd does not take the unit: {said.err.strip()}. Nothing was installed. {PRINT}")
        aside.replace(place.path)
    except OSError as error:
        raise Unavailable(f"{place.path} cannot be written: {error.strerror}. {PRINT}", path=str(place.path)) from error
    finally:
        aside.unlink(missing_ok=True)
    return "" if said is None else said.err.strip()


def _make_home(unit: ServiceUnit) -> None:
    """The home, which the sandbox names and which must then be there, as the service's user's own."""
    if unit.home.exists():
        return
    try:
        user = pwd.getpwnam(unit.user)
        unit.home.mkdir(mode=0o700, parents=True)
        os.chown(unit.home, user.pw_uid, user.pw_gid)
    except (KeyError, OSError) as error:
        raise Unavailable(f"The home {unit.home} cannot be made for {unit.user}: {error}") from error


def check_booted(control: UnitControl) -> None:
    """Raise Unavailable where systemd does not run the machine."""
    if not control.is_booted():
        raise Unavailable(
            "systemd does not run this machine (a container, or another init system). Run the daemon in the "
            f"foreground under what does: llmos up --foreground. {PRINT}"
        )


def _check_rights(place: UnitPlace) -> None:
    if not place.is_user and not os.access(place.folder, os.W_OK):
        raise Forbidden(
            f"Only root may write {place.folder}. Run the same command as root, or have a service of your own user: "
            f"llmos service install --user. {PRINT}",
            path=str(place.folder),
        )


def _check_ours(place: UnitPlace) -> None:
    try:
        is_ours = place.path.read_text(encoding="utf-8").startswith(MARK)
    except FileNotFoundError:
        return
    if not is_ours:
        raise Conflict(
            f"{place.path} was not written by llmos, and stays as it is. Move it away, or name another unit: --name",
            path=str(place.path),
        )


def _other(place: UnitPlace) -> str:
    return "For the machine's, leave --user out" if place.is_user else "For your own user's: --user"


def order(control: UnitControl, *words: str) -> None:
    """Have systemd do something; Unavailable, with what it said, if it does not."""
    _check_done(control.systemctl(*words), " ".join(words))


def _check_done(done: Ran, what: str) -> None:
    if done.code:
        raise _refusal(what, done)


def _refusal(what: str, done: Ran) -> LlmosError:
    way = "" if what == "daemon-reload" else " See: journalctl -e -u llmos, and the daemon's log"
    return Unavailable(f"systemctl {what} failed: {' '.join((done.err or done.out).split()) or done.code}.{way}")
