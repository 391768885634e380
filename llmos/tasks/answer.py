"""answer: the piece of a passage that answers a question, or that there is none. Long passages are read by windows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSetting, TaskSpec
from llmos.tasks import EncodedPair, Rendered, Settings, Tokenizer
from llmos.tasks.command_texts import CommandTexts, SourcedInput
from llmos.tasks.pair import LEAST, second_of
from llmos.tasks.text import check_chars, limit_of, quote_value, text_of, too_long, too_many_chars

EXAMPLE = '{"question": "How long do returns take?", "passage": "Returns are free and take 14 days."}'
LABELS = ("start", "end")  # the head's outputs for every token
NOWHERE = 0  # the token that means "no answer in the passage": the first one of every sequence
STRIDE = 128  # tokens that two windows share
MAX_ANSWER_TOKENS = 30
MOST_PASSAGE_CHARS = 1 << 20  # a book's: some thousand windows


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the passage: the index of its first token in the sequence, and the characters of each token."""

    first: int
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage cut into windows."""

    text: str
    windows: tuple[Window, ...]


class Answer:
    """`parse` takes, for each window, two logits per token: that an answer starts there, and that it ends there.

    Scores are probabilities within a window. An answer is given if its score is at least that of no answer in every
    window; the param `threshold` sets a further minimum.
    """

    spec = TaskSpec(
        name="answer",
        family=Family.SPANS,
        output=Output.ANSWER,
        primary_metric="f1",
        about="The piece of a passage that answers a question, or that there is none.",
        head="token",
        params=frozenset({"threshold", "max_answer_tokens"}),
        settings=(
            TaskSetting("threshold", float),
            TaskSetting("stride", int),
            TaskSetting("max_answer_tokens", int),
            TaskSetting("answered_rows", int),
        ),
        texts="questions, then the passage",
        example_input={
            "question": "How long do returns take?",
            "passage": "Returns are free and take 14 days.",
        },
        example_output={"text": "14 days", "start": 26, "end": 33, "score": 0.97, "no_answer": 0.01},
    )

    def arrange_texts(self, texts: CommandTexts) -> list[SourcedInput]:
        """Questions and a passage: the passage is the file, or else the last word."""
        passage = texts.whole_file()
        questions = texts.read(texts.words[:-1] if passage is None else texts.words)
        if not questions:
            raise BadInput(
                "answer needs questions and a passage: llmos run MODEL 'question' 'passage', or --file passage"
            )
        passage = texts.words[-1] if passage is None else passage
        return [SourcedInput({"question": one.text, "passage": passage}, one.place) for one in questions]

    def check(self, data: Json) -> Json:
        if not isinstance(data, dict) or not {"question", "passage"} <= data.keys():
            raise BadInput(
                f"The input has no question and passage: {quote_value(data)}. Send {EXAMPLE}",
                expected=["question", "passage"],
            )
        return {field: text_of(data, field) for field in ("question", "passage")}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        limit = limit_of(settings)
        for one in inputs:
            check_chars("The question", len(one["question"]), tokenizer, limit, settings)
            if (size := len(one["passage"])) > MOST_PASSAGE_CHARS:
                raise too_many_chars("The passage", size, MOST_PASSAGE_CHARS, limit)
        pairs = tokenizer.encode_pairs([(one["question"], one["passage"]) for one in inputs])
        return [_cut(one["passage"], pair, settings) for one, pair in zip(inputs, pairs, strict=True)]

    def parse(
        self,
        raw: Sequence[Sequence[Sequence[float]]],
        rendered: Rendered,
        settings: Settings,
        params: dict[str, Json],
    ) -> Json:
        passage: Passage = rendered.context
        longest = _longest(settings, params)
        found = [_best(logits, window, longest) for logits, window in zip(raw, passage.windows, strict=True)]
        score, (start, end) = max((score, span) for score, span, _ in found)
        nowhere = min(nowhere for _, _, nowhere in found)
        if score < max(nowhere, _threshold(settings, params)):
            return {"text": "", "start": None, "end": None, "score": score, "no_answer": nowhere}
        text = passage.text[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        return {"text": text, "start": start, "end": start + len(text), "score": score, "no_answer": nowhere}


def _cut(text: str, pair: EncodedPair, settings: Settings) -> Rendered:
    """The pair in as many windows as the limit requires: each has the whole question and a part of the passage."""
    limit = limit_of(settings)
    first, after = second_of(pair)
    room = limit - (len(pair.ids) - (after - first))
    if room < min(LEAST, after - first):
        raise too_long("The question, without its passage,", len(pair.ids) - (after - first), limit)
    step = max(1, room - min(int(settings.options.get("stride", STRIDE)), room // 2))
    parts, windows = [], []
    for start in range(first, max(first + 1, after), step):
        end = min(start + room, after)
        parts.append(pair.ids[:first] + pair.ids[start:end] + pair.ids[after:])
        windows.append(Window(first, tuple(span for span in pair.offsets[start:end] if span is not None)))
        if end == after:
            break
    return Rendered([], Passage(text, tuple(windows)), tuple(parts))


def place_in(window: Window, start: int, end: int) -> tuple[int, int]:
    """The window's tokens for the characters from `start` to before `end`; NOWHERE if it does not contain them all."""
    inside = [i for i, (a, b) in enumerate(window.offsets) if a < end and b > start]
    if not inside or window.offsets[inside[0]][0] > start or window.offsets[inside[-1]][1] < end:
        return NOWHERE, NOWHERE
    return window.first + inside[0], window.first + inside[-1]


def _best(logits: Sequence[Sequence[float]], window: Window, longest: int) -> tuple[float, tuple[int, int], float]:
    """The likeliest span of this window as (probability, characters), and the probability of no answer."""
    size = len(window.offsets)
    starts, ends = (_shares(logits, window, side) for side in (0, 1))
    best, span = -math.inf, (0, 0)
    rising: deque[int] = deque()  # candidate starts for an end, the likeliest first
    for end in range(1, size + 1):
        while rising and starts[rising[-1]] <= starts[end]:
            rising.pop()
        rising.append(end)
        if rising[0] <= end - longest:
            rising.popleft()
        if starts[rising[0]] + ends[end] > best:
            best, span = starts[rising[0]] + ends[end], (rising[0], end)
    nowhere = math.exp(starts[0] + ends[0])
    if not size:
        return 0.0, (0, 0), nowhere
    return math.exp(best), (window.offsets[span[0] - 1][0], window.offsets[span[1] - 1][1]), nowhere


def _shares(logits: Sequence[Sequence[float]], window: Window, side: int) -> list[float]:
    """Log-probabilities over NOWHERE and the passage's tokens; other tokens cannot be part of an answer."""
    column = [logits[NOWHERE][side]]
    column += [row[side] for row in logits[window.first : window.first + len(window.offsets)]]
    peak = max(column)
    total = peak + math.log(math.fsum(math.exp(x - peak) for x in column))
    return [x - total for x in column]


def _longest(settings: Settings, params: dict[str, Json]) -> int:
    value = params.get("max_answer_tokens", settings.options.get("max_answer_tokens", MAX_ANSWER_TOKENS))
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(
            f"max_answer_tokens is {quote_value(value)}; it must be a whole number, 1 or more",
            key="max_answer_tokens",
            value=quote_value(value),
        )
    return value


def _threshold(settings: Settings, params: dict[str, Json]) -> float:
    value = params.get("threshold", settings.options.get("threshold", 0.0))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BadInput(
            f"threshold is {quote_value(value)}; it must be a number from 0 to 1",
            key="threshold",
            value=quote_value(value),
        )
    return float(value)


TASK = Answer()
