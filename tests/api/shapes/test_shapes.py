"""Shapes of other products: found by their files, each with routes of its own and errors that its clients read."""

from pathlib import Path

from llmos.api.call_service import CallApi, Meter
from llmos.api.endpoint import Bodies
from llmos.api.shapes import Services, shape_endpoints, shapes
from llmos.config import Config


def test_every_file_with_a_shape_brings_its_routes(kernel):
    services = Services(CallApi(kernel, Meter()), kernel, Bodies(1000), Config(Path("/nowhere")))
    found = shape_endpoints(services)
    assert {one.__module__.rpartition(".")[2] for one in shapes()} >= {"rerank"}
    assert len({(one.method, one.path) for one in found}) == len(found) > 0


def test_routes_of_shapes_are_grouped_in_the_document(ask):
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert {paths[path]["post"]["tags"][0] for path in ("/rerank", "/v1/rerank", "/v2/rerank")} == {"rerank"}
