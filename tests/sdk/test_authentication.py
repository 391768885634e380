"""Which key a client sends, and to whom."""

import json

import httpx
import pytest

from llmos.sdk.authentication import auth_for, is_same_server

OWN = "http://127.0.0.1:8600"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    monkeypatch.delenv("LLMOS_API_KEY", raising=False)
    (tmp_path / "daemon.json").write_text(json.dumps({"url": OWN}))
    (tmp_path / "local.key").write_text("llmos_local_1")
    return tmp_path


def sent(auth):
    """What a request has in its header with this authentication."""
    request = httpx.Request("GET", OWN)
    next(auth.auth_flow(request))
    return request.headers.get("authorization")


def test_the_local_key_goes_to_the_home_s_own_daemon_alone(home):
    assert sent(auth_for(OWN, None)) == sent(auth_for("http://localhost:8600/", None)) == "Bearer llmos_local_1"
    for other in ("http://127.0.0.1:8601", "http://box.lan:8600", "https://127.0.0.1:8600", "http://[::2]:8600"):
        assert sent(auth_for(other, None)) is None


def test_it_is_read_anew_for_each_request_as_each_start_changes_it(home):
    auth = auth_for(OWN, None)
    assert sent(auth) == "Bearer llmos_local_1"
    (home / "local.key").write_text("llmos_local_2")
    assert sent(auth) == "Bearer llmos_local_2"
    (home / "local.key").unlink()
    assert sent(auth) is None


def test_a_given_key_comes_before_that_of_the_settings_and_the_local_one_last(home, monkeypatch):
    monkeypatch.setenv("LLMOS_API_KEY", "llmos_b_2")
    assert sent(auth_for("http://box.lan:8600", "llmos_a_1")) == "Bearer llmos_a_1"
    assert sent(auth_for(OWN, None)) == "Bearer llmos_b_2"


@pytest.mark.parametrize("port", ["x", "99999"])
def test_an_address_with_no_valid_port_is_no_server_s(port):
    assert not is_same_server(f"http://127.0.0.1:{port}", OWN)
