"""/v1/feedback: what answers should have been; and by which order a model learns from it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial

import msgspec
from starlette.requests import Request

from llmos.abi.call_record import CallRecord, user_of
from llmos.abi.error import BadInput, OwnAnswer, UnknownLabel
from llmos.abi.feedback import (
    KINDS,
    MODEL,
    SOURCES,
    FeedbackRow,
    answer_in,
    is_held_out,
    score_of,
    texts_of,
)
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.learning import FEEDBACK, LearningState
from llmos.abi.model import Manifest
from llmos.abi.task import Family, spec_of
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED
from llmos.api.key_guard import check_model, key_of, may_see, may_use
from llmos.api.query import Query, asked_of
from llmos.api.requests import ERASED, Erased, named_user
from llmos.kernel.feedback.feedback_service import no_call
from llmos.kernel.interface import KernelInterface
from llmos.tasks import task

MOST_ROWS = 1_000
MOST_TEXT = 4_096  # characters of a label
LEAST_SCORE, MOST_SCORE = -1e9, 1e9
NEAR = 3  # labels that could be meant
QUERY = (
    Query("model", "Only rows on this name.", "string"),
    Query("user", "Only rows that this user gave, or on this user's calls.", "string"),
    Query("limit", f"At most this many, the newest first (default 20, at most {MOST_ROWS:,}).", "integer"),
)


class FeedbackRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an answer should have been: one of `label`, `score` and `text`.

    `call` names the answer by its id, with `index` if the call had several inputs; or `model` and `input` say what was
    asked. `user` is who says so, and `source` whether a person or an outcome does. `new_label` allows a label that the
    model does not have.
    """

    call: str | None = None
    index: int | None = None
    model: str | None = None
    input: Json = msgspec.UNSET
    label: Json = msgspec.UNSET
    score: float | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    user: str | None = None
    source: str = SOURCES[0]
    new_label: bool = False


class FeedbackList(msgspec.Struct):
    """Rows of feedback, the newest first."""

    data: list[FeedbackRow]
    object: str = "list"


class LearnRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """When a model learns: `when` is such as "200 rows", further ones of feedback."""

    source: str = msgspec.field(name="from", default=FEEDBACK)
    when: str


DECODER = msgspec.json.Decoder(FeedbackRequest)
LEARN = msgspec.json.Decoder(LearnRequest)


