"""Rollouts of trained heads through the real daemon: worse ones go back, better ones are promoted, answers compared."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import EXAMPLES, House, free_port, furnished, is_hit, pulled

from llmos import Client
from llmos.abi.rollout import RolloutView, Stage

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("ignore::ResourceWarning")]

MOST_CALLS = 300
COPIES = 20
Rows = list[tuple[str, str]]


def rows_of(part: str) -> Rows:
    """Texts of customers with their labels."""
    with (EXAMPLES / f"intents.{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


LABELS = dict(rows_of("test") + rows_of("validation"))  # of the texts that are asked, which no version has learned


def texts(seed: int) -> Iterator[str]:
    """Texts to ask, none again before all have been asked."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(sorted(LABELS), len(LABELS))


def up(house: House) -> None:
    started = house("up", "--set", "rollout_texts=true", "--set", "call_timeout_s=3000")
    assert started.returncode == 0, started.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, starters: Path | None) -> Iterator[House]:
    """A daemon of these tests' own, whose killing breaks no other's."""
    home = tmp_path_factory.mktemp("rollouts") / "home"
    home.mkdir()
    house = House(furnished(home, starters), free_port())
    up(house)
    yield pulled(house, "minilm")
    house("down")


@pytest.fixture(scope="module")
def versions(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Three heads on one base: a good one, an equal one that lacks a tenth of the rows, and one of shuffled labels."""
    folder, good = tmp_path_factory.mktemp("rows"), rows_of("train")
    said = [label for _, label in good]
    random.Random(5).shuffle(said)
    bad = [(text, label) for (text, _), label in zip(good, said, strict=True)]
    made: dict[str, int] = {}
    with house.client() as client:
        for kind, rows in (("good", good), ("equal", good[len(good) // 10 :]), ("bad", bad)):
            file = folder / f"{kind}.jsonl"
            file.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
            how = {"base": "minilm", "method": "head", "learning_curve": False, "epochs": 30, "wait": False}
            process = client.train("classify", data=file, name="judge", **how)
            client.nice(process.pid, "interactive")  # in the background it has no turn on a full machine
            client.wait(process.pid)
            made[kind] = max(one.version for one in client.models() if one.name == "judge")
    return made


def begin(client: Client, versions: dict[str, int], promoted: str, candidate: str, **plan: object) -> RolloutView:
    client.promote(f"judge:{versions[promoted]}")
    return client.start_rollout("judge", versions[candidate], **plan)  # type: ignore[arg-type]  # fields of a plan


def call_until_it_ends(
    house: House, asked: Iterator[str], most: int, feedback: bool = False
) -> tuple[RolloutView, list[str]]:
    """Call the name with one text after another until its rollout has ended, or so often; with the texts."""
    done: list[str] = []
    with house.client() as client:
        while not (view := client.rollout("judge")).rollout.is_ended and len(done) < most:
            done.append(next(asked))
            client.run("judge", done[-1])
            if feedback:
                client.feedback(client.last_call_id, label=LABELS[done[-1]], user=f"user {len(done)}")
    return view, done


def test_a_canary_that_learned_shuffled_labels_goes_back_over_a_kill(house: House, versions: dict[str, int]):
    asked = texts(7)
    with house.client() as client:
        begin(client, versions, "good", "bad")
        daemon = client.status().os_pid
    _, before = call_until_it_ends(house, asked, 3)
    assert is_hit(daemon)
    up(house)
    view, after = call_until_it_ends(house, asked, MOST_CALLS - len(before))
    assert view.rollout.stage is Stage.ROLLED_BACK, view
    assert view.rollout.history[-1].what == "rolled_back"
    assert "agreement" in view.rollout.history[-1].reason
    assert after, "the daemon was killed while it was under way"
    with house.client() as client:
        assert client.model("judge").version == versions["good"]


def test_an_equal_candidate_is_promoted_and_not_rolled_back(house: House, versions: dict[str, int]):
    with house.client() as client:
        begin(client, versions, "good", "equal", share=0.5, calls=30)
    view, _ = call_until_it_ends(house, texts(8), 4 * MOST_CALLS)
    assert view.rollout.stage is Stage.DONE, view
    with house.client() as client:
        assert client.model("judge").version == versions["equal"]


def test_feedback_rolls_a_worse_candidate_back(house: House, versions: dict[str, int]):
    with house.client() as client:
        begin(client, versions, "good", "bad", mode="ab", guards=["feedback>=promoted"])
    view, _ = call_until_it_ends(house, texts(9), MOST_CALLS, feedback=True)
    assert view.rollout.stage is Stage.ROLLED_BACK, view
    with house.client() as client:
        assert client.model("judge").version == versions["good"]


def test_feedback_promotes_a_better_candidate(house: House, versions: dict[str, int]):
    with house.client() as client:
        begin(client, versions, "bad", "good", steps=(0.5, 1.0), guards=["feedback>=promoted"], calls=COPIES)
    view, _ = call_until_it_ends(house, texts(10), MOST_CALLS, feedback=True)
    assert view.rollout.stage is Stage.DONE, view
    assert [note.what for note in view.rollout.history] == ["started", "step", "promoting", "promoted"]
    means = {arm: view.rollout.tallies[f"{arm}.feedback"].mean or 0.0 for arm in ("candidate", "promoted")}
    assert means["candidate"] > means["promoted"]
    with house.client() as client:
        assert client.model("judge").version == versions["good"]


def test_a_shadow_compares_each_copy_and_answers_nobody(house: House, versions: dict[str, int]):
    with house.client() as client:
        begin(client, versions, "good", "bad", mode="shadow", guards=["agreement>=0.01"], calls=COPIES)
        view, done = call_until_it_ends(house, texts(11), MOST_CALLS)
        assert view.rollout.stage is Stage.FINISHED, view
        answers = [client.run(f"judge:{versions[kind]}", done) for kind in ("good", "bad")]
        assert client.model("judge").version == versions["good"]
    differing = sum(first.label != second.label for first, second in zip(*answers, strict=True))
    compared = view.disagreements
    assert compared.pairs >= COPIES
    assert 0 < compared.differing <= differing
    assert 0 < compared.pairs - compared.differing <= len(done) - differing


def test_the_command_line_begins_shows_and_stops_a_rollout(house: House, versions: dict[str, int]):
    with house.client() as client:
        client.promote(f"judge:{versions['good']}")
    bad = house("rollout", "judge", "--candidate", str(versions["bad"]), "--guard", "errors<0.1")
    assert (bad.returncode, "cannot be read" in bad.stderr) == (2, True)
    begun = house.json("rollout", "judge", "--candidate", str(versions["equal"]), "--mode", "shadow")
    assert (begun["rollout"]["stage"], begun["rollout"]["plan"]["mode"]) == ("running", "shadow")
    assert house.json("rollout", "judge")["rollout"]["id"] == begun["rollout"]["id"]
    assert house.json("rollout", "judge", "--stop")["rollout"]["stage"] == "stopped"


def test_disagreements_are_asked_about_after_a_kill_and_go_with_their_user(
    house: House, versions: dict[str, int], tmp_path: Path
):
    asked, refused, sent = set[str](), set[str](), texts(12)
    with house.client() as client, httpx.Client(base_url=house.url, timeout=3_000) as http:
        rollout = begin(client, versions, "good", "bad", mode="shadow", guards=["agreement>=0.01"], calls=100_000)

        def kept(client: Client) -> dict[int, str]:
            every = client.disagreements("judge", limit=1_000)
            return {one.id: one.text for one in every if one.rollout == rollout.rollout.id}

        while len(before := kept(client)) < 8:
            assert len(asked) + len(refused) < len(LABELS)
            text, may_keep = next(sent), len(asked) <= 2 * len(refused)
            (asked if may_keep else refused).add(text)
            body = {"model": "judge", "input": text, "user": ("ann", "bob")[len(asked) % 2], "store": may_keep}
            assert http.post("/v1/run", json=body).status_code == 200
        daemon = client.status().os_pid
    assert is_hit(daemon)
    up(house)
    with house.client() as client:
        assert before.items() <= kept(client).items()
        assert set(kept(client).values()) <= asked
        client.stop_rollout("judge")
        every = client.disagreements("judge", limit=1_000)
        assert client.rollout("judge").disagreements.kept == len({one.text for one in every})
        first = client.dataset("judge")
        queue = client.queue_dataset("judge", base="minilm", n=1_000, disagreements="judge")
        assert {row["text"] for row in queue["rows"]} == {one.text for one in every}
        refs = {f"judge:{versions[kind]}" for kind in ("good", "bad")}
        ours = [row for row in queue["rows"] if row["text"] in set(before.values())]
        assert all(set(row["disagreement"]["answers"]) == refs for row in ours)
        said = [json.dumps({"id": row["id"], "value": LABELS[row["text"]], "by": "ada"}) for row in queue["rows"]]
        (tmp_path / "answers.jsonl").write_text("\n".join(said))
        made = client.label_dataset("judge", tmp_path / "answers.jsonl", disagreements="judge").made[-1]
        assert sum(client.dataset(made).splits.values()) == sum(first.splits.values()) + len(said)
        assert client.erase_requests("ann") >= len([one for one in every if one.user == "ann"])
        assert {one.user for one in client.disagreements("judge", limit=1_000)} <= {"", "bob"}
