"""Tasks over HTTP: outputs in order, vectors in both encodings, streams, and clients that leave."""

import asyncio
import base64
import struct

import pytest

from llmos.abi.error import Busy
from llmos.abi.process import Progress, Spec, State
from llmos.api.tasks import floats


def test_several_inputs_are_answered_in_order_by_the_promoted_version(ask):
    body = {"model": "support", "inputs": ["where is it", {"text": "too dear"}]}
    answer = ask("POST", "/v1/tasks/classify", body).json()
    assert (answer["model"], answer["task"], len(answer["outputs"])) == ("support:2", "classify", 2)
    alone = ask("POST", "/v1/tasks/classify", {"model": "support:2", "input": "too dear"}).json()
    assert alone["outputs"] == answer["outputs"][1:]
    assert answer["tokens"]["prompt"] > 0


def test_a_model_asked_without_a_task_does_its_own(ask):
    body = {"model": "ner", "input": "Ada met Charles in London"}
    assert ask("POST", "/v1/run", body).json() == ask("POST", "/v1/tasks/tag", body).json()
    assert ask("POST", "/v1/run", {"model": "nobody", "input": "a"}).json()["error"]["code"] == "model_not_found"
    refused = ask("POST", "/v1/run", body | {"params": {"top_k": 1}}).json()["error"]
    assert (refused["code"], "tag" in refused["message"]) == ("bad_input", True)


def test_a_tagger_gives_spans_that_lie_where_they_say(ask):
    text = "Ada Lovelace met Charles Babbage in London"
    (output,) = ask("POST", "/v1/tasks/tag", {"model": "ner", "input": text}).json()["outputs"]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in output["spans"])


def test_a_vector_is_the_same_as_numbers_and_as_base64(ask):
    as_numbers, as_text = (
        ask("POST", "/v1/tasks/embed", {"model": "minilm", "input": "hello", "params": params}).json()["outputs"][0]
        for params in ({}, {"encoding": "base64"})
    )
    data = base64.b64decode(as_text["vector"])
    assert as_numbers["vector"] == pytest.approx(struct.unpack(f"<{as_text['dim']}f", data), abs=0)
    assert as_numbers["dim"] == len(as_numbers["vector"])


def test_a_base_that_embeds_ranks_documents_and_compares_texts(ask):
    asked = {"query": "hello", "documents": ["bye", "hello"]}
    body = {"model": "minilm", "input": asked, "params": {"return_documents": True}}
    (ranking,) = ask("POST", "/v1/tasks/rerank", body).json()["outputs"]
    assert ranking[0] == {"index": 1, "score": 1.0, "document": "hello"}
    body = {"model": "minilm", "inputs": [{"text": "a", "other": "a"}]}
    assert ask("POST", "/v1/tasks/similarity", body).json()["outputs"] == [{"score": 1.0}]
    assert ask("POST", "/v1/tasks/rerank", {"model": "minilm", "input": "hello"}).status_code == 400


def test_floats_reads_little_endian_float32():
    assert floats(struct.pack("<3f", 0.5, -2, 1e30)) == struct.unpack("<3f", struct.pack("<3f", 0.5, -2, 1e30))


def test_an_unknown_encoding_is_refused(ask):
    body = {"model": "minilm", "input": "hello", "params": {"encoding": "int8"}}
    assert ask("POST", "/v1/tasks/embed", body).status_code == 400


