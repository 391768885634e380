"""What int8 saves is counted before it is made, to the byte, and its time is measured within a bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from llmos.abi.error import BadInput
from llmos.abi.form import form_dtype
from llmos.nn import resident
from llmos.nn.cpu.int8_gain import BUDGET_S, ROWS, TRIES, Gain, GainPlan, gain, measure_gain, plan
from llmos.testing import tiny
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.torch
WIDE = GainPlan({(64, 64): 4, (128, 64): 2}, other=50_000, floats=100_000, generates=False)


def file_bytes(folder):
    return sum(x.nbytes for x in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert", "llama", "qwen3", "gemma3_text"])
def test_the_bytes_are_those_of_the_forms_that_are_made(tmp_path, architecture, dtype):
    source = tiny.write(tmp_path / "source", architecture)
    told = plan(source)
    for form, said in ((dtype, told.float_bytes(dtype)), (form_dtype("int8", dtype), told.int8_bytes(dtype))):
        resident.make(source, form, tmp_path / form)
        assert said == file_bytes(tmp_path / form)


def test_an_architecture_that_is_not_computed_in_int8_is_refused(tmp_path):
    with fails_with(BadInput, dtype="int8", architecture="t5"):
        plan(tiny.write(tmp_path / "source", "t5"))


def test_the_measurement_is_given_the_products_and_what_the_device_computes_in():
    asked = []

    def measure(told, dtype):
        asked.append((told, dtype))
        return {1: 2.0}

    found = gain(WIDE, "bfloat16", measure)
    assert asked == [(WIDE, "bfloat16")]
    integers = 4 * (64 * 64 + 4 * 64) + 2 * (128 * 64 + 4 * 128)
    assert (found.float_bytes, found.int8_bytes, found.speeds) == (200_000, integers + 100_000, {1: 2.0})


@pytest.mark.parametrize(
    ("int8_bytes", "speeds", "lacking"),
    [
        (50, {1: 1.5, 16: 0.9}, None),
        (100, {1: 1.5}, "It will not be smaller on this machine"),
        (50, {1: 1.0, 16: 0.9}, "It will not be faster on this machine"),
        (101, {1: 0.5}, "It will not be smaller and not faster on this machine"),
    ],
)
def test_what_is_not_smaller_or_not_faster_is_said_so(int8_bytes, speeds, lacking):
    found = Gain("bfloat16", 100, int8_bytes, speeds)
    assert ("It will not" in found.sentence) == (lacking is not None)
    assert lacking is None or found.sentence.endswith(lacking)
    assert found.plain["speeds"] == {str(rows): speed for rows, speed in speeds.items()}
    assert found.figures["int8_bytes"] == int8_bytes


def test_of_layers_that_may_be_of_four_bits_the_most_is_said():
    found = gain(replace(WIDE, is_whole=False), "bfloat16", lambda told, dtype: {1: 2.0})
    assert "at most 0.1 MB for 0.2 MB in bfloat16" in found.sentence
    assert "It will not" not in replace(found, int8_bytes=1_000_000).sentence


class Ticking:
    """A clock on which each look takes so long."""

    def __init__(self, step_s):
        self.step_s, self.looks, self.now = step_s, 0, 0.0

    def __call__(self):
        self.looks += 1
        self.now += self.step_s
        return self.now


@pytest.mark.parametrize("generates", [False, True])
def test_each_number_of_tokens_is_measured_in_both(dtype, generates):
    clock = Ticking(1e-6)
    speeds = measure_gain(replace(WIDE, generates=generates), dtype, clock=clock)
    assert dict(speeds) == pytest.approx(dict.fromkeys(ROWS, 1.0))  # every product takes one tick of this clock
    assert clock.looks == 1 + len(WIDE.shapes) * (1 + len(ROWS) * TRIES * (2 * 2 + 1))


def test_a_slow_machine_is_measured_within_the_bound(dtype):
    clock = Ticking(BUDGET_S)
    assert measure_gain(WIDE, dtype, clock=clock).keys() == set(ROWS)
    assert clock.looks == 1 + 1 + len(ROWS) * (2 * 2 + 1)  # one try of each, of the shape that matters most
