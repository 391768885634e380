"""similarity: how close two texts are in meaning, the cosine of their vectors. Any base that embeds does it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import mul
from sys import byteorder

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSetting, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.command_texts import CommandTexts, SourcedInput, texts_of
from llmos.tasks.text import encode_within, quote_value, text_of

EXAMPLE = '{"text": "Where is my parcel?", "other": "My order has not come"}'


class Similarity:
    """`parse` takes the two texts' vectors, each of length one, as little-endian float32 bytes."""

    spec = TaskSpec(
        name="similarity",
        family=Family.PAIRS,
        output=Output.SCORE,
        primary_metric="spearman",
        about="How close two texts are in meaning.",
        head="pooled",
        params=frozenset(),
        settings=(TaskSetting("scale", float),),
        batch_size=32,
        also_does=("embed", "rerank", "classify"),
        texts="texts in pairs",
        example_input={"text": "Where is my parcel?", "other": "My order has not come"},
        example_output={"score": 0.81},
    )

    def arrange_texts(self, texts: CommandTexts) -> list[SourcedInput]:
        """Each two texts in a row are a pair."""
        read = texts_of(texts)
        if len(read) % 2:
            raise BadInput(f"similarity compares texts in pairs, and there are {len(read)}. Give two, or four ...")
        return [
            SourcedInput({"text": one.text, "other": other.text}, " and ".join(filter(None, (one.place, other.place))))
            for one, other in zip(read[::2], read[1::2], strict=True)
        ]

    def check(self, data: Json) -> Json:
        if isinstance(data, (list, tuple)) and len(data) == 2:
            data = {"text": data[0], "other": data[1]}
        if not isinstance(data, dict) or not {"text", "other"} <= data.keys():
            raise BadInput(
                f"The input is no pair of texts: {quote_value(data)}. Send {EXAMPLE}", expected=["text", "other"]
            )
        return {field: text_of(data, field) for field in ("text", "other")}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        texts = [text for one in inputs for text in (one["text"], one["other"])]
        fit = encode_within(texts, _name, tokenizer, settings)
        return [Rendered([], parts=(fit[i].ids, fit[i + 1].ids)) for i in range(0, len(fit), 2)]

    def parse(self, raw: Sequence[bytes], rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        one, other = map(vector_of, raw)
        return {"score": cosine(one, other)}


def _name(number: int) -> str:
    return "The other" if number % 2 else "The text"


def vector_of(data: bytes) -> array[float]:
    """A vector from the engine's bytes."""
    vector = array("f", data)
    if byteorder == "big":
        vector.byteswap()
    return vector


def cosine(one: array[float], other: array[float]) -> float:
    """The cosine of two unit vectors, clipped to -1 and 1."""
    product: float = sum(map(mul, one, other))
    return max(-1.0, min(1.0, product))


TASK = Similarity()
