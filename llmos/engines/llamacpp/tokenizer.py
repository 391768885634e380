"""The tokenizer and chat template of a GGUF file, used through llama.cpp's server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path

import httpx

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.engines.llamacpp.header import Header
from llmos.nn.text.control_tokens import Marks
from llmos.tasks import Encoded, EncodedPair, TokenPiece
from llmos.tasks.templating import PARAM

CONTROLS = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # transformers' names, and GGUF's


class ServedTokenizer:
    """Implements the parts of tasks.Tokenizer that generation needs."""

    def __init__(self, socket: Path, header: Header, controls: Mapping[str, int], name: str) -> None:
        """`controls` are the file's control tokens by name; errors call the model `name`."""
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://llamacpp", timeout=60.0
        )
        self._entries = header.entries
        self._marks = Marks(dict(controls))
        self._names = {i: name for name, i in controls.items()}
        self._size = header.vocabulary
        self._name = name
        self._parses_special = False

    def parsing(self) -> ServedTokenizer:
        """The same tokenizer for callers whose texts contain control tokens on purpose."""
        other = copy(self)
        other._parses_special = True
        return other

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[Encoded]:
        """Encode the texts; control tokens' names are text unless a template wrote them.

        Without `special` nothing is added.
        """
        return [Encoded(self._encode(text, special=special)) for text in texts]

    def _encode(self, text: str, *, special: bool) -> list[int]:
        ids = self._split(self._marks.unmark(text), special=special, parses=True)
        if self._parses_special:
            return ids
        around = [i for i in self._split("", special=True, parses=True) if i in self._marks.known] if special else []
        if self._marks.is_as_meant(ids, [*around, *self._marks.meant(text)]):
            return ids
        if special:  # no part of it came from a template
            return self._split(text, special=True, parses=False)
        found: list[int] = []
        for one in self._marks.pieces(text):
            found += [one] if isinstance(one, int) else self._split(one, special=False, parses=False)
        return found

    def _split(self, text: str, *, special: bool, parses: bool) -> list[int]:
        asked = {"content": text, "add_special": special, "parse_special": parses}
        return list(self._ask("/tokenize", asked)["tokens"])

    def encode_words(self, sentences: Sequence[Sequence[str]], *, special: bool = True) -> list[Encoded]:
        raise BadInput("llama.cpp cannot tag words. Use another engine: pytorch")

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[EncodedPair]:
        raise BadInput("llama.cpp cannot read pairs of texts. Use another engine: pytorch")

    def decode(self, ids: Sequence[int], *, skips_special: bool = True) -> str:
        if skips_special:
            ids = [i for i in ids if i not in self._marks.known]
        return str(self._ask("/detokenize", {"tokens": list(ids)})["content"])

    @property
    def size(self) -> int:
        return self._size

    @property
    def card(self) -> dict[str, Json]:
        """From the file's header; it has no class of transformers."""
        ids = {name: self._entries.get(f"tokenizer.ggml.{key}_token_id") for name, key in CONTROLS.items()}
        named = {f"{name}_token": None if i is None else self.name_of(int(i)) for name, i in ids.items()}
        return {"tokenizer_class": "", **named, "chat_template": self._entries.get("tokenizer.chat_template")}

    def name_of(self, token: int) -> str:
        return self._names.get(token) or self.decode([token])

    def pieces(self, text: str, *, special: bool = True) -> list[TokenPiece]:
        """llama.cpp says no places: each token's bytes are looked for where the last one ended."""
        ids = self._encode(text, special=special)
        asked = {"content": text, "add_special": special, "parse_special": self._parses_special, "with_pieces": True}
        written = {one["id"]: _bytes(one["piece"]) for one in self._ask("/tokenize", asked)["tokens"]}
        data, found, at, first = text.encode(), [], 0, 0
        for i in ids:
            piece = self._names[i].encode() if i in self._names else written.get(i) or self.decode([i]).encode()
            if piece.startswith(b" ") and not data.startswith(piece, at) and data.startswith(piece[1:], at):
                piece = piece[1:]  # the space that SentencePiece puts before a text
            if not data.startswith(piece, at):
                found.append(TokenPiece(i, piece.decode(errors="replace"), i in self._names))
                continue
            end = first + sum(byte & 0xC0 != 0x80 for byte in piece)  # letters that begin in it
            found.append(TokenPiece(i, text[first:end], i in self._names, first, end))
            at, first = at + len(piece), end
        return found

    @property
    def knows_tools(self) -> bool:
        """Always false: llama.cpp formats tools in its own way, so tools are described in a system text instead."""
        return False

    reader = None
    longest = 1  # unknown; most vocabularies have less than a text may have per token anyway

    @property
    def has_template(self) -> bool:
        return "tokenizer.chat_template" in self._entries

    def chat(
        self, messages: Sequence[dict[str, Json]], tools: Sequence[Json] = (), given: Mapping[str, Json] | None = None
    ) -> str:
        handed = dict(given or {})
        if self._parses_special:
            return self._apply_template(messages, handed)
        disguise = self._marks.disguise()
        disguise.look([list(messages), handed])
        rendered = self._apply_template([disguise.message(one) for one in messages], disguise.value(handed))
        return disguise.off(self._marks.mark(rendered))

    def _apply_template(self, messages: Sequence[dict[str, Json]], handed: dict[str, Json]) -> str:
        said = {"messages": [_with_text_arguments(message) for message in messages]}
        return str(self._ask("/apply-template", said | ({PARAM: handed} if handed else {}))["prompt"])

    def close(self) -> None:
        self._client.close()

    def _ask(self, path: str, body: Json) -> Json:
        answer = self._client.post(path, json=body)
        if answer.status_code != httpx.codes.OK:
            raise BadInput(f"llama.cpp refuses this of {self._name}: {answer.text[:400]}", model=self._name)
        return answer.json()


def _bytes(piece: Json) -> bytes:
    """A token's bytes: llama.cpp lists those of a part of a character."""
    return piece.encode() if isinstance(piece, str) else bytes(piece)


def _with_text_arguments(message: Json) -> Json:
    """A message with the arguments of earlier calls as JSON text, as in OpenAI's format."""
    if not message.get("tool_calls"):
        return message
    import msgspec  # imported late: only conversations with tools need it

    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {**call["function"], "arguments": msgspec.json.encode(call["function"]["arguments"]).decode()},
        }
        for i, call in enumerate(message["tool_calls"])
    ]
    return {**message, "tool_calls": calls}
