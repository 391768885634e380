"""Tokens of texts and texts of tokens, in TEI's shape or in vLLM's: /tokenize, /detokenize and /tokenizer_info.

A body with `inputs` or `ids` is TEI's, one with `prompt`, `messages` or `tokens` is vLLM's; each is answered in its own
shape. The tokens are those that the model itself reads: the name of a control token is text, unless `parse_special`.
vLLM's clients look such a token up by the tokens of its name alone, with nothing added: then it is that token.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.call import Operation
from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.api.call_service import CallFields, Field, without_unset
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.key_guard import check_name
from llmos.api.openai_schemas import ChatRequest
from llmos.api.openai_unsupported import Unsupported, parse_supported
from llmos.api.query import Query, asked_of
from llmos.api.shapes.chat import CHAT, GENERATE, Naming, chat_tokens
from llmos.api.shapes.services import Services
from llmos.api.shapes.tei import BODY, ERRORS, named_model
from llmos.api.texts import texts_of
from llmos.tasks.inputs import PARSE_SPECIAL
from llmos.tasks.token_ids import are_ids

EMBED = "embed"
UNSUPPORTED = Unsupported(
    hints=frozenset({"request_id"}),
    neutral={
        "add_generation_prompt": (True,),
        "chat_template": (),
        "continue_final_message": (False,),
        "mm_processor_kwargs": ({},),
        "prompt_name": (),
    },
    unset={"priority": (0,)},
)
TEI, VLLM = "inputs", "prompt"


class TokenizeRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """TEI's `inputs`, one text or several; or vLLM's `prompt`, or its `messages` with `tools` as in a chat.

    `add_special_tokens` false leaves out what the tokenizer adds around a text. `return_token_strs` is vLLM's.
    """

    model: str = ""
    inputs: str | list[Json] | None = None
    prompt: str | None = None
    messages: list[dict[str, Json]] | None = None
    tools: list[dict[str, Json]] | None = None
    chat_template_kwargs: dict[str, Json] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    parse_special: bool | None = None


class DetokenizeRequest(CallFields, kw_only=True, forbid_unknown_fields=True):
    """TEI's `ids`, of one text or a list of several; or vLLM's `tokens`.

    `skip_special_tokens` leaves out control tokens: by default in TEI's shape, and not in vLLM's.
    """

    model: str = ""
    ids: list[Json] | None = None
    tokens: list[Json] | None = None
    skip_special_tokens: bool | None = None


class TextToken(msgspec.Struct):
    """A token in TEI's shape, and its characters in the text; null for what the tokenizer added."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TokenList(msgspec.Struct):
    """The tokens of a prompt in vLLM's shape."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class TokenText(msgspec.Struct):
    """The text of tokens in vLLM's shape."""

    prompt: str


