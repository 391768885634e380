"""The daemon as a process: it says where it is, refuses a second one, and goes down in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from llmos.abi.cpu import PATHS, features
from llmos.abi.error import AlreadyRunning, NotLoopback, Unavailable
from llmos.config import Config
from llmos.daemon import announcing, holding_home, listening
from llmos.home import children_of
from llmos.testing.errors import fails_with

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def start(home: Path, port: int, *words: str, **more: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "LLMOS_HOME": str(home), "LLMOS_PORT": str(port), "LLMOS_ENGINE": "null", **more}
    return subprocess.Popen(
        [sys.executable, "-m", "llmos.daemon", *words], env=environ, stderr=subprocess.PIPE, text=True
    )


def test_it_answers_says_where_it_is_and_goes_down_with_nothing_left_behind(tmp_path):
    port = free_port()
    with start(tmp_path, port) as daemon:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        said = json.loads((tmp_path / "daemon.json").read_text())
        assert (said["os_pid"], said["url"]) == (daemon.pid, f"http://127.0.0.1:{port}")
        with start(tmp_path, free_port()) as second:
            assert "runs on" in second.communicate(timeout=60)[1]
            assert second.returncode == 1
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, errors
    assert not (tmp_path / "daemon.json").exists()


def test_it_tells_systemd_when_it_answers_and_when_it_stops(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(120)
        with start(tmp_path / "home", free_port(), NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon:
            assert told.recv(100) == b"READY=1"
            daemon.send_signal(signal.SIGTERM)
            assert told.recv(100) == b"STOPPING=1"
            daemon.communicate(timeout=120)


def test_what_a_daemon_and_its_children_write_is_their_owner_s_alone(tmp_path):
    home, port = tmp_path / "new", free_port()
    with start(home, port) as daemon:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/healthz", timeout=60).status_code == 200
            (probe,) = client.get("/v1/processes").json()["data"]
            with client.stream("GET", f"/v1/processes/{probe['pid']}/events", timeout=60) as events:
                assert any("exited" in line for line in events.iter_lines())
        open_to_others = [path for path in (home, *home.rglob("*")) if path.lstat().st_mode & 0o077]
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
    assert (home / "logs" / f"{probe['pid']}.log").exists()
    assert open_to_others == []


def test_the_daemon_s_own_log_is_rotated_while_it_prints_and_keeps_the_newest(tmp_path):
    port, log = free_port(), tmp_path / "logs" / "daemon.log"
    log.parent.mkdir()
    words = [sys.executable, "-m", "llmos.daemon", "--max-log-bytes=4096"]
    environ = {**os.environ, "LLMOS_HOME": str(tmp_path), "LLMOS_PORT": str(port), "LLMOS_ENGINE": "null"}
    with log.open("ab") as sink:
        sink.write(b"what an earlier one has said\n" * 200)
        sink.flush()
        daemon = subprocess.Popen(words, env=environ, stdout=sink, stderr=sink)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        for number in (2, 3, 4):
            while not (log.exists() and log.samefile(f"/proc/{daemon.pid}/fd/2")):
                assert daemon.poll() is None
            with Path(f"/proc/{daemon.pid}/fd/1").open("ab") as printed:
                printed.write(b"%d" % number * 5000 + b"\n")
            while not log.with_name(f"daemon.log.{number}").exists():
                assert daemon.poll() is None
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    assert sorted(path.name for path in log.parent.glob("daemon.log?*")) == ["daemon.log.3", "daemon.log.4"]
    assert log.with_name("daemon.log.4").read_text().startswith("4" * 5000)


FORMS = {  # what a page of any site may post without asking first (WHATWG Fetch, CORS-safelisted request headers)
    "text/plain": b'{"source": "minilm", "x": "="}',
    "application/x-www-form-urlencoded": b"source=minilm",
    "multipart/form-data; boundary=x": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
}
PAGES = (
    "Origin: http://attacker.example\n",
    "Origin: null\nSec-Fetch-Mode: navigate\n",
    "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\n",
    "Sec-Fetch-Site: same-site\n",
)
REFUSED = ("host_not_allowed", "origin_not_allowed")


def posted(kind, length):
    return f"Content-Type: {kind}\nContent-Length: {length}\n"


def exchange(port, head, body=b"", *, only_status=False):
    """One request as raw bytes, and the status and body that came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(head.replace("\n", "\r\n").encode() + b"Connection: close\r\n\r\n" + body)
        came = sock.recv(1 << 16) if only_status else b"".join(iter(lambda: sock.recv(1 << 16), b""))
    return int(came.split(b" ", 2)[1]), came.partition(b"\r\n\r\n")[2]


