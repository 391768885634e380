"""Batches by the Python client: begun from a file or an upload, looked at, cancelled, and their files fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos import Client
from llmos.abi.batch import BatchStatus
from llmos.abi.error import BadInput, NotFound
from llmos.config import Config
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

ROUTE = "/v1/tasks/classify"


def test_a_batch_is_begun_looked_at_and_cancelled(tmp_path: Path):
    kernel = MemoryKernel()
    requests = tmp_path / "in.jsonl"
    requests.write_bytes(b'{"custom_id": "a"}\n' * 3)
    with serving(kernel, Config(tmp_path)) as url, Client(url) as client:
        batch = client.batch(requests, ROUTE, window="2h", metadata={"for": "tests"})
        assert (batch.status, batch.endpoint, batch.expires_at - batch.created_at) == (
            BatchStatus.VALIDATING,
            ROUTE,
            7_200,
        )
        kept = kernel.files.get(batch.input_file_id)
        assert (kept.name, kept.purpose) == ("in.jsonl", "batch")
        again = client.batch(f"upload:{kept.id}", ROUTE)
        assert {one.id for one in client.batches()} == {batch.id, again.id}
        assert client.show_batch(batch.id) == batch
        assert client.cancel_batch(batch.id).status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED)
        with pytest.raises(NotFound):
            client.show_batch("batch_0")


@pytest.mark.parametrize("size", [0, 5, 8 * 1024 * 1024 + 3])
def test_a_file_is_fetched_in_parts_and_put_in_its_place(tmp_path: Path, size: int):
    kernel = MemoryKernel()
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"0123456789abcde" * (size // 15 + 1))
    with source.open("r+b") as file:
        file.truncate(size)
    with serving(kernel, Config(tmp_path)) as url, Client(url) as client:
        batch = client.batch(source, ROUTE)
        assert client.fetch_file(batch.input_file_id, target) == target
        assert target.read_bytes() == source.read_bytes()
        with pytest.raises(BadInput):
            client.fetch_file(batch.input_file_id, target)
        client.fetch_file(batch.input_file_id, target, overwrite=True)
