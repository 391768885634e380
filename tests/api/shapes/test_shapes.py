"""Shapes of other products: found by their files, each with routes of its own and errors that its clients read."""

from pathlib import Path

import pytest

from llmos.api.call_service import CallApi, Meter
from llmos.api.endpoint import Bodies
from llmos.api.shapes import Services, shape_endpoints, shapes
from llmos.config import Config


def test_every_file_with_a_shape_brings_its_routes(kernel):
    services = Services(CallApi(kernel, Meter()), kernel, Bodies(1000), Config(Path("/nowhere")))
    found = shape_endpoints(services)
    assert {one.__module__.rpartition(".")[2] for one in shapes()} >= {"rerank"}
    assert len({(one.method, one.path) for one in found}) == len(found) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/api/pull", 404), ("GET", "/api/chat", 405), ("POST", "/tei/minilm/decode", 404)],
)
def test_a_route_that_is_not_there_is_refused_as_its_neighbours_refuse(ask, method, path, status):
    refused = ask(method, path)
    assert refused.status_code == status
    assert path in refused.json()["error"]  # a sentence, where ours is an object


def test_a_folder_with_routes_of_several_products_has_our_errors(ask):
    assert ask("POST", "/v1/nothing").json()["error"]["code"] == "not_found"


def test_routes_of_shapes_are_grouped_in_the_document(ask):
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert {paths[path]["post"]["tags"][0] for path in ("/rerank", "/v1/rerank", "/v2/rerank")} == {"rerank"}
