"""The row of a call: a record's fields in their order, and about how many bytes it takes."""

from dataclasses import astuple

from llmos.abi.call_record import CallRecord
from llmos.kernel.requests.call_row import ROW_BYTES, bytes_of, record_of, size_of, without_texts

FULL = CallRecord(
    "a", 5.0, 0.1, "/v1/run", "m:1", "classify", "ok", 1, "k1", "ann", 3, 2, ("hello",), ({"label": "x"},)
)  # fmt: skip


def test_a_row_has_the_fields_of_its_record_in_their_order():
    assert record_of(astuple(FULL)) == FULL


def test_without_texts_all_else_is_the_same():
    bare = record_of(without_texts(astuple(FULL)))
    assert (bare.inputs, bare.outputs) == (None, None)
    assert (bare.id, bare.user, bare.completion_tokens) == ("a", "ann", 2)


def test_bytes_of_a_value_grow_with_its_texts():
    assert bytes_of({"a": ["x" * 1_000]}) > 1_000
    assert bytes_of({"x" * 1_000: 1}) > 1_000
    assert bytes_of(("x" * 1_000, {"y": "x" * 1_000})) > 2_000
    assert bytes_of(None) == bytes_of(3)


def test_a_row_without_texts_takes_a_fixed_number_of_bytes():
    assert size_of(without_texts(astuple(FULL))) == ROW_BYTES < size_of(astuple(FULL))
