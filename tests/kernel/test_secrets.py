"""A hub's token goes to the hub, and is nowhere else: not in the journal, a list, an event, a log or an error."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmos.abi.api_types import process_json, stream_event_json
from llmos.abi.process import Spec
from llmos.config import Config
from llmos.kernel.kernel import Kernel

TOKEN = "hf_averysecrettoken1"


class Hub(BaseHTTPRequestHandler):
    """Refuses everybody, and keeps what it was told."""

    told: list[str] = []  # noqa: RUF012  # of the class, for the server makes one instance a request

    def do_GET(self) -> None:
        self.told.append(self.headers.get("Authorization", ""))
        self.send_error(403, f"not with {self.headers.get('Authorization')}")

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.mark.slow
def test_after_a_pull_with_a_token_neither_home_nor_output_has_it(tmp_path: Path) -> None:
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    shown: list[str] = []

    async def main() -> None:
        box = Kernel(Config(tmp_path, engine="null", hub_token=TOKEN))
        await box.start()
        box.warm()
        args = {"source": "hf:org/gated", "hub": f"http://127.0.0.1:{hub.server_port}"}
        process = await box.processes.submit(Spec("pull", args))
        shown.extend([str(stream_event_json(one)) async for one in box.processes.watch(process.pid)])
        shown.append(str([process_json(one) for one in box.processes.all()]))
        shown.append(await box.processes.log(process.pid))
        await box.stop()

    asyncio.run(main())
    hub.shutdown()
    hub.server_close()
    assert f"Bearer {TOKEN}" in Hub.told
    assert any("asks for permission" in said for said in shown)
    assert TOKEN not in "".join(shown)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "journal.db" for path in files)
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
