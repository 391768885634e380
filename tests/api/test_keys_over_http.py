"""Keys over HTTP: who gets in, with which scopes, for which models, and how often."""

import asyncio
import json
import tracemalloc
from pathlib import Path

import httpx
import pytest

from llmos.abi.call import CallRequest
from llmos.abi.error import Conflict
from llmos.abi.frame import RouteCalled
from llmos.abi.key import ALL_SCOPES, ApiKey, KeyLimits, KeyScope
from llmos.abi.process import Priority
from llmos.api.app import create_app
from llmos.api.key_guard import Visit
from llmos.config import Config
from llmos.kernel.keys.key_service import KeyService
from llmos.testing.errors import fails_with
from llmos.testing.server import serving

RUN = {"model": "support", "input": "a"}
TRAIN = {"program": "train", "args": {"task": "classify", "name": "mood", "base": "minilm"}}


def make(kernel, *scopes, **rights):
    """The headers of a new key with these scopes."""
    made = asyncio.run(kernel.keys.create(ApiKey("", scopes=scopes or ALL_SCOPES, **rights)))
    return {"authorization": f"Bearer {made.secret}"}


def code(answer):
    """The status and the code, which shapes of other products have beside their `error`."""
    said = answer.json()
    return answer.status_code, (said["error"] if isinstance(said["error"], dict) else said)["code"]


@pytest.mark.parametrize(
    ("path", "error_of"),
    [
        ("/api/chat", lambda said: said["error"]),
        ("/tei/minilm/embed", lambda said: said["error"]),
        ("/v1/messages", lambda said: said["error"]["message"] * (said["error"]["type"] == "authentication_error")),
        ("/v1/chat/completions", lambda said: said["error"]["message"]),
    ],
)
def test_a_wrong_key_is_refused_in_the_shape_that_the_route_s_clients_read(ask, kernel, path, error_of):
    make(kernel, KeyScope.ADMIN)
    refused = ask("POST", path, {}, headers={"authorization": "Bearer llmos_ab_wrong"})
    assert code(refused) == (401, "invalid_api_key")
    assert "key" in error_of(refused.json())


def test_a_refused_key_has_the_sentence_by_which_clients_tell_that_it_is_the_key(ask, kernel):
    make(kernel, KeyScope.ADMIN)
    refused = ask("POST", "/v1/run", RUN, headers={"authorization": "Bearer llmos_ab_wrong"})
    assert refused.json()["error"]["message"].startswith("Incorrect API key provided")


def test_without_any_key_everybody_gets_in_also_with_a_made_up_one(ask):
    assert ask("POST", "/v1/run", RUN).status_code == 200
    assert ask("POST", "/v1/run", RUN, headers={"authorization": "Bearer sk-none"}).status_code == 200


def test_once_there_is_a_key_each_route_asks_for_it_and_for_its_scope(ask, kernel):
    paths = ask("GET", "/openapi.json").json()["paths"]
    keys = {scope: make(kernel, scope) for scope in ALL_SCOPES}
    walked = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            allowed = {scope for one in operation["security"] for scopes in one.values() for scope in scopes}
            target = path.replace("{", "").replace("}", "")
            bare = ask(method.upper(), target)
            assert (bare.status_code == 401) == bool(allowed), path
            for scope, headers in keys.items():
                if path == "/v1/events" and scope in allowed:
                    continue  # it never ends
                answer = ask(method.upper(), target, headers=headers)
                is_refused = answer.status_code == 403 and code(answer)[1] == "scope_missing"
                assert is_refused == (bool(allowed) and scope not in allowed), (path, scope)
                assert answer.status_code != 401
                walked += 1
    assert walked > 7 * 40


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing"),
        ({"authorization": "Basic YTpi"}, "missing"),
        ({"authorization": "Bearer llmos_a_b"}, "unknown"),
        ({"authorization": "Bearer "}, "unknown"),
        ({"x-api-key": "llmos_local_x"}, "unknown"),
    ],
)
def test_who_has_no_valid_key_hears_how_to_send_one(ask, kernel, headers, reason):
    make(kernel)
    answer = ask("POST", "/v1/run", RUN, headers=headers)
    assert code(answer) == (401, "invalid_api_key")
    assert answer.json()["error"]["detail"]["reason"] == reason
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert ("invalid_token" in answer.headers["www-authenticate"]) == (reason != "missing")


