"""When a model learns: as it is written."""

from dataclasses import replace

import pytest

from llmos.abi.error import BadSetting
from llmos.abi.learning import LEAST_ROWS, LearnOrder, operation_of, rows_in


@pytest.mark.parametrize(("when", "rows"), [("200 rows", 200), (" 10 ROWS ", 10), ("1000rows", 1_000), ("12 row", 12)])
def test_rows_are_read(when, rows):
    assert rows_in(when) == (rows, False)
    assert rows_in(f"{when} or drift") == (rows, True)


def test_drift_is_enough_once_the_fewest_rows_wait():
    order = LearnOrder("m", 200, on_drift=True)
    assert (order.least, order.when) == (200, "200 rows or drift")
    assert replace(order, drifted_at=5.0).least == LEAST_ROWS
    assert replace(order, drifted_at=5.0, on_drift=False).least == 200
    assert LearnOrder("m", 0, on_drift=True).when == ""


@pytest.mark.parametrize("when", ["", "rows", "9 rows", "-5 rows", "200", "9 rows or drift", "drift", "2 weeks"])
def test_what_cannot_be_waited_for_is_refused(when):
    with pytest.raises(BadSetting) as error:
        rows_in(when)
    assert error.value.detail["key"] == "when"


def test_a_dataset_that_something_else_made_has_no_such_operation():
    assert operation_of({"operation": {"operation": "merge"}}) is None
    assert operation_of({}) is None
    assert operation_of({"operation": {"operation": "feedback", "upto": 3}})["upto"] == 3