class Feedback:
    """The routes of feedback and of learning from it."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._models = kernel.models
        self._feedback = kernel.feedback
        self._learning = kernel.learning
        self._rollouts = kernel.rollouts
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        path, learning = "/v1/feedback", "/v1/models/{name}/learning"
        train = partial(Endpoint, scope=KeyScope.TRAIN)
        give = "Say what an answer should have been. The row is durable when this answers"
        ls, erase = "Rows of feedback", "Erase the rows that a user gave, and those on a user's calls"
        order = "Learn from feedback from now on, whenever so many further rows have come"
        return [
            Endpoint(
                "POST", path, self.give, give, FeedbackRequest, FeedbackRow, scope=KeyScope.FEEDBACK, status=CREATED
            ),
            Endpoint("GET", path, self.ls, ls, gives=FeedbackList, query=QUERY, scope=KeyScope.DATA),
            Endpoint("DELETE", path, self.erase, erase, gives=Erased, query=ERASED, scope=KeyScope.ADMIN),
            train("GET", learning, self.state, "How a model learns from feedback, and its steps", gives=LearningState),
            train("POST", learning, self.learn, order, LearnRequest, LearningState),
            train("DELETE", learning, self.stop, "Learn no more; what is at work goes on", gives=LearningState),
        ]

    async def give(self, request: Request) -> Reply:
        body = await self._bodies.read(request, DECODER)
        check_source(body)
        row, call = (
            await self._row_on_call(request, body) if body.call is not None else self._row_on_input(request, body)
        )
        added = await self._feedback.add(replace(row, key=key_of(request)))
        score = score_of(added)
        if call is not None and score is not None:
            name, _, version = added.ref.partition(":")
            self._rollouts.observe_feedback(name, int(version), score, f"{call.id}/{added.index}")
        is_own = call is None or may_see(request, call.key)  # else whose call it was is not this key's to know
        return reply(added if is_own else replace(added, user=""), CREATED)

    async def ls(self, request: Request) -> Reply:
        asked = asked_of(request)
        limit = min(asked.get("limit", 20), MOST_ROWS)
        return reply(FeedbackList(await self._feedback.find(asked.get("model", ""), user_of(asked.get("user")), limit)))

    async def erase(self, request: Request) -> Reply:
        return reply(Erased(await self._feedback.erase(named_user(asked_of(request).get("user")))))

    async def state(self, request: Request) -> Reply:
        return reply(await self._learning.state(request.path_params["name"]))

    async def learn(self, request: Request) -> Reply:
        body = await self._bodies.read(request, LEARN)
        return reply(await self._learning.order(request.path_params["name"], body.source, body.when))

    async def stop(self, request: Request) -> Reply:
        return reply(await self._learning.stop(request.path_params["name"]))

    async def _row_on_call(self, request: Request, body: FeedbackRequest) -> tuple[FeedbackRow, CallRecord | None]:
        """The row, and the call whose answer it is on."""
        if body.input is not msgspec.UNSET or body.model is not None:
            raise BadInput("`call` says which model was asked what. Leave `model` and `input` out", key="call")
        call = await self._feedback.call(str(body.call))
        if not may_use(request, call.model):
            raise no_call(call.id)
        assert call.inputs is not None
        index = body.index if body.index is not None else 0
        if body.index is None and len(call.inputs) > 1:
            raise BadInput(f"The call has {len(call.inputs)} inputs. Say which by `index`, from 0", key="index")
        if not 0 <= index < len(call.inputs):
            raise BadInput(f"index is {index}; the call has {len(call.inputs)} inputs, from 0", key="index")
        return self._row(body, call.model, call.task, call.inputs[index], call, index), call

    def _row_on_input(self, request: Request, body: FeedbackRequest) -> tuple[FeedbackRow, CallRecord | None]:
        """The row, and the newest call with this input; None if memory has none."""
        if body.model is None or body.input is msgspec.UNSET:
            raise BadInput("Send `call`, or `model` and `input`", key="call" if body.model is None else "input")
        found = self._models.get(body.model).manifest
        check_model(request, found.ref)
        call = self._feedback.answer_to(found.ref, body.input)
        row = self._row(body, found.ref, found.task, body.input, call, 0, is_call=False)
        return row, call

    def _row(
        self,
        body: FeedbackRequest,
        ref: str,
        name: str,
        given: Json,
        call: CallRecord | None,
        index: int,
        *,
        is_call: bool = True,
    ) -> FeedbackRow:
        manifest = self._models.get(ref).manifest
        checked = task(name).check(given)
        kind, value = value_of(body, manifest, texts_of(checked))
        text_id = self._feedback.text_id(texts_of(checked))
        output = None if call is None or not call.outputs or len(call.outputs) <= index else call.outputs[index]
        return FeedbackRow(
            0,
            time.time(),
            manifest.name,
            name,
            checked,
            kind,
            value,
            text_id,
            manifest.ref if call is None else call.model,
            call.id if call is not None and is_call else "",
            index,
            answer_in(output, kind),
            user_of(body.user),
            "" if call is None else call.user,
            source=body.source,
            is_held_out=is_held_out(text_id),
        )


def check_source(body: FeedbackRequest) -> None:
    """BadInput for a source that is none; OwnAnswer for a model's, by `source` or by the user's name."""
    if body.source not in SOURCES:
        raise BadInput(f"source is {body.source[:80]!r}; it must be one of {', '.join(SOURCES[:2])}", key="source")
    if body.source == MODEL or user_of(body.user).strip().casefold() == MODEL:
        raise OwnAnswer(
            "A model says so, and models do not learn from what models say here. Send what a person or an outcome says",
            key="source" if body.source == MODEL else "user",
        )


def value_of(body: FeedbackRequest, manifest: Manifest, text: str) -> tuple[str, Json]:
    """The kind and the value of what is said of this text; BadInput unless the model's task takes it."""
    given = {name: getattr(body, name) for name in ("label", "score", "text")}
    given = {name: value for name, value in given.items() if value is not msgspec.UNSET}
    kinds = KINDS.get(spec_of(manifest.task).family, ())
    if not kinds:
        raise BadInput(f"{manifest.ref} does {manifest.task}, of whose answers nothing can be said here", key="model")
    if len(given) != 1 or next(iter(given)) not in kinds:
        said = " or ".join(f"`{one}`" for one in kinds)
        raise BadInput(f"{manifest.ref} does {manifest.task}: send {said}, and nothing else of the three", key=kinds[0])
    kind, value = next(iter(given.items()))
    if kind == "score" and not LEAST_SCORE <= value <= MOST_SCORE:
        raise BadInput("score is no finite number", key="score")
    if kind != "label":
        return kind, value
    is_tagged = spec_of(manifest.task).family is Family.TAGS
    return kind, _spans(body, value, manifest, len(text)) if is_tagged else _labels(body, value, manifest)


