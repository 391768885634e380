"""The command line: all verbs, and where an error becomes a message and an exit code."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from llmos.cli import (
    adapt,
    alerts,
    ask,
    audit,
    backup,
    batch,
    behaviour,
    bundle,
    chat,
    daemon,
    data,
    doctor,
    errors,
    feedback,
    keys,
    label,
    models,
    monitor,
    processes,
    requests,
    rollout,
    service,
    slo,
    store,
    train,
    tune,
    upgrade,
    usage,
)
from llmos.cli.terminal import say, say_error

app = typer.Typer(
    name="llmos",
    help="An operating system for language models: train, evaluate, promote, serve and monitor task models.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would double the time to the first line of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (
    daemon,
    upgrade,
    backup,
    bundle,
    processes,
    models,
    monitor,
    rollout,
    slo,
    store,
    train,
    adapt,
    tune,
    label,
    feedback,
    errors,
    behaviour,
    ask,
    chat,
    batch,
    usage,
    doctor,
):
    for verb, run in room.VERBS.items():
        app.command(verb, cls=getattr(room, "COMMANDS", {}).get(verb))(run)
app.add_typer(data.app, name="data")
app.add_typer(requests.app, name="requests")
app.add_typer(feedback.app, name="feedback")
app.add_typer(keys.app, name="key")
app.add_typer(audit.app, name="audit")
app.add_typer(service.app, name="service")
app.add_typer(alerts.app, name="alerts")
for verb in ("demo", "bench"):
    if find_spec(f"llmos.cli.{verb}") is not None:
        app.command(verb)(getattr(__import__(f"llmos.cli.{verb}", fromlist=[verb]), verb))


def _version(is_asked: bool) -> None:
    if is_asked:
        from llmos import __version__

        say(f"llmos {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the verb; 0 fine, 1 failed, 2 wrong input or usage, 3 no daemon, 130 interrupted."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `llmos ls | head` ends as any other command does
    sys.exit(run_verb(sys.argv[1:]))


def run_verb(words: list[str]) -> int:
    """The exit code of one command line; its errors have been said."""
    from llmos.abi.error import BadInput, LlmosError

    try:
        for word in words:
            if not word.isprintable() and any("\udc80" <= sign <= "\udcff" for sign in word):
                raise BadInput(f"The argument {word!r} is not UTF-8. Convert it, or give texts in a file (--file)")
        code = app(words, prog_name="llmos", standalone_mode=False)
    except LlmosError as error:
        return say_error(error, as_json="--json" in words, words=words)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # the top of the command line: click's own usage errors say themselves
        return _usage(error)
    return code if isinstance(code, int) else 0


def _usage(error: Exception) -> int:
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        show()
        return code
    if type(error).__name__ == "Abort":
        return 130
    raise error


if __name__ == "__main__":
    main()
