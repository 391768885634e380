"""openai, the official Python client: from a file of rows to a model that answers, and batches."""

import io
import json
import time

import openai
import pytest

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is the colour of box {i}?"},
            {"role": "assistant", "content": f"Box {i} is {('red', 'blue')[i % 2]}."},
        ]
    }
    for i in range(20)
]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.v1, api_key="none", max_retries=0, timeout=server.timeout_s) as client:
        yield client


def lines(rows):
    return io.BytesIO("".join(json.dumps(one) + "\n" for one in rows).encode())


def wait_for(server, read, ended):
    """What `read` gives, once its status is one of these; asked again and again, as scripts for OpenAI do."""
    until = time.monotonic() + server.timeout_s
    while time.monotonic() < until:
        one = read()
        if one.status in ended:
            return one
        time.sleep(0.5)
    raise AssertionError(f"{one.id} is {one.status}")


def test_a_script_goes_from_rows_to_a_model_that_answers(client, server):
    sent = client.files.create(file=("boxes.jsonl", lines(ROWS)), purpose="fine-tune")
    assert client.files.retrieve(sent.id).status == "processed"
    job = client.fine_tuning.jobs.create(
        model="smollm2",
        training_file=sent.id,
        suffix="boxes",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
    )
    assert job.status in ("queued", "running")
    ended = wait_for(server, lambda: client.fine_tuning.jobs.retrieve(job.id), ("succeeded", "failed", "cancelled"))
    assert ended.status == "succeeded", ended.error
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert any(one.type == "metrics" for one in events)
    assert next(iter(client.fine_tuning.jobs.list(limit=1))).id == job.id
    (checkpoint,) = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.fine_tuned_model_checkpoint == ended.fine_tuned_model
    made = client.chat.completions.create(
        model=ended.fine_tuned_model,
        messages=[{"role": "user", "content": "What is the colour of box 3?"}],
        max_tokens=12,
        temperature=0,
    )
    assert made.choices[0].message.content
    assert made.model == ended.fine_tuned_model


def test_a_job_is_cancelled(client):
    sent = client.files.create(file=("boxes.jsonl", lines(ROWS)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="smollm2", training_file=sent.id)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.retrieve("ftjob-nothing")


def test_a_batch_answers_every_line(client, server):
    requests = [
        {
            "custom_id": f"text-{i}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "minilm", "input": f"text {i}"},
        }
        for i in range(30)
    ]
    sent = client.files.create(file=("in.jsonl", lines(requests)), purpose="batch")
    batch = client.batches.create(input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h")
    ended = wait_for(server, lambda: client.batches.retrieve(batch.id), ("completed", "failed", "expired"))
    assert (ended.status, ended.request_counts.completed) == ("completed", 30)
    answers = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in answers] == [one["custom_id"] for one in requests]
    assert all(len(one["response"]["body"]["data"][0]["embedding"]) == 384 for one in answers)
    assert batch.id in [one.id for one in client.batches.list()]
    assert client.files.delete(ended.output_file_id).deleted is True
