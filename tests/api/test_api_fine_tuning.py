"""Fine-tuning jobs over HTTP, in OpenAI's shape: what becomes of a request, and what is refused by name."""

from __future__ import annotations

import asyncio
import json

import pytest

from llmos.abi.process import Progress, State

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
PREFERENCE = {"input": {"messages": CHAT["messages"][:1]}, "preferred_output": [], "non_preferred_output": []}


@pytest.fixture
def send(ask):
    """Send rows as a file; returns its id."""

    def send(*rows, name="rows.jsonl"):
        data = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows).encode()
        return ask("POST", "/v1/files", files={"file": (name, data)}, data={"purpose": "fine-tune"}).json()["id"]

    return send


@pytest.fixture
def begin(ask, send):
    """Begin a job on chats, or on other rows."""

    def begin(*rows, name="rows.jsonl", **changes):
        body = {"model": "smollm2", "training_file": send(*(rows or (CHAT,)), name=name), **changes}
        return ask("POST", "/v1/fine_tuning/jobs", json=body)

    return begin


def recipe(kernel, job):
    return kernel.processes.get(job["pid"]).spec.args


def look(kernel, job, **changes):
    """Its process changes."""

    async def act():
        kernel.fine_tuning.look(kernel.processes.get(job["pid"]))
        for _ in range(5):
            await asyncio.sleep(0.01)

    if "progress" in changes:
        kernel.processes.report_progress(job["pid"], changes["progress"])
    else:
        kernel.processes.move(job["pid"], **changes)
    asyncio.run(act())


def test_chats_become_a_training_of_chat_with_everything_left_to_it(kernel, begin):
    job = begin(seed=5, suffix="My Tone", metadata={"a": "b"}).json()
    assert {key: job[key] for key in ("object", "status", "model", "seed", "user_provided_suffix", "metadata")} == {
        "object": "fine_tuning.job",
        "status": "queued",
        "model": "smollm2",
        "seed": 5,
        "user_provided_suffix": "My Tone",
        "metadata": {"a": "b"},
    }
    auto = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert (job["hyperparameters"], job["method"]["type"]) == (auto, "supervised")
    upload = job["training_file"].replace("file-", "upload:")
    assert recipe(kernel, job) == {
        "task": "chat",
        "base": "smollm2",
        "name": "ft-smollm2-my-tone",
        "data": {"train": upload},
        "seed": 5,
    }


def test_hyperparameters_are_settings_of_the_recipe_in_either_place(kernel, begin):
    given = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    old = begin(hyperparameters=given).json()
    new = begin(method={"type": "supervised", "supervised": {"hyperparameters": given}}).json()
    for job in (old, new):
        args = recipe(kernel, job)
        assert (args["epochs"], args["batch_size"], args["rate_multiplier"]) == (2, 4, 0.5)
        assert job["hyperparameters"] == given
    assert recipe(kernel, old)["name"] != recipe(kernel, new)["name"]


@pytest.mark.parametrize("method", [None, {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3}}}])
def test_preferences_are_learned_by_dpo(kernel, begin, method):
    job = begin(PREFERENCE, **({} if method is None else {"method": method})).json()
    args = recipe(kernel, job)
    assert (args["task"], args["options"], job["method"]["type"]) == ("chat", {"objective": "dpo"}, "dpo")
    assert args.get("objective_settings") == (None if method is None else {"beta": 0.3})


@pytest.mark.parametrize(
    ("row", "name", "task"),
    [
        ({"text": "late", "label": "delivery"}, "rows.jsonl", "classify"),
        ("text,label\nlate,delivery", "rows.csv", "classify"),
        ({"prompt": "a", "completion": "b"}, "rows.jsonl", "generate"),
        ({"tokens": ["a"], "tags": ["O"]}, "rows.jsonl", "tag"),
    ],
)
def test_our_own_rows_say_their_task(kernel, begin, row, name, task):
    assert recipe(kernel, begin(row, name=name, model="minilm").json())["task"] == task


def test_a_task_may_be_named_and_rows_that_say_none_need_one(kernel, begin):
    rows = {"question": "x", "reply": "y"}
    assert begin(rows).json()["error"]["param"] == "training_file"
    assert recipe(kernel, begin(rows, task="generate").json())["task"] == "generate"


