"""The two clients: the synchronous one is made from the other, and both have the same methods."""

import inspect
import re

import pytest

from llmos import AsyncClient, Client
from tools import sync_client

FIRST_LINE = '"""One."""'


def public_methods(client: type) -> dict:
    return {name: value for name, value in inspect.getmembers(client, inspect.isfunction) if name[0] != "_"}


def described(method, *, is_async: bool) -> tuple:
    """Parameters, return annotation in the synchronous client's words, and docs of a method."""
    signature = inspect.signature(method)
    returned = str(signature.return_annotation)
    if is_async:
        returned = re.sub(r"\bAsyncIterator\b", "Iterator", returned)
    return list(signature.parameters.values()), returned, method.__doc__


@pytest.mark.parametrize("source", sync_client.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_synchronous_file_is_what_the_script_makes_and_says_so(source):
    made = sync_client.files()[source].read_text(encoding="utf-8")
    assert made == sync_client.made_from(source), "run: python tools/sync_client.py"
    assert "Made by tools/sync_client.py" in made.splitlines()[0]


def test_no_synchronous_file_is_left_whose_source_is_gone():
    assert set(sync_client.MADE_PARTS.glob("*.py")) <= set(sync_client.files().values())


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
    made = sync_client.sync_source(source, FIRST_LINE)
    assert 'def ask() -> str:\n    """Do await it."""\n    return one("await")  # async\n' in made
    assert "async def" not in made


def test_a_name_without_a_synchronous_twin_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"line 2: asyncio"):
        sync_client.sync_source('"""One."""\nimport asyncio\n', FIRST_LINE)
