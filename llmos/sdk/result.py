"""What a model answers, as the client gives it back: one dataclass per form of output."""

from __future__ import annotations

from array import array
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from sys import byteorder

from llmos.abi.json_type import Json
from llmos.abi.task import Output, spec_of
from llmos.abi.wire import from_plain


@dataclass(frozen=True, slots=True)
class Classified:
    """The label of a text and each label's score; a multi-label model gives `labels`, and no `label`.

    `abstained`: the model does not know, and gives neither. `set`: the labels of a conformal set, where a call asks for
    a `coverage`.
    """

    label: str | None = None
    score: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    abstained: bool = False
    set: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled piece of a text; `text[start:end]` is it."""

    text: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Tagged:
    """The spans found in a text, in order."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text as a vector of float32; numpy takes it as it is: `numpy.asarray(answer.vector)`."""

    vector: array[float]


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token of an answer, its log-probability, and those of the likeliest in its place."""

    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top_logprobs: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """The part of a passage that answers; `passage[start:end]` is it.

    An empty text means that the passage has no answer.
    """

    text: str
    start: int | None
    end: int | None
    score: float
    no_answer: float


@dataclass(frozen=True, slots=True)
class Similar:
    """How close two texts are in meaning, from -1 to 1."""

    score: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document's place in the list that was sent, and its score; `document` is there where it was asked for."""

    index: int
    score: float
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Reranked:
    """The documents of a query, best first."""

    ranking: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """Text that continues a prompt; `logprobs` if they were requested; `stop` is the stop string that ended it."""

    text: str
    finish_reason: str | None = None
    logprobs: tuple[Logprob, ...] = ()
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Chatted:
    """The next message of a conversation; `logprobs` on request, `stop` is the stop string that ended it."""

    text: str
    role: str = "assistant"
    finish_reason: str | None = None
    logprobs: tuple[Logprob, ...] = ()
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Summarized:
    """A shorter version of a text."""

    text: str
    finish_reason: str | None = None
    logprobs: tuple[Logprob, ...] = ()
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Translated:
    """A text in another language."""

    text: str
    finish_reason: str | None = None
    logprobs: tuple[Logprob, ...] = ()
    stop: str | None = None


ENDING = {"finish_reason", "logprobs", "stop"}
Result = Classified | Tagged | Embedded | Answered | Similar | Reranked | Generated | Chatted | Summarized | Translated
OWN: dict[str, type[Summarized | Translated]] = {kind.__name__: kind for kind in (Summarized, Translated)}


def result_of(task: str, output: Json) -> Result:
    """The dataclass of one output of this task."""
    spec = spec_of(task)
    return from_plain(output, OWN[spec.result]) if spec.result in OWN else READERS[spec.output](output)


def _to_classified(output: Json) -> Result:
    return from_plain(output, Classified)


def _to_tagged(output: Json) -> Result:
    return from_plain(output, Tagged)


def _to_embedded(output: Json) -> Result:
    if isinstance(output["vector"], list):
        return Embedded(array("f", output["vector"]))
    vector = array("f", b64decode(output["vector"]))
    if byteorder == "big":
        vector.byteswap()
    return Embedded(vector)


def _to_answered(output: Json) -> Result:
    return from_plain(output, Answered)


def _similar(output: Json) -> Result:
    return from_plain(output, Similar)


def _to_reranked(output: Json) -> Result:
    return Reranked(from_plain(output, tuple[Ranked, ...]))


def _to_generated(output: Json) -> Result:
    return from_plain(output, Generated)


def _to_chatted(output: Json) -> Result:
    message = output["message"]
    said = {"text": message.get("content") or "", "role": message.get("role", "assistant")}
    return from_plain({**said, **{key: output[key] for key in output.keys() & ENDING}}, Chatted)


READERS: dict[Output, Callable[[Json], Result]] = {
    Output.LABEL: _to_classified,
    Output.SPANS: _to_tagged,
    Output.VECTOR: _to_embedded,
    Output.ANSWER: _to_answered,
    Output.SCORE: _similar,
    Output.RANKING: _to_reranked,
    Output.TEXT: _to_generated,
    Output.MESSAGE: _to_chatted,
}
