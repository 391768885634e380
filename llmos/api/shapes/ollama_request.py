"""The bodies of Ollama's interface, and the chat or prompt in OpenAI's shape that they are."""

from __future__ import annotations

import re

import msgspec

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.api.call_service import CallFields, without_unset
from llmos.api.openai_schemas import NO_LIMIT, ChatRequest, CompletionRequest
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.rules import NamedSchema, ResponseFormat
from llmos.api.shapes.chat import Naming
from llmos.tasks.text import quote_value

UNSUPPORTED = Unsupported(
    neutral={
        "think": (False,),
        "images": ([],),
        "suffix": ("",),
        "template": ("",),
        "context": ([],),
        "shift": (True,),
        "width": (0,),
        "height": (0,),
        "steps": (0,),
    },
    unset={"format": ("",), "system": ("",), "tools": ([],)},
)
OPTIONS_UNSUPPORTED = Unsupported(
    # where and how it computes, and how long a context it has: those are the model's own here
    hints=frozenset(
        {
            "f16_kv",
            "logits_all",
            "low_vram",
            "main_gpu",
            "mirostat_eta",
            "mirostat_tau",
            "num_batch",
            "num_ctx",
            "num_gpu",
            "num_keep",
            "num_thread",
            "numa",
            "penalize_newline",
            "use_mlock",
            "use_mmap",
            "vocab_only",
        }
    ),
    neutral={"mirostat": (0,), "repeat_last_n": (-1,), "tfs_z": (1,), "typical_p": (1,)},
)
NAMES = {
    "max_tokens": "options.num_predict",
    "repetition_penalty": "options.repeat_penalty",
    "response_format": "format",
    **{
        name: f"options.{name}"
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "seed",
            "stop",
            "presence_penalty",
            "frequency_penalty",
        )
    },
}
ZERO = re.compile(r"[+-]?(0+(\.0*)?|\.0+)(ns|us|ms|s|m|h)?")  # a duration, as Go writes it
NO_LIMITS = (-1, -2)  # as many tokens as there may be; as many as fit


class OllamaOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How an answer is sampled, in Ollama's names. `num_predict` -1 and -2 are as many tokens as fit."""

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class OllamaCall(CallFields, kw_only=True, forbid_unknown_fields=True):
    """What all calls share. `keep_alive` 0 unloads the model after the answer; other values are ignored."""

    keep_alive: float | str | None = None

    @property
    def unloads(self) -> bool:
        said = self.keep_alive
        return said == 0 or (isinstance(said, str) and ZERO.fullmatch(said) is not None)


class OllamaAnswer(OllamaCall, kw_only=True, forbid_unknown_fields=True):
    """What chats and prompts share. Without `stream`, the answer is streamed, as Ollama does."""

    stream: bool = True
    format: str | dict[str, Json] | None = None
    options: dict[str, Json] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def sampling(self) -> dict[str, Json]:
        """OpenAI's fields for the options, the format and the fields of every call."""
        said = parse_options(self.options)
        most = NO_LIMIT if said.num_predict in NO_LIMITS else said.num_predict
        fields = {name: getattr(said, name) for name in said.__struct_fields__}
        del fields["num_predict"]
        fields |= {"repetition_penalty": fields.pop("repeat_penalty"), "max_tokens": most}
        return without_unset({**fields, **self.for_call, "response_format": format_of(self.format)})


class OllamaChat(OllamaAnswer, kw_only=True, forbid_unknown_fields=True):
    """A conversation, with tools. Without messages the model is loaded, or with `keep_alive` 0 unloaded."""

    messages: list[dict[str, Json]] = msgspec.field(default_factory=list)
    tools: list[dict[str, Json]] | None = None

    def chat(self) -> ChatRequest:
        """The same in OpenAI's shape."""
        messages = [_without_images(i, one) for i, one in enumerate(self.messages)]
        scored = without_unset({"logprobs": self.logprobs, "top_logprobs": self.top_logprobs or None})
        return ChatRequest(messages=messages, tools=self.tools, **scored, **self.sampling())


class OllamaPrompt(OllamaAnswer, kw_only=True, forbid_unknown_fields=True):
    """A prompt: one message of the user, after the text of `system`. With `raw`, a text that the answer continues.

    Without a prompt the model is loaded, or with `keep_alive` 0 unloaded.
    """

    prompt: str = ""
    system: str | None = None
    raw: bool | None = None

    def chat(self) -> ChatRequest:
        """The prompt as a conversation of OpenAI's shape."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        messages = [*system, {"role": "user", "content": self.prompt}]
        scored = without_unset({"logprobs": self.logprobs, "top_logprobs": self.top_logprobs or None})
        return ChatRequest(messages=messages, **scored, **self.sampling())

    def completion(self) -> CompletionRequest:
        """The prompt as it stands, in OpenAI's shape."""
        if self.system is not None:
            said = "The model has no chat template, or `raw` is true: put what `system` says into the prompt"
            raise BadInput(said, key="system")
        wanted = (self.top_logprobs or 0) if self.logprobs else None
        return CompletionRequest(prompt=self.prompt, logprobs=wanted, **self.sampling())


class OllamaEmbed(OllamaCall, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed. `truncate` cuts long ones; without it they are refused. `options` are ignored."""

    input: str | list[Json]
    truncate: bool | None = None
    dimensions: int | None = None
    options: dict[str, Json] | None = None


class OllamaEmbedding(OllamaCall, kw_only=True, forbid_unknown_fields=True):
    """A text to embed, in the earlier form. `options` are ignored."""

    prompt: str
    options: dict[str, Json] | None = None


class OllamaShow(msgspec.Struct, forbid_unknown_fields=True):
    """A model by its name; `name` is the earlier field. `verbose` is ignored."""

    model: str = ""
    name: str = ""
    verbose: bool | None = None


def naming_of(count: int) -> Naming:
    """The names of this interface's fields, for this many messages."""
    return Naming(NAMES, [f"messages[{i}]" for i in range(count)])


def parse_options(options: dict[str, Json] | None) -> OllamaOptions:
    """The options; BadInput that names those that are not supported."""
    try:
        return parse_supported(options or {}, OllamaOptions, OPTIONS_UNSUPPORTED)
    except BadInput as error:
        key = error.detail.get("key")
        raise BadInput(f"options: {error.message}", **{**error.detail, "key": f"options.{key}"}) from error


def format_of(wanted: str | dict[str, Json] | None) -> ResponseFormat | None:
    """The rule of the answer: any JSON, or a schema."""
    if wanted is None:
        return None
    if isinstance(wanted, dict):
        return ResponseFormat("json_schema", NamedSchema(wanted))
    if wanted != "json":
        raise BadInput(f"format is {quote_value(wanted)}; it is json, or a JSON schema", key="format")
    return ResponseFormat("json_object")


def _without_images(index: int, message: dict[str, Json]) -> dict[str, Json]:
    if message.get("images"):
        key = f"messages[{index}].images"
        raise BadInput(f"{key}: images cannot be read here", key=key, reason="images")
    return message