def test_a_stream_says_piece_by_piece_what_the_whole_answer_says(ask, events):
    body = {"model": "smollm2", "input": {"messages": [{"role": "user", "content": "hi"}]}}
    whole = ask("POST", "/v1/tasks/chat", body).json()["outputs"][0]["message"]["content"]
    pieces = events(ask("POST", "/v1/tasks/chat", {**body, "stream": True}))
    assert "".join(piece["outputs"][0]["message"]["content"] for piece in pieces) == whole
    assert [piece["done"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_a_stream_that_is_refused_has_the_status_of_its_error(ask):
    body = {"model": "smollm2", "input": {"messages": []}, "stream": True}
    assert ask("POST", "/v1/tasks/chat", body).status_code == 400


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_takes_its_call_back(kernel, leave, stream):
    body = {"model": "smollm2", "input": {"messages": [{"role": "user", "content": "hi"}]}, "stream": stream}

    async def go():
        kernel.calls.gate = asyncio.Event()
        await leave(kernel, "POST", "/v1/tasks/chat", body, lambda: kernel.calls.asked)

    asyncio.run(go())
    assert kernel.calls.cancelled == [1]


def test_a_client_that_leaves_a_watch_is_told_no_more(kernel, leave):
    asyncio.run(leave(kernel, "GET", "/v1/events", None, lambda: kernel.processes.watchers))
    assert kernel.processes.watchers == 0


def test_calls_are_counted_by_how_they_ended(ask):
    ask("POST", "/v1/tasks/classify", {"model": "support", "input": "x"})
    ask("POST", "/v1/tasks/classify", {"model": "support", "input": ""})
    text = ask("GET", "/metrics").text
    assert 'llmos_calls_total{model="support:2",outcome="ok",task="classify"} 1.0' in text
    assert 'llmos_calls_total{model="support:2",outcome="bad_input",task="classify"} 1.0' in text
    assert 'llmos_call_seconds_bucket{le="+Inf",model="support:2",task="classify"} 2.0' in text
    assert 'llmos_tokens_total{kind="prompt",model="support:2",task="classify"}' in text
    assert 'llmos_wakes_total{model="minilm:1"} 2.0' in text
    assert 'llmos_leased_bytes{device="cpu0",kind="weights"} 9e+07' in text


def test_how_full_a_process_that_generates_is_can_be_scraped(kernel, ask):
    serve = asyncio.run(kernel.processes.submit(Spec("serve", {"base": "smollm2:1"}, title="serve smollm2:1")))
    other = asyncio.run(kernel.processes.submit(Spec("evaluate", {}, title="evaluate")))
    for pid in (serve.pid, other.pid):
        kernel.processes.move(pid, State.STARTING)
        kernel.processes.move(pid, State.READY)
        kernel.processes.report_progress(pid, Progress("serving", figures={"kv_waste": 0.25, "prefix_hit_rate": 0.5}))
    lines = ask("GET", "/metrics").text.splitlines()
    where = f'{{base="smollm2:1",pid="{serve.pid}"}}'
    assert [line for line in lines if "smollm2:1" in line] == [
        f"llmos_kv_cache_waste_ratio{where} 0.25",
        f"llmos_prefix_cache_hit_ratio{where} 0.5",
    ]


def test_vectors_come_raw_to_a_client_that_accepts_only_bytes(ask):
    body = {"model": "minilm", "inputs": ["hello", "you"]}
    plain = ask("POST", "/v1/tasks/embed", body).json()
    answer = ask("POST", "/v1/tasks/embed", body, headers={"Accept": "application/octet-stream"})
    rows, dim = map(int, answer.headers["x-llmos-shape"].split(","))
    numbers = struct.unpack(f"<{rows * dim}f", answer.content)
    assert [list(numbers[start : start + dim]) for start in (0, dim)] == [one["vector"] for one in plain["outputs"]]
    told = {name: answer.headers[f"x-llmos-{name}"] for name in ("model", "dtype", "tokens")}
    assert told == {"model": "minilm:1", "dtype": "float32", "tokens": str(plain["tokens"]["prompt"])}
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_refusal_is_json_whatever_the_client_accepts(ask):
    answer = ask("POST", "/v1/tasks/embed", {"model": "nobody"}, headers={"Accept": "application/octet-stream"})
    assert answer.json()["error"]["code"] == "bad_input"


@pytest.mark.parametrize(
    ("accepts", "is_smaller"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("br", False)],
)
def test_a_large_answer_is_compressed_for_a_client_that_reads_gzip(ask, accepts, is_smaller):
    body = {"model": "minilm", "inputs": ["hello"] * 40}
    answer = ask("POST", "/v1/tasks/embed", body, headers={"Accept-Encoding": accepts})
    assert ("content-encoding" in answer.headers) == is_smaller
    assert len(answer.json()["outputs"]) == 40
    if is_smaller:
        assert (answer.headers["vary"], answer.headers["content-type"]) == ("accept-encoding", "application/json")
        assert int(answer.headers["content-length"]) < len(answer.content) / 2


def test_vectors_in_base64_hardly_shrink_and_are_sent_as_they_are(ask):
    body = {"model": "minilm", "inputs": [f"text {i}" for i in range(200)], "params": {"encoding": "base64"}}
    answer = ask("POST", "/v1/tasks/embed", body, headers={"Accept-Encoding": "gzip"})
    assert len(answer.content) > 16 * 1024
    assert "content-encoding" not in answer.headers


def test_a_small_answer_is_sent_as_it_is(ask):
    answer = ask("GET", "/healthz", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers


def test_a_call_carries_its_class_and_its_time(ask, kernel):
    body = {"model": "support", "input": "x", "class": "batch", "timeout_s": 5}
    assert ask("POST", "/v1/tasks/classify", body).status_code == 200
    assert kernel.calls.asked[0].priority == "batch"


def test_an_answer_that_is_not_there_in_time_says_so_and_the_call_is_taken_back(ask, kernel):
    kernel.calls.gate = asyncio.Event()
    answer = ask("POST", "/v1/tasks/classify", {"model": "support", "input": "x", "timeout_s": 0.01})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timed_out")
    assert kernel.calls.cancelled == [1]


@pytest.mark.parametrize("timeout_s", [0, -1, 1e9, "soon"])
def test_a_time_that_cannot_be_is_refused(ask, timeout_s):
    body = {"model": "support", "input": "x", "timeout_s": timeout_s}
    assert ask("POST", "/v1/tasks/classify", body).status_code == 400


def test_a_full_queue_says_when_to_try_again(ask, kernel):
    async def full(*args, **options):
        raise Busy("3 interactive calls wait already. Try again in 7 s", retry_after_s=7)

    kernel.calls.answer = full
    answer = ask("POST", "/v1/tasks/classify", {"model": "support", "input": "x"})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (429, "7", "busy")
