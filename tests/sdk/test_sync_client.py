"""The two clients: the synchronous one is made from the other, and both have the same methods."""

import inspect
import re

import pytest

from llmos import AsyncClient, Client
from tools import sync_client


def public_methods(client: type) -> dict:
    return {name: value for name, value in vars(client).items() if inspect.isfunction(value) and name[0] != "_"}


def described(method, *, is_async: bool) -> tuple:
    """Parameters, return annotation in the synchronous client's words, and docs of a method."""
    signature = inspect.signature(method)
    returned = str(signature.return_annotation)
    if is_async:
        returned = re.sub(r"\bAsyncIterator\b", "Iterator", returned)
    return list(signature.parameters.values()), returned, method.__doc__


def test_the_synchronous_client_is_what_the_script_makes():
    made = sync_client.sync_source(sync_client.SOURCE.read_text(encoding="utf-8"))
    assert sync_client.TARGET.read_text(encoding="utf-8") == made, "run: python tools/sync_client.py"


def test_the_made_file_says_so_in_its_first_line():
    first_line = sync_client.TARGET.read_text(encoding="utf-8").splitlines()[0]
    assert "Made by tools/sync_client.py" in first_line


def test_both_clients_have_the_same_methods():
    assert list(public_methods(Client)) == list(public_methods(AsyncClient))
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
    assert Client.__doc__ == AsyncClient.__doc__


@pytest.mark.parametrize("name", sorted(public_methods(Client)))
def test_a_method_has_the_same_parameters_and_docs_in_both_clients(name):
    one, other = getattr(Client, name), getattr(AsyncClient, name)
    assert described(one, is_async=False) == described(other, is_async=True)
    assert one.__doc__, "every public method says what it does"


@pytest.mark.parametrize("name", sorted(public_methods(Client)))
def test_a_method_waits_in_one_client_alone(name):
    one, other = getattr(Client, name), getattr(AsyncClient, name)
    assert not inspect.iscoroutinefunction(one)
    assert inspect.isgeneratorfunction(one) == inspect.isasyncgenfunction(other)
    assert inspect.iscoroutinefunction(other) or inspect.isasyncgenfunction(other)


def test_words_in_strings_and_comments_stay_as_they_are():
    source = '"""One."""\n\n\nasync def ask() -> str:\n    """Do await it."""\n    return await one("await")  # async\n'
    made = sync_client.sync_source(source)
    assert 'def ask() -> str:\n    """Do await it."""\n    return one("await")  # async\n' in made
    assert "async def" not in made


def test_a_name_without_a_synchronous_twin_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"line 2: asyncio"):
        sync_client.sync_source('"""One."""\nimport asyncio\n')
