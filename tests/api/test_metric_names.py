"""Metric names follow Prometheus' conventions, and what is shipped for Grafana and Prometheus uses no other names."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from llmos.abi.process import Progress, Spec, State

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "llmos.json"
RULES = DEPLOY / "prometheus" / "llmos.rules.yml"
NAME = re.compile(r"llmos(_[a-z]+)+")
OTHER_UNITS = {"ms", "milliseconds", "microseconds", "minutes", "hours", "kb", "mb", "gb", "kib", "mib", "percent", "%"}
BOUNDED = {  # each label has few values: those of the code, of the store, or of the machine
    *("task", "model", "outcome", "kind", "code", "priority", "state", "device", "base", "pid", "version", "le"),
    *("severity", "channel", "scope", "key"),
}
FIGURES = {
    "live": 3,
    "reading": 1,
    "waiting": 2,
    "preempted": 4,
    "kv_blocks": 64,
    "kv_held": 8,
    "kv_kept": 4,
    "kv_waste": 0.25,
    "prefix_hit_rate": 0.5,
    "kv_share": 0.1,
}
METRIC = re.compile(r"\bllmos_[a-z_]+\b(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")


@pytest.fixture
def families(kernel, ask):
    """Every family of a daemon that has served, refused and generated."""
    serve = asyncio.run(kernel.processes.submit(Spec("serve", {"base": "smollm2:1"}, title="serve smollm2:1")))
    kernel.processes.move(serve.pid, State.STARTING)
    kernel.processes.move(serve.pid, State.READY)
    kernel.processes.report_progress(serve.pid, Progress("serving", figures=FIGURES))
    ask("POST", "/v1/tasks/classify", {"model": "support", "input": "x"})
    ask("POST", "/v1/tasks/classify", {"model": "support", "input": ""})
    chat = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    ask("POST", "/v1/chat/completions", chat)
    kernel.calls.queue_times.observe("smollm2:1", "interactive", 0.1)
    return list(text_string_to_metric_families(ask("GET", "/metrics").text))


@pytest.fixture
def exposed(families):
    """The labels of every sample's name; without samples, a family's name has none."""
    found = {one.name + ("_total" if one.type == "counter" else ""): set() for one in families}
    for sample in (sample for one in families for sample in one.samples):
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_a_name_is_ours_says_its_base_unit_and_counts_end_in_total(families):
    for one in families:
        assert NAME.fullmatch(one.name), one.name
        assert not OTHER_UNITS & set(one.name.split("_")), one.name
        assert one.documentation.strip(), one.name
        assert not one.name.endswith(("_total", "_count", "_sum", "_bucket")), one.name
        names = {sample.name for sample in one.samples}
        if one.type == "counter":
            assert names <= {f"{one.name}_total", f"{one.name}_created"}, one.name
        elif one.type == "histogram":
            assert one.name.endswith(("_seconds", "_bytes")), one.name
        else:
            assert names <= {one.name}, one.name


def test_a_family_has_one_unit_one_set_of_labels_and_only_bounded_ones(families):
    for one in families:
        for sample in one.samples:
            assert set(sample.labels) <= BOUNDED, sample
        kinds = {tuple(sorted(set(sample.labels) - {"le"})) for sample in one.samples}
        assert len(kinds) <= 1, one.name
        if one.name.endswith("_ratio"):
            assert all(0 <= sample.value <= 1 for sample in one.samples), one.name


def test_every_metric_is_in_the_table_of_the_docs(families):
    told = (DEPLOY.parent / "docs" / "api.md").read_text()
    names = [one.name + ("_total" if one.type == "counter" else "") for one in families]
    assert [name for name in names if f"`{name}`" not in told] == []


def test_no_sample_is_there_twice(families):
    keys = [(sample.name, *sorted(sample.labels.items())) for one in families for sample in one.samples]
    assert len(keys) == len(set(keys))


def test_the_sequences_of_a_process_are_each_in_one_state(families):
    found = next(one for one in families if one.name == "llmos_generation_sequences")
    assert {sample.labels["state"]: sample.value for sample in found.samples} == {
        "prefill": 1,
        "running": 2,
        "waiting": 2,
    }


def unknown(expression, exposed):
    """The metrics of an expression that are not exposed, and labels that they do not have."""
    wrong, names = [], []
    for found in METRIC.finditer(expression):
        name = found[0].partition("{")[0]
        names.append(name)
        if name not in exposed:
            wrong.append(name)
        else:
            wrong += [f"{name}{{{label}}}" for label in LABEL.findall(found[1] or "") if label not in exposed[name]]
    had = {label for name in names for label in exposed.get(name, ())}
    for found in GROUPED.finditer(expression):
        wrong += [label for label in map(str.strip, found[1].split(",")) if label not in had]
    return wrong if names else [f"no metric in {expression!r}"]


def panels(board):
    for one in board["panels"]:
        yield one
        yield from one.get("panels", ())


def test_the_dashboard_asks_only_for_what_the_daemon_exposes(exposed):
    board = json.loads(DASHBOARD.read_text())
    shown = [one for one in panels(board) if one["type"] != "row"]
    targets = [target["expr"] for one in shown for target in one["targets"]]
    variables = [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    assert len(targets) >= len(shown) > 10
    assert {one: unknown(one, exposed) for one in (*targets, *variables) if unknown(one, exposed)} == {}


def test_the_panels_of_the_dashboard_have_titles_units_and_places_of_their_own():
    board = json.loads(DASHBOARD.read_text())
    shown = list(panels(board))
    assert len({one["id"] for one in shown}) == len(shown)
    assert all(one["title"] for one in shown)
    assert all(one["fieldConfig"]["defaults"]["unit"] for one in shown if one["type"] != "row")
    cells = [
        (x, y)
        for place in (one["gridPos"] for one in shown)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def test_the_alert_rules_for_prometheus_ask_only_for_what_the_daemon_exposes(exposed):
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["alert"]: unknown(rule["expr"], exposed) for rule in rules if unknown(rule["expr"], exposed)} == {}
    assert all(rule["labels"]["severity"] and rule["annotations"]["summary"] for rule in rules)


def test_a_wrong_name_or_label_of_an_expression_is_found():
    exposed = {"llmos_calls_total": {"model"}}
    assert unknown("rate(llmos_calls_total[5m])", exposed) == []
    assert unknown("rate(llmos_call_total[5m])", exposed) == ["llmos_call_total"]
    assert unknown('sum by (task) (llmos_calls_total{modle="x"})', exposed) == ["llmos_calls_total{modle}", "task"]
