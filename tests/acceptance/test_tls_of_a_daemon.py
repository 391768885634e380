"""TLS with a real daemon: its own commands, clients elsewhere, no plain HTTP, and a certificate that is renewed."""

from __future__ import annotations

import json
import os
import ssl
import stat
import time
from pathlib import Path

import httpx
import pytest
from test_keys_of_a_daemon import Box

from tests.certificates import write_certificate

pytestmark = pytest.mark.acceptance


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "home")
    yield made
    made.run("down")


def test_a_daemon_speaks_tls_and_nothing_else_and_renews_its_certificate(box, tmp_path):
    home = Path(box.environ["LLMOS_HOME"])
    cert, key = write_certificate(tmp_path / "tls")
    key.chmod(0o644)
    flags = ("--tls-cert", str(cert), "--tls-key", str(key))
    assert "chmod 600" in box.run("up", *flags, code=2)
    assert "tls_key" in box.run("up", "--tls-cert", str(cert), code=2)
    key.chmod(0o600)
    assert "https://" in box.run("up", *flags)
    url = json.loads((home / "daemon.json").read_text())["url"]
    assert url == f"https://127.0.0.1:{box.port}"
    assert "cpu0" in box.run("status")  # this user's own commands trust what the daemon wrote down
    with pytest.raises(httpx.HTTPError):
        httpx.get(box.url + "/healthz", timeout=60)
    context = ssl.create_default_context(cafile=str(cert))
    with httpx.Client(base_url=url, verify=context, timeout=60) as kept:
        assert kept.get("/healthz").status_code == 200
        assert kept.post("/v1/keys", json={"name": "x" * 200}).status_code == 400
        new_cert, new_key = write_certificate(tmp_path / "new")
        new_key.replace(key)
        new_cert.replace(cert)
        pem = cert.read_text()
        while json.loads((home / "daemon.json").read_text()).get("certificate") != pem:
            time.sleep(0.1)
        assert kept.get("/healthz").status_code == 200  # the connection is the old one
    renewed = ssl.create_default_context(cafile=str(cert))
    assert httpx.get(f"{url}/healthz", verify=renewed, timeout=60).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", verify=context, timeout=60)
    assert "cpu0" in box.run("status")
    assert stat.S_IMODE(os.stat(home / "daemon.json").st_mode) == 0o600
