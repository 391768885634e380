"""The OpenAPI document, made from the endpoints, and the page that shows it without external resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.json_type import Json
from llmos.abi.task import TaskSpec, all_specs, task_names
from llmos.api.endpoint import Endpoint, Media, Reply, reply
from llmos.api.errors import NO_CONTENT, STATUS
from llmos.api.processes import PID_DIGITS
from llmos.api.query import Query
from llmos.api.stream import DONE, EVENTS
from llmos.kernel.programs import declarations

MODEL = "mine"  # in examples
REF = "#/components/schemas/{name}"
PATH: dict[str, Json] = {  # all others are texts
    "pid": {"type": "integer", "minimum": 0, "maximum": 10**PID_DIGITS - 1},
}
MEANING = {
    "BadInput": "The request is wrong",
    "Unauthorized": "No key, or none that is valid; asked for once there is a key",
    "Forbidden": "The key lacks a scope or a model; or this Host, Origin or path is not allowed (detail.key is the "
    "setting that allows it)",
    "NotFound": "What the request names does not exist",
    "Conflict": "Not possible in the present state",
    "TooLong": "Too many bytes or tokens",
    "HeadTooLarge": "Too many bytes or headers before the body",
    "TooSlow": "The request came too slowly",
    "Busy": "The queue is full, or the key's limit is reached; Retry-After says when to try again",
    "Unavailable": "Not now, perhaps later",
    "TimedOut": "No answer in time",
    "NoRoom": "Not enough memory or disk",
    "LlmosError": "A bug of llmos, or damaged stored bytes",
}
SECURITY: dict[str, Json] = {  # the headers that a key may come in
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of `llmos key create`, once there is one"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key"},
}


class Refused(msgspec.Struct):
    """Why a request was refused: a message with a way out, a stable code, and figures in `detail`."""

    message: str
    type: str
    code: str
    param: str | None
    detail: dict[str, Any]


class Refusal(msgspec.Struct):
    """The format of every error."""

    error: Refused


class Schema:
    """/openapi.json and /docs."""

    def __init__(self, endpoints: Sequence[Endpoint], version: str) -> None:
        self._endpoints = (*endpoints, *self.endpoints())
        self._version = version

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/openapi.json", self.document, "This interface, as OpenAPI", scope=None),
            Endpoint("GET", "/docs", self.page, "This interface, as a page", media="text/html", scope=None),
        ]

    async def document(self, request: Request) -> Reply:
        return reply(document(self._endpoints, self._version))

    async def page(self, request: Request) -> Reply:
        return Response(files("llmos.api").joinpath("docs.html").read_bytes(), media_type="text/html; charset=utf-8")


def document(endpoints: Sequence[Endpoint], version: str) -> Json:
    """The whole OpenAPI document."""
    takes = [one.takes for one in endpoints]
    errors = [one.errors.kind for one in endpoints]
    kinds = [*takes, *(media.gives for one in endpoints for media in one.answers), *errors, Refusal]
    components = msgspec.json.schema_components([kind for kind in kinds if kind is not None], ref_template=REF)[1]
    _say_class(components)
    _list_programs(components)
    paths: dict[str, dict[str, Json]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    info = {"title": "llmos", "version": version, "description": "An operating system for language models"}
    held = {"schemas": components, "securitySchemes": SECURITY}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": held}


def _operation(endpoint: Endpoint) -> Json:
    operation: dict[str, Json] = {
        "summary": endpoint.doc,
        "tags": [endpoint.noun],
        "parameters": [*map(_in_path, re.findall(r"{(\w+)}", endpoint.path)), *map(_in_query, endpoint.query)],
        "responses": {str(endpoint.status): _content(endpoint)},
        # one of these is enough, and each names a scope that the key must have; an empty list: no key is asked for
        "security": [{scheme: [str(scope)]} for scope in endpoint.scopes for scheme in SECURITY],
    }
    refused = _schema(_refused_as(endpoint))
    for kind, status in STATUS.items():
        if kind.__name__ in MEANING:
            content = {"application/json": {"schema": refused}}
            operation["responses"][str(status)] = {"description": MEANING[kind.__name__], "content": content}
    if endpoint.takes is not None:
        content = {"application/json": {"schema": _schema(endpoint.takes), **_examples(endpoint, _example_request)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _content(endpoint: Endpoint) -> Json:
    if endpoint.status == NO_CONTENT:
        return {"description": endpoint.doc}
    content = {media.name: {"schema": _body(media, _refused_as(endpoint))} for media in endpoint.answers}
    content.get("application/json", {}).update(_examples(endpoint, _example_reply))
    return {"description": endpoint.doc, "content": content}


def _examples(endpoint: Endpoint, make: Callable[[TaskSpec], Json]) -> dict[str, Json]:
    """For a task's route, one example for each task, from its declaration."""
    if "{task}" not in endpoint.path:
        return {}
    return {"examples": {one.name: {"summary": one.about, "value": make(one)} for one in all_specs()}}


def _example_request(spec: TaskSpec) -> Json:
    return {"model": MODEL, "input": spec.example_input}


def _example_reply(spec: TaskSpec) -> Json:
    tokens = {"prompt": 8, "completion": 6 if spec.is_generative else 0}
    return {"model": f"{MODEL}:1", "task": spec.name, "outputs": [spec.example_output], "tokens": tokens, "done": True}


def _refused_as(endpoint: Endpoint) -> Any:  # Any: a type expression
    """The type of the endpoint's refusals."""
    return Refusal if endpoint.errors.kind is None else endpoint.errors.kind


def _body(media: Media, refused: Any) -> Json:  # Any: a type expression
    """The schema of a body or, for a stream, of each event (WHATWG HTML, 9.2), in OpenAPI 3.1's form."""
    if media.name != EVENTS:
        return _schema(media.gives)
    data = {"anyOf": [_schema(media.gives), _schema(refused)]}  # an error may be the last event
    said: Json = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    if media.ended:
        said = {"anyOf": [said, {"const": DONE}]}
    properties = {"event": {"type": "string"}, "id": {"type": "string"}, "data": said}
    return {"type": "object", "properties": properties, "required": ["data"]}


def _schema(kind: Any) -> Json:  # Any: a type expression
    return {} if kind is None else msgspec.json.schema_components([kind], ref_template=REF)[0][0]


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _path_schema(name)}


def _path_schema(name: str) -> Json:
    return {"type": "string", "enum": [*task_names()]} if name == "task" else PATH.get(name, {"type": "string"})


def _in_query(query: Query) -> Json:
    return {"name": query.name, "in": "query", "required": False, "schema": query.schema, "description": query.doc}


def _say_class(components: dict[str, Json]) -> None:
    """Document that a process's JSON also has its priority under the earlier name `class`."""
    properties = components["Spec"]["properties"]
    properties["class"] = properties["priority"]


def _list_programs(components: dict[str, Json]) -> None:
    """List this daemon's programs: the type is a plain text, because the set is open."""
    components["Program"] = {"title": "Program", "enum": sorted(declarations())}
    for name in ("ProcessRequest", "Spec"):
        components[name]["properties"]["program"] = {"$ref": REF.format(name="Program")}
