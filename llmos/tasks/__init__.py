"""The tasks, one file each: what a task does, and the one of a name.

What a task declares about itself, and the registry, are in abi/task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llmos.abi.json_type import Json
from llmos.abi.task import TaskSpec, is_generative, load_task
from llmos.abi.task import spec_of as spec_of

if TYPE_CHECKING:
    from llmos.tasks.encoder_decoder import EncoderDecoderInfo


class Tokenizer(Protocol):
    """The part of a tokenizer that tasks use; nn wraps the real one. Batches, for it is fastest that way."""

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]: ...
    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]: ...
    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def parsing(self) -> Tokenizer:
        """The same, for which the names of control tokens in a text are these tokens, and not text."""
        ...

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        """The conversation as the template writes it, which may read what the call has `given` as well."""
        ...

    @property
    def longest(self) -> int:
        """How many characters its longest token has."""
        ...

    @property
    def knows_tools(self) -> bool: ...
    @property
    def has_template(self) -> bool: ...
    @property
    def reader(self) -> EncoderDecoderInfo | None: ...


class TrainingTokenizer(Tokenizer, Protocol):
    """What a tokenizer can besides, of a base that learns to write: where answers end, and conversations with them."""

    def encode_answer(self, text: str, *, special: bool) -> list[int]: ...
    def chat_whole(self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = ()) -> str: ...
    @property
    def ends(self) -> frozenset[int]: ...
    @property
    def end_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as tokens. `words[i]` is the index of the word token i belongs to, None for a special token."""

    ids: list[int]
    words: list[int | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two texts as one sequence, by the tokenizer's own template for pairs.

    `offsets[i]` is where in the second text token i lies, None for the first text's tokens and special ones. The
    second text's tokens stand together.
    """

    ids: list[int]
    offsets: list[tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One input as the forward pass takes it: token ids, and whatever parse needs to find its way back.

    An input that takes several sequences (a query and its documents, the windows of a passage) has them in `parts`;
    parse then gets a list with one raw answer for each. Inputs of one call may share a part: the same list is
    computed once. `opening`: what the answer begins with, where a base that reads before it writes is told so.
    """

    ids: list[int]
    context: Json = None
    parts: tuple[list[int], ...] = ()
    opening: tuple[int, ...] = ()

    @property
    def sequences(self) -> tuple[list[int], ...]:
        return self.parts or (self.ids,)

    @property
    def size(self) -> int:
        """Tokens over all sequences."""
        return sum(map(len, self.sequences))


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a model's manifest a task reads."""

    labels: tuple[str, ...] = ()
    options: dict[str, Json] = field(default_factory=dict)
    max_tokens: int = 512


class Task(Protocol):
    """What a task file has as `TASK`; the same object renders for training and for serving."""

    spec: TaskSpec

    def check(self, data: Json) -> Json:
        """The input in its one normal form; BadInput with what was wrong and an example otherwise."""
        ...

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """The inputs as tokens, never cut in silence: TooLong, unless the options say `truncate`."""
        ...

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        """One answer in the task's output schema, from what the head gave for one input."""
        ...


class GenerativeTask(Task, Protocol):
    """A task whose answer is a text of any length; a model learns it from answers that are there."""

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """An input with its answer as SFT examples: the prompt as serving renders it, and the answer behind it."""
        ...


def task(name: str) -> Task:
    """The task of this name; BadInput that lists the others if there is none."""
    found: Task = load_task(name)
    return found


def with_params(name: str, params: dict[str, Json]) -> Task:
    """The task of this name as a call's params ask for it; BadInput for one that cannot be."""
    found = task(name)
    made: Task = found.with_params(params) if hasattr(found, "with_params") else found
    return made


def for_model(name: str, params: dict[str, Json], ref: str, labels: Sequence[str]) -> Task:
    """The task of this name as a call asks it of this model, which was trained on these labels (none: on none)."""
    found = with_params(name, params)
    made: Task = found.of_model(ref, labels, params) if hasattr(found, "of_model") else found
    return made


def with_defaults(task: Task, params: dict[str, Json]) -> dict[str, Json]:
    """The params of a call, and the task's own where the call says nothing."""
    return {**task.spec.defaults, **params}


def writer(name: str) -> GenerativeTask:
    """The task of this name, which is one that writes."""
    assert is_generative(name), f"{name} does not write"
    found: GenerativeTask = load_task(name)
    return found
