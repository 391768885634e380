"""service install, uninstall, status: the daemon as a systemd unit, of the machine or of one user."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmos.abi.error import BadInput
from llmos.cli.terminal import FAILED, note, say, say_json, say_table
from llmos.home import daemon_of

if TYPE_CHECKING:
    from llmos.config import Config
    from llmos.service.installation import UnitPlace
    from llmos.service.unit import ServiceUnit

OfUser = Annotated[bool, typer.Option("--user", help="A service of this user alone, which needs no root.")]
UnitName = Annotated[str, typer.Option("--name", help="The unit's name; a second home needs another one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
app = typer.Typer(help="Run the daemon as a systemd service.", no_args_is_help=True, rich_markup_mode=None)


def install(
    user: OfUser = False,
    run_as: Annotated[
        str, typer.Option("--run-as", help="The user that the machine's service runs as (default: the home's owner).")
    ] = "",
    name: UnitName = "llmos",
    print_: Annotated[bool, typer.Option("--print", help="Only print the unit.")] = False,
    start: Annotated[bool, typer.Option(help="Start it now, not only with the machine.")] = True,
) -> None:
    """Install the daemon of this home as a service, and start it."""
    from llmos.config import read_config, service_differences
    from llmos.service.control import SystemdControl
    from llmos.service.installation import install as install_unit

    config = read_config()
    environment, secret = service_differences(config)
    unit = _unit(config, environment, is_user=user, run_as=run_as)
    if secret:
        file = config.home / "config.toml"
        note(f"Anyone can read a unit, so these settings are not in it: {', '.join(secret)}. Put them into {file}")
    if print_:
        say(unit.text.rstrip())
        return
    place = _place(name, is_user=user)
    process = daemon_of(config.home)
    daemon = process.os_pid if process else None
    if process:
        process.close()
    if not user:
        _compile_loops()
    said = install_unit(unit, place, SystemdControl(is_user=user), daemon=daemon, starts=start)
    if said:
        note(said)
    scope = " --user" if user else ""
    runs = f"It runs on {config.home}, and is up" if start else f"It will run on {config.home}"
    say(f"Installed {place.path}. {runs} with each start of the machine. Its state: llmos service status{scope}")
    if user:
        note("A user's service ends when the user logs out, unless: loginctl enable-linger")


def uninstall(user: OfUser = False, name: UnitName = "llmos") -> None:
    """Stop the service and remove its unit; the home stays."""
    from llmos.service.control import SystemdControl
    from llmos.service.installation import uninstall as remove_unit

    place = _place(name, is_user=user)
    remove_unit(place, SystemdControl(is_user=user))
    say(f"Removed {place.path}. The home stays as it is. Start the daemon by hand: llmos up")


def status(user: OfUser = False, name: UnitName = "llmos", as_json: AsJson = False) -> None:
    """Show what systemd says of the service; exit code 1 if it is not active."""
    from llmos.service.control import SystemdControl
    from llmos.service.installation import show

    place = _place(name, is_user=user)
    shown = show(place, SystemdControl(is_user=user))
    if as_json:
        say_json({"unit": str(place.path), **shown})
    else:
        say_table(("WHAT", "SYSTEMD SAYS"), [("unit", place.path), *shown.items()])
    if shown.get("active") != "active":
        raise typer.Exit(FAILED)


def _unit(config: Config, environment: dict[str, str], *, is_user: bool, run_as: str) -> ServiceUnit:
    from pathlib import Path

    from llmos.service.installation import group_of, owner_of
    from llmos.service.unit import ServiceUnit

    if is_user and run_as:
        raise BadInput("--run-as is for the machine's service; a service of your user runs as you", key="run_as")
    account = "" if is_user else run_as or owner_of(config.home)
    if account == "root" and not run_as:
        raise BadInput(
            f"The home {config.home} is root's, and the daemon needs no root. Name the user it should run as: "
            "--run-as llmos. Make that user: useradd --system --home-dir /var/lib/llmos llmos. If it must be root: "
            "--run-as root",
            key="run_as",
        )
    return ServiceUnit(
        Path(sys.executable),
        config.home,
        account,
        group_of(account) if account else "",
        config.port,
        config.stop_grace_s,
        environment,
    )


def _place(name: str, *, is_user: bool) -> UnitPlace:
    from llmos.config import units_folder
    from llmos.service.installation import UnitPlace
    from llmos.service.unit import check_unit_name

    return UnitPlace(units_folder(is_user=is_user), check_unit_name(name), is_user)


def _compile_loops() -> None:
    """In the sandbox the package cannot be written: the loops are compiled before, where a compiler is here."""
    import subprocess

    code = "from llmos.nn.cpu.cpu_kernels import kernels; kernels()"
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)


for verb in (install, uninstall, status):
    app.command(verb.__name__)(verb)
