"""Predictions by row: what a model answered to each row of an evaluation, as a file beside the evidence.

The file has one JSON object a line, compressed with gzip. It has the rows' texts, so it is never logged.
"""

from __future__ import annotations

import gzip
import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from llmos.abi.error import BadInput, Corrupt
from llmos.abi.json_type import Json

PREDICTIONS = "predictions.jsonl.gz"
MAX_TEXT = 4000  # characters of a text that are kept; of a longer one its beginning
MOST_ERRORS = 1000  # that are listed at once
ARROW = " -> "  # between the true label and the given one
LABEL, WORD = "label", "word"  # the facets of the true labels, and of the words in a text
LEVEL = 6  # of gzip
MOST_NAMED = 12  # values that an error names
WRITTEN_AT_ONCE = 1000
WORDS = re.compile(r"[^\W_]+")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)  # scripts without spaces between words


class SpanMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """A marked piece of a text: `start` and `end` in characters; `kind` is hit, or the kind of the error.

    `label` is the true one; `given` the predicted one. A missed span has no `given`, an invented one no `label`.
    """

    start: int
    end: int
    kind: str
    label: str = ""
    given: str = ""


class NearRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A training row that is near to a test row: the cosine of their vectors, its text and its target."""

    text: str
    target: str
    cosine: float
    file: str = ""
    line: int = 0


class CheckMark(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `data check` found about a row: the kind of the finding; of a suspect label a likelier one, and how much
    likelier (0 to 1)."""

    kind: str
    suggestion: str = ""
    score: float | None = None


class RowOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of an evaluation, and what the model answered to it.

    `score` is 1 for a right answer, 0 for a wrong one, between for a part; None where nothing was answered. `kinds` are
    the kinds of its errors. `confidence` is the model's probability of its answer, `loss` minus the logarithm of the
    true answer's (nats). `facets` are the slices that the row belongs to, by what they part. `suspect` says why the
    row's own label looks wrong. `checks` are the findings of `data check` on the row, if its dataset was checked.
    """

    row: int
    id: str
    file: str
    line: int
    texts: tuple[str, ...]
    target: str
    prediction: str
    score: float | None
    kinds: tuple[str, ...] = ()
    confidence: float | None = None
    loss: float | None = None
    labels: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    spans: tuple[SpanMark, ...] = ()
    facets: dict[str, tuple[str, ...]] = {}
    suspect: str = ""
    nearest: tuple[NearRow, ...] = ()
    checks: tuple[CheckMark, ...] = ()

    @property
    def is_right(self) -> bool:
        return not self.kinds

    def is_in(self, conditions: Iterable[tuple[str, str]]) -> bool:
        """Whether the row meets all of these conditions: (facet, value)."""
        return all(
            value in (words_of(self.texts) if facet == WORD else self.facets.get(facet, ()))
            for facet, value in conditions
        )


@dataclass(frozen=True, slots=True)
class ErrorFilter:
    """Which rows are wanted: errors of a kind, of a true or given label, in a slice such as `language=de`."""

    kind: str | None = None
    label: str | None = None
    slice: str | None = None
    limit: int = 20

    def keeps(self, one: RowOutcome) -> bool:
        if one.is_right or (self.kind is not None and self.kind not in one.kinds):
            return False
        if self.label is not None and self.label not in (*one.labels, *one.given):
            return False
        return self.slice is None or one.is_in(parse_slice(self.slice))


@dataclass(frozen=True, slots=True)
class RowErrors:
    """The errors of an evaluation: the worst that were asked for, and how many there are.

    `rows` are all rows of the evaluation, `errors` all that were answered wrongly, `matching` those that were asked
    for. `kinds` counts the matching ones by kind, `checks` by what `data check` found about them. `evaluation` is the
    process that measured it, where it was not the training of the version.
    """

    model: str
    task: str
    rows: int
    errors: int
    matching: int
    kinds: dict[str, int] = field(default_factory=dict)
    data: tuple[RowOutcome, ...] = ()
    evaluation: int | None = None
    checks: dict[str, int] = field(default_factory=dict)


def parse_slice(text: str) -> tuple[tuple[str, str], ...]:
    """`language=de` or `language=de & word=refund` as conditions; BadInput for other texts."""
    parts = [part.partition("=") for part in text.split(" & ")]
    if not all(facet.strip() and equals and value.strip() for facet, equals, value in parts):
        raise BadInput(
            f"{text[:80]!r} names no slice. It is written facet=value, such as label=refund or language=de; two are "
            "joined by ' & '",
            key="slice",
        )
    return tuple((facet.strip(), value.strip()) for facet, _, value in parts)


def write_outcomes(outcomes: Iterable[RowOutcome], path: Path) -> None:
    """Write the file; the same outcomes give the same bytes."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed:
        for some in in_parts(outcomes):
            packed.write(encoder.encode_lines(some))


