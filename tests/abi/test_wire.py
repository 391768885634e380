"""Frames survive the wire whatever pieces they arrive in, and nothing else is taken for one."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi import wire
from llmos.abi.call import Call, Chunk, Tokens
from llmos.abi.error import BadInput, Fault
from llmos.abi.frame import Accepted, Ask, Chunks, Job, ModelPath, Report, Stop
from llmos.abi.model import File, Kind, Manifest, Part
from llmos.abi.process import Priority, Progress
from llmos.testing.errors import fails_with

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
inputs = st.lists(plain, max_size=5).map(tuple)
calls = st.builds(Call, st.integers(0, 2**40), st.text(), st.text(), inputs, priority=st.sampled_from(Priority))
chunks = st.builds(
    Chunk,
    st.integers(0, 2**40),
    inputs,
    st.booleans(),
    st.builds(Tokens, st.integers(0, 9), st.integers(0, 9)),
    st.none() | st.builds(Fault, st.text(), st.text()),
)
frames = st.one_of(
    st.builds(Ask, calls),
    st.builds(Chunks, st.lists(chunks, max_size=3).map(tuple)),
    st.builds(Report, st.builds(Progress, st.text(), st.floats(0, 1e9), st.floats(0, 1e9), st.text())),
    st.builds(Accepted, st.integers(0, 9), st.text(), st.text()),
    st.builds(Stop, st.text()),
)


@given(st.lists(frames, max_size=5), st.data())
def test_frames_cut_anywhere_arrive_whole_and_in_order(sent, data):
    stream = b"".join(wire.encode(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = wire.Splitter()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += splitter.feed(stream[start:end])
    assert got == sent


def test_an_assignment_keeps_its_models_and_their_files():
    base = Manifest("minilm", 1, Kind.BASE, "embed", (File("model.safetensors", "ab" * 32, 10, Part.WEIGHTS),))
    sent = Job(7, "train", {"epochs": 3}, "/s", models={"base": ModelPath(base, "/m/minilm/1")})
    assert wire.Splitter().feed(wire.encode(sent)) == [sent]


@given(st.binary(max_size=64))
def test_bytes_that_are_no_frame_are_bad_input_or_a_frame(body):
    with suppress(BadInput):
        wire.decode(body)


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_held():
    with fails_with(BadInput, size=wire.MAX_FRAME_BYTES + 1, limit=wire.MAX_FRAME_BYTES):
        wire.Splitter().feed(wire.PREFIX.pack(wire.MAX_FRAME_BYTES + 1))


@given(st.builds(Progress, st.text(), st.floats(0, 1e6), figures=st.dictionaries(st.text(), st.floats(-1e9, 1e9))))
def test_a_dataclass_survives_json(progress):
    assert wire.from_json(wire.to_json(progress), Progress) == progress


def test_json_that_does_not_fit_names_the_field():
    with fails_with(BadInput, field="phase"):
        wire.from_json(b"{}", Progress)
    with fails_with(BadInput, field="total"):
        wire.from_plain({"phase": "x", "total": "many"}, Progress)
