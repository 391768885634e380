"""Addresses of foreign models: how they are named, and what is none."""

from __future__ import annotations

import pytest

from llmos.abi.endpoint import EndpointAddress, endpoint_in, is_address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://models.example:8000/v1#large", "models.example:8000"),
        ("https://models.example/v1/#large", "models.example:443"),
        ("http://models.example/v1#maker/large:2", "models.example:80"),
    ],
)
def test_an_address_has_a_server_and_a_model(text: str, host: str) -> None:
    found = endpoint_in(text)
    assert isinstance(found, EndpointAddress)
    assert found.host == host
    assert found.url.endswith("/v1")
    assert endpoint_in(found.ref) == found
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    ["http://models.example/v1", "http://me:word@models.example/v1#m", "http://m.example/v1?key=1#m", "ftp://m#m"],
)
def test_what_lacks_a_model_or_has_a_secret_is_none(text: str) -> None:
    assert endpoint_in(text) is None


@pytest.mark.parametrize("text", ["big", "big:3", "https", "httpmodel:1"])
def test_a_name_of_the_store_is_no_address(text: str) -> None:
    assert not is_address(text)
    assert endpoint_in(text) is None
