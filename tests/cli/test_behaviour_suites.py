"""`llmos test`, and the same from Python, against a real server: results, exit codes, files, drafts and curves."""

import asyncio
import json
from xml.etree import ElementTree

import pytest

from llmos import AsyncClient, Client
from llmos.abi.error import BadInput, BadSuite
from llmos.cli.main import run_verb
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

SUITE = """
suite: messages
task: classify
model: support
lexicons: {{item: [kettle, lamp]}}
tests:
  - test: some label
    texts: ["Where is my {{item}}?"]
    expect: {{one_of: [{labels}]}}
  - test: never this
    texts: ["Where is my {{item}}?"]
    expect: {{not: [{labels}]}}
    max_failures: {share}
"""


@pytest.fixture
def kernel():
    return MemoryKernel(plays=True)


@pytest.fixture
def url(kernel, tmp_path, monkeypatch):
    """A served kernel, whose address the home's daemon.json names."""
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serving(kernel, Config(tmp_path)) as url:
        (tmp_path / "daemon.json").write_text(json.dumps({"url": url, "os_pid": 0}))
        yield url


@pytest.fixture
def llmos(url, capfd):
    def run(*words):
        code = run_verb(list(words))
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def write(url, tmp_path):
    with Client(url) as box:
        labels = ", ".join(box.model("support").labels)

    def write(share=0.0):
        file = tmp_path / "my.suite.yaml"
        file.write_text(SUITE.format(labels=labels, share=share))
        return str(file)

    return write


def test_a_suite_that_fails_shows_its_failures_and_exits_with_1(llmos, write):
    code, out, err = llmos("test", "support", "--suite", write())
    assert (code, err) == (1, "")
    assert "ok      some label  minimum functionality  2      100%" in out
    assert "FAILED  never this" in out
    assert "  Where is my kettle?\n    expected: not " in out
    assert "1 of 2 tests passed, 2 of 4 cases. Failed: never this (2 of 2 cases)." in out
    assert "expected" not in llmos("test", "support", "--suite", write(), "--show", "0")[1]


def test_what_may_fail_exits_with_0(llmos, write):
    code, out, _ = llmos("test", "support", "--suite", write(share=1))
    assert (code, "never this (allowed)" in out) == (0, True)


def test_json_junit_and_a_page_say_the_same(llmos, write, tmp_path):
    code, out, _ = llmos("test", "support", "--suite", write(), "--json", "--junit", "x.xml", "--html", "x.html")
    said = json.loads(out)
    assert (code, said["passed"], said["suites"][0]["failed"]) == (1, False, 2)
    assert said["suites"][0]["model"] == "support:2"
    assert ElementTree.parse(tmp_path / "x.xml").getroot().get("failures") == "1"
    assert "2 failed" in (tmp_path / "x.html").read_text()


def test_wrong_usage_and_wrong_suites_exit_with_2(llmos, write, tmp_path):
    assert llmos("test", "support")[0] == 2
    assert llmos("test", "support", "--new", "--robustness")[0] == 2
    assert llmos("test", "support", "--suite", "none.yaml")[0] == 2
    assert llmos("test", "support", "--suite", write(), "--junit", "no/x.xml")[0] == 2
    (tmp_path / "bad.yaml").write_text("suite: x\ntask: classify\ntests:\n  - {test: a, texts: [x], expect: nolabel}\n")
    code, _, err = llmos("test", "support", "--suite", "bad.yaml", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (2, "bad_suite")


def test_a_draft_is_printed_as_a_suite_that_runs(llmos, tmp_path):
    label = json.loads(llmos("show", "support", "--json")[1])["labels"][0]
    (tmp_path / "rows.csv").write_text(f"text,label\nWhere is my order?,{label}\nDon't send it,{label}\n")
    code, out, err = llmos("test", "support", "--new", "--data", "rows.csv")
    assert (code, "llmos test support --suite FILE" in err) == (0, True)
    (tmp_path / "draft.yaml").write_text(out)
    assert llmos("test", "support", "--suite", "draft.yaml")[0] in (0, 1)
    code, _, err = llmos("test", "support", "--new")
    assert (code, "Give some: --data FILE" in err) == (2, True)


def test_the_robustness_curve_is_a_table_json_and_a_drawing(llmos, write, tmp_path):
    code, out, _ = llmos("test", "support", "--suite", write(share=1), "--robustness", "--noise", "typo")
    assert (code, out.count("\ntypo   ")) == (0, 7)
    (tmp_path / "rows.csv").write_text("text,label\nWhere is my order?,a\n")
    words = ("--robustness", "--data", "rows.csv", "--json", "--html", "x.html")
    curve = json.loads(llmos("test", "support", *words)[1])["robustness"]
    assert [(one["level"], one["agreement"]) for one in curve if one["level"] == 0] == [(0.0, 1.0)] * 3
    assert "<svg" in (tmp_path / "x.html").read_text()


def test_both_clients_give_the_same_result(url, write):
    async def ask():
        async with AsyncClient(url) as box:
            return await box.test("support", write())

    with Client(url) as box:
        result = box.test("support", write())
        assert result == asyncio.run(ask())
        assert [one.is_passed for one in result.tests] == [True, False]
        with pytest.raises(BadInput):
            box.test("support", "none.yaml")


def test_a_suite_of_another_task_is_refused_by_the_model(url, tmp_path):
    (tmp_path / "x.yaml").write_text("suite: x\ntask: tag\ntests:\n  - {test: a, texts: [x], expect: none}\n")
    with Client(url) as box, pytest.raises(BadInput):
        box.test("support", tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(
        "suite: x\ntask: tag\ntests:\n  - {test: a, texts: ['[x](LOC)'], expect: marked}\n"
    )
    with Client(url) as box, pytest.raises(BadSuite) as caught:
        box.test("ner", tmp_path / "x.yaml")
    assert caught.value.detail["line"] == 4
