"""The resident form of a base: whoever is about to load it makes it where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.abi.frame import Job, ModelPath, Ready, Stop
from llmos.abi.model import Kind, Manifest, OfferKind
from llmos.testing import tiny
from llmos.testing.daemon import beside

pytestmark = pytest.mark.torch


def test_a_base_without_its_resident_form_gets_one_before_it_is_served(tmp_path: Path) -> None:
    from llmos.programs import serve

    tiny.write(tmp_path / "base", "bert")
    base = ModelPath(Manifest("tiny", 1, Kind.BASE, "embed", (), base_digest="0" * 64), str(tmp_path / "base"))
    args = {"engine": "pytorch", "token_budget": 64}
    daemon, channel, close = beside()
    daemon.send(Stop())
    serve.main(channel, Job(1, "serve", args, str(tmp_path), threads=1, models={"base": base}))
    close()
    (form,) = daemon.offers
    assert (form.kind, form.draft) == (OfferKind.RESIDENT, {"base": "tiny:1", "dtype": "float32"})
    assert any(isinstance(one, Ready) and one.weights_bytes for one in daemon.said)