def _spans(body: FeedbackRequest, value: Json, manifest: Manifest, length: int) -> Json:
    """The spans in their order, none for a text without any; their places are characters of the text."""
    if not isinstance(value, list) or not all(map(_is_span, value)):
        said = "label is no list of spans, each with its `start`, its `end` and its `label`"
        raise BadInput(f"{said}. A text without any has an empty list", key="label")
    spans = [{"start": one["start"], "end": one["end"], "label": one["label"].strip()} for one in value]
    spans.sort(key=lambda one: one["start"])
    before = 0
    for one in spans:
        if not before <= one["start"] < one["end"] <= length:
            said = f"the span from {one['start']} to {one['end']} is outside of the text's {length:,} characters"
            raise BadInput(f"label: {said}, empty, or overlaps another", key="label")
        before = one["end"]
    known = {name.partition("-")[2] or name for name in manifest.labels}
    _check_known(body, sorted({one["label"] for one in spans}), known, manifest.ref)
    return spans


def _is_span(one: Json) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("label"), str) or not one["label"].strip():
        return False
    places = one.get("start"), one.get("end")
    return len(one["label"]) <= MOST_TEXT and all(type(place) is int for place in places)


def _labels(body: FeedbackRequest, value: Json, manifest: Manifest) -> Json:
    """The label, or the labels in order. UnknownLabel for one that the model does not have."""
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(one, str) and one.strip() and len(one) <= MOST_TEXT for one in names):
        raise BadInput("label is no text, and no list of texts", key="label")
    names = sorted({one.strip() for one in names})
    many = bool(manifest.options.get("multi_label"))
    if len(names) != 1 and not many:
        raise BadInput(f"{manifest.ref} gives a text one label; label has {len(names)}", key="label")
    _check_known(body, names, manifest.labels, manifest.ref)
    return names if many else names[0]


def _check_known(body: FeedbackRequest, names: Sequence[str], known: Collection[str], ref: str) -> None:
    """UnknownLabel for the first that the model does not have, unless it is to learn it."""
    for one in names if known and not body.new_label else ():
        if one not in known:
            near = get_close_matches(one, known, n=NEAR, cutoff=0.4)
            raise UnknownLabel(
                f"{ref} has no label {one[:80]!r} (near: {', '.join(near) or 'none'}). Send one that it has, or "
                "`new_label: true` for one that it is to learn",
                key="label",
                value=one[:80],
                near=near,
            )
