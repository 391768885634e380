"""Personal data is known by pattern and checksum, counted by kind, and printed nowhere."""

from __future__ import annotations

import json

import pytest
from checked_rows import subject

from llmos.data.checks.personal_data import mask, spans_in
from llmos.data.checks.registry import run_checks
from llmos.data.checks.report import CheckReport

VALID = {
    "jo.smith@example.org": "e-mail",
    "DE89 3704 0044 0532 0130 00": "IBAN",
    "4111 1111 1111 1111": "card",
    "11010519491231002X": "Chinese id",
    "13812345678": "Chinese mobile number",
    "12345678Z": "Spanish id",
    "RSSMRA85T10A562S": "Italian id",
    "078-05-1120": "US social security number",
    "203.0.113.7": "IP address",
    "+44 20 7946 0958": "phone number",
}
INVALID = (
    "GB82 WEST 1234 5698 7654 33",
    "4111 1111 1111 1112",
    "110105194912310021",
    "12345678A",
    "127.0.0.1",
    "1234567890123",
    "999.1.1.1",
    "version 1.2.3",
    "2026-11-28",
)


@pytest.mark.parametrize(("text", "kind"), VALID.items())
def test_a_valid_one_is_known_and_masked(text, kind):
    assert [name for _, _, name in spans_in(f"It is {text}, I think")] == [kind]
    assert mask(f"It is {text}, I think") == f"It is [{kind}], I think"


@pytest.mark.parametrize("text", INVALID)
def test_what_fails_its_checksum_is_none(text):
    assert list(spans_in(f"It is {text}, I think")) == []


def test_chinese_writes_no_spaces_around_numbers():
    assert [name for _, _, name in spans_in("我的手机号是13812345678请回电")] == ["Chinese mobile number"]


def test_no_report_has_any_of_it():
    rows = [(f"write to me at {text} please, number {i}", "ab"[i % 2]) for i, text in enumerate(VALID)]
    made = subject({"train": [*rows, *rows], "test": rows})
    findings = run_checks(made, without=["languages"])
    (one,) = [found for found in findings if found.kind == "personal_data"]
    assert one.counts["e-mail"] == 3
    report = CheckReport("rows@1", "classify", {"train": 20}, "", (), (), {}, findings)
    for text in (json.dumps(report.as_json(), ensure_ascii=False), report.page()):
        assert not [secret for secret in VALID if secret in text]
