"""JUnit XML: the form in which build servers show tests; a testcase for each test of a suite."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from llmos.suites.result import CaseFailure, SuiteResult, TestOutcome

SHOWN = 20
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # signs that XML 1.0 cannot hold


def junit_xml(results: Sequence[SuiteResult]) -> bytes:
    """The results as one document; failures that a test allows stand in its `system-out`."""
    root = ElementTree.Element("testsuites", _counts([test for one in results for test in one.tests]))
    for result in results:
        suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(result.suite), **_counts(result.tests)})
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (("model", result.model), ("task", result.task), ("seed", str(result.seed))):
            ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
        for test in result.tests:
            _add_test(suite, result, test)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _counts(tests: Sequence[TestOutcome]) -> dict[str, str]:
    return {"tests": str(len(tests)), "failures": str(sum(not one.is_passed for one in tests)), "errors": "0"}


def _add_test(suite: ElementTree.Element, result: SuiteResult, test: TestOutcome) -> None:
    place = {"classname": f"{_clean(result.model)}.{test.kind}", "file": _clean(result.file), "line": str(test.line)}
    case = ElementTree.SubElement(suite, "testcase", {"name": _clean(test.name), **place})
    said = describe_failures(test)
    if not test.is_passed:
        failed = ElementTree.SubElement(case, "failure", {"type": str(test.kind), "message": _clean(head_of(test))})
        failed.text = _clean(said)
    elif said:
        ElementTree.SubElement(case, "system-out").text = _clean(said)


def head_of(test: TestOutcome) -> str:
    """How many cases failed, and how many may."""
    count = f"{len(test.failures)} of {test.cases} cases failed"
    return f"{count}, at most {test.max_failures:.0%} may" if test.max_failures else count


def describe_failures(test: TestOutcome, shown: int = SHOWN) -> str:
    """The first failures of a test, each with its text, what was expected and what was given."""
    said = [describe_failure(one) for one in test.failures[:shown]]
    more = len(test.failures) - shown
    return "\n".join([*said, *([f"... and {more} more"] if more > 0 else [])])


def describe_failure(one: CaseFailure) -> str:
    """One failure in three or four lines."""
    lines = [one.text, *([f"  {one.how}, before: {one.before}"] if one.how else [])]
    sure = "" if one.score is None else f" ({one.score:.3f})"
    return "\n".join([*lines, f"  expected: {one.expected}", f"  given:    {one.given}{sure}"])


def _clean(text: str) -> str:
    return NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
