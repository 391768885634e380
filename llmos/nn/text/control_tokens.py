"""Control tokens (end of turn, separators), and tokenizing user text so that it can never produce one.

A tokenizer matches control tokens wherever their names stand. Here a second one, the same but for those names, which
nobody can write in it, splits what has them in a text; a chat template's own are marked with the names that it knows.
A text without any control token's name is split by the first, and comes to the same tokens by both.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer, models

from llmos.abi.json_type import Json

PRIVATE = range(0x100000, 0x10FFFE)  # characters that Unicode leaves to private use
MARK_CHARS = 6  # of 16 bits each: nobody guesses a mark
MARKUP = re.compile(r"[<\[{][^\s]*[>\]}]")  # what is no special token, but looks like one: <think>, <tool_call>
UNKNOWN_ID = re.compile(rb'"unk_id":([0-9]+)')  # as a unigram's own JSON says it, in which no piece has a bare quote


class Marks:
    """Control tokens by name, each with the mark that stands for it where it is meant."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids
        self.known = frozenset(ids.values())
        self.unknown: int | None = None  # which of them stands for what the vocabulary has not, if it is known
        self.marks = {name: _mark() for name in ids}
        self._names = {mark: name for name, mark in self.marks.items()}

    @cached_property
    def _exact(self) -> re.Pattern[str] | None:
        return _either(self.ids)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return _either(self._names)

    def mark(self, text: str) -> str:
        """The text of a template, with its control tokens marked as meant."""
        return text if self._exact is None else self._exact.sub(lambda found: self.marks[found[0]], text)

    def unmark(self, text: str) -> str:
        """The same as the tokenizer itself would read it."""
        if self._pattern is None or text.isascii():
            return text
        return self._pattern.sub(lambda found: self._names[found[0]], text)

    def meant(self, text: str) -> list[int]:
        """The control tokens that are marked in the text."""
        if self._pattern is None or text.isascii():
            return []
        return [self.ids[self._names[mark]] for mark in self._pattern.findall(text)]

    def is_as_meant(self, ids: Sequence[int], meant: Sequence[int], texts: Sequence[str] = ()) -> bool:
        """The tokens have these control tokens and no others, so that none came of what a user wrote.

        `texts` are what they were made of: a token for what is unknown need not come of its name.
        """
        found = [*filter(self.known.__contains__, ids)]
        if self.unknown is not None and self.unknown in found:
            if any(map(self.names_unknown, texts)):
                return False
            found = [one for one in found if one != self.unknown]
        return len(found) == len(meant) and sorted(found) == sorted(meant) and not (meant and self._may_overlap)

    def names_unknown(self, text: str) -> bool:
        """Whether the text has the name of the token that stands for what is unknown."""
        return False

    @cached_property
    def _may_overlap(self) -> bool:
        """One control token's name may end as another begins, so that text before one could take a part of it."""
        starts = {name[:size] for name in self.ids for size in range(1, len(name))}
        return any(name[-size:] in starts for name in self.ids for size in range(1, len(name)))

    def disguise(self) -> Disguise:
        """For the texts of one conversation, on their way through a template."""
        return Disguise(tuple(self.ids))

    def pieces(self, text: str) -> list[str | int]:
        """The text cut at its marks: pieces of text, and the control tokens between them."""
        if self._pattern is None:
            return [text] if text else []
        cut = re.split(f"({self._pattern.pattern})", text)
        return [self.ids[self._names[one]] if one in self._names else one for one in cut if one]


class ControlTokens(Marks):
    """The control tokens of one tokenizer: the special ones, those that end an answer, those its template writes."""

    def __init__(
        self,
        fast: Tokenizer,
        ends: frozenset[int] = frozenset(),
        written: str = "",
        sought: frozenset[str] = frozenset(),
    ) -> None:
        """`written` is the text of a chat template; what it seeks in a conversation stays as users write it."""
        self._fast = fast
        found = {}
        for i, one in sorted(fast.get_added_tokens_decoder().items()):
            is_control = one.special or i in ends or (_is_written(one.content, written) and one.content not in sought)
            if one.content and is_control:
                found[one.content] = i
        super().__init__(found)
        self.unknown = self._unknown()

    def _unknown(self) -> int | None:
        named = getattr(self._fast.model, "unk_token", None)
        if named is not None:
            return self.ids.get(named)
        if isinstance(self._fast.model, models.Unigram):  # which says it only where it says all
            found = UNKNOWN_ID.search(self._fast.model.__getstate__())
            return int(found[1]) if found is not None and int(found[1]) in self.known else None
        return None

    def names_unknown(self, text: str) -> bool:
        assert self.unknown is not None, "a text can name only what there is"
        one = self._fast.get_added_tokens_decoder()[self.unknown]
        if one.content in text:
            return True
        normalizer = self._fast.normalizer
        if not one.normalized or normalizer is None:
            return False
        return normalizer.normalize_str(one.content) in normalizer.normalize_str(text)

    @cached_property
    def plain(self) -> Tokenizer:
        """The tokenizer for which the marks are the control tokens, and their names are text."""
        held = json.loads(self._fast.to_str())
        for one in held.get("added_tokens") or ():
            one["content"] = self.marks.get(one["content"], one["content"])
        model = held["model"]
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {self.marks.get(piece, piece): i for piece, i in vocabulary.items()}
        elif isinstance(vocabulary, list):  # a unigram's: pieces with their scores, whose ids are their places
            model["vocab"] = [[self.marks.get(piece, piece), *rest] for piece, *rest in vocabulary]
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = self.marks.get(model["unk_token"], model["unk_token"])
        if model.get("merges"):
            model["merges"] = [one for one in model["merges"] if not self._is_of_control(one)]
        return Tokenizer.from_str(json.dumps(held, ensure_ascii=False))

    def _is_of_control(self, merge: str | Sequence[str]) -> bool:
        pair = merge.split(" ", 1) if isinstance(merge, str) else merge
        return any(piece in self.ids for piece in (*pair, "".join(pair)))


