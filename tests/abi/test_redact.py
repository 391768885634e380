"""Redaction: what is a secret is not in what is kept or shown, and prose stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import Fault
from llmos.abi.redact import HIDDEN, MOST_ARGS_BYTES, kept_args, redact, redacted_fault, secrets_in


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pass@host/simple asks", "https://host/simple asks"),
        ("Authorization: Bearer abcdef0123456789", f"Authorization: Bearer {HIDDEN}"),
        ("sent hf_AbCdEf12345678 along", f"sent {HIDDEN} along"),
        ("https://cdn/x?Signature=abc%2F&Expires=9", f"https://cdn/x?Signature={HIDDEN}&Expires=9"),
        ("the bearer of this letter, a basic understanding", "the bearer of this letter, a basic understanding"),
        ("me@example.com wrote", "me@example.com wrote"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", f"{{'Authorization': 'Basic {HIDDEN}'}}"),
        ("sent Bearer abcdef0123456789 along", f"sent Bearer {HIDDEN} along"),
        ("a basic all-MiniLM-L6-v2 will do", "a basic all-MiniLM-L6-v2 will do"),
        ("Basic sentence-transformers/all-mpnet-2", "Basic sentence-transformers/all-mpnet-2"),
        ("install hf_transfer, or hf_datasets", "install hf_transfer, or hf_datasets"),
        ("https://example.com?mail=me@x.org fails", "https://example.com?mail=me@x.org fails"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_prose_is_not(text, shown):
    assert redact(text) == shown


@given(
    st.text(max_size=30), st.text(max_size=30), st.text(st.characters(categories=["L", "N"]), min_size=8, max_size=40)
)
def test_a_known_secret_is_nowhere_in_what_is_shown(before, after, secret):
    assert secret not in redact(f"{before} {secret} {after} {secret}", [secret]).replace(HIDDEN, "")
    detail = {"url": [f"http://x/{secret}"], "token": secret}
    fault = redacted_fault(Fault("offline", f"{before}{secret}", detail), [secret])
    assert secret not in fault.message.replace(HIDDEN, "")
    assert fault.detail == {"url": [f"http://x/{HIDDEN}"], "token": HIDDEN}


def test_kept_arguments_have_no_secrets_and_no_endless_text():
    args = {"source": "s" * 30_000_000, "token": "hf_1234567890", "catalog": "/etc/x", "name": "a", "epochs": 2}
    kept = kept_args(args)
    assert kept.keys() == {"source", "name", "epochs"}
    assert len(kept["source"]) == MOST_ARGS_BYTES
    assert secrets_in(args) == ("hf_1234567890",)
