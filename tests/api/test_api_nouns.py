"""Models, processes, datasets, events and the box itself over HTTP."""

import asyncio
import json

import pytest

from llmos.abi.row_outcome import RowOutcome, write_outcomes
from llmos.data.checks.finding import CheckFinding, Severity, Suspect
from llmos.data.checks.report import CheckReport, write_kept

TRAIN = {"program": "train", "args": {"task": "classify", "name": "mood", "base": "minilm"}}


def test_the_list_of_models_has_openai_s_shape_with_our_fields_beside(ask):
    answer = ask("GET", "/v1/models").json()
    assert answer["object"] == "list"
    ner = next(model for model in answer["data"] if model["id"] == "ner:1")
    assert (ner["object"], ner["owned_by"], ner["created"]) == ("model", "llmos", 1767323045)
    assert (ner["ref"], ner["promoted"], ner["base"], list(ner["metrics"])) == (
        "ner:1",
        True,
        "minilm:1",
        ["f1", "accuracy"],
    )


def test_a_bare_name_is_shown_as_what_it_means_and_moves_with_promotion(ask):
    assert ask("GET", "/v1/models/support").json()["ref"] == "support:2"
    assert ask("POST", "/v1/models/support/rollback").json()["ref"] == "support:1"
    assert ask("POST", "/v1/models/support:2/promote").json()["promoted"] is True
    assert ask("GET", "/v1/models/support").json()["ref"] == "support:2"


def test_the_gate_of_a_name_is_shown_changed_and_reset(ask):
    default = {"name": "new", "require": ["at-least-as-good"], "margin": 0.0, "is_default": True}
    assert ask("GET", "/v1/models/new/gate").json() == default
    changed = {"name": "new", "require": ["not-worse", "f1.low>=0.8"], "margin": 0.01, "is_default": False}
    asked = {"require": ["not-worse", "f1.low >= 0.8"], "margin": 0.01}
    assert ask("POST", "/v1/models/new/gate", json=asked).json() == changed
    assert ask("POST", "/v1/models/new/gate", json={"margin": 0.02}).json() == changed | {"margin": 0.02}
    assert ask("DELETE", "/v1/models/new/gate").json() == default


def test_a_removed_model_is_gone(ask):
    assert ask("DELETE", "/v1/models/support").json() == {"removed": ["support:1", "support:2"], "deleted": True}
    assert ask("GET", "/v1/models/support").status_code == 404


