"""chat: talk to a model, one message or a whole conversation."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from llmos.abi.error import BadInput, LlmosError
from llmos.cli.client import box, settings_of
from llmos.cli.terminal import note, say, say_error

if TYPE_CHECKING:
    from llmos.sdk.client import Client

Messages = list[dict[str, str]]


def chat(
    model: Annotated[str, typer.Argument(help="A model that chats.")],
    text: Annotated[str | None, typer.Argument(help="One message; without it, an interactive conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; higher is more varied.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample from the likeliest tokens with this total probability.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of an answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="The random seed.")] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="A file with the JSON schema that answers must match.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds until an answer must be there.")] = None,
    priority: Annotated[
        str | None, typer.Option("--priority", "--class", help="The priority: interactive, batch or background.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="The engine: pytorch, llamacpp or vllm.")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", help="Any other param, as key=value; may be repeated.")
    ] = None,
) -> None:
    """Talk to a model."""
    chosen = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}
    params = settings_of(pairs or []) | {key: value for key, value in chosen.items() if value is not None}
    if params.get("n") not in (None, 1):
        several = f"llmos run {model} TEXT --set n={params['n']}"
        raise BadInput(
            f"n is {params['n']}, and a conversation goes on with one answer. For several: {several}", key="n"
        )
    options = {"timeout_s": timeout, "priority": priority, "engine": engine}
    params |= {key: value for key, value in options.items() if value is not None}
    if json_schema is not None:
        params["json_schema"] = _schema(json_schema)
    messages: Messages = [{"role": "system", "content": system}] if system else []
    with box() as client:
        if text is None and sys.stdin.isatty():
            _converse(client, model, messages, params)
            return
        content = text if text is not None else _read()
        if not content.strip():
            raise BadInput("The message is empty. Say something: llmos chat MODEL TEXT")
        messages.append({"role": "user", "content": content})
        _answer(client, model, messages, params)


def _read() -> str:
    """One message from standard input. It is too short to tell another encoding by, so it must be UTF-8."""
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")  # the shell adds it
    except UnicodeDecodeError as error:
        raise BadInput(f"standard input is not UTF-8 at byte {error.start}. Convert it, for one with iconv") from error


def _schema(file: Path) -> Any:  # Any: JSON, checked by the daemon
    try:
        return msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BadInput(f"{file} is no JSON: {error}") from error


def _answer(client: Client, model: str, messages: Messages, params: Mapping[str, Any]) -> str:  # Any: numbers
    pieces: list[str] = []
    for piece in client.chat(model, messages, **params):
        pieces.append(piece)
        sys.stdout.write(piece)
        sys.stdout.flush()
    say()
    return "".join(pieces)


def _converse(client: Client, model: str, messages: Messages, params: Mapping[str, Any]) -> None:  # Any: numbers
    import readline  # noqa: F401  # gives input() its history and editing

    client.model(model)
    note(f"Talking to {model}. An empty line or Ctrl-D leaves.")
    while True:
        try:
            text = input("> ")
        except EOFError:
            break
        if not text.strip():
            break
        messages.append({"role": "user", "content": text})
        try:
            messages.append({"role": "assistant", "content": _answer(client, model, messages, params)})
        except LlmosError as error:  # the conversation goes on without the failed message
            messages.pop()
            say_error(error, as_json=False)


VERBS: dict[str, Any] = {"chat": chat}  # Any: verbs differ in what they take
