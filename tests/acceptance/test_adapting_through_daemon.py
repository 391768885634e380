"""A base that reads texts through the real daemon: killed, resumed, promoted by its gate, and trained on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tiny_adapting import texts

from llmos.testing import tiny

pytestmark = pytest.mark.acceptance


def test_a_base_reads_texts_is_killed_goes_on_and_is_trained_on(new_house, tmp_path: Path) -> None:
    assert new_house("up").returncode == 0
    base = tiny.write(tmp_path / "tiny", "llama")
    read = str(texts(tmp_path))
    assert new_house("pull", str(base), "--name", "tiny").returncode == 0
    settings = {"learning_rate": 3e-3, "batch_size": 16, "checkpoint_every_s": 0.001}
    with new_house.client() as client:
        begun = client.adapt("tiny", data=read, name="reader", epochs=6.0, wait=False, **settings)
        for event in client.watch(begun.pid):
            one = event.process
            if one is not None and one.progress is not None and one.progress.phase == "train":
                os.kill(one.os_pid, signal.SIGKILL)
                break
        for _ in client.watch(begun.pid):
            pass
        assert client.process(begun.pid).state == "interrupted"
        assert client.wait(client.resume(begun.pid).pid).made[-1] == "reader:1"
    shown = new_house.json("show", "reader")
    assert shown["promoted"]
    held = shown["evidence"]["adaptation"]["held_out"]
    assert held["after"] < held["before"]
    assert "held-out texts" in new_house("show", "reader").stdout
    refused = new_house("adapt", "tiny", "--data", read, "--objective", "masked", "--json")
    assert json.loads(refused.stderr or refused.stdout)["error"]["detail"]["key"] == "objective"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": f"ab {i}", "completion": "cc"}) for i in range(40)))
    words = ("--base", "reader", "--name", "writer", "--epochs", "1", "--set", "learning_curve=false")
    done = new_house("train", "generate", "--data", str(rows), *words)
    assert done.returncode == 0, done.stderr
    assert new_house.json("show", "writer:1")["base"] == "reader:1"
    assert new_house("down").returncode == 0
