"""Errors keep their code, sentence and detail across a boundary."""

import pytest

from llmos.abi.error import CODES, BadRow, Fault, Internal, LlmosError, ModelNotFound, error_of, fault_of


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_comes_back_as_its_own_error(code):
    error = CODES[code]("what and how to go on", key=1)
    back = error_of(fault_of(error))
    assert (type(back), back.code, back.message, back.detail) == (CODES[code], code, error.message, {"key": 1})


def test_no_two_errors_share_a_code():
    def kinds(root):
        return [root, *(k for child in root.__subclasses__() for k in kinds(child))]

    codes = [kind.code for kind in kinds(LlmosError) if kind is not LlmosError]
    assert len(codes) == len(set(codes))


def test_a_strangers_exception_travels_as_internal_with_its_type():
    assert fault_of(ZeroDivisionError("division by zero")) == Fault("internal", "ZeroDivisionError: division by zero")


def test_a_code_of_a_newer_version_is_kept_in_the_detail():
    error = error_of(Fault("quota_spent", "no", {"left": 0}))
    assert isinstance(error, Internal)
    assert error.detail == {"left": 0, "code": "quota_spent"}


def test_detail_says_where_a_row_is_bad():
    fault = fault_of(BadRow("train.csv, line 3: no label", file="train.csv", line=3))
    assert fault.detail == {"file": "train.csv", "line": 3}
    assert issubclass(BadRow, LlmosError)
    assert not issubclass(ModelNotFound, BadRow)
