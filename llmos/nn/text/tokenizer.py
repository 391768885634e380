"""The tokenizer as tasks use it: batches of text to token ids and back, without truncation or padding."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Encoding, Tokenizer

from llmos.abi.error import BadInput
from llmos.nn.called import calling_folder, name_of
from llmos.nn.text import sentencepiece
from llmos.nn.text.control_tokens import ControlTokens
from llmos.nn.text.unknown_text import UnknownText, UnknownTokens, find_unknown
from llmos.tasks import Encoded, EncodedPair, TokenPiece
from llmos.tasks.encoder_decoder import EncoderDecoderInfo
from llmos.tasks.tools import knows_tools

if TYPE_CHECKING:
    from llmos.nn.text.chat_template import ChatTemplate

FILE = "tokenizer.json"
ANSWERS = "tokenizer_answers.json"  # the tokenizer of answers, if it differs from that of the input
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # the decoded text of an incomplete character
Message = dict[str, Any]  # Any: a message or a tool, in the template's form
WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # a space, as SentencePiece vocabularies write it
BYTE = re.compile("<0x([0-9A-F]{2})>")  # a byte without a piece of its own
LANGUAGE = re.compile("[a-z]{2,3}_[A-Z]{2}")
MASKS = ("[MASK]", "<mask>")
NO_LIMIT = 1 << 30  # transformers writes 1e30 for a tokenizer without a limit


def _letters() -> dict[str, int]:
    """The letters of byte-level vocabularies: printable bytes are their own, others start at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTES = _letters()


