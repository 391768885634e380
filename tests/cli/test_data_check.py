"""`llmos data check`: what it may fail on."""

from __future__ import annotations

from llmos.abi.error import BadInput
from llmos.cli.data_check import check
from llmos.testing.errors import fails_with


def test_a_level_that_is_no_severity_or_kind_is_refused_before_anything_runs() -> None:
    with fails_with(BadInput, key="fail_on", value="suspect") as caught:
        check("tickets", fail_on="suspect")
    assert {"error", "suspects", "near_duplicates"} <= set(caught.value.detail["expected"])
