"""The tasks, one file each: the interface of a task, and the task of a name.

A task's declaration and the registry are in abi/task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llmos.abi.json_type import Json
from llmos.abi.task import TaskSpec, is_generative, load_task
from llmos.abi.task import spec_of as spec_of

if TYPE_CHECKING:
    from llmos.tasks.calibration import Calibration
    from llmos.tasks.encoder_decoder import EncoderDecoderInfo


class Tokenizer(Protocol):
    """The part of a tokenizer that tasks use; nn implements it. It takes batches, which is fastest."""

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]: ...
    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]: ...
    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]: ...
    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str: ...
    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        """The tokens of `encode`, each with its part of the text."""
        ...

    def name_of(self, token: int) -> str:
        """The token as its vocabulary writes it."""
        ...

    def parsing(self) -> Tokenizer:
        """The same tokenizer, for texts whose control token names are meant as control tokens."""
        ...

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        """The conversation in the template's format; `given` are the call's further template variables."""
        ...

    @property
    def card(self) -> dict[str, Json]:
        """What it is, in the names of transformers' tokenizer_config.json: `eos_token`, `chat_template` ..."""
        ...

    @property
    def size(self) -> int:
        """The number of tokens: ids are below it."""
        ...

    @property
    def longest(self) -> int:
        """The length of the longest token in characters."""
        ...

    @property
    def knows_tools(self) -> bool: ...
    @property
    def has_template(self) -> bool: ...
    @property
    def reader(self) -> EncoderDecoderInfo | None: ...


class TrainingTokenizer(Tokenizer, Protocol):
    """A tokenizer for training: also where answers end, and conversations with them."""

    def encode_answer(self, text: str, *, special: bool) -> list[int]: ...
    def chat_whole(self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = ()) -> str: ...
    @property
    def ends(self) -> frozenset[int]: ...
    @property
    def end_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as tokens. `words[i]` is the index of the word of token i, None for a special token."""

    ids: list[int]
    words: list[int | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """A token of a text, and its part of it: `text`, from character `start` up to `end`.

    What the tokenizer added has no part, and its own name as `text`.
    """

    id: int
    text: str
    is_special: bool = False
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two texts as one sequence, by the tokenizer's own template for pairs.

    `offsets[i]` is the place of token i in the second text, None for tokens of the first text and special ones. The
    second text's tokens are contiguous.
    """

    ids: list[int]
    offsets: list[tuple[int, int] | None]


@dataclass(frozen=True, slots=True)
class Rendered:
    """One input as the forward pass takes it: token ids, and what `parse` needs to interpret the output.

    An input with several sequences (a query and its documents, the windows of a passage) has them in `parts`; `parse`
    then gets a list with one raw answer for each. Inputs of one call may share a part: the same list is computed once.
    `opening` is the beginning of the answer for an encoder-decoder that is instructed this way. `text` is what the ids
    were made of, where an answer repeats it.
    """

    ids: list[int]
    context: Json = None
    parts: tuple[list[int], ...] = ()
    opening: tuple[int, ...] = ()
    text: str | None = None

    @property
    def sequences(self) -> tuple[list[int], ...]:
        return self.parts or (self.ids,)

    @property
    def size(self) -> int:
        """Tokens over all sequences."""
        return sum(map(len, self.sequences))


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of a model's manifest that tasks read, and its head's calibration; None: it was not calibrated."""

    labels: tuple[str, ...] = ()
    options: dict[str, Json] = field(default_factory=dict)
    max_tokens: int = 512
    calibration: Calibration | None = None


class Task(Protocol):
    """The interface of a task file's `TASK`; the same object renders for training and for serving."""

    spec: TaskSpec

    def check(self, data: Json) -> Json:
        """The input in normal form; BadInput that names the fault and gives an example."""
        ...

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """The inputs as tokens, never cut silently: TooLong, unless the options say `truncate`."""
        ...

    def parse(self, raw: Json, rendered: Rendered, settings: Settings, params: dict[str, Json]) -> Json:
        """One answer in the task's output schema, from the raw output for one input."""
        ...


class GenerativeTask(Task, Protocol):
    """A task whose answer is a free text; models learn it from given answers."""

    def teach(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """An input with its answer as SFT examples: the prompt as serving renders it, then the answer."""
        ...


class PreferenceTask(GenerativeTask, Protocol):
    """A generative task whose answers can be compared, where `teach` learns more of an input than its answer."""

    def teach_last(self, asked: Json, answer: Json, tokenizer: TrainingTokenizer, settings: Settings) -> Rendered:
        """An input with its answer as one SFT example, whose targets are the answer's tokens alone."""
        ...


def task(name: str) -> Task:
    """The task of this name; BadInput that lists the others if there is none."""
    found: Task = load_task(name)
    return found


def with_params(name: str, params: dict[str, Json]) -> Task:
    """The task of this name with a call's params; BadInput if they are invalid."""
    found = task(name)
    made: Task = found.with_params(params) if hasattr(found, "with_params") else found
    return made


def for_model(name: str, params: dict[str, Json], ref: str, labels: Sequence[str]) -> Task:
    """The task of this name with a call's params, for a model trained on these labels (empty: on none)."""
    found = with_params(name, params)
    made: Task = found.of_model(ref, labels, params) if hasattr(found, "of_model") else found
    return made


def with_defaults(task: Task, params: dict[str, Json]) -> dict[str, Json]:
    """The call's params, completed by the task's defaults."""
    return {**task.spec.defaults, **params}


def writer(name: str) -> GenerativeTask:
    """The generative task of this name."""
    assert is_generative(name), f"{name} does not write"
    found: GenerativeTask = load_task(name)
    return found


def teach_last(name: str) -> Callable[[Json, Json, TrainingTokenizer, Settings], Rendered]:
    """How this task renders an input with one answer, which is all that is learned."""
    found = writer(name)
    own: Callable[[Json, Json, TrainingTokenizer, Settings], Rendered] = getattr(found, "teach_last", found.teach)
    return own
