"""Teachers behind an address through the real daemon: one that a test decides, killed midway, and llmos's own API."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tiny_training

from llmos.abi.json_type import Json
from llmos.testing import tiny
from llmos.testing.chat_server import chat_server, completion

pytestmark = pytest.mark.acceptance

HOW = {"method": "full", "epochs": 6, "learning_rate": 3e-3, "batch_size": 8, "learning_curve": False}
RUN = [part for name, value in HOW.items() for part in ("--set", f"{name}={str(value).lower()}")]
KEY = "the-key-of-this-test"
WORDS = [(word, label) for label, words in sorted(tiny_training.SIGNS.items()) for word in words]


def label_of(body: Json) -> tuple[int, Json]:
    text = str(body["messages"][-1]["content"])
    return 200, completion(next(label for word, label in WORDS if f" {word} " in f" {text} "))


def files(tmp_path: Path) -> tuple[str, str]:
    bare = tmp_path / "bare.txt"
    bare.write_text("\n".join(f"xx {word} {i}" for i in range(10) for word, _ in WORDS))
    return str(tiny_training.sorting(tmp_path, 120)), str(bare)


def test_a_run_killed_while_it_asks_an_address_goes_on_with_what_was_answered(new_house, tmp_path: Path) -> None:
    rows, bare = files(tmp_path)
    with chat_server(label_of) as server:
        env = {"LLMOS_ENDPOINT_HOSTS": urlsplit(server.url).netloc, "LLMOS_ENDPOINT_KEY": KEY}
        assert new_house("up", **env).returncode == 0
        base = tiny.write(tmp_path / "tiny", "bert")
        assert new_house("pull", str(base), "--name", "tiny").returncode == 0
        teacher = f"{server.url}#big"
        with new_house.client() as client:
            told = {"base": "tiny", "teacher": teacher, "unlabelled": bare, **HOW}
            begun = client.train("classify", data=rows, name="small", wait=False, **told)
            for event in client.watch(begun.pid):
                one = event.process
                if one is not None and one.progress is not None and one.progress.phase == "teach":
                    os.kill(one.os_pid, signal.SIGKILL)
                    break
            for _ in client.watch(begun.pid):
                pass
            assert client.process(begun.pid).state == "interrupted"
            assert client.wait(client.resume(begun.pid).pid).made[-1] == "small:1"
        shown = new_house.json("show", "small")["evidence"]["distillation"]
        assert (shown["teacher"], shown["asked"], shown["refused"]) == (teacher, 90, 0)
        assert "distilled from" in new_house("show", "small").stdout
        texts = [str(body["messages"]) for _, body in server.requests]
        assert len(texts) - len(set(texts)) <= 4  # the requests that were under way when it was killed
        assert {key for key, _ in server.requests} == {f"Bearer {KEY}"}
    logged = [path for path in new_house.home.rglob("*") if path.is_file() and path.stat().st_size < 1 << 24]
    assert not any(KEY.encode() in path.read_bytes() for path in logged)
    lost = new_house("train", "classify", "--data", rows, "--name", "x", "--base", "tiny", "--teacher", teacher, *RUN)
    assert lost.returncode != 0
    assert "--unlabelled" in lost.stderr
    other = ("--teacher", "http://other.example/v1#big", "--unlabelled", bare)
    refused = new_house("train", "classify", "--data", rows, "--name", "x", "--base", "tiny", *other, *RUN)
    assert refused.returncode != 0
    assert "endpoint_hosts" in refused.stderr
    assert new_house("down").returncode == 0


def test_the_api_of_llmos_itself_is_a_foreign_teacher(new_house, tmp_path: Path) -> None:
    rows, bare = files(tmp_path)
    assert new_house("up", LLMOS_ENDPOINT_HOSTS=urlsplit(new_house.url).netloc).returncode == 0
    for architecture in ("bert", "llama"):
        folder = tiny.write(tmp_path / architecture, architecture)
        if architecture == "llama":  # whose positions have no table: a prompt with all labels is longer than a text
            config = folder / "config.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 1024}))
        assert new_house("pull", str(folder), "--name", architecture).returncode == 0
    words = ("--teacher", f"{new_house.url}/v1#llama", "--unlabelled", bare)
    done = new_house("train", "classify", "--data", rows, "--base", "bert", "--name", "sorts", *words, *RUN)
    assert done.returncode == 0, done.stderr
    found = new_house.json("show", "sorts")["evidence"]["distillation"]
    assert (found["asked"], found["refused"]) == (90, 0)  # its answers are constrained to labels
    lacking = ("--teacher", f"{new_house.url}/v1#nobody", "--unlabelled", bare)
    failed = new_house("train", "classify", "--data", rows, "--base", "bert", "--name", "x", *lacking, *RUN)
    assert failed.returncode != 0
    assert "has no model nobody" in failed.stderr
    assert new_house("down").returncode == 0
