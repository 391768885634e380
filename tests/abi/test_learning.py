"""When a model learns: as it is written."""

import pytest

from llmos.abi.error import BadSetting
from llmos.abi.learning import operation_of, rows_in


@pytest.mark.parametrize(("when", "rows"), [("200 rows", 200), (" 10 ROWS ", 10), ("1000rows", 1_000), ("12 row", 12)])
def test_rows_are_read(when, rows):
    assert rows_in(when) == rows


@pytest.mark.parametrize("when", ["", "rows", "9 rows", "-5 rows", "200", "200 rows or drift", "drift", "2 weeks"])
def test_what_cannot_be_waited_for_is_refused(when):
    with pytest.raises(BadSetting) as error:
        rows_in(when)
    assert error.value.detail["key"] == "when"


def test_the_sentence_about_drift_says_what_can_be_named():
    with pytest.raises(BadSetting, match="200 rows"):
        rows_in("500 rows or drift")


def test_a_dataset_that_something_else_made_has_no_such_operation():
    assert operation_of({"operation": {"operation": "merge"}}) is None
    assert operation_of({}) is None
    assert operation_of({"operation": {"operation": "feedback", "upto": 3}})["upto"] == 3