class FastTokenizer:
    """A folder's tokenizer; implements tasks.Tokenizer.

    User text never becomes a control token, even if it contains a control token's name, unless it `parses_special`.
    Control tokens of the chat template are marked (see `ControlTokens`), and marks are read as such in every encoded
    text.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        """Errors call the tokenizer's model `name`."""
        self.folder, self.name = folder, name or name_of(folder)
        with calling_folder(folder, self.name):
            self._fast = read(folder)
        self._fast.no_truncation()
        self._fast.no_padding()
        self.parses_special = False
        self._controls: ControlTokens | None = None
        self._making = threading.Lock()
        self.ends: frozenset[int] = frozenset()  # the tokens that end an answer, set by nn/load from several files
        self.reader: EncoderDecoderInfo | None = None  # for an encoder-decoder, set by nn/load
        self.held: int | None = None  # the number of tokens that the model has, set by nn/load

    @cached_property
    def _config(self) -> dict[str, Any]:  # Any: a file of transformers, read by key
        found: dict[str, Any] = {}  # Any: as above
        for path in (
            self.folder / SPECIAL,
            self.folder / CONFIG,
        ):  # the later file wins; older models have only the first
            found |= json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found

    @cached_property
    def _answers(self) -> Tokenizer | None:
        return read_answers(self.folder)

    @property
    def max_tokens(self) -> int | None:
        """The limit in the tokenizer's own file, or None."""
        limit = int(self._config.get("model_max_length") or NO_LIMIT)
        return limit if limit < NO_LIMIT else None

    @property
    def end_id(self) -> int | None:
        """The end-of-text token in the tokenizer's own file, or None."""
        named = self._config.get("eos_token")
        found: int | None = None if named is None else self._fast.token_to_id(_text(named))
        return found

    @property
    def mask_id(self) -> int | None:
        """The token that hides another one: as its own file names it, or by the usual names; None if there is none."""
        named = self._config.get("mask_token")
        sought = MASKS if named is None else (_text(named),)
        return next((i for one in sought if (i := self._fast.token_to_id(one)) is not None), None)

    @property
    def languages(self) -> dict[str, int]:
        """Special tokens that are language codes, as mBART has them, with their ids."""
        added = self._fast.get_added_tokens_decoder()
        return {one.content: i for i, one in sorted(added.items()) if LANGUAGE.fullmatch(one.content)}

    def parsing(self) -> FastTokenizer:
        """The same tokenizer for callers whose texts contain control tokens on purpose."""
        assert self.controls is not None, "Both have the same marks"
        other = copy.copy(self)
        other.parses_special = True
        return other

    @property
    def controls(self) -> ControlTokens:
        if self._controls is None:
            with self._making:  # marks are made once, because texts are marked and tokenized in different threads
                self._controls = self._controls or self._made_controls()
        return self._controls

    def _made_controls(self) -> ControlTokens:
        written = self._template or ""
        sought = self._compile_template.sought if written and self._is_sound else frozenset[str]()
        return ControlTokens(self._fast, self.ends, written, sought)

    @cached_property
    def _answer_controls(self) -> ControlTokens:
        return self.controls if self._answers is None else ControlTokens(self._answers)

    @cached_property
    def _around(self) -> dict[str, list[int]]:
        """The control tokens that the tokenizer adds around a text, and around a pair."""
        known = self.controls.known
        alone, pair = self._fast.encode("").ids, self._fast.encode("", "").ids
        return {"text": [i for i in alone if i in known], "pair": [i for i in pair if i in known]}

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        controls = self.controls
        read = [controls.unmark(text) for text in texts]
        made = [one.ids for one in self._fast.encode_batch_fast(read, add_special_tokens=special)]
        if self.parses_special:
            return [Encoded(ids) for ids in made]
        around = self._around["text"] if special else []
        others = [
            at
            for at, (text, ids) in enumerate(zip(texts, made, strict=True))
            if not controls.is_as_meant(ids, [*around, *controls.meant(text)], [read[at]])
        ]
        if others:
            plain = controls.plain.encode_batch_fast([texts[at] for at in others], add_special_tokens=special)
            for at, one in zip(others, plain, strict=True):
                made[at] = one.ids
        return [Encoded(ids) for ids in made]

    def encode_answer(self, text: str, *, special: bool) -> list[int]:
        """Encode an answer's text with the tokenizer of answers."""
        fast, controls = self._answers or self._fast, self._answer_controls
        (empty, read) = fast.encode_batch_fast(["", text], add_special_tokens=special)
        around = [i for i in empty.ids if i in controls.known]
        if self.parses_special or controls.is_as_meant(read.ids, around, [text]):
            return list(read.ids)
        (plain,) = controls.plain.encode_batch_fast([text], add_special_tokens=special)
        return list(plain.ids)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        words = [list(words) for words in sentences]
        if self._needs_spaces:
            words = [[word if i == 0 else f" {word}" for i, word in enumerate(sentence)] for sentence in words]
        made = self._fast.encode_batch(words, is_pretokenized=True, add_special_tokens=special)
        around = self._around["text"] if special else []
        others = [] if self.parses_special else self._others(words, made, around)
        if others:
            chosen = [words[at] for at in others]
            plain = self.controls.plain.encode_batch(chosen, is_pretokenized=True, add_special_tokens=special)
            made = _with(made, others, plain)
        return [Encoded(encoding.ids, encoding.word_ids) for encoding in made]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        """Encode pairs; offsets of the second texts count characters. All tokens have segment 0."""
        made = self._fast.encode_batch(list(pairs))
        others = [] if self.parses_special else self._others(pairs, made, self._around["pair"])
        if others:
            made = _with(made, others, self.controls.plain.encode_batch([pairs[at] for at in others]))
        return [
            EncodedPair(
                one.ids, [span if side == 1 else None for side, span in zip(one.sequence_ids, one.offsets, strict=True)]
            )
            for one in made
        ]

    def _others(self, texts: Sequence[Sequence[str]], made: Sequence[Encoding], around: Sequence[int]) -> Sequence[int]:
        """The indices of texts with control tokens that came from user text.

        Texts come in batches, to let other threads run.
        """
        is_as_meant = self.controls.is_as_meant
        pairs = enumerate(zip(texts, made, strict=True))
        return [at for at, (some, one) in pairs if not is_as_meant(one.ids, around, some)]

    def unknown(self, texts: Sequence[str]) -> UnknownText:
        """How much of each text it reads as its token for what it does not know; byte-level ones know all."""
        return find_unknown(self._fast, self._unknown_name, texts)

    @property
    def _unknown_name(self) -> str | None:
        """Its token for what it does not know; None for byte-level ones, which know all."""
        named = getattr(self._fast.model, "unk_token", None) or _text(self._config.get("unk_token") or "")
        return named if named and not self._is_byte_level else None

    def unknown_in(self, ids: Sequence[int]) -> int:
        """How many of these tokens stand for what the vocabulary lacks."""
        return self._unknown_tokens.count(ids)

    @cached_property
    def _unknown_tokens(self) -> UnknownTokens:
        named = self._unknown_name
        return UnknownTokens(None if named is None else self._fast.token_to_id(named), self.bytes_of)

    @cached_property
    def longest(self) -> int:
        """The length of the longest token, in characters of its file."""
        return max(map(len, self._fast.get_vocab()), default=1)

    @cached_property
    def _needs_spaces(self) -> bool:
        """Whether words after the first need a leading space: byte-level vocabularies encode it, and lone words have
        lost it."""
        as_text = self._fast.encode("a a", add_special_tokens=False).ids
        return bool(as_text != self._fast.encode(["a", "a"], is_pretokenized=True, add_special_tokens=False).ids)

    @property
    def size(self) -> int:
        """The number of tokens: the tokenizer's, or the model's if it has fewer."""
        known = int(self._fast.get_vocab_size(with_added_tokens=True))
        return known if self.held is None else min(known, self.held)

    @property
    def lacks_tokens(self) -> bool:
        """Whether the tokenizer has tokens that the model does not have."""
        return self.held is not None and int(self._fast.get_vocab_size(with_added_tokens=True)) > self.held

    def check(self, sequences: Iterable[Sequence[int]]) -> None:
        """Raise BadInput for a token of the tokenizer that the model does not have."""
        if self.held is None or not self.lacks_tokens:
            return
        for ids in sequences:
            if (token := max(ids, default=0)) >= self.held:
                written = self._fast.id_to_token(token)
                raise BadInput(
                    f"The text has {written!r}, token {token:,} of the tokenizer, and the model has {self.held:,} "
                    "tokens. Leave it out",
                    token=token,
                    limit=self.held,
                )

    def as_json(self) -> str:
        """The whole tokenizer as the text of a tokenizer.json."""
        return str(self._fast.to_str())

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token. They may be a part of a character in byte-level vocabularies."""
        written = self._fast.id_to_token(token) or ""
        if token in self._fast.get_added_tokens_decoder():
            return written.encode()
        if self._is_byte_level:
            return bytes(BYTES.get(letter, 0) for letter in written)
        if (byte := BYTE.fullmatch(written)) is not None:
            return bytes.fromhex(byte[1])
        return written.replace(WORD_START, " ").encode()

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = self._fast.decoder
        return decoder is not None and b'"ByteLevel"' in decoder.__getstate__()

    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str:
        return str(self._fast.decode(list(ids), skip_special_tokens=skips_special))

    def name_of(self, token: int) -> str:
        return str(self._fast.id_to_token(token) or "")

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        controls, made = self.controls, self._fast.encode(text, add_special_tokens=special)
        around = self._around["text"] if special else []
        if not self.parses_special and not controls.is_as_meant(made.ids, around, [text]):
            made = controls.plain.encode(text, add_special_tokens=special)
        return [
            TokenPiece(i, self.name_of(i), is_special=True)
            if is_added
            else TokenPiece(i, text[start:end], i in controls.known, start, end)
            for i, (start, end), is_added in zip(made.ids, made.offsets, made.special_tokens_mask, strict=True)
        ]

    @property
    def card(self) -> dict[str, Any]:  # Any: what is in a file of transformers
        """The files of transformers, with the template that is used, and control tokens by their text."""
        said = {key: _text(value) if key.endswith("_token") and value else value for key, value in self._config.items()}
        always = dict.fromkeys((*(f"{name}_token" for name in ("bos", "eos", "pad", "unk")), "tokenizer_class"))
        return {**always, **said, "chat_template": self._template if self.has_template else None}

    def stream(self) -> Stream:
        """A decoder for a growing answer, token by token; it returns text as soon as its characters are complete."""
        return Stream(self._fast)

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template that compiles."""
        return self._template is not None and self._is_sound

    @property
    def knows_tools(self) -> bool:
        """Whether the template has a place for tools."""
        return knows_tools(self._template or "")

    def chat(
        self, messages: Sequence[Message], tools: Sequence[Message] = (), given: Mapping[str, Any] | None = None
    ) -> str:
        """The conversation in the model's chat format, up to where its answer begins.

        `given` are the call's additional variables of the template.
        """
        return self._chat(messages, tools, given or {}, opens=True)

    def chat_whole(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> str:
        """The same conversation without an opened answer at its end."""
        return self._chat(messages, tools, {}, opens=False)

    def _chat(
        self, messages: Sequence[Message], tools: Sequence[Message], given: Mapping[str, Any], *, opens: bool
    ) -> str:
        if self._template is None:
            raise BadInput(
                f"{self.name} has no chat template, so it was not made for conversations. Use the task generate",
                model=self.name,
                lacks="chat_template",
            )
        template = self._compile_template
        named = {k: _text(v) for k, v in self._config.items() if k.endswith("_token") and v is not None}
        if self.parses_special:
            said = [template.shape_message(one) for one in messages]
            return template.render(said, tools, opens=opens, named={**given, **named})
        disguise = self.controls.disguise()
        disguise.look([messages, tools, given])
        hidden = [template.shape_message(disguise.message(one)) for one in messages]
        handed = {**disguise.value(given), **named}
        rendered = template.render(hidden, disguise.value(list(tools)), opens=opens, named=handed)
        return disguise.off(self.controls.mark(rendered))

    @cached_property
    def _compile_template(self) -> ChatTemplate:
        """Compile the template; BadInput if it does not compile."""
        from llmos.nn.text.chat_template import ChatTemplate  # imported late: only chat needs it

        assert self._template is not None, "There is a template to compile"
        return ChatTemplate(self._template, self.name)

    @cached_property
    def _is_sound(self) -> bool:
        try:
            return bool(self._compile_template)
        except BadInput:  # reported when a conversation is rendered
            return False

    @cached_property
    def _template(self) -> str | None:
        path = self.folder / TEMPLATE
        if path.exists():
            return path.read_text(encoding="utf-8")
        held = self._config.get("chat_template")
        if isinstance(held, list):  # several templates, by name
            held = next((entry["template"] for entry in held if entry["name"] == "default"), None)
        return held


class Stream:
    """The text of a growing answer; it holds back a character until all of its bytes are there."""

    def __init__(self, fast: Tokenizer) -> None:
        self._fast = fast
        self._ids: list[int] = []
        self._from = 0  # decoding starts here: far enough back to see whether a space belongs before the newest token
        self._said = 0  # tokens whose text was returned

    def push(self, token: int) -> str:
        self._ids.append(token)
        return "" if self._decode(self._from).endswith(UNFINISHED) else self.flush()

    def flush(self) -> str:
        """Return the text that was held back, as it is."""
        before = self._fast.decode(self._ids[self._from : self._said], skip_special_tokens=True)
        piece = self._decode(self._from)[len(before) :]
        self._from, self._said = self._said, len(self._ids)
        return piece

    def _decode(self, start: int) -> str:
        return str(self._fast.decode(self._ids[start:], skip_special_tokens=True))


def _with(made: Sequence[Encoding], places: Sequence[int], others: Sequence[Encoding]) -> list[Encoding]:
    """A copy of `made` with the others at these indices."""
    found = dict(zip(places, others, strict=True))
    return [found.get(at, one) for at, one in enumerate(made)]


def _text(token: Any) -> str:  # Any: a plain string, or the dict of an added token
    return str(token["content"] if isinstance(token, dict) else token)


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, from tokenizer.json, or converted from older files."""
    if (folder / FILE).exists():
        return Tokenizer.from_file(str(folder / FILE))
    if sentencepiece.is_there(folder):
        return sentencepiece.tokenizer(folder, sentencepiece.SOURCE)
    if (made := sentencepiece.single(folder)) is not None:
        return made
    from transformers import AutoTokenizer  # slow, and only for folders that were never made resident

    try:
        found = AutoTokenizer.from_pretrained(folder)
    except (ImportError, OSError, ValueError) as error:
        raise BadInput(
            f"{name_of(folder)} has no tokenizer that can be read ({error}). Add its {FILE}", lacks=FILE
        ) from error
    backend: Tokenizer = found.backend_tokenizer
    return backend


def read_answers(folder: Path) -> Tokenizer | None:
    """The tokenizer of answers, if the folder has one beside that of the input."""
    if (folder / ANSWERS).exists():
        return Tokenizer.from_file(str(folder / ANSWERS))
    return sentencepiece.tokenizer(folder, sentencepiece.TARGET) if sentencepiece.is_there(folder) else None
