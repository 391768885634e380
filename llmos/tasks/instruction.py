"""Instruction prompts for base models: an instruction and a text, as a chat message where the model chats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, cast

from llmos.abi.error import TooLong
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Tokenizer, TrainingTokenizer
from llmos.tasks.chat import TASK as CHAT
from llmos.tasks.generate import TASK as GENERATE
from llmos.tasks.text import limit_of, may_cut, part_of, too_long, too_many_chars

DEFAULTS: dict[str, Json] = {"temperature": 0.0}  # the likeliest text: it is to say what its source says
CUTS = 4  # attempts: what is cut off may leave other tokens than it was
SPARE = 8  # tokens cut off beside
WHAT = "The text, with what is asked of it,"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of a text; `lead` opens the answer of a model that only continues."""

    words: str
    text: str
    lead: str

    def render(self, tokenizer: Tokenizer, settings: Settings) -> Rendered:
        def put(order: Order, how: Settings) -> Rendered:
            if tokenizer.has_template:
                return CHAT.render([order.message()], tokenizer, how)[0]
            return GENERATE.render([order.prompt()], tokenizer, how)[0]

        return _fitting(self, put, tokenizer, settings)

    def render_target(self, answer: str, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """With its answer, as SFT examples."""

        def put(order: Order, how: Settings) -> Rendered:
            if tokenizer.has_template:
                return CHAT.teach(order.message(), answer, tokenizer, how)
            return GENERATE.teach(order.prompt(), f" {answer}", tokenizer, how)

        return _fitting(self, put, tokenizer, settings)

    def message(self) -> Json:
        return {"messages": [{"role": "user", "content": f"{self.words}\n\n{self.text}"}]}

    def prompt(self) -> Json:
        return {"prompt": f"{self.words}\n\n{self.text}\n\n{self.lead}"}


def _fitting(
    order: Order, put: Callable[[Order, Settings], Rendered], tokenizer: Tokenizer, settings: Settings
) -> Rendered:
    """With the text whole, or its beginning where the options say that it may be cut; else the numbers."""
    how = replace(settings, options={**settings.options, "truncate": False})
    if may_cut(settings):
        text = part_of(order.text, "The text", tokenizer, limit_of(settings), settings, cuts=True)
        order = replace(order, text=text)
    for attempt in range(CUTS):
        try:
            return put(order, how)
        except TooLong as error:
            size, limit = int(error.detail["size"]), int(error.detail["limit"])
            if (most := error.detail.get("most_chars")) is not None:
                if not may_cut(settings):
                    raise too_many_chars(WHAT, size, int(most), limit, settings) from error
                order = replace(order, text=order.text[: len(order.text) // 2])  # few tokens: most of it is blank
                continue
            (encoded,) = tokenizer.encode([order.text], special=False)
            left = len(encoded.ids) - (size - limit) - SPARE * attempt
            if not may_cut(settings) or left < 1:
                raise too_long(WHAT, size, limit, settings) from error
            order = replace(order, text=tokenizer.decode(encoded.ids[:left]))
    return put(order, how)


class OrderingTask(Protocol):
    """A task that a model which was not trained for it does by an order."""

    def order(self, asked: Json, settings: Settings) -> Order:
        """What is asked of the model."""
        ...


def messages_of(task: object, asked: Json, settings: Settings) -> list[Json]:
    """An input of a generative task as messages to any model that chats."""
    if "messages" in asked:
        return list(asked["messages"])
    if hasattr(task, "order"):
        return list(cast("OrderingTask", task).order(asked, settings).message()["messages"])
    return [{"role": "user", "content": next(iter(asked.values()))}]
