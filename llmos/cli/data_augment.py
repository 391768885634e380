"""data augment: changed copies of a dataset's training rows, in a new version."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmos.abi.augmentation import AUGMENTERS
from llmos.cli.client import box
from llmos.cli.data_import import finish
from llmos.cli.data_operations import Name
from llmos.cli.data_versions import DatasetRef
from llmos.cli.recipe_options import AsJson, Wait


def augment(
    ref: DatasetRef,
    by: Annotated[str | None, typer.Option(help=f"Augmenters by commas: {', '.join(AUGMENTERS)}.")] = None,
    copies: Annotated[int | None, typer.Option(help="Copies of each of these rows (default 1).")] = None,
    share: Annotated[float | None, typer.Option(help="The share of rows that are copied (default 1).")] = None,
    strength: Annotated[float | None, typer.Option(help="The share of words changed (default 0.1).")] = None,
    only_labels: Annotated[str | None, typer.Option(help="Copy only rows of these labels, by commas.")] = None,
    balance: Annotated[bool, typer.Option("--balance", help="As many rows of every label, by copies.")] = False,
    seed: Annotated[int | None, typer.Option(help="Another seed, other copies (default 7).")] = None,
    base: Annotated[str | None, typer.Option(help="The base that proposes words: for neighbour and masked.")] = None,
    model: Annotated[str | None, typer.Option(help="Keep only copies that this model labels as their row.")] = None,
    writer: Annotated[str | None, typer.Option(help="The model that says texts anew: for paraphrase.")] = None,
    translators: Annotated[
        str | None, typer.Option(help="For back-translation: the models there and back, by a comma; or one for both.")
    ] = None,
    via: Annotated[str | None, typer.Option(help="Translate there into this language, such as German.")] = None,
    language: Annotated[str | None, typer.Option(help="The rows' language, to translate back into.")] = None,
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Add changed copies of training rows; validation and test rows stay as they are."""
    labels = [one.strip() for one in (only_labels or "").split(",") if one.strip()]
    with box() as client:
        process = client.augment_dataset(
            ref,
            by=by,
            copies=copies,
            share=share,
            strength=strength,
            only_labels=labels,
            balance=balance,
            seed=seed,
            base=base,
            model=model,
            writer=writer,
            translators=[one.strip() for one in (translators or "").split(",") if one.strip()],
            via=via,
            language=language,
            name=name,
            wait=False,
        )
        finish(client, process, wait=wait, as_json=as_json)


VERBS: dict[str, Any] = {"augment": augment}  # Any: verbs differ in what they take