class Disguise:
    """What of user's texts could be read as a control token, in characters that no text has until it is rendered.

    Whole names, the beginnings and ends of names where a text ends or begins, which a template could complete, and
    texts that are a piece of one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._pattern = _either(names, re.IGNORECASE)
        self._starts = frozenset(name[:size].lower() for name in names for size in range(1, len(name)))
        self._ends = frozenset(name[-size:].lower() for name in names for size in range(1, len(name)))
        self._longest = max(map(len, names), default=0)
        self._inside = "\0".join(names).lower()
        self._twins: dict[str, str] = {}
        self._used: set[str] = set()

    def look(self, value: Json) -> None:
        """Learn which private characters the texts have: none of these is taken for another."""
        if isinstance(value, str):
            if not value.isascii():
                self._used.update(one for one in value if ord(one) in PRIVATE)
        elif isinstance(value, dict):
            for key, one in value.items():
                self.look(key)
                self.look(one)
        elif isinstance(value, (list, tuple)):
            for one in value:
                self.look(one)

    def text(self, text: str) -> str:
        """A text whose ends stand beside what a template writes."""
        return self._change(text, [*self._whole(text), *self._edges(text)])

    def message(self, message: Json) -> Json:
        """A message: its text, and the calls in it."""
        changed = {**message, "content": self.text(message["content"])}
        if message.get("tool_calls"):
            changed["tool_calls"] = self.value(message["tool_calls"])
        return changed

    def value(self, value: Json) -> Json:
        """Of tools and arguments: whole names only, for templates read what they hold by its keys."""
        if isinstance(value, str):
            return self._change(value, [*self._whole(value)])
        if isinstance(value, dict):
            return {self.value(key): self.value(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(one) for one in value]
        return value

    def off(self, rendered: str) -> str:
        """The rendered text with what users wrote as they wrote it."""
        if not self._twins:
            return rendered
        return rendered.translate({ord(twin): one for one, twin in self._twins.items()})

    def _whole(self, text: str) -> Iterator[tuple[int, int]]:
        if self._pattern is not None:
            yield from (found.span() for found in self._pattern.finditer(text))

    def _edges(self, text: str) -> Iterator[tuple[int, int]]:
        bare = text.strip()
        if not bare:
            return
        start = len(text) - len(text.lstrip())
        end = start + len(bare)
        low = bare.lower()
        if len(low) != len(bare):  # a letter whose small form is longer: none of these is in a name
            return
        if len(low) < self._longest and low in self._inside:
            yield start, end
            return
        most = min(self._longest - 1, len(low))
        tail = next((size for size in range(most, 0, -1) if low[-size:] in self._starts), 0)
        head = next((size for size in range(most, 0, -1) if low[:size] in self._ends), 0)
        yield from ((start, start + head), (end - tail, end))

    def _change(self, text: str, spans: Sequence[tuple[int, int]]) -> str:
        letters = None
        for start, end in spans:
            letters = letters or list(text)
            letters[start:end] = [self._twin(one) for one in text[start:end]]
        return text if letters is None else "".join(letters)

    def _twin(self, letter: str) -> str:
        if letter.isspace():  # which templates trim
            return letter
        if letter not in self._twins:
            taken = self._used | {*self._twins.values()}
            self._twins[letter] = next(chr(code) for code in PRIVATE if chr(code) not in taken)
        return self._twins[letter]


def _is_written(name: str, template: str) -> bool:
    return MARKUP.fullmatch(name) is not None and name in template


def _mark() -> str:
    return "".join(chr(PRIVATE.start + secrets.randbelow(len(PRIVATE))) for _ in range(MARK_CHARS))


def _either(words: Sequence[str] | dict[str, Any], flags: int = 0) -> re.Pattern[str] | None:  # Any: keys count alone
    """The longest of these words that stands somewhere; None of none."""
    if not words:
        return None
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))), flags)