def test_the_report_is_the_page_from_the_model_s_folder(ask, kernel, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<h1>good</h1>")
    kernel.models.report = str(page)
    answer = ask("GET", "/v1/models/ner/report")
    assert (answer.text, answer.headers["content-type"]) == ("<h1>good</h1>", "text/html; charset=utf-8")


def test_the_errors_of_a_model_are_chosen_from_its_predictions(ask, kernel, tmp_path):
    kinds = [(), ("a -> b",), ("b -> a",)]
    rows = [
        RowOutcome(i, f"id{i}", "x.csv", i, ("text",), "a", "b", float(not kind), kind, labels=("a",), loss=float(i))
        for i, kind in enumerate(kinds)
    ]
    write_outcomes(rows, tmp_path / "predictions.jsonl.gz")
    kernel.models.report = str(tmp_path / "predictions.jsonl.gz")
    answer = ask("GET", "/v1/models/ner/errors").json()
    assert (answer["rows"], answer["errors"], answer["kinds"]) == (3, 2, {"a -> b": 1, "b -> a": 1})
    assert [one["id"] for one in answer["data"]] == ["id2", "id1"]
    assert [one["id"] for one in ask("GET", "/v1/models/ner/errors?kind=a%20-%3E%20b").json()["data"]] == ["id1"]
    assert len(ask("GET", "/v1/models/ner/errors?limit=1&label=a").json()["data"]) == 1
    assert ask("GET", "/v1/models/ner/errors?slice=de").json()["error"]["detail"] == {"key": "slice"}
    assert ask("GET", "/v1/models/nobody/errors").status_code == 404


def test_errors_are_marked_with_what_the_check_of_their_dataset_found(ask, kernel, tmp_path):
    rows = [RowOutcome(i, f"id{i}", "x.csv", i, ("text",), "a", "b", 0.0, ("a -> b",)) for i in range(3)]
    write_outcomes(rows, tmp_path / "predictions.jsonl.gz")
    suspect = Suspect("id1", "a", "b", 0.75)
    found = CheckFinding("suspects", Severity.WARNING, "a label", ("id1", "id2"), suspects=(suspect,))
    CheckReport("rows@1", "classify", {"test": 3}, "", (), (), {"a": 3}, (found,)).write(tmp_path)
    write_kept(tmp_path, {"suspects": ["id2"]})
    kernel.models.report, kernel.models.checks = str(tmp_path / "predictions.jsonl.gz"), (str(tmp_path),)
    answer = ask("GET", "/v1/models/ner/errors").json()
    assert answer["checks"] == {"suspects": 1}
    marks = {one["id"]: one.get("checks") for one in answer["data"]}
    assert marks == {"id0": None, "id1": [{"kind": "suspects", "suggestion": "b", "score": 0.75}], "id2": None}


def test_a_pull_is_a_process(ask):
    answer = ask("POST", "/v1/models/pull", {"source": "minilm"})
    process = answer.json()
    assert (answer.status_code, process["spec"]["program"], process["state"]) == (201, "pull", "queued")
    assert process["spec"]["args"] == {"source": "minilm", "name": None}


def test_a_trainer_runs_in_the_background_unless_said(ask):
    assert ask("POST", "/v1/processes", TRAIN).json()["spec"]["class"] == "background"
    assert ask("POST", "/v1/processes", {**TRAIN, "class": "batch"}).json()["spec"]["class"] == "batch"
    assert [process["pid"] for process in ask("GET", "/v1/processes").json()["data"]] == [1, 2]


def test_a_process_yields_stops_and_cannot_move_where_it_may_not(ask):
    ask("POST", "/v1/processes", TRAIN)
    assert ask("POST", "/v1/processes/1/nice", {"class": "interactive"}).json()["spec"]["class"] == "interactive"
    assert ask("POST", "/v1/processes/1/suspend").json()["error"]["code"] == "illegal_move"
    assert ask("POST", "/v1/processes/1/kill").json()["exit_code"] == 143
    again = ask("POST", "/v1/processes/1/kill", {"force": True})
    assert (again.status_code, again.json()["error"]["detail"]) == (409, {"pid": 1, "state": "exited"})


def test_the_events_of_a_process_begin_with_its_state_and_end_with_its_end(ask, kernel, events):
    ask("POST", "/v1/processes", TRAIN)
    asyncio.run(kernel.processes.play(1))
    answer = ask("GET", "/v1/processes/1/events")
    (last,) = events(answer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (last["process"]["state"], last["process"]["made"], last["kind"]) == ("exited", ["mood:1"], "process")


def test_a_log_is_text_its_tail_is_shorter_and_it_can_be_followed(ask, events):
    ask("POST", "/v1/processes", TRAIN)
    assert ask("GET", "/v1/processes/1/log").text.count("\n") == 3
    assert ask("GET", "/v1/processes/1/log?tail=1").text == "pid 1 line 3\n"
    assert events(ask("GET", "/v1/processes/1/log?follow=true"))[0] == "pid 1 line 1\n"
    assert ask("GET", "/v1/processes/1/log?tail=-1").status_code == 400
    assert ask("GET", "/v1/processes/1/log?follow=maybe").status_code == 400


def test_an_empty_text_is_not_looked_for(ask):
    assert ask("POST", "/v1/find-rows", {"texts": [" "]}).json()["error"]["detail"]["key"] == "texts"


def test_the_findings_of_a_dataset_are_those_of_its_last_check(ask, kernel, tmp_path):
    assert ask("GET", "/v1/datasets/tickets@1/findings").json()["error"]["detail"]["reason"] == "no_check"
    found = CheckFinding("leaks", Severity.ERROR, "two rows", ("id1", "id2"))
    CheckReport("tickets@1", "classify", {"test": 3}, "minilm:1", (), (), {"a": 3}, (found,)).write(tmp_path)
    kernel.models.checks = (str(tmp_path),)
    answer = ask("GET", "/v1/datasets/tickets@1/findings").json()
    assert (answer["dataset"], answer["base"], answer["worst"]) == ("tickets@1", "minilm:1", "error")
    assert [(one["kind"], one["rows"]) for one in answer["findings"]] == [("leaks", 2)]


def test_datasets_are_listed_shown_and_removed(ask):
    assert [one["ref"] for one in ask("GET", "/v1/datasets").json()["data"]] == ["tickets@1"]
    assert ask("GET", "/v1/datasets/tickets@1").json()["splits"] == {"train": 9}
    assert ask("DELETE", "/v1/datasets/tickets@1").json()["removed"] == ["tickets@1"]


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/healthz", "status"),
        ("GET", "/v1/status", "rss_bytes"),
        ("GET", "/v1/devices", "data"),
        ("GET", "/v1/disk", "blobs_bytes"),
        ("POST", "/v1/gc", "freed_bytes"),
    ],
)
def test_the_box_says_how_it_is(ask, method, path, key):
    assert key in ask(method, path).json()


def test_the_interface_is_documented_without_anything_from_elsewhere(ask):
    page = ask("GET", "/docs").text
    assert "/openapi.json" in page
    assert "https://" not in page
    assert "src=" not in page
    assert "/docs" in ask("GET", "/").text


def test_openapi_describes_every_route_and_every_reference_leads_somewhere(ask):
    document = ask("GET", "/openapi.json").json()
    routes = {(route.path, method) for route in ask.app.routes for method in route.methods - {"HEAD"}}
    assert {(path, m.upper()) for path, methods in document["paths"].items() for m in methods} == routes
    text = json.dumps(document)
    named = {piece.partition('"')[0] for piece in text.split('"#/components/schemas/')[1:]}
    assert named <= document["components"]["schemas"].keys()
    assert "class" in document["components"]["schemas"]["Spec"]["properties"]


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/ner/", "/healthz//"])
def test_a_slash_at_the_end_of_a_path_changes_nothing(ask, path):
    assert ask("GET", path).json() == ask("GET", path.rstrip("/")).json()


def test_what_only_shows_can_be_asked_for_its_head(ask):
    assert ask("HEAD", "/healthz").status_code == 200
    assert ask("HEAD", "/v1/tasks/tag").status_code == 405


def test_a_process_shows_its_report_as_a_page(ask):
    pid = ask("POST", "/v1/processes", {"program": "evaluate", "args": {"model": "ner", "data": "/x"}}).json()["pid"]
    page = ask("GET", f"/v1/processes/{pid}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == f"<p>pid {pid}"
    assert ask("GET", "/v1/processes/999/report").status_code == 404
