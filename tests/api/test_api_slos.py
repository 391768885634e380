"""SLOs over HTTP: set, counted by calls, shown, removed."""

PATH = "/v1/models/support/slo"


def test_objectives_are_set_counted_shown_and_removed(ask):
    assert ask("POST", PATH, {"objectives": {"p99": "10s", "errors": "0.1%"}}).status_code == 200
    for _ in range(3):
        ask("POST", "/v1/run", {"model": "support", "input": "where is it"})
    found = ask("GET", PATH).json()
    assert [one["objective"] for one in found["objectives"]] == ["p99<=10s", "errors<=0.1%"]
    assert [one["calls"] for one in found["objectives"]] == [3, 3]
    assert [one["name"] for one in ask("GET", "/v1/slos").json()["data"]] == ["support"]
    assert ask("DELETE", PATH).status_code == 200
    assert ask("GET", PATH).status_code == 404
    assert ask("GET", "/v1/slos").json()["data"] == []


def test_what_answers_no_input_counts_for_no_objective(ask):
    path = "/v1/models/smollm2/slo"
    ask("POST", path, {"objectives": {"p99": "10s"}})
    for route, body in (("/api/generate", {}), ("/tokenize", {"prompt": "a"})):
        assert ask("POST", route, {"model": "smollm2", **body}).status_code == 200
    assert [one["calls"] for one in ask("GET", path).json()["objectives"]] == [0]
    ask("POST", "/api/generate", {"model": "smollm2", "prompt": "hello", "stream": False})
    assert [one["calls"] for one in ask("GET", path).json()["objectives"]] == [1]


def test_what_is_no_objective_is_refused_by_its_key(ask):
    answer = ask("POST", PATH, {"objectives": {"p99": "fast"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "p99")
    assert ask("POST", "/v1/models/nobody/slo", {"objectives": {"errors": "1%"}}).status_code == 404
