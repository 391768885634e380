"""Batches of traces on a pipe: what is written is read, and a pipe that ends within a message has ended."""

import io

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.call import CallTimes, Tokens
from llmos.abi.call_trace import TraceContext
from llmos.abi.trace_batch import read_batch, read_reason, write_batch, write_reason

SECONDS = st.floats(0, 1e6)
ENTRIES = st.lists(
    st.tuples(
        st.text(),
        SECONDS,
        st.text(),
        st.text(),
        st.text(),
        SECONDS,
        SECONDS,
        st.none() | st.builds(CallTimes, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS),
        st.none() | st.builds(TraceContext, st.text(), st.text(), st.text(), st.text()),
        st.builds(Tokens, st.integers(0, 1 << 40), st.integers(0, 1 << 40)),
    ),
    max_size=5,
)


@given(st.lists(ENTRIES, max_size=3))
def test_batches_are_read_as_they_were_written(batches):
    pipe = io.BytesIO()
    for one in batches:
        write_batch(pipe, one)
    pipe.seek(0)
    assert [read_batch(pipe) for _ in batches] == batches
    assert read_batch(pipe) is None


@given(st.text(), st.integers(0, 1 << 20))
def test_a_reason_that_is_cut_off_is_the_end(reason, at):
    pipe = io.BytesIO()
    write_reason(pipe, reason)
    whole = pipe.getvalue()
    assert read_reason(io.BytesIO(whole)) == reason
    assert read_reason(io.BytesIO(whole[: at % len(whole)])) is None
