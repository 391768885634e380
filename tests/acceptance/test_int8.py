"""Serving in int8 on the real box: a version like any other, with its cost said, beside the same base in float."""

from __future__ import annotations

import math

import pytest
from conftest import computed_in

pytestmark = pytest.mark.acceptance

TEXT = "Where is my parcel?"
SHARES = {"float32": 0.7, "bfloat16": 0.85}  # of a base in this format, what int8 takes at most


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def test_int8_versions_of_bases_say_their_cost_and_answer_beside_float(new_house, starters):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    assert new_house("up").returncode == 0
    refused = new_house("quantize", "minilm", "--max-drop", "0")
    assert refused.returncode == 2
    assert "minilm:1 stays in float: mean_cosine 0.99" in refused.stderr
    for name in ("minilm", "smollm2"):
        made = new_house("quantize", name, "--max-drop", "0.5")
        assert made.returncode == 0, made.stderr
        assert "int8 here: " in made.stderr
        assert "will not be smaller" not in made.stderr
        shown = new_house("show", name).stdout
        assert f"{name}:2" in shown
        assert "int8: " in shown
    with new_house.client() as client:
        floats, integers = (client.run(ref, TEXT).vector for ref in ("minilm:1", "minilm"))
        assert 0.98 < cosine(floats, integers) < 1.0
        alone = client.run("smollm2", "Once upon a time", task="generate", max_tokens=12, temperature=0).text
        prompts = ["Once upon a time", "The capital of France", "def add(a, b):"]
        beside = client.run("smollm2", prompts, task="generate", max_tokens=12, temperature=0)
        assert beside[0].text == alone
        serving = {p.spec.title: p for p in client.processes() if p.spec.program == "serve"}
        assert serving.keys() == {"serve minilm:1", "serve minilm:2 in int8", "serve smollm2:2 in int8"}
        weights = {x.pid: x.size_bytes for x in client.status().leases if x.kind == "weights"}
        in_float, in_int8 = (weights[serving[t].pid] for t in ("serve minilm:1", "serve minilm:2 in int8"))
        dtype = computed_in(new_house)
        assert in_int8 < SHARES[dtype] * in_float  # half of it is embeddings, which stay float
        form = "int8" if dtype == "float32" else f"int8-{dtype}"
        held = [one.stat().st_size for one in new_house.home.glob(f"resident/*-{form}/model.safetensors")]
        assert len(held) == 2
        assert min(abs(in_int8 - one) for one in held) < 0.02 * in_int8  # the small rest is widened in memory
        assert client.rollback("minilm").ref == "minilm:1"
    assert new_house("down").returncode == 0
