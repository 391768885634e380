"""tag: labelled spans of words in a text, with character offsets and scores. Splits words, decodes IOB2."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import Family, Output, TaskSetting, TaskSpec
from llmos.tasks import Encoded, Rendered, Settings, Tokenizer
from llmos.tasks.calibration import NONE
from llmos.tasks.classify import LABEL_SETTINGS, softmax
from llmos.tasks.text import fit_length, limit_of, may_cut, part_of, quote_value, text_of

OUTSIDE = "O"
BLANKS = " \t\r\n\f\v"  # a word of these alone is none; one of other spaces is, without a token
OVERLAPS = TaskSetting(
    "overlaps",
    str,
    "Spans on one word: refuse (the default), longest or first.",
    neutral="refuse",
    choices=("refuse", "longest", "first"),
)

# Close to how CoNLL-2003 is cut: hyphenated words, numbers, dates and abbreviations stay whole; 's, n't and other signs
# stand alone. Scripts that write no spaces (Han, kana, Thai, Lao, Burmese, Khmer) give one word per letter, with the
# marks that stand on it. Combining marks and format characters (zero-width signs, soft hyphens) part no word in any
# script, and a letter is cut alike whether it is composed (NFC) or not (NFD).
_UNSPACED = (
    r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_CLITIC = r"['’](?:s|re|ve|ll|d|m)\b"
LOCAL = r"(?<![\w.+-])[\w.+-]++"  # before the @: read once from where a run of such signs starts, not from each of them
WORD = re.compile(
    rf"""
      https?://[^\s<>"]*[^\s<>"'.,;:!?)\]]        # addresses
    | {LOCAL}@\w[\w-]*(?:\.\w[\w-]*)+
    | [{_UNSPACED}]
    | (?:[^\W\d_]\.){{2,}}                        # U.S.
    | (?-i:[A-Z]\.(?=\s+[A-Z]) | (?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Corp|Ltd|Co|vs)\.(?!\w))
    | {_CLITIC} | n['’]t\b                        # Peter 's, did n't
    | [^\W\d_{_UNSPACED}]+?(?=n['’]t\b)
    | [+-]?\d+(?:[.,:/-]\d+)*(?:-?[^\W\d_{_UNSPACED}]+)*   # 1,000.5  1996-08-30  2-1  10/11  16th  18-year-old
    | [^\W\d_](?:(?!{_CLITIC})['’&./_-]?[^\W_{_UNSPACED}])*
    | \.{{2,}} | -{{2,}} | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Words:
    """A text, where its words lie in it, and which token each word's label is read from (None: it has none).

    A word has no token where the tokenizer leaves nothing of it (a zero-width sign alone), or where the text was cut.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]
    firsts: tuple[int | None, ...] = ()


class Tag:
    """`parse` takes one row of logits per token of the input; a word's first token carries its label."""

    spec = TaskSpec(
        name="tag",
        family=Family.TAGS,
        output=Output.SPANS,
        primary_metric="f1",
        about="Labelled spans of words in a text, such as names.",
        head="token",
        params=frozenset(),
        settings=(*LABEL_SETTINGS, OVERLAPS),
        is_one_sequence=True,
        peft_type="TOKEN_CLS",
        architecture="ForTokenClassification",
        example_input="Ada lives in London.",
        example_output={"spans": [{"text": "Ada", "label": "PER", "start": 0, "end": 3, "score": 0.99}]},
    )

    def check(self, data: Json) -> Json:
        if isinstance(data, dict) and "tokens" in data:
            return {"tokens": _tokens_of(data["tokens"])}
        return {"text": text_of(data)}

    def render(self, inputs: Sequence[Json], tokenizer: Tokenizer, settings: Settings) -> list[Rendered]:
        """Offsets of an input of tokens count in the text that they make when joined with single spaces."""
        limit, cuts = limit_of(settings), may_cut(settings)
        sources = [one["text"] if "text" in one else " ".join(one["tokens"]) for one in inputs]
        parts = [part_of(one, "The text", tokenizer, limit, settings, cuts=cuts) for one in sources]
        texts = [
            words_of({"text": part} if "text" in one else one) for part, one in zip(parts, inputs, strict=True)
        ]  # no more of a text is split into words than is read
        encoded = tokenizer.encode_words(
            [
                [_compose(part[start:end]) for start, end in words.offsets if start < len(part)]
                for part, words in zip(parts, texts, strict=True)
            ]
        )
        cut = {i for i, (part, source) in enumerate(zip(parts, sources, strict=True)) if len(part) < len(source)}
        fit = fit_length(encoded, "The text", tokenizer, settings, cut=cut)
        return [
            Rendered(one.ids, Words(words.text, words.offsets, _firsts(one, len(words.offsets))))
            for one, words in zip(fit, texts, strict=True)
        ]

    def parse(
        self, raw: Sequence[Sequence[float]], rendered: Rendered, settings: Settings, params: dict[str, Json]
    ) -> Json:
        words: Words = rendered.context
        calibration, labels = settings.calibration or NONE, settings.labels
        tags: list[str] = []
        scores: list[float] = []
        for first in words.firsts:
            tag, score = (OUTSIDE, 1.0) if first is None else _best(labels, calibration.scale(raw[first], labels))
            tags.append(tag)
            scores.append(score)
        whole = fill_tokenless(tags, words.firsts)
        return {"spans": [_span(words, scores, *found) for found in spans_of(whole)]}


def split(text: str) -> list[tuple[int, int]]:
    """Where the words of a text start and end."""
    if text.isascii() or not any(map(_is_changed, set(text))):
        return [match.span() for match in WORD.finditer(text)]
    letters, places = _skeleton(text)
    spans: list[tuple[int, int]] = []
    before = 0
    for match in WORD.finditer(letters):
        start, end = places[match.start()], places[match.end() - 1] + 1
        while start > before and _joins(text[start - 1]):
            start -= 1
        while end < len(text) and _joins(text[end]):
            end += 1
        spans.append((start, end))
        before = end
    return spans


def _skeleton(text: str) -> tuple[str, list[int]]:
    """The text's base letters, without the signs that join them, and where each stands in the text.

    A joining sign with a space on either side has no letter to belong to, and stands for itself.
    """
    letters: list[str] = []
    places: list[int] = []
    at = 0
    while at < len(text):
        after = at + 1
        if _joins(text[at]):
            while after < len(text) and _joins(text[after]):
                after += 1
            beside = text[max(0, at - 1) : at] + text[after : after + 1]
            is_alone = not beside.strip()
        if not _joins(text[at]) or is_alone:
            letters.append(_base(text[at]))
            places.append(at)
        at = after
    return "".join(letters), places


@cache
def _joins(sign: str) -> bool:
    """Whether it is a combining mark, a vowel or final that completes a Hangul syllable, or a format character.

    Format characters are signs like a zero-width joiner or a soft hyphen.
    """
    return unicodedata.category(sign) in ("Mn", "Mc", "Me", "Cf") or "\u1160" <= sign <= "\u11ff"


@cache
def _base(letter: str) -> str:
    """The letter below the marks of a composed one."""
    apart = unicodedata.normalize("NFD", letter)
    return apart[0] if len(apart) > 1 and all(map(_joins, apart[1:])) else letter


@cache
def _is_changed(sign: str) -> bool:
    return _joins(sign) or _base(sign) != sign


def _compose(word: str) -> str:
    """What the tokenizer reads of a word: the same tokens however its letters are composed."""
    return word if word.isascii() else unicodedata.normalize("NFC", word)


def fill_tokenless(tags: Sequence[str], firsts: Sequence[int | None]) -> list[str]:
    """The tags, in which words without a token continue an entity that goes on behind them, and else are outside."""
    filled = list(tags)
    after = OUTSIDE
    for i in range(len(filled) - 1, -1, -1):
        if firsts[i] is not None:
            after = filled[i]
        elif i and after.startswith("I-") and _label_before(filled, firsts, i) == after[2:]:
            filled[i] = after
        else:
            filled[i] = OUTSIDE
    return filled


def _label_before(tags: Sequence[str], firsts: Sequence[int | None], at: int) -> str:
    """The label of the nearest word before this one that has a token."""
    return next((tags[i].partition("-")[2] for i in range(at - 1, -1, -1) if firsts[i] is not None), "")


def words_of(data: Json) -> Words:
    """The words of a checked input."""
    if "text" in data:
        return Words(data["text"], tuple(split(data["text"])))
    offsets, at = [], 0
    for token in data["tokens"]:
        offsets.append((at, at + len(token)))
        at += len(token) + 1
    return Words(" ".join(data["tokens"]), tuple(offsets))


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities in IOB2 tags as (label, first word, word after the last).

    An I- that continues nothing of its kind starts an entity, as seqeval reads tags by default.
    """
    spans: list[tuple[str, int, int]] = []
    kind, start = "", 0
    for i, tag in enumerate((*tags, OUTSIDE)):
        prefix, _, label = tag.partition("-")
        if prefix == "I" and label == kind:
            continue
        if kind:
            spans.append((kind, start, i))
        kind, start = label, i
    return spans


def _best(labels: Sequence[str], logits: Sequence[float]) -> tuple[str, float]:
    shares = softmax(logits)
    best = max(range(len(shares)), key=shares.__getitem__)
    return labels[best], shares[best]


def _span(words: Words, scores: Sequence[float], label: str, first: int, after: int) -> Json:
    start, end = words.offsets[first][0], words.offsets[after - 1][1]
    score = sum(scores[first:after]) / (after - first)
    return {"text": words.text[start:end], "label": label, "start": start, "end": end, "score": score}


def _firsts(encoded: Encoded, count: int) -> tuple[int | None, ...]:
    firsts: list[int | None] = [None] * count
    for at, word in enumerate(encoded.words):
        if word is not None and firsts[word] is None:
            firsts[word] = at
    return tuple(firsts)


def _tokens_of(tokens: Json) -> list[str]:
    if not isinstance(tokens, (list, tuple)) or not tokens:
        raise BadInput(
            f'tokens is {quote_value(tokens)}. Send a list of words, like {{"tokens": ["Ada", "lives"]}}',
            value=quote_value(tokens),
        )
    for i, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip(BLANKS):
            raise BadInput(
                f"tokens[{i}] is {quote_value(token)}. Every token is a string that is not empty",
                value=quote_value(token),
            )
    return list(tokens)


TASK = Tag()