def test_a_validation_file_is_passed_on(kernel, begin, send):
    other = send(CHAT, CHAT)
    job = begin(validation_file=other).json()
    assert recipe(kernel, job)["data"]["validation"] == other.replace("file-", "upload:")
    assert begin(validation_file="file-0").status_code == 404


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"method": {"type": "dpo"}}, "method"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"integrations": [{"type": "wandb"}]}, "integrations"),
        ({"hyperparameters": {"n_epochs": 0}}, None),
        ({"hyperparameters": {"beta": 0.1}}, "method.hyperparameters.beta"),
        ({"hyperparameters": {"lora_rank": 4}}, "hyperparameters.lora_rank"),
        ({"task": "sing"}, "task"),
        ({"seed": -1}, "seed"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"colour": "red"}, "colour"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(begin, changes, param):
    answer = begin(**changes)
    assert answer.status_code == 400
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_a_base_or_a_file_that_is_not_there_is_a_404(ask, begin):
    assert begin(model="gpt-4o-mini").json()["error"]["code"] == "model_not_found"
    body = {"model": "smollm2", "training_file": "file-0"}
    assert ask("POST", "/v1/fine_tuning/jobs", json=body).status_code == 404
    assert ask("GET", "/v1/fine_tuning/jobs/ftjob-0").status_code == 404


def test_a_job_is_followed_by_its_events_to_its_model(ask, kernel, begin):
    job = begin().json()
    path = f"/v1/fine_tuning/jobs/{job['id']}"
    look(kernel, job, to=State.STARTING)
    look(kernel, job, to=State.READY)
    look(kernel, job, progress=Progress("train", 1, 2, "steps", {"loss": 0.5, "eta_s": 60.0}))
    shown = ask("GET", path).json()
    assert (shown["status"], shown["estimated_finish"] > 0, shown["fine_tuned_model"]) == ("running", True, None)
    look(kernel, job, to=State.EXITED, exit_code=0, made=("ft-smollm2-x:1",))
    shown = ask("GET", path).json()
    assert (shown["status"], shown["fine_tuned_model"], shown["error"]) == ("succeeded", "ft-smollm2-x:1", None)
    assert shown["finished_at"] is not None
    events = ask("GET", f"{path}/events").json()
    assert events["data"][0]["message"] == "The job has successfully completed"
    assert {one["object"] for one in events["data"]} == {"fine_tuning.job.event"}
    metrics = next(one for one in events["data"] if one["type"] == "metrics")
    assert (metrics["data"]["loss"], metrics["data"]["step"]) == (0.5, 1)
    page = ask("GET", f"{path}/events?limit=1").json()
    rest = ask("GET", f"{path}/events?after={page['data'][0]['id']}").json()
    assert (page["has_more"], [*page["data"], *rest["data"]]) == (True, events["data"])
    (checkpoint,) = ask("GET", f"{path}/checkpoints").json()["data"]
    assert (checkpoint["fine_tuned_model_checkpoint"], checkpoint["step_number"]) == ("ft-smollm2-x:1", 1)


def test_jobs_are_listed_cancelled_paused_and_resumed(ask, kernel, begin):
    first, second = begin().json(), begin().json()
    jobs = "/v1/fine_tuning/jobs"
    assert {one["id"] for one in ask("GET", jobs).json()["data"]} == {first["id"], second["id"]}
    assert ask("GET", f"{jobs}?limit=1").json()["has_more"] is True
    assert ask("GET", f"{jobs}/{first['id']}/checkpoints").json()["data"] == []
    assert ask("POST", f"{jobs}/{first['id']}/pause").status_code == 409
    assert ask("POST", f"{jobs}/{first['id']}/cancel").json()["status"] == "cancelled"
    assert ask("POST", f"{jobs}/{first['id']}/resume").status_code == 409
    look(kernel, second, to=State.STARTING)
    look(kernel, second, to=State.READY)
    look(kernel, second, to=State.INTERRUPTED, reason="stopped by the user")
    assert ask("GET", f"{jobs}/{second['id']}").json()["status"] == "paused"
    assert ask("POST", f"{jobs}/{second['id']}/resume").json()["status"] == "queued"
