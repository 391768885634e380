"""translate: a text in another language. By an order to any base that writes, or as a model was trained to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSetting, TaskSpec
from llmos.tasks import Rendered, Settings, Tokenizer, TrainingTokenizer, encoder_decoder
from llmos.tasks.generate import PARAMS, ending
from llmos.tasks.instruction import DEFAULTS, Order
from llmos.tasks.text import quote_value, text_of

LANGUAGES = ("source_language", "target_language")
MOST_CHARS = 40
BETWEEN = str.maketrans("", "", " -_")  # what may stand between letters


@dataclass(frozen=True, slots=True)
class Translate:
    """`parse` takes what generate's does. Languages are words as one says them: German, Swiss German, Latin.

    A model that was trained has its languages in its options; without any, the base must be told the target.
    """

    source: str | None = None
    target: str | None = None

    spec = TaskSpec(
        name="translate",
        family=Family.TEXT,
        output=Output.TEXT,
        primary_metric="chrf",
        about="A text in another language.",
        head=None,
        params=PARAMS | {*LANGUAGES},
        defaults=DEFAULTS,
        settings=(TaskSetting("source_language"), TaskSetting("target_language")),
        uses_template=True,
        result="Translated",
        example_input="Good morning",
        example_output={"text": "Guten Morgen", "finish_reason": "stop"},
    )

    def with_params(self, params: dict[str, Json]) -> Translate:
        """The task as a call asks for it."""
        return Translate(*(language_of(params.get(key), key) for key in LANGUAGES))

    def check(self, data: Json) -> Json:
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        if tokenizer.reader is not None:
            told = tokenizer.reader.translate(*self._languages(settings))
            return [encoder_decoder.render_source(told, one["text"], tokenizer, settings) for one in inputs]
        return [self.order(one, settings).render(tokenizer, settings) for one in inputs]

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        if tokenizer.reader is not None:
            told = tokenizer.reader.translate(*self._languages(settings))
            return encoder_decoder.render_pair(told, asked["text"], answer, tokenizer, settings)
        return self.order(asked, settings).render_target(answer, tokenizer, settings)

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        return {"text": raw["text"], **ending(raw)}

    def _languages(self, settings: Settings) -> tuple[str | None, str | None]:
        known = [language_of(settings.options.get(key), key) for key in LANGUAGES]
        return self.source or known[0], self.target or known[1]

    def order(self, asked: Json, settings: Settings) -> Order:
        """What is asked of a model that was not trained for it; BadInput without a target language."""
        source, target = self._languages(settings)
        if target is None:
            raise BadInput(
                "translate needs target_language, such as German: a param of a "
                "call, and of training an option, --set target_language=German",
                key="target_language",
                reason="lacking",
            )
        out_of = f" from {source}" if source else ""
        words = f"Translate this text{out_of} into {target}. Answer with the translation only."
        return Order(words, asked["text"], f"{target}:")


def language_of(value: Json, key: str) -> str | None:
    """A language's name as it may stand in an order: letters, no sentence of its own; or a code such as de_DE."""
    if value is None:
        return None
    is_name = isinstance(value, str) and value.translate(BETWEEN).isalpha()
    if not is_name or not 2 <= len(value) <= MOST_CHARS:
        raise BadInput(
            f"{key} is {quote_value(value)}; it must be the name of a language, such as German",
            key=key,
            value=quote_value(value),
        )
    return str(value)


TASK = Translate()
