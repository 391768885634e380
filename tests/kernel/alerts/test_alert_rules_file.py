"""alerts.toml: what it may say, and that every mistake is named with its line."""

import base64

import pytest

from llmos.abi.alert import AlertSeverity
from llmos.abi.error import BadInput
from llmos.kernel.alerts.rules_file import read_rules

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
WHOLE = f"""
[channels.team]
url = "https://hooks.example.org/T/abc?x=1"
secret = "{SECRET}"

[channels.ops]
email = ["ops@example.org"]
from = "llmos@example.org"
smtp = "smtp.example.org"
user = "llmos"
password = "p"

[channels.pager]
command = ["/usr/bin/page", "--team"]

[rules.failing]
when = 'errors("support", 5m) > 0.01'
for = "2m"
severity = "critical"
summary = "Calls of support fail"
labels = {{team = "nlp"}}
channels = ["team"]
repeat = "4h"
rollback = "support"

[rules.drift]
when = 'events("drift", 1h) > 0'
start = {{program = "train", args = {{task = "classify", data = {{train = "/data/rows.csv"}}, name = "support"}}}}
"""


def test_a_whole_file_is_read():
    found = read_rules(WHOLE)
    assert {name: one.kind for name, one in found.channels.items()} == {
        "team": "webhook",
        "ops": "email",
        "pager": "command",
    }
    assert (found.channels["team"].key, found.channels["ops"].port) == (b"k" * 32, 587)
    failing, drift = found.rules["failing"], found.rules["drift"]
    assert (failing.for_s, failing.repeat_s, failing.severity) == (120.0, 14400.0, AlertSeverity.CRITICAL)
    assert (failing.channels, failing.labels) == (("team",), {"team": "nlp"})
    assert failing.action == {"rollback": "support"}
    assert drift.channels == ("team", "ops", "pager")
    assert drift.action["start"]["program"] == "train"
    assert read_rules("").rules == {}


def test_what_is_secret_is_in_no_representation_and_no_target():
    found = read_rules(WHOLE)
    shown = repr(found.channels) + "".join(one.target for one in found.channels.values())
    assert "abc" not in shown
    assert "kkkk" not in shown
    assert "password" not in shown
    assert found.channels["team"].target == "https://hooks.example.org"


RULE = '[rules.a]\nwhen = "1 > 2"\n'
HOOK = '[channels.a]\nurl = "https://a.example"\n'
MAIL = '[channels.m]\nemail = "a@b.example"\nfrom = "c@d.example"\n'


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("[rules.a\n", 1, None),
        ('[rules.a]\nwhen = "1 > 2"\nfor = "x"\n', 3, "rules.a.for"),
        ('\n\n[rules.a]\nwhen = "1 >"\n', 4, "rules.a.when"),
        ("[rules.a]\nfor = '5m'\n", 1, "rules.a"),
        (RULE + "severity = 'huge'\n", 3, "rules.a.severity"),
        (RULE + "sverity = 'info'\n", 3, "rules.a.sverity"),
        (RULE + "channels = ['nobody']\n", 3, "rules.a.channels"),
        (RULE + "repeat = '5s'\n", 3, "rules.a.repeat"),
        (RULE + "labels = {a = 1}\n", 3, "rules.a.labels"),
        (RULE + "rollback = 'a:1'\n", 3, "rules.a.rollback"),
        (RULE + "start = {program = 'no_such'}\n", 3, "rules.a.start"),
        (RULE + "start = {program = 'train', args = {colour = 'red'}}\n", 3, "rules.a.start"),
        (RULE + "rollback = 'a'\nstart = {program = 'train'}\n", 3, "rules.a.rollback"),
        ("[rules.'a b']\nwhen = '1 > 2'\n", 1, "rules.a b"),
        ("rules.a = 5\n", 1, "rules.a"),
        ("[rule.a]\nwhen = '1 > 2'\n", 1, "rule"),
        ("[channels.a]\nurl = 'ftp://a.example'\n", 2, "channels.a.url"),
        ("[channels.a]\nurl = 'https://user:pass@a.example'\n", 2, "channels.a.url"),
        ("[channels.a]\nurl = 'https://a.example/\\t'\n".replace("'", '"'), 2, "channels.a.url"),
        ("[channels.a]\nurl = 'https:///path'\n", 2, "channels.a.url"),
        (HOOK + "secret = 'whsec_short'\n", 3, "channels.a.secret"),
        (HOOK + "command = ['/bin/true']\n", 3, "channels.a.command"),
        ("[channels.a]\n", 1, "channels.a"),
        ("[channels.a]\ncommand = 'rm -rf'\n", 2, "channels.a.command"),
        ("[channels.a]\ncommand = ['page']\n", 2, "channels.a.command"),
        (MAIL, 1, "channels.m.smtp"),
        (MAIL + "smtp = 's.example:99999'\n", 4, "channels.m.smtp"),
        (MAIL + "smtp = 's.example'\ntls = 'ssl'\n", 5, "channels.m.tls"),
        (MAIL + "smtp = 's.example'\nuser = 'u'\n", 5, "channels.m.user"),
        (MAIL + "smtp = 's.example'\ntls = 'none'\nuser = 'u'\npassword = 'p'\n", 5, "channels.m.tls"),
        ('[channels.m]\nemail = "a@b.example\\nBcc: x@y.example"\n', 2, "channels.m.email"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, line, key):
    with pytest.raises(BadInput) as caught:
        read_rules(text)
    assert (caught.value.detail["line"], caught.value.detail.get("key")) == (line, key)


def test_a_key_that_is_nearly_right_is_suggested_in_a_sentence():
    with pytest.raises(BadInput, match=r"line 3.*severity"):
        read_rules(RULE + "sverity = 'info'\n")


def test_rules_are_bounded_in_number():
    with pytest.raises(BadInput):
        read_rules("".join(f'[rules.r{n}]\nwhen = "1 > 2"\n' for n in range(201)))
