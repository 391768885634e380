"""A model behind an address as a voter: what is sent, asked again, kept, and refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmos.abi.error import BadInput, Forbidden, Offline
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.data.datasets.stored_row import StoredRow
from llmos.data.row import LabelRow
from llmos.data.weak_labels.reading import read_rules
from llmos.data.weak_labels.rules import EndpointRule
from llmos.programs.endpoint_client import EndpointAnswer, KeptAnswers
from llmos.programs.endpoint_voter import EndpointVoter, endpoint_voter
from llmos.testing.chat_server import Answer, ChatServer, chat_server, completion
from llmos.testing.daemon import beside
from llmos.testing.errors import fails_with

NUMBERS = {"sports": 0, "business": 1}
KEY = "key-of-the-test"


def rows(*texts: str) -> list[StoredRow[Any]]:
    return [StoredRow(f"{at:016x}", LabelRow({"text": text}, (), "f", at)) for at, text in enumerate(texts)]


def rule(url: str, least: float = 0.0) -> EndpointRule:
    text = f"rules:\n  - endpoint: '{url}#big'\n    labels: {{sports: games, business: markets}}\n    least: {least}\n"
    (one,) = read_rules(text, "rules.yaml").rules
    assert isinstance(one, EndpointRule)
    return one


@contextmanager
def voting(folder: Path, answer: Answer, **args: Json) -> Iterator[tuple[EndpointVoter, ChatServer]]:
    _, channel, close = beside()
    with chat_server(answer) as server:
        one = rule(server.url, float(args.pop("least", 0.0)))
        given = {"endpoint_hosts": [one.address.host], "api_key": KEY, "asked": str(folder / "asked"), **args}
        voter = endpoint_voter(channel, Job(1, "", given, str(folder)), one, NUMBERS, "rules.yaml, line 2")
        voter.client.first_wait_s = 0.0
        try:
            with voter.client:
                yield voter, server
        finally:
            close()


def last_text(body: Json) -> str:
    return str(body["messages"][-1]["content"])


def label_of(body: Json) -> tuple[int, Json]:
    return 200, completion("Sports." if "ball" in last_text(body) else "business")


def test_answers_are_labels_in_any_case_and_others_abstain(tmp_path: Path) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        return (200, completion("I cannot say")) if "odd" in last_text(body) else label_of(body)

    with voting(tmp_path, answer) as (voter, server):
        assert voter.votes(rows("a ball", "a bank", "odd")) == [0, 1, -1]
    key, body = server.requests[0]
    assert key == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("big", 0)
    assert "sports: games" in body["messages"][0]["content"]


def test_an_answer_that_the_model_is_not_sure_of_abstains(tmp_path: Path) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        return 200, completion("sports", -0.1, -0.1) if "ball" in last_text(body) else completion("sports", -1.0)

    with voting(tmp_path, answer, least=0.5) as (voter, _):
        assert voter.votes(rows("a ball", "a bank")) == [0, -1]


def test_a_passing_failure_is_asked_again_and_at_most_four_at_a_time(tmp_path: Path) -> None:
    counts: dict[str, int] = {}
    lock, now, most = threading.Lock(), 0, 0

    def answer(body: Json) -> tuple[int, Json]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            text = last_text(body)
            counts[text] = counts.get(text, 0) + 1
            is_first = counts[text] == 1
        with lock:
            now -= 1
        return (503, {}) if is_first else label_of(body)

    with voting(tmp_path, answer) as (voter, _):
        assert voter.votes(rows(*(f"ball {at}" for at in range(12)))) == [0] * 12
        assert voter.client.asked == 24
    assert most <= 4


def test_what_was_answered_is_not_asked_again_by_the_next_run(tmp_path: Path) -> None:
    with chat_server(label_of) as server:
        one = rule(server.url)
        args = {"endpoint_hosts": [one.address.host], "asked": str(tmp_path / "asked")}
        asked = []
        for texts in (("a ball", "a bank"), ("a ball", "a bank", "a third")):
            _, channel, close = beside()
            voter = endpoint_voter(channel, Job(1, "", args, str(tmp_path)), one, NUMBERS, "here")
            with voter.client:
                assert voter.votes(rows(*texts))[:2] == [0, 1]
            asked.append(voter.client.asked)
            close()
    assert asked == [2, 1]
    (file,) = (tmp_path / "asked").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"ball" not in file.read_bytes()


def test_a_line_that_was_torn_by_a_kill_is_asked_again_and_spoils_no_other(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path / "answers.jsonl")
    kept.add("one", EndpointAnswer("sports", None))
    with kept.path.open("ab") as out:
        out.write(b'\n["two", "busin')
    kept.add("three", EndpointAnswer("business", 0.5))
    again = KeptAnswers(kept.path)
    again.read()
    assert again.by_digest == {"one": EndpointAnswer("sports", None), "three": EndpointAnswer("business", 0.5)}


@pytest.mark.parametrize(("status", "kind"), [(401, Forbidden), (404, BadInput), (302, BadInput), (503, Offline)])
def test_what_a_server_refuses_for_good_is_an_error(tmp_path: Path, status: int, kind: type[Exception]) -> None:
    with voting(tmp_path, lambda body: (status, {})) as (voter, _), pytest.raises(kind):
        voter.votes(rows("a ball"))


def test_a_server_that_is_not_there_is_offline(tmp_path: Path) -> None:
    with voting(tmp_path, label_of) as (voter, _):
        voter.client.endpoint = rule("http://127.0.0.1:9/v1").address
        with pytest.raises(Offline) as caught:
            voter.votes(rows("a ball"))
    assert caught.value.detail["url"] == "http://127.0.0.1:9/v1"


def test_an_answer_that_is_no_completion_says_so(tmp_path: Path) -> None:
    with voting(tmp_path, lambda body: (200, {"hello": 1})) as (voter, _), pytest.raises(BadInput):
        voter.votes(rows("a ball"))


def test_rows_go_to_no_server_that_the_owner_has_not_named(tmp_path: Path) -> None:
    _, channel, close = beside()
    job = Job(1, "", {"endpoint_hosts": ["127.0.0.1:80"]}, str(tmp_path))
    try:
        with fails_with(Forbidden, key="endpoint_hosts", value="example.org:443"):
            endpoint_voter(channel, job, rule("https://example.org/v1"), NUMBERS, "here")
    finally:
        close()