def test_a_key_comes_as_a_bearer_token_or_as_x_api_key(ask, kernel):
    secret = make(kernel)["authorization"].removeprefix("Bearer ")
    for headers in ({"authorization": f"bearer {secret}"}, {"x-api-key": secret}):
        assert ask("POST", "/v1/run", RUN, headers=headers).status_code == 200


def test_a_key_lives_until_it_expires_or_is_removed(ask, kernel, tmp_path):
    now = [1000.0]
    kernel.keys = KeyService(tmp_path, clock=lambda: now[0])
    ask = type(ask)(kernel)
    admin, guest = make(kernel), make(kernel, KeyScope.INFER, expires_at=1100.0)
    assert ask("POST", "/v1/run", RUN, headers=guest).status_code == 200
    now[0] = 1100.0
    answer = ask("POST", "/v1/run", RUN, headers=guest)
    assert (code(answer), answer.json()["error"]["detail"]["reason"]) == ((401, "invalid_api_key"), "expired")
    key_id = kernel.keys.all()[1].id
    assert ask("DELETE", f"/v1/keys/{key_id}", headers=admin).json() == {"removed": [key_id]}
    assert ask("POST", "/v1/run", RUN, headers=guest).json()["error"]["detail"]["reason"] == "unknown"


def test_the_first_key_closes_the_door_behind_it(ask):
    body = {"name": "web", "scopes": ["infer", "data"], "models": ["support"], "limits": {"requests_per_minute": 5}}
    made = ask("POST", "/v1/keys", body)
    assert made.status_code == 201
    assert code(ask("GET", "/v1/keys", headers={"x-api-key": made.json()["secret"]})) == (403, "scope_missing")
    assert code(ask("POST", "/v1/keys", {"scopes": ["admin"]})) == (401, "invalid_api_key")


