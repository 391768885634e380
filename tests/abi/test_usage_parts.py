"""What usage is added up by, and days, as people write them."""

import pytest

from llmos.abi.error import BadInput
from llmos.abi.usage import ALL_PARTS, UsagePart, check_day, usage_parts


def test_parts_may_be_repeated_or_stand_with_commas():
    assert usage_parts(["key,day", "model", "key"]) == (UsagePart.KEY, UsagePart.DAY, UsagePart.MODEL)
    assert usage_parts([""]) == usage_parts([]) == ALL_PARTS


def test_another_word_is_refused_with_its_name():
    with pytest.raises(BadInput) as raised:
        usage_parts(["hour"])
    assert raised.value.detail["key"] == "by"


@pytest.mark.parametrize("day", ["yesterday", "2026-1-1", "2026-01-01; DROP"])
def test_a_day_that_is_none_is_refused(day):
    with pytest.raises(BadInput) as raised:
        check_day("since", day)
    assert raised.value.detail["key"] == "since"


def test_a_day_or_none_is_taken():
    assert [check_day("since", day) for day in ("", "2026-01-31")] == ["", "2026-01-31"]
