"""The clients over a real socket: results, waiting, streams, and the errors of the box as themselves."""

import asyncio
import json

import pytest

from llmos import AsyncClient, Client
from llmos.abi.error import (
    BadInput,
    BadRow,
    BadSetting,
    Conflict,
    Fault,
    ModelNotFound,
    NotFound,
    TooLong,
    Unavailable,
    WrongTask,
)
from llmos.abi.gate import Gate
from llmos.abi.process import Priority, Process, Spec, State
from llmos.config import Config
from llmos.sdk import request
from llmos.sdk.result import Classified, Embedded, Generated, Tagged
from llmos.sdk.wait import SSEParser, raise_unless_done
from llmos.testing.errors import fails_with
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving


@pytest.fixture
def kernel():
    return MemoryKernel(plays=True)


@pytest.fixture
def url(kernel, tmp_path):
    with serving(kernel, Config(tmp_path, max_body_bytes=100_000)) as url:
        yield url


@pytest.fixture
def box(url):
    with Client(url) as client:
        yield client


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\nhi,a\n")
    return file


def test_a_suite_of_this_machine_is_required_by_its_whole_path(box, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.suite.yaml").write_text("")
    wanted = box.set_gate("new", ["suite:x.suite.yaml", "f1>=0.8"]).require
    assert f"suite:{tmp_path}/x.suite.yaml" in wanted
    with pytest.raises(BadInput):
        box.set_gate("new", ["suite:none.yaml"])


def test_one_input_gives_one_result_and_a_list_a_list(box):
    one = box.run("support", "where is it")
    assert isinstance(one, Classified)
    assert one.label in one.scores
    assert box.run("support", ["where is it", "x"])[0] == one
    assert isinstance(box.run("ner", {"tokens": ["Ada", "lives"]}), Tagged)
    assert isinstance(box.run("smollm2", "once", task="generate", max_tokens=2), Generated)


def test_a_model_is_asked_for_its_own_task_in_one_request(box, kernel):
    vector = box.run("minilm", "hello")
    assert vector == box.run("minilm", "hello", task="embed")
    assert isinstance(vector, Embedded)
    with pytest.raises(ModelNotFound):
        box.run("nobody", "hello")
    with pytest.raises(WrongTask):
        box.run("ner", "hello", task="classify")
    with pytest.raises(NotFound):
        box.run("ner", "hello", task="of another package")
    assert [call.task for call in kernel.calls.asked] == ["embed", "embed"]


def test_a_call_carries_its_time_and_its_class(box, kernel):
    box.run("ner", "Ada", timeout_s=9.0, priority="batch")
    assert kernel.calls.asked[-1].priority == "batch"
    list(box.chat("smollm2", "Hello", timeout_s=9.0, priority="background"))
    assert kernel.calls.asked[-1].priority == "background"
    with fails_with(BadInput, key="timeout_s"):
        box.run("ner", "Ada", timeout_s=-1)


@pytest.mark.parametrize("given", [None, 3, b"Ada"])
def test_what_is_no_input_is_refused_before_it_is_sent(box, given):
    with fails_with(BadInput, key="inputs"):
        box.run("ner", given)


def test_a_vector_is_float32_numbers(box):
    answer = box.run("minilm", "hello")
    assert isinstance(answer, Embedded)
    assert (answer.vector.typecode, len(answer.vector)) == ("f", 32)


def test_chat_comes_in_pieces(box):
    pieces = list(box.chat("smollm2", "hello", max_tokens=3))
    assert len(pieces) == 3
    assert box.run("smollm2", {"messages": [{"role": "user", "content": "hello"}]}, max_tokens=3).text == "".join(
        pieces
    )
    assert list(box.generate("smollm2", "once", max_tokens=2))


def test_several_answers_need_a_list_and_come_in_order(box):
    results = box.run("smollm2", ["once", "twice"], task="generate", n=2, seed=1, max_tokens=2)
    assert [one.text for one in results[2:]] == [
        box.run("smollm2", "twice", task="generate", seed=seed, max_tokens=2).text for seed in (1, 2)
    ]
    for ask in (lambda: box.run("smollm2", "x", task="generate", n=2), lambda: list(box.chat("smollm2", "x", n=2))):
        with fails_with(BadInput, key="n"):
            ask()


def test_logprobs_are_dataclasses(box):
    one = box.run("smollm2", "once", task="generate", logprobs=True, top_logprobs=1, max_tokens=2)
    assert "".join(entry.token for entry in one.logprobs) == one.text
    assert one.logprobs[0].top_logprobs[0].logprob < 0
    assert box.run("smollm2", "once", task="generate").logprobs == ()


def test_training_waits_tells_how_far_it_is_and_says_what_it_made(box, rows):
    seen = []
    done = box.train("classify", data=rows, name="mood", seed=3, lora_rank=4, on_progress=seen.append)
    assert (done.state, done.made) == (State.EXITED, ("mood:1",))
    assert seen[-1].state is State.EXITED
    recipe = done.spec.args
    assert (recipe["data"]["train"], recipe["seed"], recipe["lora"]["rank"]) == (str(rows), 3, 4)
    assert box.model("mood").metrics == {"accuracy": 0.95}


def test_a_failed_process_raises_what_ended_it(box, rows, kernel):
    kernel.processes.fault = Fault("bad_row", "rows.csv, line 2: no label", {"line": 2})
    with fails_with(BadRow, line=2) as failed:
        box.train("classify", data=rows, name="mood")
    assert failed.value.detail == {"line": 2}


def test_a_process_that_is_not_waited_for_is_queued(box, kernel):
    kernel.processes.plays = False
    process = box.pull("minilm", wait=False)
    assert (process.state, process.spec.args["source"]) == (State.QUEUED, "minilm")
    assert box.nice(process.pid, "background").spec.priority is Priority.BACKGROUND
    assert box.kill(process.pid).state is State.EXITED
    assert [one.pid for one in box.processes()] == [1]
    assert box.logs(1, tail=1) == "pid 1 line 3\n"
    assert "".join(box.follow(1)).count("\n") == 3


def test_models_move_and_go(box):
    assert [model.ref for model in box.models()][:2] == ["minilm:1", "smollm2:1"]
    assert box.rollback("support").ref == "support:1"
    assert box.promote("support:2").promoted
    assert box.gate("ner") == box.reset_gate("ner") == Gate("ner", ("at-least-as-good",), 0.0, True)
    changed = Gate("ner", ("at-least-as-good", "f1>=0.8"), 0.0, False)
    assert box.set_gate("ner", ["f1 >= 80%"]) == box.gate("ner") == changed
    assert box.set_gate("ner", margin=0.01).require == changed.require
    assert box.reset_gate("ner").is_default
    assert box.remove("ner") == ["ner:1"]
    assert box.datasets()[0].ref == "tickets@1"
    assert box.remove_dataset("tickets@1") == ["tickets@1"]


def test_the_box_says_how_it_is(box):
    assert box.status().devices == tuple(box.devices())
    assert (box.disk().blobs_bytes, box.gc()) == (1000, 4096)


def test_errors_are_those_of_the_box(box):
    with fails_with(ModelNotFound, name="nobody"):
        box.run("nobody", "x")
    with fails_with(WrongTask, model="ner:1", task="classify", has="tag"):
        box.run("ner", "x", task="classify")
    with fails_with(TooLong, limit=100_000):
        box.run("support", "x" * 1_000_000)
    with fails_with(BadInput, key="input", index=0):
        list(box.chat("smollm2", []))
    with pytest.raises(Conflict):
        box.remove("minilm")


def test_without_a_daemon_the_error_says_how_to_start_one():
    with Client("http://127.0.0.1:9") as box, fails_with(Unavailable, url="http://127.0.0.1:9"):
        box.status()


def test_the_daemon_is_found_where_it_wrote_that_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.setenv("LLMOS_PORT", "8777")
    with Client() as box:
        assert box.url == "http://127.0.0.1:8777"
    (tmp_path / "daemon.json").write_text(json.dumps({"url": "http://127.0.0.1:8999", "os_pid": 1}))
    with Client() as box:
        assert box.url == "http://127.0.0.1:8999"


def test_the_same_from_asyncio(url, rows):
    async def go():
        async with AsyncClient(url) as box:
            one = await box.run("support", "where is it")
            pieces = [piece async for piece in box.chat("smollm2", "hello")]
            done = await box.train("classify", data=rows, name="mood")
            with pytest.raises(ModelNotFound):
                await box.model("nobody")
            return one.label, pieces, done.made

    label, pieces, made = asyncio.run(go())
    assert label in ("billing", "delivery")
    assert (len(pieces), made) == (8, ("mood:1",))


def test_both_clients_have_the_same_verbs():
    def verbs(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert verbs(Client) == verbs(AsyncClient)


def test_a_setting_of_a_recipe_that_nobody_knows_is_refused_with_the_nearest(rows):
    with fails_with(BadSetting, key="epoch", near="epochs"):
        request.recipe("classify", "mood", "minilm", rows, {"epoch": 3})


def test_rows_that_are_not_there_are_missed_before_anything_is_sent():
    with fails_with(BadInput, file="nowhere.csv"):
        request.data_of("nowhere.csv")
    assert request.data_of("tickets@1").train == "tickets@1"


def test_a_number_that_json_has_no_word_for_is_refused_by_its_name(box, rows):
    for number in (float("nan"), float("inf")):
        with fails_with(BadInput, key="threshold"):
            box.run("support", "hello", threshold=number)
        with fails_with(BadInput, key="learning_rate"):
            box.train("classify", data=rows, name="mine", learning_rate=number)


def test_text_that_no_utf8_can_say_is_bad_input(box):
    with fails_with(BadInput, reason="surrogate"):
        box.run("support", "caf\udce9")


def test_a_wait_that_the_daemon_s_end_cut_short_is_no_success():
    with fails_with(Unavailable, pid=3, state="queued"):
        raise_unless_done(Process(3, Spec("train")))


def test_events_are_put_together_whatever_else_the_stream_says():
    lines = SSEParser()
    said = [": hello", "id: 1", "event: log", 'data: "a"', "", "", 'data: {"b":', "data: 1}", ""]
    assert [event for line in said for event in lines.feed(line)] == [("log", "a"), ("", {"b": 1})]
