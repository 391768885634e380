"""A file that is sent to the daemon over a connection that breaks, and then imported."""

import hashlib
import socket

import httpx
import pytest

pytestmark = pytest.mark.acceptance


def test_a_file_whose_connection_broke_is_sent_on_and_imported(house, tmp_path):
    file = tmp_path / "tickets.csv"
    lines = [
        f"the parcel number {i} is {'very ' * 150}late,{'delivery' if i % 2 else 'billing'}\n" for i in range(3000)
    ]
    file.write_text("text,label\n" + "".join(lines))
    data = file.read_bytes()
    with house.client() as client:
        sha256 = hashlib.sha256(data).hexdigest()
        announced = {"name": file.name, "size_bytes": len(data), "sha256": sha256}
        made = httpx.post(f"{house.url}/v1/uploads", json=announced).json()
        host, port = house.url.removeprefix("http://").rsplit(":", 1)
        head = (
            f"PATCH /v1/uploads/{made['id']} HTTP/1.1\r\nHost: {host}\r\nUpload-Offset: 0\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + data[:1_500_000])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        offsets = []
        upload = client.upload(file, on_progress=lambda one: offsets.append(one.offset))
        assert upload.id == made["id"]
        assert 0 < offsets[-2] <= 1_500_000 < offsets[-1] == len(data), offsets
        process = client.import_dataset(upload.ref, name="sent")
        dataset = client.dataset(process.made[0])
        assert dataset.splits == {"train": 3000}
        source = dataset.provenance["sources"]["train"]
        assert (source["path"], source["sha256"]) == (upload.path, sha256)
        assert client.remove_upload(upload.ref) == [upload.ref]
        client.remove_dataset(dataset.ref)
