"""The real daemon in bfloat16, and with narrow loops: whatever a processor's own choice would be."""

import json

import numpy as np
import pytest

from llmos.abi.cpu import compiler

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


def intents(folder, rows=96):
    """Two kinds of texts that one word tells apart."""
    words = {"money": ("refund", "invoice", "charge"), "parcel": ("parcel", "courier", "delivery")}
    lines = ["text,label"]
    for i in range(rows):
        label = sorted(words)[i % 2]
        lines.append(f"{words[label][i // 2 % 3]} {i},{label}")
    path = folder / "intents.csv"
    path.write_text("\n".join(lines))
    return path


def test_everything_that_is_served_and_trained_is_so_in_bfloat16(started, tmp_path):
    """Emulated where the processor has no such products, so that a starter model's size would train for minutes."""
    from llmos.testing import tiny  # which imports torch

    house = started(*BF16)
    with house.client() as box:
        vectors = np.array([one.vector for one in box.run("minilm", TEXTS)])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        alone = np.array([box.run("minilm", text).vector for text in TEXTS])
        assert (vectors * alone).sum(1).min() > 0.999

        for name, architecture in (("talker", "llama"), ("reader", "bert")):
            box.pull(str(tiny.write(tmp_path / name, architecture)), name=name)
        assert "".join(box.chat("talker", HELLO, temperature=0, max_tokens=8))
        several = box.run("talker", ["Once upon a time"], task="generate", n=2, seed=5, max_tokens=6)
        assert len(several) == 2

        rows, fast = intents(tmp_path), {"batch_size": 8, "seed": 3, "learning_rate": 3e-3}
        sorted_ = box.train("classify", data=rows, name="sorter", base="reader", epochs=10, **fast)
        assert sorted_.exit_code == 0
        assert box.run("sorter", "refund 98").label == "money"
        judged = box.evaluate("sorter", data=rows)
        assert judged.exit_code == 0
        assert judged.progress.figures["accuracy"] > 0.9

        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text("\n".join(json.dumps({"prompt": f"say {i}", "completion": f"{i} it is"}) for i in range(16)))
        words = ("train", "generate", "--data", str(pairs), "--name", "sayer", "--base", "talker", "--method", "lora")
        trained = house(*words, "--epochs", "1", "--batch-size", "8")
        assert trained.returncode == 0, trained.stdout + trained.stderr
        assert box.run("sayer", "say 3", max_tokens=4).text

        for name in ("sorter", "sayer"):
            assert box.model(name).lineage["recipe"]["dtype"] == "bfloat16"


def test_a_cpu_path_that_is_forced_answers_what_another_does_and_is_named_by_status(started):
    """No loops, and the narrowest, with which torch is bounded most; tests/nn computes whole models by each path, and
    what is said of those that a processor lacks is in tests/test_daemon.py."""
    found = {}
    for name in ("none", "baseline") if compiler() else ("none",):
        house = started("--set", f"cpu_kernels={name}", "--set", "dtype=float32")
        with house.client() as box:
            found[name] = np.array([one.vector for one in box.run("minilm", TEXTS)])
            (cpu,) = [one for one in box.status().devices if one.kind == "cpu"]
        assert cpu.kernels == name
        assert house("status").stdout.split()[-1] == name
        assert house("down").returncode == 0
    for vectors in found.values():
        assert (vectors * found["none"]).sum(1).min() > 0.999
