"""bundle, unbundle: wheels and models for a machine without a network, and the models into its home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmos.abi.error import BadInput
from llmos.cli.byte_progress import byte_progress
from llmos.cli.terminal import note, say, say_json, size

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def bundle(
    target: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", help="A new folder, or a new tar file.")],
    models: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Models or versions, with their bases (default: all promoted)."),
    ] = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="Only the wheels.")] = False,
    wheels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the wheels from this folder, without the network.")
    ] = None,
    no_wheels: Annotated[bool, typer.Option("--no-wheels", help="Only the models.")] = False,
    constraint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Versions for pip (default: constraints.txt, or the torch here)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an offline bundle: llmos, all that it needs, and models, with an installer."""
    from llmos.bundle.making import make
    from llmos.bundle.wheels import WheelChoice
    from llmos.config import read_config

    if no_wheels and (wheels or constraint):
        raise BadInput("--no-wheels leaves the wheels out, so --wheels and --constraint mean nothing beside it")
    if no_models and models is not None:
        raise BadInput("--models names models, and --no-models leaves all of them out. Give one of the two")
    refs = [] if no_models else None if models is None else _refs(models)
    choice = None if no_wheels else WheelChoice(wheels, constraint)
    say_line = (lambda line: None) if as_json else note
    home = read_config().home
    made = make(target, home, refs, choice, show=byte_progress(as_json), say=say_line)
    manifest = made.manifest
    if as_json:
        say_json(
            {
                "place": str(made.place),
                "version": manifest.version,
                "target": manifest.target,
                "models": list(manifest.models),
                "wheels": made.wheels,
                "files": len(manifest.files),
                "size_bytes": manifest.size_bytes,
                "verified_bytes": made.verified_bytes,
                "sums_sha256": made.sums_sha256,
            }
        )
        return
    what = [f"{made.wheels} wheels"] * (choice is not None) + [", ".join(manifest.models)] * bool(manifest.models)
    say(f"Bundled {' and '.join(what)} into {made.place}: {size(manifest.size_bytes)}, read back and found right.")
    if manifest.target is not None:
        glibc = f", glibc {manifest.target.glibc} or later" if manifest.target.glibc else ""
        say(f"It is for {manifest.target.python} on {manifest.target.platform}{glibc}.")
    say(f"sha256 of SHA256SUMS: {made.sums_sha256}")
    unpack, at = (f"tar -xf {target.name} && ", target.stem) if target.suffix == ".tar" else ("", target.name)
    say(f"There: {unpack}sh {at}/install.sh")


def unbundle(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE.tar", help="A bundle.")], as_json: AsJson = False
) -> None:
    """Load the models of a bundle into the home, beside what it has; its daemon must be stopped."""
    from llmos.bundle.loading import load
    from llmos.config import read_config

    done = load(source, read_config().home, show=byte_progress(as_json))
    adopted = done.adopted
    if as_json:
        say_json({"home": str(done.home), **{key: getattr(adopted, key) for key in adopted.__dataclass_fields__}})
        return
    there = f" Already there: {', '.join(adopted.there)}." if adopted.there else ""
    say(f"Loaded {', '.join(adopted.added) or 'nothing new'} into {done.home}, all verified.{there}")
    for ref in adopted.kept:
        note(f"This home has promoted another version of {ref.partition(':')[0]}. To change that: llmos promote {ref}")
    say("Start it: llmos up")


def _refs(models: str) -> list[str]:
    refs = [ref.strip() for ref in models.split(",") if ref.strip()]
    if not refs:
        raise BadInput(
            "models names no model. Give names or versions with commas between, or: --no-models", key="models"
        )
    return refs


VERBS = {"bundle": bundle, "unbundle": unbundle}
