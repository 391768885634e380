"""A reservoir: bounded, uniform, and empty after it was taken."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.monitoring import ObservedInput
from llmos.kernel.monitoring.reservoir import Reservoir


@given(st.integers(0, 200), st.integers(1, 50))
def test_a_sample_is_bounded_and_of_what_was_seen(count, most):
    reservoir = Reservoir(most)
    for at in range(count):
        reservoir.add(ObservedInput(tokens=at))
    seen, inputs = reservoir.take()
    assert (seen, len(inputs)) == (count, min(count, most))
    assert len({one.tokens for one in inputs}) == len(inputs)
    assert reservoir.take() == (0, ())


def test_early_and_late_inputs_are_as_likely_in_the_sample():
    found = Counter()
    for seed in range(400):
        reservoir = Reservoir(10, seed)
        for at in range(100):
            reservoir.add(ObservedInput(tokens=at))
        found.update(one.tokens // 25 for one in reservoir.take()[1])
    assert all(800 <= found[quarter] <= 1_200 for quarter in range(4))
