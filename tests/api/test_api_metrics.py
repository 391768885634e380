"""/metrics counts what was refused, and how long streams take to begin and to go on."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmos.abi.histogram import Histogram
from llmos.api.call_service import EACH_TOKEN_S
from llmos.api.metrics import family

HELLO = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def samples(ask):
    families = text_string_to_metric_families(ask("GET", "/metrics").text)
    return {(s.name, *sorted(s.labels.items())): s.value for one in families for s in one.samples}


def test_refusals_are_counted_by_code_on_every_route(ask):
    for path, body in (("embeddings", {}), ("tasks/embed", {"model": "nobody", "input": "x"}), ("embeddings", {})):
        ask("POST", f"/v1/{path}", body)
    ask("GET", "/v1/models/nobody")
    found = samples(ask)
    assert found["llmos_refusals_total", ("code", "bad_input")] == 2
    assert found["llmos_refusals_total", ("code", "model_not_found")] == 2


def test_a_stream_is_timed_by_model_and_class_and_unknown_models_make_no_label(ask):
    ask("POST", "/v1/chat/completions", HELLO | {"class": "batch"})
    ask("POST", "/v1/chat/completions", HELLO | {"model": "nobody"})
    ask("POST", "/v1/chat/completions", HELLO | {"stream": False})
    found = samples(ask)
    labels = (("model", "smollm2:1"), ("priority", "batch"))
    for name in ("llmos_first_token_seconds", "llmos_each_token_seconds"):
        assert {key: value for key, value in found.items() if key[0] == f"{name}_count"} == {
            (f"{name}_count", *labels): 1
        }


@given(st.lists(st.floats(0, 10), min_size=1))
def test_buckets_hold_all_up_to_their_bounds(seconds):
    histogram = Histogram(EACH_TOKEN_S)
    for one in seconds:
        histogram.observe("m:1", "batch", one)
    found = {s.labels.get("le"): s.value for s in family(histogram, "x", "y").samples if s.name == "x_bucket"}
    assert found == {
        **{str(bound): sum(one <= bound for one in seconds) for bound in EACH_TOKEN_S},
        "+Inf": len(seconds),
    }


def test_what_no_route_has_seen_is_counted_as_refused_too(ask):
    for method, path, headers in (
        ("GET", "/no/such/route", {}),
        ("GET", "/v1/models/a/b", {}),
        ("DELETE", "/v1/embeddings", {}),
        ("GET", "/healthz", {"host": "evil.example"}),
    ):
        assert ask(method, path, headers=headers).status_code >= 400
    found = {dict([key[1]])["code"]: value for key, value in samples(ask).items() if key[0] == "llmos_refusals_total"}
    assert found == {"not_found": 1, "model_not_found": 1, "bad_input": 1, "host_not_allowed": 1}
