"""Every route names the scope of a key that it asks for, and the document says it."""

import pytest

from llmos.abi.key import ALL_SCOPES, KeyScope
from llmos.api.endpoint import Endpoint, reply

OPEN = {  # what anyone may read, without any key
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/infinity/health"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("OPTIONS", "/v1/uploads"),
}


@pytest.fixture
def operations(ask):
    document = ask("GET", "/openapi.json").json()
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_of_the_document_names_its_scopes(operations):
    known = {str(scope) for scope in ALL_SCOPES}
    for route, operation in operations.items():
        named = {scope for one in operation["security"] for scopes in one.values() for scope in scopes}
        assert named <= known, route
        assert bool(named) == (route not in OPEN), route


def test_no_route_that_changes_anything_is_open():
    assert {method for method, _ in OPEN} <= {"GET", "OPTIONS"}


def test_a_key_may_come_in_either_header_that_the_document_names(ask, operations):
    schemes = ask("GET", "/openapi.json").json()["components"]["securitySchemes"]
    assert {(one["type"], one.get("scheme", one.get("name"))) for one in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "x-api-key"),
    }
    for route, operation in operations.items():
        assert {scheme for one in operation["security"] for scheme in one} == (
            set() if route in OPEN else schemes.keys()
        )


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        (("POST", "/v1/tasks/{task}"), KeyScope.INFER),
        (("POST", "/v1/chat/completions"), KeyScope.INFER),
        (("POST", "/v1/embeddings"), KeyScope.INFER),
        (("POST", "/v1/processes"), KeyScope.TRAIN),
        (("POST", "/v1/datasets"), KeyScope.DATA),
        (("POST", "/v1/uploads"), KeyScope.DATA),
        (("POST", "/v1/models/{ref}/promote"), KeyScope.MODELS),
        (("POST", "/v1/models/{name}/gate"), KeyScope.MODELS),
        (("GET", "/metrics"), KeyScope.MONITOR),
        (("POST", "/v1/gc"), KeyScope.ADMIN),
    ],
)
def test_what_a_route_asks_for(operations, route, scope):
    assert operations[route]["security"][0] == {"bearer": [str(scope)]}


def test_an_endpoint_cannot_be_made_without_saying_its_scope():
    async def handle(request):
        return reply({})

    with pytest.raises(TypeError):
        Endpoint("GET", "/v1/new", handle, "A new route")
