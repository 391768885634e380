"""Uploads over HTTP: in JSON and as tus 1.0 has it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from llmos.api.app import create_app
from llmos.config import Config
from llmos.kernel.store.uploads import UploadLimits

TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}


def base64_of(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def upload(ask):
    """An upload of ten bytes that has begun."""
    answer = ask("POST", "/v1/uploads", json={"name": "rows.csv", "size_bytes": 10})
    assert answer.status_code == 201
    return answer.json()


def send(ask, upload, data, offset=0, **headers):
    given = {"Upload-Offset": str(offset), **headers}
    return ask("PATCH", f"/v1/uploads/{upload['id']}", content=data, headers=given)


def test_a_file_is_sent_in_two_parts_and_shown(ask, upload):
    assert (upload["offset"], upload["is_complete"], upload["ref"]) == (0, False, f"upload:{upload['id']}")
    assert send(ask, upload, b"01234").json()["offset"] == 5
    assert ask("GET", f"/v1/uploads/{upload['id']}").json()["offset"] == 5
    assert send(ask, upload, b"56789", 5).json()["is_complete"] is True
    assert [one["id"] for one in ask("GET", "/v1/uploads").json()["data"]] == [upload["id"]]


def test_put_sends_the_whole_file_as_curl_does(ask, upload):
    answer = ask("PUT", f"/v1/uploads/{upload['id']}", content=b"0123456789")
    assert (answer.status_code, answer.json()["is_complete"]) == (200, True)


def test_another_offset_is_a_conflict_that_says_the_right_one(ask, upload):
    send(ask, upload, b"01234")
    for offset in (0, 4, 6):
        answer = send(ask, upload, b"5", offset)
        assert (answer.status_code, answer.json()["error"]["detail"]["offset"]) == (409, 5)
    assert ask("PUT", f"/v1/uploads/{upload['id']}", content=b"0123456789").status_code == 409


def test_more_than_was_announced_is_refused_before_it_is_read(ask, upload):
    answer = send(ask, upload, b"0123456789a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")
    assert ask("GET", f"/v1/uploads/{upload['id']}").json()["offset"] == 0


def test_an_upload_that_is_not_there_is_a_404_on_every_route(ask):
    for method in ("GET", "PATCH", "PUT", "DELETE", "HEAD"):
        answer = ask(method, "/v1/uploads/0123456789abcdef", headers={"Upload-Offset": "0"})
        assert answer.status_code == 404, method
    assert ask("GET", "/v1/uploads/0123456789abcdef").json()["error"]["code"] == "upload_not_found"


@pytest.mark.parametrize("offset", [None, "", "-1", "+1", "1.5", "x", "٣", "9" * 16])
def test_a_part_says_where_it_begins_in_a_number_of_bytes(ask, upload, offset):
    headers = {} if offset is None else {"Upload-Offset": offset.encode()}
    answer = ask("PATCH", f"/v1/uploads/{upload['id']}", content=b"0", headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "upload-offset")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a/b", "size_bytes": 1},
        {"name": "..", "size_bytes": 1},
        {"name": "a", "size_bytes": -1},
        {"name": "a"},
        {"size_bytes": 1},
        {"name": "a", "size_bytes": 1, "sha256": "x"},
        {"name": "a", "size_bytes": 1, "path": "/etc"},
    ],
)
def test_what_cannot_be_a_file_is_refused(ask, body):
    assert ask("POST", "/v1/uploads", json=body).status_code == 400
    assert ask("GET", "/v1/uploads").json() == {"data": []}


def test_bytes_of_another_digest_are_refused_at_the_end(ask):
    upload = ask("POST", "/v1/uploads", json={"name": "a", "size_bytes": 1, "sha256": "0" * 64}).json()
    answer = send(ask, upload, b"a")
    assert (answer.status_code, answer.json()["error"]["detail"]["reason"]) == (400, "digest")
    assert ask("GET", f"/v1/uploads/{upload['id']}").status_code == 404


def test_a_limit_has_its_status(ask, kernel):
    kernel.upload_limits = UploadLimits(most_bytes=100, most_bytes_together=150)
    assert ask("POST", "/v1/uploads", json={"name": "a", "size_bytes": 101}).status_code == 413
    assert ask("POST", "/v1/uploads", json={"name": "a", "size_bytes": 100}).status_code == 201
    assert ask("POST", "/v1/uploads", json={"name": "a", "size_bytes": 100}).status_code == 507


def test_a_file_that_a_process_uses_is_not_removed(ask, kernel, upload):
    kernel.in_use.add(upload["id"])
    answer = ask("DELETE", f"/v1/uploads/{upload['id']}")
    assert (answer.status_code, answer.json()["error"]["detail"]["reason"]) == (409, "in_use")
    kernel.in_use.clear()
    assert ask("DELETE", f"/v1/uploads/{upload['id']}").json()["removed"] == [upload["ref"]]
    assert ask("GET", f"/v1/uploads/{upload['id']}").status_code == 404


def test_tus_creates_sends_asks_and_terminates(ask):
    metadata = f"filename {base64_of('Zeilen.csv')},filetype {base64_of('text/csv')},empty"
    made = ask("POST", "/v1/uploads", headers={**TUS, "Upload-Length": "10", "Upload-Metadata": metadata})
    assert (made.status_code, made.headers["tus-resumable"], made.headers["upload-offset"]) == (201, "1.0.0", "0")
    place = made.headers["location"]
    part = ask("PATCH", place, content=b"01234", headers={**PART, "Upload-Offset": "0"})
    assert (part.status_code, part.content, part.headers["upload-offset"]) == (204, b"", "5")
    assert part.headers["upload-expires"].endswith("GMT")
    head = ask("HEAD", place, headers=TUS)
    assert (head.status_code, head.headers["upload-offset"], head.headers["upload-length"]) == (200, "5", "10")
    assert head.headers["cache-control"] == "no-store"
    by_post = {**PART, "Upload-Offset": "5", "X-HTTP-Method-Override": "PATCH"}
    assert ask("POST", place, content=b"56789", headers=by_post).headers["upload-offset"] == "10"
    assert ask("GET", place).json()["name"] == "Zeilen.csv"
    gone = ask("DELETE", place, headers=TUS)
    assert (gone.status_code, gone.content, gone.headers["tus-resumable"]) == (204, b"", "1.0.0")
    assert ask("HEAD", place, headers=TUS).status_code == 404


def test_tus_says_what_it_is_and_refuses_other_versions(ask, upload):
    said = ask("OPTIONS", "/v1/uploads")
    assert (said.status_code, said.headers["tus-version"]) == (204, "1.0.0")
    assert said.headers["tus-extension"] == "creation,expiration,termination"
    for method, path in (("POST", "/v1/uploads"), ("PATCH", f"/v1/uploads/{upload['id']}")):
        for version in ("0.2.2", "1.0.1", ""):
            answer = ask(method, path, headers={"Tus-Resumable": version, "Upload-Offset": "0"})
            assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")


def test_every_refusal_of_tus_has_its_version(ask, upload):
    for path, headers, status in (
        (f"/v1/uploads/{upload['id']}", {**PART, "Upload-Offset": "3"}, 409),
        (f"/v1/uploads/{upload['id']}", {**TUS, "Upload-Offset": "0", "Content-Type": "text/csv"}, 415),
        (f"/v1/uploads/{upload['id']}", {**PART, "Upload-Offset": "0", "Content-Encoding": "gzip"}, 415),
        ("/v1/uploads/0123456789abcdef", {**PART, "Upload-Offset": "0"}, 404),
    ):
        answer = ask("PATCH", path, content=b"0", headers=headers)
        assert (answer.status_code, answer.headers["tus-resumable"]) == (status, "1.0.0")


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Length": "10"},
        {"Upload-Metadata": f"filename {base64_of('a')}"},
        {"Upload-Length": "10", "Upload-Metadata": "filename !!!"},
        {"Upload-Length": "10", "Upload-Metadata": f"filename {base64_of('../a')}"},
        {"Upload-Defer-Length": "1", "Upload-Metadata": f"filename {base64_of('a')}"},
    ],
)
def test_tus_without_a_length_or_a_name_is_refused(ask, headers):
    assert ask("POST", "/v1/uploads", headers={**TUS, **headers}).status_code == 400


def test_what_came_before_the_client_left_is_kept(ask, kernel, upload):
    """A body of several pieces, of which the last never comes."""

    async def leave():
        app = create_app(kernel, Config(Path("/nowhere")))
        came = iter(
            [
                {"type": "http.request", "body": b"01", "more_body": True},
                {"type": "http.request", "body": b"23", "more_body": True},
                {"type": "http.disconnect"},
            ]
        )

        async def receive():
            return next(came)

        headers = [(b"host", b"localhost"), (b"upload-offset", b"0")]
        path = f"/v1/uploads/{upload['id']}"
        scope = {"type": "http", "method": "PATCH", "path": path, "headers": headers, "query_string": b""}
        await app(scope, receive, lambda message: None)

    asyncio.run(leave())
    assert ask("GET", f"/v1/uploads/{upload['id']}").json()["offset"] == 4
    assert send(ask, upload, b"456789", 4).json()["is_complete"] is True


def test_a_body_beyond_max_body_bytes_is_streamed_to_the_disk(ask):
    data = bytes(range(256)) * 8192  # 2 MiB, where other bodies may have 4 KiB
    upload = ask("POST", "/v1/uploads", json={"name": "rows.bin", "size_bytes": len(data)}).json()
    assert send(ask, upload, data).json()["is_complete"] is True
