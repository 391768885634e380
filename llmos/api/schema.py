"""The OpenAPI document, made from the endpoints, and the page that shows it without fetching anything else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos.api.endpoint import Answer, Endpoint, Query, reply
from llmos.api.errors import CREATED, STATUS

Json = Any  # Any: a piece of a JSON schema

REF = "#/components/schemas/{name}"
MEANING = {
    "BadInput": "The request is wrong",
    "Forbidden": "The box is not open to this Host, Origin or path; detail.key is the setting that opens it",
    "NotFound": "What it names is not there",
    "Conflict": "Not in the present state",
    "TooLong": "Too many bytes or tokens",
    "Busy": "Too many calls wait; Retry-After says when to try again",
    "Unavailable": "Not now; later may work",
    "TimedOut": "The answer was not there in time",
    "NoRoom": "Not enough memory or disk",
    "LlmosError": "The daemon's own mistake",
}


class Refused(msgspec.Struct):
    """Why a request was refused: a sentence with a way out, a stable code, and figures."""

    message: str
    type: str
    code: str
    param: str | None
    detail: dict[str, Any]


class Refusal(msgspec.Struct):
    """Every error has this shape."""

    error: Refused


class Schema:
    """/openapi.json and /docs."""

    def __init__(self, endpoints: Sequence[Endpoint], version: str) -> None:
        self._endpoints = (*endpoints, *self.endpoints())
        self._version = version

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/openapi.json", self.document, "This interface, as OpenAPI"),
            Endpoint("GET", "/docs", self.page, "This interface, as a page", media="text/html"),
        ]

    async def document(self, request: Request) -> Answer:
        return reply(document(self._endpoints, self._version))

    async def page(self, request: Request) -> Answer:
        return Response(files("llmos.api").joinpath("docs.html").read_bytes(), media_type="text/html; charset=utf-8")


def document(endpoints: Sequence[Endpoint], version: str) -> Json:
    """The whole OpenAPI document."""
    kinds = [kind for one in endpoints for kind in (one.takes, one.gives) if kind is not None]
    _, components = msgspec.json.schema_components([*kinds, Refusal], ref_template=REF)
    _say_class(components)
    paths: dict[str, dict[str, Json]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    info = {"title": "llmos", "version": version, "description": "An operating system for language models"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}}


def _operation(endpoint: Endpoint) -> Json:
    path = [Query(name, "") for name in re.findall(r"{(\w+)}", endpoint.path)]
    operation: dict[str, Json] = {
        "summary": endpoint.doc,
        "tags": [endpoint.noun],
        "parameters": [_parameter(q, "path") for q in path] + [_parameter(q, "query") for q in endpoint.query],
        "responses": {str(CREATED if _creates(endpoint) else 200): _content(endpoint.doc, endpoint)},
    }
    for kind, status in STATUS.items():
        if kind.__name__ in MEANING:
            operation["responses"][str(status)] = {
                "description": MEANING[kind.__name__],
                "content": {"application/json": {"schema": {"$ref": REF.format(name="Refusal")}}},
            }
    if endpoint.takes is not None:
        schema = {"$ref": REF.format(name=endpoint.takes.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _creates(endpoint: Endpoint) -> bool:
    return endpoint.path in ("/v1/processes", "/v1/models/pull") and endpoint.method == "POST"


def _content(doc: str, endpoint: Endpoint) -> Json:
    schema = {} if endpoint.gives is None else {"$ref": REF.format(name=endpoint.gives.__name__)}
    return {"description": doc, "content": {endpoint.media: {"schema": schema}}}


def _parameter(query: Query, where: str) -> Json:
    described = {"description": query.doc} if query.doc else {}
    return {"name": query.name, "in": where, "required": where == "path", "schema": {"type": query.kind}, **described}


def _say_class(components: dict[str, Json]) -> None:
    """A process's class is `class` in JSON; `klass` is only Python's spelling of it."""
    properties = components["Spec"]["properties"]
    properties["class"] = properties.pop("klass")
