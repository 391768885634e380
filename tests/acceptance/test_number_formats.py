"""The real daemon in bfloat16, and with narrow loops: whatever a processor's own choice would be."""

import json

import numpy as np
import pytest

from llmos.abi.cpu import PATHS, check
from llmos.abi.error import BadSetting

pytestmark = pytest.mark.acceptance

TEXTS = ["The parcel has not come.", "I was charged twice.", "How do I reset my password?"]
HELLO = [{"role": "user", "content": "Say hello."}]
BF16 = ("--set", "dtype=bfloat16", "--set", "kv_bytes=67108864")


@pytest.fixture
def started(new_house, starters):
    """Starts a daemon with the starter models and these words of `up`."""
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")

    def start(*words):
        up = new_house("up", *words)
        assert up.returncode == 0, up.stderr
        return new_house

    return start


def intents(folder, rows=48):
    """Two kinds of texts that one word tells apart."""
    words = {"money": ("refund", "invoice", "charge"), "parcel": ("parcel", "courier", "delivery")}
    lines = ["text,label"]
    for i in range(rows):
        label = sorted(words)[i % 2]
        lines.append(f"number {i}: where is my {words[label][i // 2 % 3]},{label}")
    path = folder / "intents.csv"
    path.write_text("\n".join(lines))
    return path


def test_everything_that_is_served_and_trained_is_so_in_bfloat16(started, tmp_path):
    """Emulated where the processor has no such products: slower, and to the same bounds."""
    from llmos.testing import tiny  # which imports torch

    house = started(*BF16)
    with house.client() as box:
        vectors = np.array([one.vector for one in box.run("minilm", TEXTS)])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        alone = np.array([box.run("minilm", text).vector for text in TEXTS])
        assert (vectors * alone).sum(1).min() > 0.999

        talker = tiny.write(tmp_path / "talker", "llama")  # a starter's size takes minutes where this is emulated
        assert house("pull", str(talker), "--name", "talker").returncode == 0
        assert "".join(box.chat("talker", HELLO, temperature=0, max_tokens=8))
        several = box.run("talker", ["Once upon a time"], task="generate", n=2, seed=5, max_tokens=6)
        assert len(several) == 2

        rows = intents(tmp_path)
        sorted_ = box.train("classify", data=rows, name="sorter", epochs=3, batch_size=8, seed=3)
        assert sorted_.exit_code == 0
        assert box.run("sorter", "where is my refund").label == "money"
        judged = box.evaluate("sorter", data=rows)
        assert judged.exit_code == 0

        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text("\n".join(json.dumps({"prompt": f"say {i}", "completion": f"{i} it is"}) for i in range(16)))
        words = ("train", "generate", "--data", str(pairs), "--name", "sayer", "--base", "talker", "--method", "lora")
        trained = house(*words, "--epochs", "1", "--batch-size", "8")
        assert trained.returncode == 0, trained.stdout + trained.stderr
        assert box.run("sayer", "say 3", max_tokens=4).text

        (cpu,) = [one for one in box.status().devices if one.kind == "cpu"]
        assert cpu.kernels


@pytest.mark.parametrize("name", ["none", *(path.name for path in PATHS)])
def test_each_cpu_path_answers_what_any_other_does_and_says_its_name(name, started, minilm):
    try:
        check(name)
    except BadSetting as error:
        pytest.skip(error.message)
    house = started("--set", f"cpu_kernels={name}", "--set", "dtype=float32")
    with house.client() as box:
        vectors = np.array([one.vector for one in box.run("minilm", TEXTS)])
        (cpu,) = [one for one in box.status().devices if one.kind == "cpu"]
    assert cpu.kernels == name
    assert f" {cpu.kernels}" in house("status").stdout
    doctor = house("doctor", LLMOS_CPU_KERNELS=name).stdout
    assert next(line for line in doctor.splitlines() if " kernels " in line).split()[2].startswith(name)
    with minilm.client() as box:
        others = np.array([one.vector for one in box.run("minilm", TEXTS)])
    assert (vectors * others).sum(1).min() > 0.999