def test_an_admin_s_key_does_all_of_it(ask, kernel):
    admin = make(kernel, KeyScope.ADMIN)
    made = ask("POST", "/v1/keys", {"name": "web", "limits": {"concurrency": 2}}, headers=admin).json()
    listed = ask("GET", "/v1/keys", headers=admin)
    assert [one["name"] for one in listed.json()["data"]] == ["", "web"]
    assert made["secret"].split("_", 2)[2] not in listed.text
    rotated = ask("POST", f"/v1/keys/{made['key']['id']}/rotate", {}, headers=admin).json()
    assert rotated["key"] == made["key"]
    assert code(ask("POST", "/v1/run", RUN, headers={"x-api-key": made["secret"]}))[0] == 401
    assert ask("POST", "/v1/run", RUN, headers={"x-api-key": rotated["secret"]}).status_code == 200
    assert code(ask("DELETE", "/v1/keys/none", headers=admin)) == (404, "key_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scopes": ["root"]}, "scopes[0]"),
        ({"limits": {"requests": 1}}, "limits.requests"),
        ({"limits": {"concurrency": 0}}, "concurrency"),
        ({"expires_at": 5}, "expires_at"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_key_that_is_none_is_refused_by_its_field(ask, kernel, body, param):
    answer = ask("POST", "/v1/keys", body)
    assert (code(answer), answer.json()["error"]["param"]) == ((400, "bad_input"), param)
    assert kernel.keys.all() == []


def test_a_key_sees_and_uses_only_its_models(ask, kernel):
    mine = make(kernel, models=("support", "mini*"))
    listed = {one["id"].partition(":")[0] for one in ask("GET", "/v1/models", headers=mine).json()["data"]}
    assert listed == {"support", "minilm"}
    assert ask("POST", "/v1/run", RUN, headers=mine).status_code == 200
    assert code(ask("POST", "/v1/run", {**RUN, "model": "ner"}, headers=mine)) == (403, "model_not_allowed")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/promote"), ("GET", "/gate"), ("GET", "/report")):
        assert code(ask(method, f"/v1/models/ner{path}", headers=mine)) == (403, "model_not_allowed"), path
    start = {**TRAIN, "args": {**TRAIN["args"], "name": "ner"}}
    assert code(ask("POST", "/v1/processes", start, headers=mine)) == (403, "model_not_allowed")


def test_ollama_s_lists_show_a_key_only_its_models(ask, kernel):
    mine = make(kernel, models=("support",))
    listed = {one["name"].partition(":")[0] for one in ask("GET", "/api/tags", headers=mine).json()["models"]}
    assert listed == {"support"}
    assert ask("POST", "/api/show", {"model": "ner"}, headers=mine).status_code == 403


def test_a_mistyped_name_does_not_tell_a_key_of_others_models(ask, kernel):
    mine = make(kernel, models=("support", "s?*"))
    for name, said in (("nre", (403, "model_not_allowed")), ("smolm2", (404, "model_not_found"))):
        answer = ask("POST", "/v1/run", {**RUN, "model": name}, headers=mine)
        assert code(answer) == said
        assert not any(other in answer.text for other in ("ner", "smollm2"))


def test_a_key_s_calls_have_at_most_its_priority(ask, kernel):
    batch = make(kernel, priority=Priority.BATCH)
    for wanted, got in (("interactive", "batch"), (None, "batch"), ("background", "background")):
        assert ask("POST", "/v1/run", RUN | ({"priority": wanted} if wanted else {}), headers=batch).status_code == 200
        assert kernel.calls.asked[-1].priority == got


def test_a_program_is_started_and_steered_with_its_own_scope(ask, kernel):
    data, train = make(kernel, KeyScope.DATA), make(kernel, KeyScope.TRAIN)
    pull = {"program": "pull", "args": {"source": "minilm"}}
    assert code(ask("POST", "/v1/processes", TRAIN, headers=data)) == (403, "scope_missing")
    assert code(ask("POST", "/v1/processes", pull, headers=train)) == (403, "scope_missing")
    assert ask("POST", "/v1/processes", TRAIN, headers=train).status_code == 201
    for act in ("kill", "suspend", "resume", "nice"):
        body = {"priority": "batch"} if act == "nice" else {}
        assert code(ask("POST", f"/v1/processes/1/{act}", body, headers=data)) == (403, "scope_missing")
    assert ask("POST", "/v1/processes/1/kill", {}, headers=train).status_code == 200


def begin_batch(ask, headers, owner):
    """A batch that a key has begun, of a file that another has sent."""
    form = {"files": {"file": ("in.jsonl", b"{}\n")}, "data": {"purpose": "batch"}}
    sent = ask("POST", "/v1/files", headers=owner, **form).json()
    body = {"input_file_id": sent["id"], "endpoint": "/v1/run"}
    return ask("POST", "/v1/batches", body, headers=headers).json()


def ask_line(ask, key_id, **changes):
    """What a line of a batch of this key is answered."""
    call = RouteCalled(1, "/v1/run", json.dumps(RUN | changes).encode())
    reply = asyncio.run(ask.app.answer_route(call, key_id))
    error = json.loads(reply.body).get("error", {})
    return reply.status, error.get("code"), error.get("detail", {}).get("reason")


def test_a_batch_keeps_the_key_that_has_begun_it(ask, kernel):
    owner, mine = make(kernel), make(kernel, KeyScope.INFER)
    batch = begin_batch(ask, mine, owner)
    key_id = kernel.keys.all()[1].id
    assert kernel.batches.get(batch["id"]).key == key_id
    assert kernel.processes.get(batch["pid"]).spec.args["key"] == key_id


def test_a_line_of_a_batch_has_the_models_and_the_priority_of_its_key(ask, kernel):
    make(kernel, KeyScope.INFER, models=("support",), priority=Priority.BACKGROUND)
    key_id = kernel.keys.all()[0].id
    assert ask_line(ask, key_id)[0] == 200
    assert kernel.calls.asked[-1].priority == "background"
    assert ask_line(ask, key_id, model="ner")[:2] == (403, "model_not_allowed")


def test_a_line_of_a_batch_is_counted_by_its_key_s_limits_but_not_as_under_way(ask, kernel):
    make(kernel, limits=KeyLimits(requests_per_minute=3, concurrency=1))
    key = kernel.keys.all()[0]
    kernel.keys.ledger(key).enter(kernel.keys.moment())
    assert [ask_line(ask, key.id)[:2] for _ in range(3)] == [(200, None), (200, None), (429, "rate_limit_exceeded")]
    assert kernel.keys.ledger(key).under_way == 1


def test_a_line_of_a_batch_is_recorded_under_its_key(ask, kernel):
    make(kernel)
    key_id = kernel.keys.all()[0].id
    assert ask_line(ask, key_id)[0] == 200
    recorded = kernel.requests.recent.latest("support", "a")
    assert (recorded.key, recorded.path) == (key_id, "/v1/run")


def test_a_key_that_is_removed_or_expires_stops_what_is_left_of_its_batches(ask, kernel):
    make(kernel)
    make(kernel, KeyScope.DATA)
    first, second = (one.id for one in kernel.keys.all())
    assert ask_line(ask, first)[0] == 200
    assert ask_line(ask, second)[:2] == (403, "scope_missing")
    asyncio.run(kernel.keys.remove(first))
    assert ask_line(ask, first) == (401, "invalid_api_key", "removed")
    asyncio.run(kernel.keys.remove(second))
    assert ask_line(ask, first)[0] == 401  # also where no key is needed any more
    assert ask_line(ask, "")[0] == 200


def test_a_key_sees_and_ends_only_its_own_batches(ask, kernel):
    owner, mine, other = make(kernel), make(kernel, KeyScope.INFER), make(kernel, KeyScope.INFER)
    batch = begin_batch(ask, mine, owner)
    for headers, count in ((owner, 1), (mine, 1), (other, 0)):
        assert len(ask("GET", "/v1/batches", headers=headers).json()["data"]) == count
        status = 200 if count else 404
        assert ask("GET", f"/v1/batches/{batch['id']}", headers=headers).status_code == status
    assert ask("POST", f"/v1/batches/{batch['id']}/cancel", {}, headers=other).status_code == 404
    assert ask("POST", f"/v1/batches/{batch['id']}/cancel", {}, headers=mine).status_code == 200


def test_a_fine_tuning_job_is_for_a_key_of_its_base_and_of_what_it_makes(ask, kernel):
    owner = make(kernel)
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    form = {"files": {"file": ("rows.jsonl", json.dumps(chat).encode())}, "data": {"purpose": "fine-tune"}}
    rows = ask("POST", "/v1/files", headers=owner, **form).json()["id"]
    body = {"model": "smollm2", "training_file": rows, "suffix": "tone"}
    for models, status in ((("smollm2",), 403), (("ft-*",), 403), (("smollm2", "ft-smollm2-*"), 200)):
        mine = make(kernel, KeyScope.TRAIN, models=models)
        answer = ask("POST", "/v1/fine_tuning/jobs", body, headers=mine)
        assert answer.status_code == status, models
    job = answer.json()["id"]
    assert kernel.fine_tuning.get(job).key == kernel.keys.all()[-1].id
    other = make(kernel, KeyScope.TRAIN, models=("mood",))
    assert ask("GET", "/v1/fine_tuning/jobs", headers=other).json()["data"] == []
    assert ask("POST", f"/v1/fine_tuning/jobs/{job}/cancel", {}, headers=other).status_code == 404
    assert ask("GET", f"/v1/fine_tuning/jobs/{job}", headers=mine).status_code == 200


def test_a_process_has_at_most_the_priority_of_the_key_that_starts_it(ask, kernel):
    mine = make(kernel, KeyScope.TRAIN, priority=Priority.BATCH)
    start = {**TRAIN, "priority": "interactive"}
    assert ask("POST", "/v1/processes", start, headers=mine).json()["spec"]["priority"] == "batch"
    nice = {"priority": "interactive"}
    assert ask("POST", "/v1/processes/1/nice", nice, headers=mine).json()["spec"]["priority"] == "batch"
    base = make(kernel, KeyScope.TRAIN, models=("mood",))
    assert code(ask("POST", "/v1/processes", TRAIN, headers=base)) == (403, "model_not_allowed")


def test_who_has_used_a_limit_hears_when_to_come_again(ask, kernel):
    mine = make(kernel, limits=KeyLimits(requests_per_minute=2, tokens_per_day=1000))
    for left in (1, 0):
        answer = ask("POST", "/v1/run", RUN, headers=mine)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 1000
    answer = ask("POST", "/v1/run", RUN, headers=mine)
    assert code(answer) == (429, "rate_limit_exceeded")
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


def test_tokens_are_refused_once_they_are_used(ask, kernel):
    mine = make(kernel, limits=KeyLimits(tokens_per_day=9))
    body = {"model": "support", "inputs": ["a b c d"] * 3}
    assert ask("POST", "/v1/run", body, headers=mine).status_code == 200
    answer = ask("POST", "/v1/run", body, headers=mine)
    assert (code(answer), answer.json()["error"]["detail"]["unit"]) == ((429, "rate_limit_exceeded"), "tokens")


def test_what_a_call_that_failed_held_is_free_again(ask, kernel):
    mine = make(kernel, limits=KeyLimits(tokens_per_minute=1000, concurrency=1))
    for _ in range(5):
        assert code(ask("POST", "/v1/tasks/tag", RUN, headers=mine)) == (400, "wrong_task")
    assert ask("POST", "/v1/run", RUN, headers=mine).headers["x-ratelimit-limit-tokens"] == "1000"
    ledger = kernel.keys.ledger(kernel.keys.all()[0])
    assert ledger.under_way == 0


@pytest.mark.parametrize(
    ("params", "held"),
    [
        ({}, 10),
        ({"max_tokens": 300}, 310),
        ({"max_tokens": 300, "n": 3}, 910),
        ({"max_tokens": -(10**9)}, 10),
        ({"max_tokens": 10**15}, 10 + 8_192),
        ({"max_tokens": 300, "n": -7}, 310),
        ({"max_tokens": True, "n": "many"}, 10),
    ],
)
def test_a_call_holds_what_it_may_use_whatever_unchecked_numbers_say(kernel, params, held):
    key = ApiKey("a", limits=KeyLimits(tokens_per_day=1_000_000))
    visit = Visit(key, kernel.keys)
    assert visit.take_call(CallRequest("smollm2:1", ("a",), params), 40)[1] == held
    visit.settle(held, held)  # its client has left
    assert kernel.keys.ledger(key).remaining(kernel.keys.moment())[1].remaining == 1_000_000 - held


def test_feedback_does_not_tell_a_key_whose_call_of_another_key_it_was(ask, kernel):
    mine, other = make(kernel, KeyScope.INFER, KeyScope.FEEDBACK), make(kernel, KeyScope.FEEDBACK)
    call = ask("POST", "/v1/run", RUN | {"user": "ann"}, headers=mine).headers["x-request-id"]
    label = kernel.models.get("support").manifest.labels[0]
    said = {"model": "support", "input": "a", "label": label}
    assert ask("POST", "/v1/feedback", said, headers=mine).json()["user"] == "ann"
    for asked in (said, {"call": call, "label": label}):
        answer = ask("POST", "/v1/feedback", asked, headers=other)
        assert (answer.status_code, answer.json()["user"]) == (201, "")
    assert [one.user for one in asyncio.run(kernel.feedback.find("support", "", 9))] == ["ann"] * 3


async def ask_together(url, headers, number):
    limits = httpx.Limits(max_connections=number)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60) as client:
        answers = await asyncio.gather(*(client.post("/v1/run", json=RUN) for _ in range(number * 3)))
    return [one.status_code for one in answers]


