"""Channels: what receivers get, that signatures are those of Standard Webhooks, and what is never called."""

import base64
import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from select import select

import pytest

from llmos.abi.alert import Alert, AlertDelivery, AlertSeverity, AlertStatus
from llmos.kernel.alerts.channel_settings import CommandSettings, EmailSettings, WebhookSettings
from llmos.kernel.alerts.channels import SendFailure, send, send_command, signature
from llmos.testing.receivers import mail_receiver, webhook_receiver

KEY = b"0123456789abcdef0123456789abcdef"
AT = 1_750_000_000.0
ALERT = Alert("alert_1", "failing", AlertSeverity.CRITICAL, "Calls fail", 'errors("a", 5m) > 0.01', AT, value=0.5)
DELIVERY = AlertDelivery("msg_1", "team", "failing", ALERT, AlertStatus.FIRING, AT)


@pytest.fixture
def hook():
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail():
    with mail_receiver() as receiver:
        yield receiver


def test_a_webhook_gets_the_alert_and_the_headers_of_the_standard(hook):
    send(WebhookSettings("team", hook.url, KEY), DELIVERY, AT + 5)
    (found,) = hook.received
    assert found.path == "/hook?x=1"
    assert found.headers["content-type"] == "application/json"
    assert (found.headers["webhook-id"], found.headers["webhook-timestamp"]) == ("msg_1", str(int(AT) + 5))
    assert found.headers["webhook-signature"] == signature(KEY, "msg_1", int(AT) + 5, found.body)
    body = json.loads(found.body)
    assert body["type"] == "alert.firing"
    assert body["data"]["rule"] == "failing"
    assert body["data"]["value"] == 0.5


def test_the_released_verifier_takes_the_signature_and_no_other(hook):
    webhooks = pytest.importorskip("standardwebhooks.webhooks")
    verifier = webhooks.Webhook("whsec_" + base64.b64encode(KEY).decode())
    now = datetime.now(UTC).timestamp()
    send(WebhookSettings("team", hook.url, KEY), DELIVERY, now)
    send(WebhookSettings("team", hook.url, b"another key of 24 bytes!"), DELIVERY, now)
    right, wrong = hook.received
    verified = verifier.verify(right.body, right.headers)
    assert verified["data"]["id"] == "alert_1"
    with pytest.raises(webhooks.WebhookVerificationError):
        verifier.verify(right.body.replace(b"0.5", b"0.6"), right.headers)
    with pytest.raises(webhooks.WebhookVerificationError):
        verifier.verify(wrong.body, wrong.headers)


def test_without_a_secret_nothing_is_signed(hook):
    send(WebhookSettings("team", hook.url), DELIVERY, AT)
    assert "webhook-signature" not in hook.received[0].headers


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (404, False), (429, False), (410, True)])
def test_a_status_other_than_2xx_is_a_failure(hook, status, is_final):
    hook.statuses = [status]
    with pytest.raises(SendFailure) as caught:
        send(WebhookSettings("team", hook.url), DELIVERY, AT)
    assert str(status) in caught.value.message
    assert caught.value.is_final is is_final


def test_a_redirect_is_not_followed(hook):
    with webhook_receiver() as other:
        hook.statuses, hook.location = [307], other.url
        with pytest.raises(SendFailure):
            send(WebhookSettings("team", hook.url), DELIVERY, AT)
        assert other.received == []


def test_a_proxy_of_the_environment_is_not_asked(hook, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    send(WebhookSettings("team", hook.url), DELIVERY, AT)
    assert len(hook.received) == 1


def test_nobody_at_the_address_is_a_failure_that_may_pass():
    with webhook_receiver() as gone:
        url = gone.url
    with pytest.raises(SendFailure) as caught:
        send(WebhookSettings("team", url), DELIVERY, AT)
    assert not caught.value.is_final


def test_a_mail_has_the_alert_and_the_same_id_at_every_attempt(mail):
    settings = EmailSettings("ops", ("a@b.example", "c@d.example"), "llmos@box.example", "127.0.0.1", mail.port, "none")
    send(settings, DELIVERY, AT)
    send(settings, DELIVERY, AT + 60)
    (recipients, first), (_, second) = mail.messages
    assert recipients == ["a@b.example", "c@d.example"]
    message = message_from_bytes(first, policy=default)
    assert message["subject"] == "[firing] failing: Calls fail"
    assert (message["from"], message["message-id"]) == ("llmos@box.example", "<msg_1@box.example>")
    assert message["message-id"] == message_from_bytes(second, policy=default)["message-id"]
    assert "llmos alerts silence failing" in message.get_content()


def test_a_summary_over_several_lines_adds_no_header_to_a_mail(mail):
    from dataclasses import replace

    settings = EmailSettings("ops", ("a@b.example",), "llmos@box.example", "127.0.0.1", mail.port, "none")
    alert = replace(ALERT, summary="one\r\nBcc: evil@example.org\r\n\r\ntwo")
    send(settings, replace(DELIVERY, alert=alert), AT)
    message = message_from_bytes(mail.messages[0][1], policy=default)
    assert message["bcc"] is None
    assert mail.messages[0][0] == ["a@b.example"]


def test_a_refused_recipient_and_a_missing_server_are_failures(mail):
    mail.refuses = True
    settings = EmailSettings("ops", ("a@b.example",), "llmos@box.example", "127.0.0.1", mail.port, "none")
    with pytest.raises(SendFailure):
        send(settings, DELIVERY, AT)
    encrypted = EmailSettings("ops", ("a@b.example",), "llmos@box.example", "127.0.0.1", mail.port, "starttls")
    with pytest.raises(SendFailure):
        send(encrypted, DELIVERY, AT)  # this server offers no TLS: nothing is sent in the clear instead
    assert mail.messages == []


def test_a_command_gets_the_alert_as_json_and_no_secret_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_API_KEY", "secret")
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + str('LLMOS_API_KEY' in os.environ))"
    send(CommandSettings("pager", (sys.executable, "-c", code, str(out))), DELIVERY, AT)
    line, has_secret = out.read_text().splitlines()
    assert json.loads(line)["id"] == "msg_1"
    assert json.loads(line)["data"]["rule"] == "failing"
    assert has_secret == "False"


def test_a_command_that_fails_or_is_not_there_says_so_in_a_sentence():
    code = "import sys; sys.exit('no pager today')"
    with pytest.raises(SendFailure, match="exit code 1: no pager today"):
        send(CommandSettings("pager", (sys.executable, "-c", code)), DELIVERY, AT)
    with pytest.raises(SendFailure, match="FileNotFoundError"):
        send(CommandSettings("pager", ("/no/such/program",)), DELIVERY, AT)


def test_a_command_that_never_ends_is_killed_with_what_it_has_started(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "child.wait()\n"
    )
    with pytest.raises(SendFailure):
        send_command(CommandSettings("pager", (sys.executable, "-c", code, str(note))), DELIVERY, AT, timeout_s=3.0)
    if note.exists():  # a very slow machine may not have come so far
        with suppress(ProcessLookupError):
            child = os.pidfd_open(int(note.read_text()))
            assert select([child], [], [], 60)[0] == [child]  # it has ended
            os.close(child)
