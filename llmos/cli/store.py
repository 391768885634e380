"""rm, df, gc: removes versions, shows disk use, frees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from llmos.abi.error import LlmosError
from llmos.abi.process import State
from llmos.cli.client import box
from llmos.cli.terminal import note, say, say_json, say_table, size

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def rm(
    refs: Annotated[list[str], typer.Argument(metavar="REF...", help="Models, or datasets (name@version).")],
    as_json: AsJson = False,
) -> None:
    """Remove versions, names or datasets; `gc` then frees their bytes."""
    with box() as client:
        removed = remove_each(refs, lambda ref: (client.remove_dataset if "@" in ref else client.remove)(ref), as_json)
    if as_json:
        say_json({"removed": removed})
        return
    say(f"Removed {', '.join(removed)}. Free the bytes: llmos gc")


def remove_each(refs: Sequence[str], remove: Callable[[str], list[str]], as_json: bool) -> list[str]:
    """Remove one after another. If one is refused, what was removed before it is printed, then the error raised."""
    removed: list[str] = []
    for ref in refs:
        try:
            removed += remove(ref)
        except LlmosError:
            if removed and as_json:
                say_json({"removed": removed})
            elif removed:
                say(f"Removed {', '.join(removed)}. The others stay, because one cannot be removed:")
            raise
    return removed


def df(as_json: AsJson = False) -> None:
    """Show the disk use of the home."""
    with box() as client:
        use = client.disk()
    if as_json:
        say_json(use)
        return
    from llmos.abi.wire import to_plain

    rooms = [(key.removesuffix("_bytes"), size(number)) for key, number in to_plain(use).items()]
    say_table(("ROOM", "SIZE"), rooms)


def gc(as_json: AsJson = False) -> None:
    """Free the bytes that no name refers to."""
    with box() as client:
        freed = client.gc()
        if as_json:
            say_json({"freed_bytes": freed})
            return
        say(f"Freed {size(freed)}.")
        waiting = [one.pid for one in client.processes() if one.state is State.INTERRUPTED]
        use = client.disk()
    if waiting:
        pids = " ".join(map(str, waiting))
        note(f"Interrupted processes keep {size(use.scratch_bytes)} in scratch. Give them up: llmos kill {pids}")
    if use.downloads_bytes:
        note(f"Downloads half-way keep {size(use.downloads_bytes)}. `llmos gc` takes them when the disk is nearly full")


VERBS: dict[str, Any] = {"rm": rm, "df": df, "gc": gc}  # Any: verbs differ in what they take
