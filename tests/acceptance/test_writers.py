"""A model that writes, trained on a handful of rows through the real daemon: promoted, and asked over HTTP."""

import json

import httpx
import pytest

pytestmark = pytest.mark.acceptance

TEAMS = {
    "parcel": "delivery",
    "courier": "delivery",
    "invoice": "billing",
    "payment": "billing",
    "password": "access",
    "login": "access",
}
TAUGHT = ("My {} has a problem.", "Please look at the {}.", "What about my {}?", "It is the {} again!")
HELD_OUT = "I am writing about the {}."
SETTINGS = ("--epochs", "5", "--batch-size", "8", "--learning-rate", "2e-3", "--seed", "7")
ROOM = ("--set", "token_budget=256")  # more than a step of these rows has, and less memory than is leased by default


def prompt(words, thing):
    return f"{words.format(thing)}\nTeam:"


def rows(path, *phrases):
    some = [
        {"prompt": prompt(words, thing), "completion": f" {team}"} for words in phrases for thing, team in TEAMS.items()
    ]
    path.write_text("\n".join(map(json.dumps, some)))
    return str(path)


def said(house, model, thing):
    body = {"model": model, "input": {"prompt": prompt(HELD_OUT, thing)}, "params": {"temperature": 0, "max_tokens": 6}}
    answer = httpx.post(f"{house.url}/v1/tasks/generate", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    return output["text"], output["finish_reason"]


def test_a_writer_learns_answers_from_a_few_rows_and_gives_them_over_http(smollm2, tmp_path):
    train, test = rows(tmp_path / "train.jsonl", *TAUGHT), rows(tmp_path / "test.jsonl", HELD_OUT)
    files = ("--data", train, "--validation", test, "--test", test)
    done = smollm2("train", "generate", *files, "--name", "desk", "--method", "lora", *SETTINGS, *ROOM)
    assert done.returncode == 0, done.stderr
    assert "desk:1 is promoted" in done.stdout
    metrics = smollm2.json("show", "desk")["evidence"]["metrics"]
    assert metrics["exact_match"] == 1.0
    assert metrics["likelihood"] > 0.8
    assert {thing: said(smollm2, "desk", thing) for thing in TEAMS} == {
        thing: (f" {team}", "stop") for thing, team in TEAMS.items()
    }
    assert said(smollm2, "smollm2", "courier")[0] != " delivery"  # of the same process, which has not learnt it
