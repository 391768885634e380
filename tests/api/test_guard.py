"""The guard: what a rebound name, a page of another origin or a form posts is refused on every route there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.api.app import create_app, endpoints
from llmos.api.guard import Guard
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel

PAGE = "http://localhost:3000"
ROUTES = [(one.method, one.path) for one in endpoints(MemoryKernel(), Config(Path("/nowhere")))]
ELSEWHERE = [("GET", "/"), ("OPTIONS", "/v1/models"), ("HEAD", "/v1/models"), ("PUT", "/v1/no/such/route")]
FOREIGN = {
    "a rebound name": {"Host": "attacker.example:8600"},
    "a rebound name that begins like ours": {"Host": "localhost.attacker.example"},
    "a page": {"Origin": "https://attacker.example"},
    "a page on another port of this machine": {"Origin": PAGE},
    "a page without an origin": {"Origin": "null"},
    "a page that another site embeds": {"Sec-Fetch-Site": "cross-site"},
    "a page on the same site": {"Sec-Fetch-Site": "same-site"},
    "a form": {"Origin": "http://attacker.example", "Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"},
}


class Asked:
    """Asks an app around a kernel that records what reached it."""

    def __init__(self, **settings):
        self.kernel = MemoryKernel()
        self.app = create_app(self.kernel, Config(Path("/nowhere"), **settings))

    def __call__(self, method, path, headers, *, host="localhost:8600", server=("127.0.0.1", 8600)):
        sent, came = [], [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive():
            return came.pop() if came else {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        given = [] if host is None else [("host", host)]
        given = [(n, v) for n, v in given if not any(name.lower() == n for name, _ in headers)] + list(headers)
        raw = [(name.lower().encode(), value.encode()) for name, value in given]
        scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b"", "server": server}
        asyncio.run(self.app(scope, receive, send))
        body = b"".join(one.get("body", b"") for one in sent[1:])
        return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)


@pytest.fixture
def asked():
    return Asked()


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(("method", "path"), [*ROUTES, *ELSEWHERE], ids=lambda part: part)
def test_a_stranger_is_refused_on_every_route(asked, method, path, headers):
    answer = asked(method, path, headers.items())
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["code"] == ("host_not_allowed" if "Host" in headers else "origin_not_allowed")
    assert error["detail"]["key"] in error["message"]  # the setting that would let it in
    assert not asked.kernel.calls.asked
    assert not asked.kernel.processes.table
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_the_document_lists_the_routes_that_were_walked(asked):
    paths = asked("GET", "/openapi.json", []).json()["paths"]
    listed = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert listed == set(ROUTES)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8600", "localhost.", "127.0.0.1", "127.0.0.1:9000", "127.8.8.8:1", "[::1]"),
        *("[::1]:8600", "[::ffff:127.0.0.1]:8600"),
    ],
)
def test_a_loopback_name_with_any_port_is_this_daemon_s(asked, host):
    assert asked("GET", "/healthz", [], host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("box", "example.com", "127.0.0.1.nip.io", "localhost.example.com", "xlocalhost", "8.8.8.8", "[::2]:8600"),
        *("2130706433", "0x7f.1", "0.0.0.0", "192.168.1.5", "a.localhost"),
    ],
)
def test_any_other_host_is_refused_by_the_name_of_the_setting(asked, host):
    error = asked("GET", "/healthz", [], host=host).json()["error"]
    assert (error["code"], error["param"]) == ("host_not_allowed", "allowed_hosts")


@pytest.mark.parametrize(
    "host", ["", " ", "localhost:x", "localhost:123456", "a b", "user@localhost", "localhost/", "[::1"]
)
def test_a_host_that_is_none_is_a_bad_request(asked, host):
    answer = asked("GET", "/healthz", [], host=host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_host")


def test_a_request_without_a_host_or_with_two_is_a_bad_request(asked):
    assert asked("GET", "/healthz", [], host=None).json()["error"]["code"] == "bad_host"
    twice = [("Host", "localhost"), ("Host", "localhost")]
    assert asked("GET", "/healthz", twice).json()["error"]["code"] == "bad_host"


def test_what_a_proxy_says_of_the_host_lets_nobody_in(asked):
    said = [("X-Forwarded-Host", "localhost"), ("Forwarded", "host=localhost"), ("X-Forwarded-For", "127.0.0.1")]
    assert asked("GET", "/healthz", said, host="attacker.example").status_code == 403


def test_the_address_that_a_connection_came_in_by_is_this_daemon_s_and_no_other_is():
    asked = Asked(host="0.0.0.0", insecure=True)
    lan = {"server": ("192.168.1.5", 8600)}
    assert asked("GET", "/healthz", [], host="192.168.1.5:8600", **lan).status_code == 200
    assert asked("GET", "/healthz", [], host="192.168.1.6:8600", **lan).status_code == 403
    mapped = {"server": ("::ffff:192.168.1.5", 8600)}
    assert asked("GET", "/healthz", [], host="192.168.1.5:8600", **mapped).status_code == 200


def test_names_of_the_setting_and_the_one_listened_on_are_this_daemon_s():
    asked = Asked(host="box.lan", insecure=True, allowed_hosts=("llm.example.com", "[fd00::5]"))
    for host in ("box.lan:8600", "LLM.example.com", "[fd00::5]:80", "localhost"):
        assert asked("GET", "/healthz", [], host=host).status_code == 200
    assert asked("GET", "/healthz", [], host="example.com").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://localhost:8600"), ("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "none")],
        [("Sec-Fetch-Site", "same-origin")],
    ],
)
def test_our_own_page_and_a_user_who_typed_the_address_are_let_in(asked, headers):
    answer = asked("GET", "/docs", headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://localhost:8600",
        "http://localhost",
        "http://localhost:8601",
        "http://127.0.0.1:8600",
        "localhost:8600",
        "",
    ],
)
def test_an_origin_that_is_only_like_our_own_is_foreign(asked, origin):
    assert asked("POST", "/v1/gc", [("Origin", origin)]).status_code == 403


def test_two_origins_are_foreign_even_if_one_is_our_own(asked):
    own = ("Origin", "http://localhost:8600")
    assert asked("POST", "/v1/gc", [own, ("Origin", "http://attacker.example")]).status_code == 403
    assert Asked(allowed_origins=(PAGE,))("POST", "/v1/gc", [("Origin", PAGE), own]).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_a_form_of_another_origin_stops_and_starts_nothing(asked, kind):
    sent = [("Origin", "http://attacker.example"), ("Content-Type", kind), ("Sec-Fetch-Mode", "navigate")]
    for path in ("/v1/models/pull", "/v1/processes", "/v1/processes/1/kill", "/v1/gc"):
        assert asked("POST", path, sent).status_code == 403
    assert not asked.kernel.processes.table


def test_a_page_that_is_allowed_reads_answers_and_errors_and_their_headers():
    asked = Asked(allowed_origins=(PAGE,))
    site = [("Origin", PAGE), ("Sec-Fetch-Site", "same-site")]
    for path, status in (("/v1/models", 200), ("/v1/models/none", 404), ("/no/route", 404)):
        answer = asked("GET", path, site)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in answer.headers["vary"]
        assert "content-length" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
    assert asked("GET", "/v1/models", [("Origin", "http://localhost:3001")]).status_code == 403
    assert asked("GET", "/v1/models", site, host="attacker.example").status_code == 403


def test_a_page_that_is_allowed_reads_what_is_streamed():
    asked = Asked(allowed_origins=(PAGE,))
    answer = asked("GET", "/v1/models", [("Origin", PAGE)])
    assert len(answer.headers.get_list("vary")) == 1


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("/v1/models", [], 200),
        ("/v1/models", [("Origin", "http://localhost:8600")], 200),
        ("/v1/models", [("Origin", "http://attacker.example")], 403),
        ("/no/route", [], 404),
        ("/v1/events-that-are-none", [("Upgrade", "websocket")], 400),
    ],
)
def test_where_pages_may_call_every_answer_says_that_it_depends_on_the_origin(path, sent, status):
    answer = Asked(allowed_origins=(PAGE,))("GET", path, sent)
    assert (answer.status_code, answer.headers["vary"]) == (status, "Origin")
    assert "access-control-allow-origin" not in answer.headers
    assert "vary" not in Asked()("GET", path, sent).headers


def test_a_preflight_of_an_allowed_page_is_answered_for_whatever_a_client_sends():
    asked = Asked(allowed_origins=(PAGE,))
    wanted = [
        ("Origin", PAGE),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,x-stainless-lang"),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    answer = asked("OPTIONS", "/v1/chat/completions", wanted)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-lang"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert {"Origin", "Access-Control-Request-Headers"} <= {*answer.headers["vary"].split(", ")}
    assert asked("OPTIONS", "/v1/chat/completions", [("Origin", PAGE)]).status_code == 405  # asks for no method


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.sampled_from(["origin", "host", "sec-fetch-site"]), st.text()), max_size=3),
)
def test_no_header_makes_the_guard_fail(host, more):
    raw = [(name.encode(), value.encode()) for name, value in [("host", host), *more]]
    Guard(Config(Path("/nowhere"))).judge({"type": "http", "method": "GET", "headers": raw, "server": None})
