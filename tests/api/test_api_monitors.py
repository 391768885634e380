"""Monitors over HTTP: begun, shown, ended; and what is noted of calls."""

PATH = "/v1/models/support/monitor"


def test_a_monitor_is_begun_shown_and_ended(ask):
    assert ask("GET", PATH).status_code == 404
    assert ask("POST", PATH).json()["pid"] == 7
    assert ask("GET", PATH).json()["name"] == "support"
    page = ask("GET", f"{PATH}/report")
    assert (page.text, page.headers["content-type"]) == ("<h1>support</h1>", "text/html; charset=utf-8")
    assert ask("DELETE", PATH).json()["pid"] is None
    assert ask("GET", f"{PATH}/report").status_code == 404
    assert ask("POST", "/v1/models/nobody/monitor").status_code == 404


def test_calls_are_noted_and_their_text_unless_it_may_not_be_kept(ask, kernel):
    call = {"model": "support", "inputs": ["where is my parcel", "my bill"]}
    ask("POST", "/v1/run", call)
    assert kernel.monitoring.noted == []
    ask("POST", PATH)
    answer = ask("POST", "/v1/run", call).json()["outputs"]
    ask("POST", "/v1/run", {**call, "store": False})
    noted = kernel.monitoring.noted
    assert [one.text for one in noted] == ["where is my parcel", "my bill", "", ""]
    assert [one.label for one in noted[:2]] == [one["label"] for one in answer]
    assert [one.confidence for one in noted[:2]] == [one["score"] for one in answer]
    assert [(one.tokens, one.words) for one in noted[2:]] == [(4, 4), (2, 2)]
