"""Learning from a teacher that answers in words: behind an address or in the store; labels, and whole texts."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tiny_training
from test_distilling import located, run

from llmos.abi.error import BadInput, Forbidden
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.testing.chat_server import Answer, ChatServer, chat_server, completion
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch

KEY = "key-of-the-test"
HOW: dict[str, Json] = {"learning_curve": False, "epochs": 6.0}
MEANS = {"apple": "fruit", "pear": "fruit", "plum": "fruit", "iron": "metal", "zinc": "metal", "gold": "metal"}


def said(body: Json) -> str:
    return str(body["messages"][-1]["content"])


def meant(body: Json) -> str:
    return next((sense for word, sense in MEANS.items() if word in said(body)), "animal")


def label_server(body: Json) -> tuple[int, Json]:
    return (200, completion("I cannot say")) if "odd" in said(body) else (200, completion(meant(body)))


def bare(folder: Path, rows: int = 24, *, odd: int = 2) -> str:
    chance = random.Random(5)
    lines = [f"{chance.choice(sorted(MEANS))} more {i}" for i in range(rows)] + [f"odd {i}" for i in range(odd)]
    path = folder / "bare.txt"
    path.write_text("\n".join(lines))
    return str(path)


@contextmanager
def taught(folder: Path, answer: Answer, task: str = "classify", **more: Json) -> Iterator[tuple[Job, ChatServer]]:
    """A job whose teacher is behind the address of a server of this test."""
    with chat_server(answer) as server:
        rows = tiny_training.sorting(folder) if task == "classify" else writing(folder, task)
        recipe = {
            "task": task,
            "data": {"train": str(rows), "unlabelled": bare(folder)},
            "teacher": f"{server.url}#big",
            "endpoint_hosts": [urlsplit(server.url).netloc],
            "asked": str(folder / "asked"),
            "api_key": KEY,
            **HOW,
            **more,
        }
        base = tiny_training.base(folder, "bert" if task == "classify" else "llama")
        yield tiny_training.assignment(folder, recipe, base=base), server


def writing(folder: Path, task: str, rows: int = 60) -> Path:
    chance, made = random.Random(3), []
    for i in range(rows):
        word = chance.choice(sorted(MEANS))
        asked, answer = f"{word} {i}:", MEANS[word]
        if task == "chat":
            made.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
        else:
            first, second = {"generate": ("prompt", "completion"), "summarize": ("text", "summary")}.get(
                task, ("source", "target")
            )
            made.append({first: asked, second: answer})
    path = folder / f"{task}.jsonl"
    path.write_text("\n".join(map(json.dumps, made)))
    return path


def test_rows_get_labels_from_an_address_and_what_is_no_label_is_counted(tmp_path: Path) -> None:
    with taught(tmp_path, label_server) as (job, server):
        daemon = run(job)
    evidence = daemon.offers[-1].draft["evidence"]
    found = evidence["distillation"]
    assert (found["asked"], found["refused"], found["unlabelled"]) == (26, 2, 24)
    assert found["theirs"] == 1.0
    assert found["low"] <= found["ours"] - found["theirs"] <= found["high"]
    assert found["rows"] == evidence["rows"]["test"]
    assert found["speed"]["teacher_seconds"] > 0
    assert found["speed"]["student"]["rows"] > 0
    assert {key for key, _ in server.requests} == {f"Bearer {KEY}"}
    first = server.requests[0][1]
    assert (first["model"], first["structured_outputs"]) == ("big", {"choice": ["animal", "fruit", "metal"]})
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    (said_early,) = (one.message for one in daemon.progress if one.phase == "teach" and one.message)
    tested = evidence["rows"]["test"]
    assert f"24 of 26 rows a label, and is right on {tested} of {tested} test rows" in said_early
    page = (Path(daemon.offers[-1].folder) / "report.html").read_text()
    assert "2 of 26 answers were left out" in page


def test_a_run_that_goes_on_asks_for_what_was_not_answered_alone(tmp_path: Path) -> None:
    def fails_later(body: Json) -> tuple[int, Json]:
        return (403, {}) if len(server.requests) > 12 else label_server(body)

    with taught(tmp_path, lambda body: fails_later(body)) as (job, server), pytest.raises(Forbidden):
        run(job)
    kept = sum(line != b"" for path in (tmp_path / "asked").iterdir() for line in path.read_bytes().split(b"\n"))
    assert 0 < kept <= 12


def test_a_second_run_asks_nothing_again(tmp_path: Path) -> None:
    with taught(tmp_path, label_server, epochs=1.0) as (job, server):
        run(job)
        asked = len(server.requests)
        again = run(job)
        assert len(server.requests) == asked
    assert again.offers[-1].draft["evidence"]["distillation"]["asked"] == 26


def test_a_server_that_scores_its_tokens_gives_soft_labels(tmp_path: Path) -> None:
    from llmos.abi.recipe import recipe_of
    from llmos.data.dataset import gather
    from llmos.programs.endpoint_teacher import ask_for_labels
    from llmos.testing.daemon import beside

    def scored(body: Json) -> tuple[int, Json]:
        tops = [{"token": label, "logprob": math.log(p)} for label, p in (("fruit", 0.7), ("metal", 0.2))]
        whole = completion("fruit", math.log(0.7))
        whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = tops
        return 200, whole

    with taught(tmp_path, scored) as (job, _):
        machine = {"endpoint_hosts", "asked", "api_key"}
        recipe = recipe_of({key: value for key, value in job.args.items() if key not in machine})
        _, channel, close = beside()
        try:
            lessons = ask_for_labels(channel, job, recipe, gather(recipe.data, "classify", {}, {}))
        finally:
            close()
    shares = lessons.bare[0].softmax(-1)[0].tolist()
    assert shares == pytest.approx([0.0, 7 / 9, 2 / 9], abs=1e-4)
    assert lessons.told is not None
    assert lessons.train[0].isnan().all()


def test_a_row_that_the_server_refuses_is_left_out_and_changes_no_other(tmp_path: Path) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        return (400, {"error": "too long"}) if "odd" in said(body) else label_server(body)

    with taught(tmp_path, answer, epochs=0.5) as (job, server):
        daemon = run(job)
        sent = len(server.requests)
        run(job)  # as one that goes on
        assert len(server.requests) == sent
    evidence = daemon.offers[-1].draft["evidence"]
    assert (evidence["distillation"]["refused"], evidence["distillation"]["unlabelled"]) == (2, 24)
    asked = [body for _, body in server.requests if "odd" not in said(body)]
    assert len(asked) == 24 + evidence["rows"]["test"]
    assert all("structured_outputs" in body for body in asked)


def test_requests_that_only_a_later_form_is_right_for_change_no_other(tmp_path: Path) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        if "odd" in said(body):
            return (400, {"error": "too long"}) if "structured_outputs" in body else (200, completion("animal"))
        return label_server(body)

    with taught(tmp_path, answer, epochs=0.5) as (job, server):
        daemon = run(job)
    evidence = daemon.offers[-1].draft["evidence"]
    assert evidence["distillation"]["refused"] == 0
    asked = [body for _, body in server.requests if "odd" not in said(body)]
    assert len(asked) == 24 + evidence["rows"]["test"]
    assert all("structured_outputs" in body for body in asked)


@pytest.mark.parametrize("lacks", ["structured_outputs", "response_format", "logprobs"])
def test_a_server_that_lacks_a_field_is_asked_in_another_form(tmp_path: Path, lacks: str) -> None:
    order = ["structured_outputs", "response_format", "logprobs"]
    gone = order[: order.index(lacks) + 1]

    def answer(body: Json) -> tuple[int, Json]:
        return (400, {"error": "unknown field"}) if set(gone) & body.keys() else label_server(body)

    with taught(tmp_path, answer, epochs=0.5) as (job, server):
        daemon = run(job)
    evidence = daemon.offers[-1].draft["evidence"]
    assert evidence["distillation"]["refused"] == 2
    assert sum(not set(gone) & body.keys() for _, body in server.requests) == 26 + evidence["rows"]["test"]


def test_what_cannot_teach_says_why(tmp_path: Path) -> None:
    def lacking(body: Json) -> tuple[int, Json]:
        return 404, {"error": "no such model"}

    def talking(body: Json) -> tuple[int, Json]:
        return 200, completion("who knows")

    with taught(tmp_path, lacking) as (job, server), fails_with(BadInput, status=404, url=server.url):
        run(job)
    with taught(tmp_path, talking) as (job, _), fails_with(BadInput, key="teacher", rows=26):
        run(job)
    with taught(tmp_path, label_server, endpoint_hosts=[]) as (job, _), fails_with(Forbidden, key="endpoint_hosts"):
        run(job)
    alone = {"train": str(tiny_training.sorting(tmp_path))}
    with taught(tmp_path, label_server, data=alone) as (job, _), fails_with(BadInput, key="data.unlabelled"):
        run(job)


@pytest.mark.parametrize("task", ["generate", "chat", "summarize", "translate"])
def test_targets_are_written_behind_an_address(tmp_path: Path, task: str) -> None:
    def answer(body: Json) -> tuple[int, Json]:
        if "odd" not in said(body):
            return 200, completion(meant(body))
        whole = completion("cut in the mid")
        whole["choices"][0]["finish_reason"] = "length"
        return 200, whole

    options: dict[str, Json] = {"answered_rows": 4, **({"target_language": "Senses"} if task == "translate" else {})}
    more = {"method": "lora", "epochs": 1.0, "options": options}
    with taught(tmp_path, answer, task, **more) as (job, server):
        daemon = run(job)
    draft = daemon.offers[-1].draft
    found = draft["evidence"]["distillation"]
    assert (found["asked"], found["refused"], found["unlabelled"]) == (26, 2, 24)
    assert draft["evidence"]["rows"]["train"] == found["labelled"] + 24
    assert found["metric"] == {"summarize": "rouge_l", "translate": "chrf"}.get(task, "f1")
    assert found["theirs"] == pytest.approx(1.0)
    assert found["rows"] == 4
    assert len(server.requests) == 26 + 4
    assert found["speed"]["student"]["tokens"] > 0
    assert "answers left out" in found["summary"]


def test_a_model_of_the_store_writes_the_targets_and_is_not_asked_again(tmp_path: Path) -> None:
    base = tiny_training.base(tmp_path, "llama")
    options = {"answered_rows": 4}
    rows = str(writing(tmp_path, "generate", 120))
    recipe = {"task": "generate", "data": {"train": rows}, "options": options, "learning_rate": 5e-3}
    big = run(tiny_training.assignment(tmp_path, recipe | {"epochs": 12.0, "learning_curve": False}, base=base))
    teacher = located(big.offers[-1], base)
    (tmp_path / "small").mkdir()
    told = {"data": {"train": rows, "unlabelled": bare(tmp_path, odd=0)}, "teacher": "sorter:1", "method": "lora"}
    job = tiny_training.assignment(tmp_path / "small", recipe | told | {"epochs": 1.0}, base=base, teacher=teacher)
    daemon = run(job)
    found = daemon.offers[-1].draft["evidence"]["distillation"]
    assert (found["teacher"], found["asked"]) == (
        "sorter:1",
        len(set(Path(bare(tmp_path, odd=0)).read_text().split("\n"))),
    )
    assert found["speed"]["teacher"]["tokens"] > 0
    kept = (Path(job.scratch) / "written.jsonl").read_bytes()
    run(job)
    assert (Path(job.scratch) / "written.jsonl").read_bytes() == kept
