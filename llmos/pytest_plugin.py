"""The pytest plugin: collects behaviour suites (`*.suite.yaml`, or those named), and runs them on a running daemon.

    pytest --llmos-model support tests/support.suite.yaml

Each test of a suite is an item. A suite is asked about once, when its first item runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llmos.suites.result import SuiteResult
    from llmos.suites.suite import Suite

ENDING = ".suite.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The model, the daemon and further suites, on the command line or in the settings file."""
    group = parser.getgroup("llmos", "behaviour suites of llmos")
    group.addoption("--llmos-model", metavar="MODEL", help="the model that suites test (default: the one they name)")
    group.addoption("--llmos-url", metavar="URL", help="where the daemon listens (default: where this user's does)")
    group.addoption(
        "--llmos-suite", metavar="NAME", action="append", default=[], help="also a suite: a file of this name"
    )
    parser.addini("llmos_model", "the model that behaviour suites test", default="")
    parser.addini("llmos_url", "where the daemon listens", default="")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A collector for a suite; None for any other file."""
    names = parent.config.getoption("--llmos-suite")
    if file_path.name.endswith(ENDING) or file_path.name in names or str(file_path) in names:
        collector: pytest.Collector = SuiteFile.from_parent(parent, path=file_path)
        return collector
    return None


class SuiteFile(pytest.File):
    """The tests of one suite; a suite that cannot be read is an error of collection, with its line."""

    _result: SuiteResult | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from llmos.abi.error import LlmosError
        from llmos.suites.reading import load_suite

        try:
            suite = load_suite(self.path)
        except LlmosError as error:
            raise self.CollectError(error.message) from error
        for test in suite.tests:
            yield SuiteItem.from_parent(self, name=test.name, line=test.line, suite=suite)

    def result(self, suite: Suite) -> SuiteResult:
        """What came of the suite, which is run when this is asked first."""
        if self._result is None:
            from llmos.sdk.client import Client

            config = self.config
            model = config.getoption("--llmos-model") or config.getini("llmos_model") or suite.model
            if not model:
                raise SuiteFailure(
                    f"{self.path.name} names no model. Give one: --llmos-model NAME, or model: NAME in it"
                )
            with Client(config.getoption("--llmos-url") or config.getini("llmos_url") or None) as client:
                self._result = client.test(model, suite)
        return self._result


class SuiteItem(pytest.Item):
    """One test of a suite."""

    def __init__(self, *, line: int, suite: Suite, **of_pytest: Any) -> None:  # Any: what pytest gives its nodes
        super().__init__(**of_pytest)
        self.line, self.suite = line, suite

    def runtest(self) -> None:
        from llmos.suites.junit import describe_failures, head_of

        assert isinstance(self.parent, SuiteFile)
        result = self.parent.result(self.suite)
        outcome = next(one for one in result.tests if one.name == self.name)
        self.user_properties += [("cases", outcome.cases), ("failed", len(outcome.failures)), ("model", result.model)]
        if not outcome.is_passed:
            raise SuiteFailure(f"{result.model}: {head_of(outcome)}\n{describe_failures(outcome)}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # Any: pytest's own
        """A failure of the suite, or an error with its way out, as its sentence; anything else with its trace."""
        from llmos.abi.error import LlmosError

        if isinstance(excinfo.value, (SuiteFailure, LlmosError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.line - 1, f"{self.suite.name}: {self.name}"


class SuiteFailure(Exception):
    """A test of a suite that failed, as it is reported."""
