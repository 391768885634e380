"""summarize: what a text says, in fewer words. By an order to any base that writes, or as a model was trained to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer, TrainingTokenizer, encoder_decoder
from llmos.tasks.generate import PARAMS, ending
from llmos.tasks.instruction import DEFAULTS, Order
from llmos.tasks.text import quote_value, text_of

MOST_WORDS = 10_000


@dataclass(frozen=True, slots=True)
class Summarize:
    """`parse` takes what generate's does. `max_words` is only a request to the model."""

    max_words: int | None = None

    spec = TaskSpec(
        name="summarize",
        family=Family.TEXT,
        output=Output.TEXT,
        primary_metric="rouge_l",
        about="What a text says, in fewer words.",
        head=None,
        params=PARAMS | {"max_words"},
        defaults=DEFAULTS,
        uses_template=True,
        result="Summarized",
        example_input="The shop was closed on Monday because of the storm. It opens again on Tuesday.",
        example_output={"text": "Closed on Monday by a storm; opens on Tuesday.", "finish_reason": "stop"},
    )

    def with_params(self, params: dict[str, Json]) -> Summarize:
        """The task with a call's params."""
        words = params.get("max_words")
        if words is None:
            return self
        if isinstance(words, bool) or not isinstance(words, int) or not 1 <= words <= MOST_WORDS:
            said = f"max_words is {quote_value(words)}; it must be a whole number from 1 to {MOST_WORDS:,}"
            raise BadInput(said, key="max_words", value=quote_value(words))
        return replace(self, max_words=words)

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        if tokenizer.reader is not None:
            told = self._source_of(tokenizer.reader)
            return [encoder_decoder.render_source(told, one["text"], tokenizer, settings) for one in inputs]
        return [self.order(one, settings).render(tokenizer, settings) for one in inputs]

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        if tokenizer.reader is not None:
            return encoder_decoder.render_pair(
                self._source_of(tokenizer.reader), asked["text"], answer, tokenizer, settings
            )
        return self.order(asked, settings).render_target(answer, tokenizer, settings)

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"text": raw["text"], **ending(raw)}

    def _source_of(self, one: encoder_decoder.EncoderDecoderInfo) -> encoder_decoder.EncoderDecoderInput:
        if self.max_words is not None:
            raise BadInput(
                "This model does not take max_words. Leave it out, or set max_tokens",
                key="max_words",
            )
        return one.summarize()

    def order(self, asked: Json, settings: Settings) -> Order:
        """What is asked of a model that was not trained for it."""
        length = "" if self.max_words is None else f" in at most {self.max_words} words"
        return Order(f"Summarize this text{length}. Answer with the summary only.", asked["text"], "Summary:")


TASK = Summarize()