class TokenRoutes:
    """The routes of tokens."""

    def __init__(self, services: Services) -> None:
        self._calls, self._bodies, self._models = services.calls, services.bodies, services.kernel.models

    def endpoints(self) -> list[Endpoint]:
        route = partial(Endpoint, "POST", tag="tokens", errors=ERRORS, scope=KeyScope.INFER)
        split, join = "Tokens of texts, in TEI's shape or vLLM's", "Text of tokens, in TEI's shape or vLLM's"
        lists, texts = list[list[TextToken]] | TokenList, list[str] | TokenText
        said = "Describe the tokenizer, in vLLM's shape"
        query = (Query("model", "the model; without it the only one that writes", "string"),)
        about = partial(Endpoint, "GET", tag="tokens", errors=ERRORS, scope=KeyScope.INFER, gives=dict[str, Any])
        return [
            about("/tokenizer_info", self.info, said, query=query),
            about("/tei/{model}/tokenizer_info", self.info, said),
            *(
                route(f"{before}/{path}", handle, said, takes, gives)
                for before in ("", "/tei/{model}")
                for path, handle, said, takes, gives in (
                    ("tokenize", self.tokenize, split, TokenizeRequest, lists),
                    ("detokenize", self.detokenize, join, DetokenizeRequest, texts),
                )
            ),
        ]

    async def tokenize(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), TokenizeRequest, UNSUPPORTED)
        name = _only(body, TEI, VLLM, "messages")
        body.model = self._model(request, body.model, {TEI: EMBED, VLLM: GENERATE}.get(name, CHAT))
        if name == "messages":
            return await self._conversation(request, body)
        given, is_list = getattr(body, name), isinstance(body.inputs, list)
        texts = texts_of(_some(given, name) if is_list else [given], name)
        names = True if name == VLLM and body.add_special_tokens is False else None
        params = without_unset({"special": body.add_special_tokens, PARSE_SPECIAL: body.parse_special, "names": names})
        wanted = self._calls.tokens_for(body, Operation.TOKENIZE, texts, params, Field(name, is_list))
        outputs = (await self._calls.whole(wanted, request)).outputs
        if name == TEI:
            return reply([one["tokens"] for one in outputs])
        (one,) = outputs
        ids = [token["id"] for token in one["tokens"]]
        return reply(TokenList(len(ids), one["limit"], ids, one["strings"] if body.return_token_strs else None))

    async def _conversation(self, request: Request, body: TokenizeRequest) -> Reply:
        """A chat's whole prompt, with what its template and tools add."""
        if body.add_special_tokens:
            raise BadInput(
                "The template of a chat adds its special tokens itself. Leave it out", key="add_special_tokens"
            )
        fields = without_unset(
            {
                "tools": body.tools,
                "chat_template_kwargs": body.chat_template_kwargs,
                "parse_special": body.parse_special,
                "timeout_s": body.timeout_s,
                "engine": body.engine,
                "user": body.user,
                "store": body.store,
            }
        )
        chat = ChatRequest(model=body.model, messages=body.messages or [], priority=body.runs_as, **fields)
        chunk = await chat_tokens(self._calls, chat, Naming(), request, strings=bool(body.return_token_strs))
        (one,) = chunk.outputs
        return reply(TokenList(len(one["ids"]), one["limit"], one["ids"], one.get("strings")))

    async def detokenize(self, request: Request) -> Reply:
        body = parse_supported(await self._bodies.read(request, BODY), DetokenizeRequest, UNSUPPORTED)
        name = _only(body, "ids", "tokens")
        body.model = self._model(request, body.model, EMBED if name == "ids" else GENERATE)
        given = _some(getattr(body, name), name)
        is_list = name == "ids" and not are_ids(given)
        keeps = name == "tokens" if body.skip_special_tokens is None else not body.skip_special_tokens
        lists = list(given) if is_list else [given]
        wanted = self._calls.tokens_for(body, Operation.DETOKENIZE, lists, {"special": keeps}, Field(name, is_list))
        texts = [one["text"] for one in (await self._calls.whole(wanted, request)).outputs]
        return reply(texts if name == "ids" else TokenText(texts[0]))

    async def info(self, request: Request) -> Reply:
        named = "" if request.path_params.get("model") else str(asked_of(request).get("model", ""))
        if named:
            check_name(request, named)
        model = self._model(request, named, GENERATE)
        wanted = self._calls.tokens_for(CallFields(model=model), Operation.DESCRIBE, [], {}, Field("model"))
        (card,) = (await self._calls.whole(wanted, request)).outputs
        return reply({**card, "model": wanted.model})

    def _model(self, request: Request, model: str, task: str) -> str:
        """The model in the path, else in the body, else the only one of the task, or of several of one base."""
        return named_model(request, self._models, model, task, for_tokens=True)


def _only(body: TokenizeRequest | DetokenizeRequest, *names: str) -> str:
    """The one of these fields that is given."""
    found = [name for name in names if getattr(body, name) is not None]
    if len(found) != 1:
        said = "none of" if not found else "several of"
        raise BadInput(f"The body has {said} {', '.join(names)}. Send one", key=names[0])
    return found[0]


def _some(given: list[Json], name: str) -> list[Json]:
    if not given:
        raise BadInput(f"{name} is an empty list. Send at least one", key=name, reason="empty")
    return given


SHAPE = TokenRoutes
