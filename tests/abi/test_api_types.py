"""What the outside sees keeps its content, and says `class` where Python must say `priority`."""

import json

from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.api_types import (
    ModelView,
    StreamEvent,
    model_of,
    process_json,
    process_of,
    stream_event_json,
    stream_event_of,
)
from llmos.abi.error import Fault
from llmos.abi.model import File, Kind, Manifest
from llmos.abi.process import Priority, Process, Progress, Spec, State

specs = st.builds(Spec, st.text(), priority=st.sampled_from(Priority), title=st.text())
processes = st.builds(
    Process,
    st.integers(1, 2**31),
    specs,
    st.sampled_from(State),
    fault=st.none() | st.builds(Fault, st.text(), st.text()),
    progress=st.none() | st.builds(Progress, st.text(), st.floats(0, 1e9)),
    made=st.lists(st.text()).map(tuple),
)


@given(processes)
def test_a_process_survives_json_and_names_its_class(process):
    plain = json.loads(json.dumps(process_json(process)))
    assert plain["spec"]["class"] == process.spec.priority
    assert process_of(plain) == process


@given(st.builds(StreamEvent, st.integers(0, 9), st.floats(0, 1e9), st.text(), process=st.none() | processes))
def test_a_stream_event_survives_json(stream_event):
    assert stream_event_of(json.loads(json.dumps(stream_event_json(stream_event)))) == stream_event


def test_a_model_is_its_manifest_and_what_the_store_knows():
    evidence = {"metrics": {"f1": 0.9, "accuracy": 0.95}}
    manifest = Manifest("ner", 2, Kind.MODEL, "tag", (File("head.safetensors", "ab" * 32, 10),), evidence=evidence)
    model = model_of(ModelView(manifest, is_promoted=True))
    assert (model.ref, model.promoted, model.size_bytes, list(model.metrics)) == ("ner:2", True, 10, ["f1", "accuracy"])
