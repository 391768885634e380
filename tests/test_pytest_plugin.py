"""The pytest plugin: a suite's tests are items that fail with their examples, on a daemon that runs."""

import pytest

from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

pytest_plugins = ["pytester"]

SUITE = """
suite: messages
task: classify
tests:
  - {{test: any label, texts: [x], expect: {{one_of: [{labels}]}}}}
  - {{test: no label, texts: [x, y], expect: {{not: [{labels}]}}}}
"""


@pytest.fixture
def run(pytester):
    with serving(MemoryKernel(plays=True), Config(pytester.path)) as url:
        from llmos import Client

        with Client(url) as box:
            labels = ", ".join(box.model("support").labels)

        def run(*words, name="my.suite.yaml", model="support"):
            (pytester.path / name).write_text(SUITE.format(labels=labels))
            given = ["--llmos-model", model] if model else []
            return pytester.runpytest_inprocess("-p", "llmos.pytest_plugin", "--llmos-url", url, *given, *words)

        yield run


def test_each_test_of_a_suite_is_an_item_that_passes_or_shows_its_examples(run):
    result = run("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*any label PASSED*", "*no label FAILED*", "support:2: 2 of 2 cases failed", "x"])
    assert "Traceback" not in result.stdout.str()


def test_a_file_of_any_name_can_be_named_and_others_are_left_alone(run):
    run(name="behaviour.yaml").assert_outcomes()
    run("--llmos-suite", "behaviour.yaml", "behaviour.yaml", name="behaviour.yaml").assert_outcomes(passed=1, failed=1)


def test_without_a_model_or_with_a_broken_suite_it_says_what_to_do(run, pytester):
    result = run(model="")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*names no model. Give one: --llmos-model NAME*"])
    (pytester.path / "bad.suite.yaml").write_text("suite: x\n")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*bad.suite.yaml, line 1: the suite has no key 'task'*"])
