"""Control tokens (end of turn, separators), and tokenizing user text so that it can never produce one.

A tokenizer turns every control token's name into that token, wherever it stands. So a text that contains such a name is
split by a second tokenizer, in which each control token has a random, secret mark for a name. A chat template writes
marks where it means control tokens. Texts without any such name use the first tokenizer; both give the same tokens for
them.
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

PRIVATE = range(0x100000, 0x10FFFE)  # Unicode's private use area
MARK_CHARS = 6  # 16 random bits each: marks cannot be guessed
MARKUP = re.compile(r"[<\[{][^\s]*[>\]}]")  # markup that may be no special token: <think>, <tool_call>
UNKNOWN_ID = re.compile(rb'"unk_id":([0-9]+)')  # from a unigram model's JSON, whose pieces contain no bare quote


class Marks:
    """Control tokens by name, each with the mark that stands for it."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids
        self.known = frozenset(ids.values())
        self.unknown: int | None = None  # the token for text outside of the vocabulary, if it is known
        self.marks = {name: _mark() for name in ids}
        self._names = {mark: name for name, mark in self.marks.items()}

    @cached_property
    def _exact(self) -> re.Pattern[str] | None:
        return _either(self.ids)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return _either(self._names)

    def mark(self, text: str) -> str:
        """The text of a template with all control tokens' names replaced by marks."""
        return text if self._exact is None else self._exact.sub(lambda found: self.marks[found[0]], text)

    def unmark(self, text: str) -> str:
        """The text with all marks replaced by names."""
        if self._pattern is None or text.isascii():
            return text
        return self._pattern.sub(lambda found: self._names[found[0]], text)

    def meant(self, text: str) -> list[int]:
        """The control tokens whose marks are in the text, in order."""
        if self._pattern is None or text.isascii():
            return []
        return [self.ids[self._names[mark]] for mark in self._pattern.findall(text)]

    def is_as_meant(self, ids: Sequence[int], meant: Sequence[int], texts: Sequence[str] = ()) -> bool:
        """Whether exactly these control tokens are among the ids, so that none came from user text.

        `texts` are the texts behind the ids: the unknown token may also stand for text outside of the vocabulary.
        """
        found = [*filter(self.known.__contains__, ids)]
        if self.unknown is not None and self.unknown in found:
            if any(map(self.names_unknown, texts)):
                return False
            found = [one for one in found if one != self.unknown]
        return len(found) == len(meant) and sorted(found) == sorted(meant) and not (meant and self._may_overlap)

    def names_unknown(self, text: str) -> bool:
        """Whether the text contains the name of the unknown token."""
        return False

    @cached_property
    def _may_overlap(self) -> bool:
        """Whether a control token's name ends as another begins: text before one could then take a part of it."""
        starts = {name[:size] for name in self.ids for size in range(1, len(name))}
        return any(name[-size:] in starts for name in self.ids for size in range(1, len(name)))

    def disguise(self) -> Disguise:
        """A disguise for the texts of one conversation, while a template renders them."""
        return Disguise(tuple(self.ids))

    def pieces(self, text: str) -> list[str | int]:
        """The text cut at its marks: pieces of text, and the control tokens between them."""
        if self._pattern is None:
            return [text] if text else []
        cut = re.split(f"({self._pattern.pattern})", text)
        return [self.ids[self._names[one]] if one in self._names else one for one in cut if one]


class ControlTokens(Marks):
    """The control tokens of one tokenizer: special tokens, those that end an answer, and those that its template
    writes."""

    def __init__(
        self,
        fast: Tokenizer,
        ends: frozenset[int] = frozenset(),
        written: str = "",
        sought: frozenset[str] = frozenset(),
    ) -> None:
        """`written` is the text of a chat template.

        Names in `sought`, which it searches for in messages, stay user text.
        """
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
        if isinstance(self._fast.model, models.Unigram):  # its unknown token is only in its full state
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
        """The tokenizer in which marks are the control tokens, and their names are plain text."""
        held = json.loads(self._fast.to_str())
        for one in held.get("added_tokens") or ():
            one["content"] = self.marks.get(one["content"], one["content"])
        model = held["model"]
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {self.marks.get(piece, piece): i for piece, i in vocabulary.items()}
        elif isinstance(vocabulary, list):  # a unigram's: pieces with scores, whose ids are their indices
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
    """Replaces what could be read as a control token in user texts by private characters, until rendering is done.

    Replaced are whole names, a name's beginning at a text's end or its end at a text's beginning (the template could
    complete it), and texts that are a part of a name.
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
        """Note the private characters that occur in the value, so that none of them is used as a replacement."""
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
        """Disguise a text that the template puts between texts of its own."""
        return self._change(text, [*self._whole(text), *self._edges(text)])

    def message(self, message: Json) -> Json:
        """Disguise a message: its text and its tool calls."""
        changed = {**message, "content": self.text(message["content"])}
        if message.get("tool_calls"):
            changed["tool_calls"] = self.value(message["tool_calls"])
        return changed

    def value(self, value: Json) -> Json:
        """Disguise only whole names in tools and arguments, because templates read their keys and values."""
        if isinstance(value, str):
            return self._change(value, [*self._whole(value)])
        if isinstance(value, dict):
            return {self.value(key): self.value(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(one) for one in value]
        return value

    def off(self, rendered: str) -> str:
        """Undo the disguise in the rendered text."""
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
        if len(low) != len(bare):  # a letter with a longer lower-case form: no name contains one
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
        if letter.isspace():  # templates trim whitespace
            return letter
        if letter not in self._twins:
            taken = self._used | {*self._twins.values()}
            self._twins[letter] = next(chr(code) for code in PRIVATE if chr(code) not in taken)
        return self._twins[letter]


def _is_written(name: str, template: str) -> bool:
    return MARKUP.fullmatch(name) is not None and name in template


def _mark() -> str:
    return "".join(chr(PRIVATE.start + secrets.randbelow(len(PRIVATE))) for _ in range(MARK_CHARS))


# Any: only the keys count
def _either(words: Sequence[str] | dict[str, Any], flags: int = 0) -> re.Pattern[str] | None:
    """A pattern for the longest of these words at each place; None for no words."""
    if not words:
        return None
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))), flags)
