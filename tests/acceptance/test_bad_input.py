"""What a newcomer does wrong: each is answered by a sentence that says what and how to go on, and the daemon lives."""

import os
import shutil
import subprocess
from dataclasses import replace

import httpx
import pytest
from conftest import House

pytestmark = pytest.mark.acceptance

GOOD = "text,label\n" + "".join(f"where is parcel {n},parcel\npay me back {n} euros,money\n" for n in range(20))

BAD_ROWS = {
    "empty": (b"", "empty"),
    "no such column": (GOOD.replace("label", "kind", 1).encode(), "label"),
    "invalid utf-8": (f"{GOOD}très bien,money\n".encode() + b"caf\xe9,money\n", "UTF-8"),
}


@pytest.fixture(autouse=True)
def alive(house: House):
    """After each of them the same daemon still answers."""
    with house.client() as box:
        before = box.status().os_pid
        yield
        assert box.status().os_pid == before


def is_a_sentence(text: str) -> bool:
    return "Traceback" not in text and text.strip() != ""


@pytest.mark.parametrize("what", BAD_ROWS)
def test_rows_that_cannot_be_read_are_refused_with_the_file_s_name(minilm, tmp_path, what):
    content, word = BAD_ROWS[what]
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    done = minilm("train", "classify", "--data", str(path), "--name", "bad", "--label", "label")
    assert done.returncode == 2, done.stderr
    assert "rows.csv" in done.stderr
    assert word in done.stderr
    assert is_a_sentence(done.stderr)


def test_a_label_that_only_the_test_split_has_is_named(minilm, tmp_path):
    (tmp_path / "train.csv").write_text(GOOD)
    (tmp_path / "test.csv").write_text("text,label\nis it you,greeting\n")
    done = minilm("train", "classify", "--data", str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv"))
    assert done.returncode == 2, done.stderr
    assert "greeting" in done.stderr
    assert "test.csv" in done.stderr


def test_an_unknown_model_and_a_wrong_task_are_told_apart(minilm):
    with httpx.Client(base_url=minilm.url, timeout=120) as http:
        unknown = http.post("/v1/tasks/classify", json={"model": "nobody", "input": "hello"})
        wrong = http.post("/v1/tasks/classify", json={"model": "minilm", "input": "hello"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "wrong_task")


def test_pickled_weights_are_refused(minilm, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    done = minilm("pull", str(folder), "--name", "pickled")
    assert done.returncode == 2, done.stderr
    assert "If you trust them, convert them" in done.stderr


@pytest.mark.parametrize("body", [b'{"model": "minilm", "input": "caf\xe9"}', b'{"model": "minilm", "input": NaN}'])
def test_a_request_that_is_no_json_is_refused(minilm, body):
    answer = httpx.post(f"{minilm.url}/v1/tasks/embed", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert is_a_sentence(answer.json()["error"]["message"])


def test_a_megabyte_of_text_is_answered_or_refused_by_its_length(minilm):
    answer = httpx.post(
        f"{minilm.url}/v1/tasks/embed", json={"model": "minilm", "input": "word " * 210_000}, timeout=120
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_long")


@pytest.fixture
def house_on_a_small_disk(tmp_path, new_house):
    """A home on a file system of its own: a base and its form in bfloat16 fit, beside a ballast they do not."""
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=180m,mode=700", "llmos-test", str(home)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    house = replace(new_house, home=home)
    yield house
    house("down")
    subprocess.run(["umount", "-l", str(home)], check=True)


def test_a_full_disk_is_said_with_numbers_and_the_daemon_goes_on(house_on_a_small_disk, starters, tmp_path):
    if starters is None:
        pytest.skip("the starter models cannot be pulled from here")
    house = house_on_a_small_disk
    base = starters / "models" / "minilm" / "1"
    assert house("up").returncode == 0
    ballast = house.home / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(house.home).free - (16 << 20)))
    full = house("pull", str(base), "--name", "minilm")
    assert full.returncode == 1, full.stderr
    assert "is full" in full.stderr
    assert "bytes are needed" in full.stderr
    assert is_a_sentence(full.stderr)
    assert house.json("ls") == []
    ballast.unlink()
    assert house("pull", str(base), "--name", "minilm").returncode == 0
    (tmp_path / "rows.csv").write_text(GOOD)
    ballast.write_bytes(b"\0" * (shutil.disk_usage(house.home).free - (16 << 20)))
    stopped = house("train", "classify", "--data", str(tmp_path / "rows.csv"), "--name", "money", "--epochs", "1")
    assert stopped.returncode == 1, stopped.stderr
    assert "is full" in stopped.stderr
    assert is_a_sentence(stopped.stderr)
    assert [model["name"] for model in house.json("ls")] == ["minilm"]
    ballast.unlink()
    (interrupted,) = [p for p in house.json("ps", "--all") if p["spec"]["program"] == "train"]
    assert house("resume", str(interrupted["pid"])).returncode == 0
