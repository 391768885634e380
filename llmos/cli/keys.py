"""key create, ls, rotate, rm: who may call the daemon. They work before it is up, too: the first key is made so."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from llmos.abi.error import AlreadyRunning, BadInput
from llmos.abi.key import ALL_SCOPES, ANY_MODEL, ApiKey, KeyLimits, KeyScope, NewKey, limits_of
from llmos.abi.process import Priority
from llmos.cli.client import box
from llmos.cli.daemon import running
from llmos.cli.terminal import age, note, say, say_json, say_table, span

if TYPE_CHECKING:
    from llmos.sdk.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id.")]
SPAN = re.compile(r"([0-9]+)(m|h|d|w|y)")
SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
app = typer.Typer(help="Make, list, rotate and remove keys.", no_args_is_help=True, rich_markup_mode=None)


class KeyEditor(Protocol):
    """What keys are made and removed by: the daemon, or the file in the home while there is none."""

    def all(self) -> list[ApiKey]: ...
    def create(self, wanted: ApiKey) -> NewKey: ...
    def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey: ...
    def remove(self, key_id: str) -> object: ...


class _OfDaemon:
    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> list[ApiKey]:
        return self._client.keys()

    def create(self, wanted: ApiKey) -> NewKey:
        return self._client.create_key(
            wanted.name,
            scopes=wanted.scopes,
            models=wanted.models,
            expires_at=wanted.expires_at,
            limits=wanted.limits,
            priority=wanted.priority,
        )

    def rotate(self, key_id: str, grace_s: float = 0.0) -> NewKey:
        return self._client.rotate_key(key_id, grace_s=grace_s)

    def remove(self, key_id: str) -> object:
        return self._client.remove_key(key_id)


@contextmanager
def keys_of_home() -> Iterator[KeyEditor]:
    """The keys of the daemon that runs; of the home, while none does."""
    from llmos.config import read_config

    config = read_config()
    if running() or config.api_key:
        with box() as client:
            yield _OfDaemon(client)
        return
    from llmos.daemon import own_keys

    with ExitStack() as stack:
        try:
            keys: KeyEditor = stack.enter_context(own_keys(config.home))
        except AlreadyRunning:  # in another container, which shares the home
            keys = _OfDaemon(stack.enter_context(box()))
        yield keys


def create(
    name: Annotated[str, typer.Argument(help="What it is for; people read it.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(ALL_SCOPES)}, or all; may be repeated (default: infer).")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model's name, or a glob such as support-*; may be repeated.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90m, 12h, 30d, 8w, 1y from now.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="The most requests in any 60 s.")] = None,
    requests_per_day: Annotated[int | None, typer.Option(min=1, help="The most requests on a day of UTC.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="The most tokens in any 60 s.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="The most tokens on a day of UTC.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="The most requests under way.")] = None,
    priority: Annotated[Priority, typer.Option(help="The highest priority of its calls.")] = Priority.INTERACTIVE,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    limits = KeyLimits(requests_per_minute, requests_per_day, tokens_per_minute, tokens_per_day, concurrency)
    expires_at = None if expires is None else time.time() + seconds_in(expires)
    models = tuple(model) if model else ANY_MODEL
    wanted = ApiKey("", name, scopes_in(scope or ()), models, 0.0, expires_at, limits, priority)
    with keys_of_home() as keys:
        is_first = not keys.all()
        made = keys.create(wanted)
    _say_new(made, as_json)
    if not as_json:
        note("Keep it now: it is not shown again.")
        if is_first:
            note("It is the first one: from now on requests need a key. Your own commands on this machine need none.")


def ls(as_json: AsJson = False) -> None:
    """List keys."""
    with keys_of_home() as keys:
        found = keys.all()
    if as_json:
        say_json(found)
        return
    rows = [
        (one.id, one.name, ",".join(one.scopes), ",".join(one.models), _limits(one), age(one.created_at), _ends(one))
        for one in found
    ]
    say_table(("ID", "NAME", "SCOPES", "MODELS", "LIMITS", "AGE", "ENDS"), rows)
    if not found:
        note("There is no key, so whoever reaches the port may use it. Make one: llmos key create NAME")


def rotate(
    key_id: KeyId,
    grace: Annotated[str | None, typer.Option(help="How long the present secret is still taken: 90m, 12h, 7d.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret and print it, this once."""
    with keys_of_home() as keys:
        made = keys.rotate(key_id, 0.0 if grace is None else float(seconds_in(grace)))
    _say_new(made, as_json)


def rm(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The keys' ids.")],
    as_json: AsJson = False,
) -> None:
    """Remove keys: from now on nobody gets in with them."""
    with keys_of_home() as keys:
        for key_id in ids:
            keys.remove(key_id)
        is_last = not keys.all()
    if as_json:
        say_json({"removed": ids})
        return
    say(f"Removed {', '.join(ids)}.")
    if is_last:
        note("There is no key any more: whoever reaches the port may use it.")


def seconds_in(text: str) -> int:
    """A span such as 90m, 12h, 30d; BadInput otherwise."""
    found = SPAN.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise BadInput(f"{text!r} is no span. Write 90m, 12h, 30d, 8w or 1y", value=text)
    return int(found[1]) * SECONDS[found[2]]


def scopes_in(words: Sequence[str]) -> tuple[KeyScope, ...]:
    """The scopes of these words, in which commas separate several; none: infer."""
    names = [name.strip() for word in words for name in word.split(",") if name.strip()]
    if "all" in names:
        return ALL_SCOPES
    for name in names:
        if name not in ALL_SCOPES:
            raise BadInput(
                f"{name!r} is no scope. There are: {', '.join(ALL_SCOPES)}, and all", key="scope", value=name
            )
    return tuple(dict.fromkeys(map(KeyScope, names))) or (KeyScope.INFER,)


def _say_new(made: NewKey, as_json: bool) -> None:
    if as_json:
        say_json(made)
    else:
        say(made.secret)


def _limits(key: ApiKey) -> str:
    return ", ".join(
        f"{value:,} {name.replace('_', ' ')}" for name, value in limits_of(key.limits) if value is not None
    )


def _ends(key: ApiKey) -> str:
    if key.expires_at is None:
        return ""
    return "over" if key.has_expired(time.time()) else f"in {span(key.expires_at - time.time())}"


for run in (create, ls, rotate, rm):
    app.command()(run)
