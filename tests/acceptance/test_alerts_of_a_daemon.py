"""Alerts of a real daemon: a message survives kill -9 under its id, and one that has arrived is not sent again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import House, free_port

from llmos.testing.receivers import WebhookReceiver, webhook_receiver

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

WAIT_S = 120


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A home of the test's own, whose daemon serves by the null engine."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('engine = "null"\n')
    made = House(home, free_port())
    yield made
    made("down")


def rules(url: str) -> str:
    return f"""
[channels.team]
url = "{url}"

[rules.up]
when = "llmos_start_time_seconds > 0"
summary = "It runs"
"""


def die(house: House) -> None:
    """kill -9 of the daemon; returns when it is gone."""
    with house.client() as box:
        daemon = psutil.Process(box.status().os_pid)
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait(60)


def wait_for(receiver: WebhookReceiver, number: int) -> None:
    while len(receiver.received) < number:
        receiver.came.clear()
        assert len(receiver.received) >= number or receiver.came.wait(WAIT_S), receiver.received


def test_a_message_survives_kill_9_and_is_not_sent_again_once_it_has_arrived(house: House):
    with webhook_receiver() as receiver:
        receiver.statuses = [503]
        (Path(house.home) / "alerts.toml").write_text(rules(receiver.url))
        house.start()
        wait_for(receiver, 1)
        die(house)
        house.start()
        wait_for(receiver, 2)
        ids = [one.headers["webhook-id"] for one in receiver.received]
        assert ids == [ids[0]] * 2
        assert json.loads(receiver.received[1].body)["data"]["rule"] == "up"
        with house.client() as box:
            box.reload_alerts()  # returns after a look, and the outbox
        shown = house("alerts", "ls")
        assert shown.returncode == 1, shown.stderr  # something fires
        assert "up" in shown.stdout
        assert "firing" in shown.stdout
        die(house)
        house.start()
        assert house.json("alerts", "test", "team") == [{"channel": "team", "error": ""}]
        with house.client() as box:
            view = box.reload_alerts()
        assert [one.state for one in view.alerts] == ["firing"]
        assert view.deliveries == ()
        later = receiver.received[2:]
        assert [json.loads(one.body)["type"] for one in later] == ["alert.test"]


def test_a_silence_survives_a_kill_and_a_wrong_file_is_said_with_its_line(house: House):
    path = Path(house.home) / "alerts.toml"
    path.write_text('[rules.never]\nwhen = "1 > 2"\n')
    house.start()
    with house.client() as box:
        box.reload_alerts()
    made = house("alerts", "silence", "never", "--for", "2h", "--reason", "tests")
    assert made.returncode == 0, made.stderr
    die(house)
    house.start()
    with house.client() as box:
        assert [(one.rule, one.reason) for one in box.alerts().silences] == [("never", "tests")]
    assert house("alerts", "unsilence", "never").returncode == 0
    path.write_text('[rules.never]\nwhen = "1 >"\n')
    refused = house("alerts", "reload")
    assert refused.returncode == 2
    assert "line 2" in refused.stderr
    assert house("alerts", "ls").returncode == 1
    assert house("alerts", "silence", "never", "--for", "soon").returncode == 2
    assert house("alerts", "secret").stdout.startswith("whsec_")
