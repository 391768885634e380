"""adapt: makes a base that has read texts without labels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmos.cli.client import box, settings_of
from llmos.cli.recipe_options import AsJson, Encoding, Format, On, OnBadRow, Query, Set, Wait
from llmos.cli.sending import reachable, reachable_all
from llmos.cli.terminal import say

READING = ("text", "format", "encoding", "query", "on_bad_row")
SETTINGS = (*READING, "objective", "epochs", "learning_rate", "batch_size", "max_tokens", "matryoshka", "seed")
FLAGS = ("pairs", "keep_head")  # only what is true is sent


def adapt(
    ctx: typer.Context,
    base: Annotated[str, typer.Argument(help="A base: a name, or name:version.")],
    data: Annotated[str, typer.Option(help="Texts without labels: a file, or a dataset (name@version).")],
    objective: Annotated[
        str | None, typer.Option(help="masked (encoders), causal (decoders) or contrastive (default: by the base).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new base's name (default: BASE-adapted).")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Texts to choose the best epoch by (default: 1 in 20).")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Texts to measure on (default: 1 in 20).")] = None,
    general: Annotated[
        str | None, typer.Option(help="Texts of another kind, to measure what they lose (default: a few of llmos).")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the texts.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows (texts, pairs) of a step.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Cut long texts into windows of at most so many tokens.")
    ] = None,
    matryoshka: Annotated[
        str | None, typer.Option(help="contrastive: lengths that vectors may be cut to, such as 64,128,256.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="contrastive: the two columns of --text are a pair.")] = False,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="masked: keep the layer that guesses tokens in the base's files.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of everything drawn by chance (default 7).")] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="The column with the text, or several by commas, by name or number.")
    ] = None,
    format: Format = None,
    encoding: Encoding = None,
    query: Query = None,
    on_bad_row: OnBadRow = None,
    device: On = None,
    settings: Set = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Let a base read texts without labels, and see what it gains and loses."""
    from llmos.cli.progress import follow_or_say

    given: dict[str, Any] = {name: ctx.params[name] for name in SETTINGS}  # Any: the values differ in type
    given |= {name: ctx.params[name] or None for name in FLAGS}
    with box() as client:
        texts = reachable(client, data, quiet=as_json)
        validation, test, general = reachable_all(client, validation, test, general, quiet=as_json)
        own: dict[str, Any] = {"validation": validation, "test": test, "general": general}  # Any: as above
        own |= given | settings_of(settings or [])
        process = client.adapt(base, data=texts, name=name, device=device, wait=False, **own)
        ended = follow_or_say(client, process, wait=wait, as_json=as_json)
    if ended is not None:
        say(ended.progress.message if ended.progress is not None else ended.reason)


VERBS: dict[str, Any] = {"adapt": adapt}  # Any: as other verbs
