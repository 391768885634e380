"""Files with a purpose over HTTP, in OpenAI's shape."""

from __future__ import annotations

import pytest

from llmos.kernel.store.uploads import UploadLimits


def send(ask, data=b'{"a": 1}\n', name="rows.jsonl", **fields):
    given = {"purpose": "batch", **fields}
    return ask(
        "POST", "/v1/files", files={"file": (name, data)}, data={k: v for k, v in given.items() if v is not None}
    )


def test_a_file_is_sent_shown_read_and_removed(ask):
    made = send(ask).json()
    assert {key: made[key] for key in ("object", "bytes", "filename", "purpose", "status", "expires_at")} == {
        "object": "file",
        "bytes": 9,
        "filename": "rows.jsonl",
        "purpose": "batch",
        "status": "processed",
        "expires_at": None,
    }
    assert ask("GET", f"/v1/files/{made['id']}").json() == made
    answer = ask("GET", f"/v1/files/{made['id']}/content")
    assert (answer.content, answer.headers["content-length"]) == (b'{"a": 1}\n', "9")
    assert ask("DELETE", f"/v1/files/{made['id']}").json() == {"id": made["id"], "object": "file", "deleted": True}
    assert ask("GET", f"/v1/files/{made['id']}").status_code == 404


def test_a_large_file_comes_back_as_it_was_sent(ask):
    data = bytes(range(256)) * 20_000
    made = send(ask, data).json()
    assert made["bytes"] == len(data)
    assert ask("GET", f"/v1/files/{made['id']}/content").content == data


def test_the_same_bytes_are_kept_once_and_outlive_their_first_name(ask, kernel):
    first, second = send(ask).json(), send(ask, name="other.jsonl").json()
    places = [kernel.files.path(one["id"]) for one in (first, second)]
    assert places[0].stat().st_ino == places[1].stat().st_ino
    ask("DELETE", f"/v1/files/{first['id']}")
    assert ask("GET", f"/v1/files/{second['id']}/content").content == b'{"a": 1}\n'


def test_files_are_listed_in_pages_newest_first_and_by_purpose(ask):
    ids = [send(ask, b"%d" % i, purpose=("batch", "user_data")[i % 2]).json()["id"] for i in range(5)]
    page = ask("GET", "/v1/files?limit=2&order=asc").json()
    assert ([one["id"] for one in page["data"]], page["has_more"], page["object"]) == (ids[:2], True, "list")
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[1])
    rest = ask("GET", f"/v1/files?after={ids[1]}&order=asc").json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert {one["id"] for one in ask("GET", "/v1/files?purpose=user_data").json()["data"]} == {ids[1], ids[3]}
    assert [one["id"] for one in ask("GET", "/v1/files").json()["data"]] == sorted(ids, key=lambda one: -ids.index(one))
    assert ask("GET", "/v1/files?after=file-0123456789abcdef").status_code == 400
    assert ask("GET", "/v1/files?order=up").status_code == 400
    assert ask("GET", "/v1/files?limit=10001").status_code == 400


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": None}, "purpose"),
        ({"purpose": "assistants"}, "purpose"),
        ({"expires_after[seconds]": "3600"}, "expires_after"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "10"}, "expires_after"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "9" * 9}, "expires_after"),
        ({"purpose": "x" * 5000}, "purpose"),
    ],
)
def test_fields_that_do_not_fit_are_named_and_nothing_is_kept(ask, kernel, fields, param):
    answer = send(ask, **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert [one.name for one in kernel.uploads_folder.iterdir()] == []


def test_a_form_without_a_file_or_with_two_is_refused(ask):
    assert ask("POST", "/v1/files", files={"purpose": (None, "batch")}).json()["error"]["param"] == "file"
    two = [("file", ("a", b"1")), ("file", ("b", b"2")), ("purpose", (None, b"batch"))]
    assert ask("POST", "/v1/files", files=two).json()["error"]["param"] == "file"
    assert ask("POST", "/v1/files", json={"purpose": "batch"}).json()["error"]["param"] == "content-type"


def test_the_purpose_may_come_behind_the_file(ask):
    parts = [("file", ("a.jsonl", b"1")), ("purpose", (None, b"fine-tune"))]
    assert ask("POST", "/v1/files", files=parts).json()["purpose"] == "fine-tune"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("/etc/rows.csv", "rows.csv"), ("C:\\x\\rows.csv", "rows.csv"), ("..", "file"), ("ü" * 150, "ü" * 100)],
)
def test_the_name_is_that_of_a_file_alone(ask, sent, kept):
    assert send(ask, name=sent).json()["filename"] == kept


def test_a_file_over_the_limits_is_refused_and_leaves_nothing(ask, kernel):
    kernel.upload_limits = UploadLimits(most_bytes=100, most_bytes_together=150)
    answer = send(ask, b"x" * 101)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")
    assert send(ask, b"x" * 100).status_code == 200
    assert send(ask, b"y" * 100).status_code == 507
    assert len(list(kernel.uploads_folder.glob("*.json"))) == 1
    assert not list(kernel.uploads_folder.glob(".tmp-*"))


def test_a_file_that_a_process_uses_stays(ask, kernel):
    made = send(ask).json()
    kernel.in_use.add(kernel.files.get(made["id"]).id)
    answer = ask("DELETE", f"/v1/files/{made['id']}")
    assert (answer.status_code, answer.json()["error"]["detail"]["reason"]) == (409, "in_use")


def test_a_file_with_an_end_says_when(ask):
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = send(ask, **fields).json()
    assert made["expires_at"] - made["created_at"] in (3600, 3601)


def test_a_file_is_an_upload_that_processes_can_name(ask):
    made = send(ask).json()
    found = ask("GET", "/v1/uploads").json()["data"]
    assert [(one["ref"], one["purpose"]) for one in found] == [(f"upload:{made['id'].removeprefix('file-')}", "batch")]
