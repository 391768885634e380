"""Encoder-decoder bases (T5, BART, Marian): how their inputs, prefixes and languages are rendered.

T5's family takes a prefix before the text. mBART takes the tokens of two languages: one beside the text, and one that
opens the answer. The others have a single purpose and take the plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.tasks import Rendered, Settings, Tokenizer, TrainingTokenizer, sft_example
from llmos.tasks.text import check_chars, encode_within, too_long

TOLD = ("t5", "mt5")  # model types in config.json
MADE = {"marian": "translate", "mbart": "translate", "bart": "summarize"}  # the usual task of each model type
KINDS = (*TOLD, *MADE)
TASKS = ("translate", "summarize", "generate")
SUMMARIZE = "summarize: "
NAMED = """
ar Arabic cs Czech de German en English es Spanish et Estonian fi Finnish fr French gu Gujarati hi Hindi it
Italian ja Japanese kk Kazakh ko Korean lt Lithuanian lv Latvian my Burmese ne Nepali nl Dutch ro Romanian ru
Russian si Sinhala tr Turkish vi Vietnamese zh Chinese af Afrikaans az Azerbaijani bn Bengali fa Persian he
Hebrew hr Croatian id Indonesian ka Georgian km Khmer mk Macedonian ml Malayalam mn Mongolian mr Marathi pl
Polish ps Pashto pt Portuguese sv Swedish sw Swahili ta Tamil te Telugu th Thai tl Tagalog uk Ukrainian ur Urdu
xh Xhosa gl Galician sl Slovenian
""".split()  # noqa: SIM905  # a list of them would be a hundred lines
NAMES = dict(zip(NAMED[::2], NAMED[1::2], strict=True))  # mBART's languages by the beginnings of their codes


@dataclass(frozen=True, slots=True)
class EncoderDecoderInput:
    """How an encoder-decoder is instructed: a prefix, the language's token, and the opening of the answer."""

    prefix: str = ""
    source: int | None = None
    opening: tuple[int, ...] = ()  # empty: the model's usual opening


@dataclass(frozen=True, slots=True)
class EncoderDecoderInfo:
    """The opening of answers, the most tokens of an answer with it, and the prefixes in the config.

    `prefixes` None: the model takes none. `opens_whole`: a training answer has the special tokens of a text.
    """

    opening: tuple[int, ...]
    longest: int
    prefixes: tuple[str, ...] | None = None
    opens_whole: bool = True
    codes: Mapping[str, int] = field(default_factory=dict)  # languages with a token, such as de_DE

    def translate(self, source: str | None, target: str | None) -> EncoderDecoderInput:
        """How to instruct a translation; BadInput if the languages are not supported."""
        if self.codes:
            start = () if target is None else (self.opening[0], self._code(target, "target_language"))
            return EncoderDecoderInput("", None if source is None else self._code(source, "source_language"), start)
        return EncoderDecoderInput(self._prefix(source, target))

    def _code(self, language: str, key: str) -> int:
        """The token of a language, by its code, its beginning, or its English name."""
        said = language.lower()
        for code, token in self.codes.items():
            short = code.partition("_")[0]
            if said in (code.lower(), short, NAMES.get(short, "").lower()):
                return token
        raise BadInput(
            f"{key} is {language!r}, and this model has no such language. It has {len(self.codes)}: "
            f"{', '.join(self.codes)}",
            key=key,
            value=language,
            expected=list(self.codes),
        )

    def _prefix(self, source: str | None, target: str | None) -> str:
        if self.prefixes is None:
            if source or target:
                raise BadInput(
                    "This model translates only between the languages that it was made for. "
                    "Leave source_language and target_language out",
                    key="target_language",
                    reason="one_pair",
                )
            return ""
        if target is None:
            raise BadInput(
                "translate needs target_language, such as German: a param of a "
                "call, and of training an option, --set target_language=German",
                key="target_language",
                reason="lacking",
            )
        if source is None:
            known = (one for one in self.prefixes if one.lower().endswith(f" to {target.lower()}: "))
            return next(known, f"translate to {target}: ")
        return f"translate {source} to {target}: "

    def summarize(self) -> EncoderDecoderInput:
        if self.prefixes is None:
            return EncoderDecoderInput()
        return EncoderDecoderInput(next((p for p in self.prefixes if p.startswith("summar")), SUMMARIZE))


def prefixes_of(config: Json) -> tuple[str, ...] | None:
    """The prefixes of tasks in this config; None if texts are taken as they are."""
    params = config.get("task_specific_params")
    named = params.values() if isinstance(params, dict) else ()
    found = tuple(str(one["prefix"]) for one in named if isinstance(one, dict) and one.get("prefix"))
    return found if found or config.get("model_type") in TOLD else None


def render_source(asked: EncoderDecoderInput, text: str, tokenizer: Tokenizer, settings: Settings) -> Rendered:
    """The text as the encoder reads it, whole, or its beginning if the options allow cutting."""
    (one,) = encode_within([asked.prefix + text], "The text", tokenizer, settings)
    ids = one.ids if asked.source is None else _add_language(one.ids, asked.source, tokenizer)
    return Rendered(ids, opening=asked.opening)


def _add_language(ids: list[int], source: int, tokenizer: Tokenizer) -> list[int]:
    """Put the language's token where the tokenizer puts its own: before or after the text."""
    assert tokenizer.reader is not None, "only what reads is told a language so"
    codes = {*tokenizer.reader.codes.values()}
    at = next((at for at in (0, len(ids) - 1) if ids[at] in codes), None)
    if at is None:
        raise BadInput("This model takes no source language. Leave source_language out", key="source_language")
    return [*ids[:at], source, *ids[at + 1 :]]


def render_pair(
    asked: EncoderDecoderInput, text: str, answer: str, tokenizer: TrainingTokenizer, settings: Settings
) -> Rendered:
    """The text with its answer as an SFT example: the encoder's sequence and the decoder's."""
    reader = tokenizer.reader
    assert reader is not None, "only what reads is taught to write of it"
    source = render_source(asked, text, tokenizer, settings).ids
    opening = asked.opening or reader.opening
    check_chars("The answer", len(answer), tokenizer, reader.longest, settings)
    said = tokenizer.encode_answer(answer, special=reader.opens_whole)
    forced = list(opening[1:])
    said = sft_example.close_answer(
        said[len(forced) :] if forced and said[: len(forced)] == forced else said, tokenizer
    )
    if (size := len(forced) + len(said)) > reader.longest:
        raise too_long("The answer", size, reader.longest, settings)
    ids = [*opening, *said[:-1]]
    first = len(opening) - 1
    one = sft_example.SFTExample(ids, list(range(first, len(ids))), said)
    return Rendered([], (one,), (source, ids))
