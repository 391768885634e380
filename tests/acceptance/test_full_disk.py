"""A full disk: what `gc` gives back, which command gives up the rest, and a pull that is refused beforehand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import House, free_port
from stock import Stock, stocked

from llmos.abi.process import State

pytestmark = pytest.mark.acceptance

DISK_BYTES = 32 << 20
MODEL_BYTES = 12 << 20


class Index:
    """A package index that gives the first half of its wheel, and nothing more until it is closed."""

    def __init__(self, stock: Stock) -> None:
        self.is_over = threading.Event()
        self.asked: list[str] = []
        wheel, outer = stock.wheel.read_bytes(), self
        self.wheel_bytes = len(wheel)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if not self.path.endswith(".whl"):
                    page = f'<a href="/{stock.wheel.name}">{stock.wheel.name}</a>'.encode()
                    self.answer(200, "text/html", page)
                    return
                outer.asked.append(self.path)
                start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
                half = max(0, len(wheel) // 2 - start)
                self.answer(206 if start else 200, "application/zip", wheel[start:], half)

            def answer(self, status, kind, body, first=None):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # whoever asked was killed
                    if first is not None:
                        self.wfile.write(body[:first])
                        outer.is_over.wait()
                        body = body[first:]
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def settings(self):
        return {"PIP_INDEX_URL": f"http://127.0.0.1:{self.httpd.server_port}/simple", "PIP_EXTRA_INDEX_URL": ""}

    def close(self):
        self.is_over.set()
        self.httpd.shutdown()
        self.httpd.server_close()


@dataclass(frozen=True)
class SmallHouse(House):
    """A house on a small disk that pulls from an index of the test's own; the null engine answers."""

    settings: dict[str, str]

    def __call__(self, *words, **more):
        return super().__call__(*words, **{**self.settings, **more})

    @property
    def free_bytes(self):
        return shutil.disk_usage(self.home).free

    def fill(self, but=0):
        (self.home / "ballast").write_bytes(bytes(self.free_bytes - but))
        assert abs(self.free_bytes - but) <= (1 << 19 if but else 0)  # where there is room a daemon writes meanwhile


@pytest.fixture
def index(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(MODEL_BYTES))  # nobody comes to read it
    index = Index(stocked(tmp_path, tmp_path / "model"))
    yield index
    index.close()


@pytest.fixture
def house(tmp_path, index):
    home = tmp_path / "small"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "llmos-test", str(home)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and a kernel that permits it")
    catalog = {"LLMOS_CATALOG": str(tmp_path / "catalog.toml"), "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    house = SmallHouse(home, free_port(), {"LLMOS_ENGINE": "null", **catalog, **index.settings})
    yield house
    house("down")
    subprocess.run(["umount", "-l", str(home)], check=True)


def half_pulled(house, least):
    """A pull whose daemon was killed when half of its download was here: it is interrupted, and may go on."""
    with house.client() as box:
        pid = box.pull("tiny", wait=False).pid
        for stream_event in box.watch(pid):
            process = stream_event.process
            if process and process.progress and process.progress.phase == "download" and process.progress.done:
                break
        (part,) = (house.home / "downloads").glob("*.part")
        while part.stat().st_size < least:  # not every byte is reported
            assert not box.process(pid).is_ended
        os.kill(box.status().os_pid, signal.SIGKILL)
    assert house("up").returncode == 0
    with house.client() as box:
        assert box.process(pid).state is State.INTERRUPTED
    return pid


def test_gc_frees_a_full_disk_and_says_which_command_gives_up_the_rest(house, index):
    assert house("up").returncode == 0
    pid = half_pulled(house, index.wheel_bytes // 4)
    (part,) = (house.home / "downloads").glob("*.part")
    held = part.stat().st_size
    assert held > MODEL_BYTES // 8
    (house.home / "scratch" / str(pid) / "checkpoint").write_bytes(bytes(1 << 20))
    house.fill()
    refused = house("pull", "tiny")
    assert refused.returncode == 1, refused.stdout
    assert "is full" in refused.stderr
    assert "llmos gc" in refused.stderr
    done = house("gc")
    assert done.returncode == 0, done.stderr
    assert not part.exists()
    assert house.free_bytes >= held // 2  # the journal has room again, and takes some of it
    assert f"llmos kill {pid}" in done.stdout + done.stderr
    assert house("kill", str(pid)).returncode == 0
    assert house("gc").returncode == 0
    assert house.free_bytes >= held + (1 << 19)


def test_a_pull_that_does_not_fit_is_refused_before_a_byte_is_fetched(house, index):
    assert house("up").returncode == 0
    house.fill(but=8 << 20)
    before = house.free_bytes
    refused = house("pull", "tiny")
    assert refused.returncode == 1, refused.stdout
    need, free = map(number, re.search(r"([\d,]+) bytes are needed .*? ([\d,]+) are free", refused.stderr).groups())
    assert need > index.wheel_bytes > free > 0
    assert index.asked == []
    assert house.free_bytes > before - (1 << 20)
    assert list((house.home / "downloads").iterdir()) == []


def number(words):
    return int(words.replace(",", ""))