def test_limits_are_exact_over_64_connections(kernel):
    mine = make(kernel, limits=KeyLimits(requests_per_day=100))
    with serving(kernel, Config(Path("/nowhere"))) as url:
        statuses = asyncio.run(ask_together(url, mine, 64))
    assert (statuses.count(200), statuses.count(429)) == (100, 92)


def test_of_64_at_once_only_as_many_are_under_way_as_the_key_may_have(kernel):
    asyncio.run(ask_64(kernel))


async def ask_64(kernel):
    made = await kernel.keys.create(ApiKey("", limits=KeyLimits(concurrency=7)))
    kernel.calls.gate = asyncio.Event()
    app = create_app(kernel, Config(Path("/nowhere")))
    headers = {"x-api-key": made.secret}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        asked = [asyncio.ensure_future(client.post("/v1/run", json=RUN, headers=headers)) for _ in range(64)]
        while sum(one.done() for one in asked) < 57:  # noqa: ASYNC110  # those over the limit are answered at once
            await asyncio.sleep(0)
        assert len(kernel.calls.asked) == 7
        assert {one.result().status_code for one in asked if one.done()} == {429}
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    assert kernel.keys.ledger(made.key).under_way == 0


def test_10_000_wrong_keys_leave_no_memory_behind_in_the_app(kernel):
    make(kernel)
    app = create_app(kernel, Config(Path("/nowhere")))
    statuses = set()

    async def send(message):
        statuses.add(message.get("status"))

    async def ask_with(numbers):
        for number in numbers:
            headers = [(b"host", b"localhost"), (b"authorization", b"Bearer llmos_a%d_x" % number)]
            scope = {"type": "http", "method": "POST", "path": "/v1/run", "headers": headers, "query_string": b""}
            await app(scope, None, send)

    asyncio.run(ask_with(range(200)))
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        asyncio.run(ask_with(range(200, 10_200)))
        end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert statuses == {401, None}
    assert end - start < 100_000  # an event loop's own; 10 bytes a key would be as much


def test_the_last_key_stays_where_others_can_reach_the_daemon(tmp_path):
    async def try_it():
        keys = KeyService(tmp_path, must_stay=True)
        first, second = (await keys.create(ApiKey(""))).key, (await keys.create(ApiKey(""))).key
        await keys.remove(first.id)
        with fails_with(Conflict, id=second.id):
            await keys.remove(second.id)

    asyncio.run(try_it())