def test_what_a_stranger_sends_over_a_socket_is_refused_on_every_route(tmp_path):
    port = free_port()
    own = f"Host: 127.0.0.1:{port}\n"
    with start(tmp_path, port) as daemon:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
                paths = client.get(f"http://127.0.0.1:{port}/openapi.json", timeout=60).json()["paths"]
            routes = [(method.upper(), path) for path, methods in paths.items() for method in methods]
            assert len(routes) > 20
            for method, path in (*routes, ("OPTIONS", "/v1/models"), ("HEAD", "/healthz"), ("GET", "/none")):
                line = f"{method} {path.replace('{', '').replace('}', '')} HTTP/1.1\n"
                for stranger in (
                    f"Host: attacker.example:{port}\n",
                    f"{own}Sec-Fetch-Site: cross-site\n",
                    f"{own}Connection: Upgrade\nUpgrade: websocket\nOrigin: http://attacker.example\n",
                    *(f"{own}{posted(kind, len(body))}{whose}" for kind, body in FORMS.items() for whose in PAGES),
                ):
                    kind = re.search("Content-Type: (.*)\n", stranger)
                    status, said = exchange(port, line + stranger, FORMS[kind[1]] if kind else b"")
                    assert status == 403, line + stranger
                    error = json.loads(said)["error"] if method != "HEAD" else {"code": REFUSED[1]}
                    assert error["code"] in REFUSED
                ours = exchange(port, f"{line}{own}Content-Length: 2\n", b"{}", only_status=True)[0]
                assert ours != 403, f"{line} is refused to whoever asks, which proves nothing"
            assert exchange(port, f"GET /healthz HTTP/1.1\n{own}")[0] == 200
            assert exchange(port, "GET /healthz HTTP/1.1\n")[0] == 400
            assert exchange(port, f"GET /healthz HTTP/1.1\n{own}Host: attacker.example\n")[0] == 400
        finally:
            daemon.send_signal(signal.SIGTERM)
            _, errors = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_is_listened_on_only_if_that_is_meant(tmp_path, host):
    with fails_with(NotLoopback, key="insecure", value=host), listening(Config(tmp_path, host=host, port=free_port())):
        pass
    with listening(Config(tmp_path, host=host, port=free_port(), insecure=True)) as sock:
        assert sock.getsockname()[0] == host


def test_a_damaged_journal_is_a_sentence_at_the_start_and_the_way_it_says_is_one(tmp_path):
    port = free_port()

    def up(*words: str) -> tuple[int, str, list[int]]:
        """How a start ends, what it said, and the pids it knew; it is ended once it answers."""
        with start(tmp_path, port, *words) as daemon:
            pids: list[int] = []
            while daemon.poll() is None:  # until it answers, or has ended without
                try:
                    said = httpx.get(f"http://127.0.0.1:{port}/v1/processes", timeout=60).json()
                except httpx.TransportError:  # it may end while it is asked
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        daemon.wait(timeout=0.05)
                    continue
                pids = [one["pid"] for one in said["data"]]
                daemon.send_signal(signal.SIGTERM)
                break
            _, errors = daemon.communicate(timeout=60)
            return daemon.returncode, errors, pids

    assert up()[0] == 0
    journal = tmp_path / "journal.db"
    os.truncate(journal, 0)
    code, said, _ = up()
    assert code == 1
    assert "it is empty" in said
    assert "llmos up --restore" in said
    assert "Traceback" not in said
    code, _, pids = up("--restore")
    assert code == 0
    assert pids[0] == 1, "the probe of the first start is remembered"
    assert pids in ([1], [1, 2]), "it measures again where it had not come to an end"
    assert up()[0] == 0


def test_loops_that_cannot_be_had_stop_the_start_with_the_setting_s_name(tmp_path):
    with start(tmp_path, free_port(), LLMOS_CPU_KERNELS="baseline", PATH=str(tmp_path)) as daemon:
        errors = daemon.communicate(timeout=60)[1]
    assert daemon.returncode == 1
    assert errors.startswith("cpu_kernels is 'baseline', and there is no C compiler")


