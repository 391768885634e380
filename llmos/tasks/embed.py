"""embed: a text as a vector whose cosine to another says how close their meanings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.length import encoded
from llmos.tasks.text import text_of

Json = Any  # Any: a JSON value that this task checks

FLOAT_BYTES = 4


class Embed:
    """`parse` takes the pooled vector as little-endian float32 bytes, already of length one where `is_unit` says so.

    Bytes, for a list of floats costs more to make and send than the vector to compute; the engine scales a whole
    batch at once.
    """

    name = "embed"
    headline = "cosine"
    head = "pooled"
    params = frozenset({"normalize", "encoding"})

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        texts = [one["text"] for one in inputs]
        return [Rendered(one.ids) for one in encoded(texts, "The text", tokenizer, settings)]

    def parse(self, raw: bytes, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"dim": len(raw) // FLOAT_BYTES, "data": raw}


def is_unit(settings: Settings, params: dict[str, Json]) -> bool:
    """Vectors are scaled to length one, unless the request or the model says otherwise."""
    return bool(params.get("normalize", settings.options.get("normalize", True)))


TASK = Embed()
