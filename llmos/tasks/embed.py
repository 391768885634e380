"""embed: a text as a vector whose cosine to another says how close their meanings are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.matryoshka import check_length, cut_vector
from llmos.abi.task import Family, Output, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer
from llmos.tasks.text import encode_within, limit_of, quote_value, text_of

FLOAT_BYTES = 4
ALL = -1  # as `truncate_prompt_tokens`: as many as the model takes
CUTS = ("truncate", "truncate_prompt_tokens")
DIMENSIONS = "dimensions"


@dataclass(frozen=True, slots=True)
class Embed:
    """`parse` takes the pooled vector as little-endian float32 bytes, already normalized if `is_unit`.

    Bytes, because a list of floats costs more to build and send than the vector to compute; the engine normalizes a
    whole batch at once. `cuts`: the call allows cutting a text that is too long; `most`: the tokens to keep.
    `dimensions`: the length of vectors that the call wants; None: the model's own.
    """

    cuts: bool | None = None
    most: int | None = None
    dimensions: int | None = None

    spec = TaskSpec(
        name="embed",
        family=Family.VECTORS,
        output=Output.VECTOR,
        primary_metric="cosine",
        about="A text as a vector.",
        head="pooled",
        params=frozenset({"normalize", "encoding", DIMENSIONS, *CUTS}),
        is_trainable=False,
        also_does=("similarity", "rerank", "classify"),
        example_input="Where is my parcel?",
        example_output={"dim": 3, "vector": [0.6, 0.0, 0.8]},
    )

    def with_params(self, params: dict[str, Json]) -> Embed:
        """The task with a call's params."""
        cuts, most = (params.get(key) for key in CUTS)
        length = params.get(DIMENSIONS)
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            said = f"dimensions is {quote_value(length)}; it is a whole number from 1: the length of a vector"
            raise BadInput(said, key=DIMENSIONS, value=quote_value(length))
        if cuts is not None and not isinstance(cuts, bool):
            raise BadInput(
                f"truncate is {quote_value(cuts)}; it must be true or false", key="truncate", value=quote_value(cuts)
            )
        if most is None:
            return Embed(cuts, dimensions=length)
        if isinstance(most, bool) or not isinstance(most, int) or (most < 1 and most != ALL):
            said = f"it is a whole number from 1, or {ALL} for as many as the model takes"
            raise BadInput(
                f"truncate_prompt_tokens is {quote_value(most)}; {said}",
                key="truncate_prompt_tokens",
                value=quote_value(most),
            )
        if cuts is False:
            said = "truncate is false, and truncate_prompt_tokens says where to cut. Leave one of them out"
            raise BadInput(said, key="truncate")
        return Embed(True, None if most == ALL else most, length)

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        if self.dimensions is not None:
            check_length(self.dimensions, settings.options)
        texts, settings = [one["text"] for one in inputs], self._settings(settings)
        return [Rendered(one.ids) for one in encode_within(texts, "The text", tokenizer, settings)]

    def _settings(self, settings: Settings) -> Settings:
        limit = limit_of(settings)
        if self.most is not None and self.most > limit:
            said = f"truncate_prompt_tokens is {self.most:,}; the model takes {limit:,}. Say {ALL} for all of them"
            raise BadInput(said, key="truncate_prompt_tokens")
        said_of = ({} if self.cuts is None else {"truncate": self.cuts}) | (
            {"max_tokens": self.most} if self.most else {}
        )
        return replace(settings, options={**settings.options, **said_of})

    def parse(self, raw: bytes, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        whole = len(raw) // FLOAT_BYTES
        if self.dimensions not in (None, whole):
            check_length(self.dimensions, settings.options, whole)
            raw = cut_vector(raw, self.dimensions, is_unit=is_unit(settings, params))
        return {"dim": len(raw) // FLOAT_BYTES, "data": raw}


def is_unit(settings: Settings, params: dict[str, Json]) -> bool:
    """Whether vectors are normalized: by default yes; the request or the model may say otherwise."""
    return bool(params.get("normalize", settings.options.get("normalize", True)))


TASK = Embed()