def in_parts(outcomes: Iterable[RowOutcome]) -> Iterator[list[RowOutcome]]:
    """Parts of them, to be written at once."""
    left = iter(outcomes)
    while some := list(islice(left, WRITTEN_AT_ONCE)):
        yield some


def read_outcomes(path: Path) -> Iterator[RowOutcome]:
    """The outcomes in their order; Corrupt if the file is damaged."""
    decode = msgspec.json.Decoder(RowOutcome).decode
    try:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                yield decode(line)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Corrupt(
            f"{path} cannot be read ({error}). Measure the model again: llmos eval", path=str(path)
        ) from error


def select_errors(
    outcomes: Iterable[RowOutcome], asked: ErrorFilter, model: str = "", task: str = "", evaluation: int | None = None
) -> RowErrors:
    """The errors that are wanted, worst first: those of the highest loss, or without one the surest of the wrong.

    BadInput for a slice that no row is in.
    """
    values = _SliceValues(asked.slice)
    rows = errors = 0
    kinds: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    matching = 0
    worst: list[tuple[float, int, RowOutcome]] = []  # a heap of the worst
    for one in outcomes:
        rows += 1
        errors += not one.is_right
        values.add(one)
        if not asked.keeps(one):
            continue
        matching += 1
        kinds.update(one.kinds)
        checks.update({mark.kind for mark in one.checks})
        heapq.heappush(worst, (badness(one), -one.row, one))
        if len(worst) > asked.limit:
            heapq.heappop(worst)
    values.check()
    chosen = tuple(one for _, _, one in sorted(worst, key=lambda entry: entry[:2], reverse=True))
    counts = dict(kinds.most_common()), dict(checks.most_common())
    return RowErrors(model, task, rows, errors, matching, counts[0], chosen, evaluation, counts[1])


class _SliceValues:
    """Whether any row is in a slice; the facets and values that there are, for the error if none is."""

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._conditions = () if named is None else parse_slice(named)
        self._has_row = not self._conditions
        self._seen: dict[str, set[str]] = {}

    def add(self, one: RowOutcome) -> None:
        self._has_row = self._has_row or one.is_in(self._conditions)
        for facet, values in () if self._has_row else one.facets.items():
            self._seen.setdefault(facet, set()).update(values)

    def check(self) -> None:
        if self._has_row:
            return
        facets = [facet for facet, _ in self._conditions if facet != WORD]
        unknown = next((facet for facet in facets if facet not in self._seen), None)
        of = unknown if unknown is not None else next(iter(facets), WORD)
        there = sorted(self._seen if unknown is not None else self._seen.get(of, ()))
        what = "facets" if unknown is not None else f"values of {of}"
        said = f". There are the {what} {', '.join(there[:MOST_NAMED])}" if there else ""
        more = " and others" if len(there) > MOST_NAMED else ""
        raise BadInput(
            f"No row is in the slice {str(self._named)[:80]!r}{said}{more}", key="slice", expected=there[:MOST_NAMED]
        )


def badness(one: RowOutcome) -> float:
    """By which errors are sorted, worst first."""
    if one.loss is not None:
        return one.loss
    return 1 - (one.score or 0.0) + (one.confidence or 0.0)


def check_sentence(one: RowOutcome) -> str:
    """What `data check` found about the row, for people: `near duplicates; suspects, likelier: refund (0.93)`."""
    return "; ".join(map(_mark_sentence, one.checks))


def _mark_sentence(mark: CheckMark) -> str:
    kind = mark.kind.replace("_", " ")
    if not mark.suggestion:
        return kind
    return f"{kind}, likelier: {mark.suggestion}" + ("" if mark.score is None else f" ({mark.score:.2f})")


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of these texts in small letters; of scripts without spaces, every two signs beside each other."""
    found: set[str] = set()
    for text in texts:
        for word in WORDS.findall(text.lower()):
            if UNSPACED.search(word):
                found.update(word[i : i + 2] for i in range(max(1, len(word) - 1)))
            else:
                found.add(word)
    return found


def clip(text: str) -> str:
    """The text as it is kept."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def plain_errors(found: RowErrors) -> Json:
    """As HTTP and `--json` have it."""
    return msgspec.to_builtins(found)
