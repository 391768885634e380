"""Clients of https addresses: the local daemon's own certificate, an authority's file, and what is not trusted."""

from __future__ import annotations

import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmos import Client
from llmos.abi.error import BadSetting, Unavailable
from llmos.api.tls import Certificate
from llmos.sdk.tls import context_for
from tests.certificates import write_certificate

URL = "https://127.0.0.1:8700"


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("LLMOS_HOME", str(home))
    return home


def test_plain_addresses_need_no_context(home):
    assert context_for("http://127.0.0.1:8700") is True


def test_the_local_daemon_s_certificate_is_trusted_at_its_address_alone(home, tmp_path):
    cert, _ = write_certificate(tmp_path)
    (home / "daemon.json").write_text(json.dumps({"url": URL, "certificate": cert.read_text()}))
    own, other = context_for("https://localhost:8700"), context_for("https://127.0.0.1:8701")
    assert isinstance(own, ssl.SSLContext)
    assert isinstance(other, ssl.SSLContext)
    assert (own.check_hostname, own.verify_mode, len(own.get_ca_certs())) == (False, ssl.CERT_REQUIRED, 1)
    assert other.check_hostname
    assert cert.read_text() not in map(ssl.DER_cert_to_PEM_cert, other.get_ca_certs(binary_form=True))


def test_a_file_of_authorities_is_the_setting_s_or_the_argument_s(home, tmp_path, monkeypatch):
    cert, _ = write_certificate(tmp_path)
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    monkeypatch.setenv("LLMOS_TLS_CA", str(cert))
    for context in (context_for(URL), context_for(URL, cert)):
        assert isinstance(context, ssl.SSLContext)
        assert der in context.get_ca_certs(binary_form=True)
        assert context.check_hostname
    with Client() as client:
        assert client.url == "https://127.0.0.1:8600"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_refused(home, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadSetting) as raised:
        Client(URL, ca_file=path)
    assert raised.value.detail["key"] == "tls_ca"


def test_a_server_that_is_not_trusted_is_no_daemon_that_is_down(home, tmp_path):
    certificate = Certificate(*write_certificate(tmp_path))

    def refuse() -> None:
        accepted, _ = listener.accept()
        with accepted, pytest.raises(ssl.SSLError):
            certificate.context.wrap_socket(accepted, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(60)
        refused = pool.submit(refuse)
        with Client(f"https://127.0.0.1:{listener.getsockname()[1]}") as client, pytest.raises(Unavailable) as raised:
            client.status()
        refused.result()
    assert "LLMOS_TLS_CA" in raised.value.message