def test_a_path_that_the_processor_lacks_stops_the_start_with_what_is_lacking(tmp_path):
    has = features()
    for path in (path for path in PATHS if not has.issuperset(path.needs)):
        with start(tmp_path, free_port(), LLMOS_CPU_KERNELS=path.name) as daemon:
            errors = daemon.communicate(timeout=60)[1]
        assert daemon.returncode == 1
        assert errors.startswith(f"cpu_kernels is '{path.name}', and this processor (")
        assert all(need in errors for need in path.needs if need not in has)
        assert "Leave the setting at auto" in errors


def test_a_receiver_of_traces_without_the_extra_stops_the_start_with_the_way_out(tmp_path):
    shadow = tmp_path / "shadow"
    (shadow / "opentelemetry").mkdir(parents=True)
    (shadow / "opentelemetry" / "__init__.py").touch()  # a package of this name, with nothing in it
    path = os.pathsep.join([str(shadow), str(Path(__file__).parents[1])])
    more = {"LLMOS_OTEL_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": path}
    with start(tmp_path / "home", free_port(), **more) as daemon:
        errors = daemon.communicate(timeout=60)[1]
    assert daemon.returncode == 1
    assert errors.startswith("otel_endpoint = 'http://127.0.0.1:4318' needs OpenTelemetry, which is not installed")
    assert "pip install 'llmos[otel]'" in errors


def test_a_lost_daemon_json_is_written_again_but_never_over_anothers(tmp_path):
    home, moved = tmp_path / "home", tmp_path / "moved"
    path = home / "daemon.json"

    async def main() -> None:
        async with announcing(Config(home), every_s=0.001):
            said = path.read_bytes()
            for damage in (path.unlink, lambda: path.write_text("{garbled")):
                damage()
                await asyncio.to_thread(until_it_says, path, said)
            home.rename(moved)
            home.mkdir()
            path.write_text("another's")
            (home / "daemon.lock").touch()
        assert path.read_text() == "another's"

    with holding_home(home):
        asyncio.run(main())


def until_it_says(path: Path, said: bytes) -> None:
    while not path.exists() or path.read_bytes() != said:
        pass


def test_no_process_leaves_a_core_that_would_hold_texts(tmp_path):
    with start(tmp_path, port := free_port()) as daemon:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        for os_pid in (daemon.pid, *children_of(tmp_path)):
            assert resource.prlimit(os_pid, resource.RLIMIT_CORE)[0] == 0
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)


def test_a_folder_for_all_is_refused_as_a_home_and_nothing_is_put_there(tmp_path):
    tmp_path.chmod(0o1777)
    with start(tmp_path, free_port()) as daemon:
        errors = daemon.communicate(timeout=60)[1]
    assert (daemon.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "LLMOS_HOME=" in errors
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_home_is_held_by_one_daemon_at_a_time(tmp_path):
    with holding_home(tmp_path), fails_with(AlreadyRunning, home=str(tmp_path)), holding_home(tmp_path):
        pass
    with holding_home(tmp_path):
        pass


def test_a_port_that_is_taken_is_said_to_be(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = Config(tmp_path, port=other.getsockname()[1])
        with fails_with(AlreadyRunning, port=config.port), listening(config):
            pass


def test_an_address_that_is_none_is_said_to_be(tmp_path):
    with fails_with(Unavailable, key="host", value="no such host"), listening(Config(tmp_path, host="no such host")):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_an_accepted_connection_sends_small_answers_at_once(tmp_path, host):
    """Nagle's algorithm waits for the client's delayed acknowledgement: 40 ms a call on a kept connection."""

    async def nodelay_of_an_accepted_connection(sock):
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=sock)
        async with server:
            _, ours = await asyncio.open_connection(*sock.getsockname()[:2])
            theirs = await accepted
            option = theirs.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for writer in (ours, theirs):
                writer.close()
                await writer.wait_closed()
            return option

    with listening(Config(tmp_path, host=host, port=free_port())) as sock:
        assert asyncio.run(nodelay_of_an_accepted_connection(sock)) != 0
