"""Uploaded files: any cutting into parts, interruptions, restarts, limits, and what is swept."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.abi.error import BadInput, Conflict, DiskFull, NoRoom, TooLong, UploadNotFound
from llmos.abi.upload import Upload, read_uploads_in, real_path
from llmos.kernel.store.uploads import UploadLimits, Uploads

DAY_S = 86_400.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def send(uploads: Uploads, upload: Upload, data: bytes, offset: int = 0) -> Upload:
    """Send one part."""
    with uploads.append(upload.id, offset) as part:
        part.write(data)
    return uploads.get(upload.id)


def file_of(uploads: Uploads, upload: Upload) -> Path:
    return uploads.folder / upload.id / upload.name


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Writing beyond this size of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


PART = st.tuples(st.integers(0, 40), st.sampled_from(("sent", "left", "killed", "wrong_offset")))


@given(st.binary(max_size=120), st.lists(PART, max_size=12))
def test_any_cutting_with_interruptions_and_restarts_gives_the_file(data: bytes, parts: list[tuple[int, str]]):
    with TemporaryDirectory() as home:
        folder = Path(home, "uploads")
        uploads = Uploads(folder)
        upload = uploads.create("rows.csv", len(data), hashlib.sha256(data).hexdigest())
        for size, how in [*parts, (len(data), "sent")]:
            upload = uploads.get(upload.id)
            assert data[: upload.offset] == file_of(uploads, upload).read_bytes()[: upload.offset]
            if how == "wrong_offset":
                with pytest.raises(Conflict) as refused:
                    uploads.append(upload.id, upload.offset + 1)
                assert refused.value.detail["offset"] == upload.offset
                continue
            piece = data[upload.offset : upload.offset + size]
            if how == "killed":  # something was written, and not acknowledged
                with file_of(uploads, upload).open("ab") as file:
                    file.write(b"?" + piece)
                uploads = Uploads(folder)
                assert uploads.get(upload.id) == upload
                continue
            with suppress(ConnectionError), uploads.append(upload.id, upload.offset) as part:
                part.write(piece)
                if how == "left":
                    raise ConnectionError
            assert uploads.get(upload.id).offset == upload.offset + len(piece)
            assert Uploads(folder).get(upload.id) == uploads.get(upload.id)
        upload = uploads.get(upload.id)
        assert upload.is_complete
        assert upload.sha256 == hashlib.sha256(data).hexdigest()
        assert file_of(uploads, upload).read_bytes() == data


def test_the_record_never_says_more_than_the_disk_has(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = send(uploads, uploads.create("rows.csv", 100_000), b"a" * 1000)
    with largest_file(3000), pytest.raises(DiskFull):
        send(uploads, upload, b"b" * 50_000, 1000)
    again = Uploads(tmp_path).get(upload.id)
    assert again.offset <= file_of(uploads, upload).stat().st_size
    rest = b"b" * (100_000 - again.offset)
    assert send(uploads, again, rest, again.offset).is_complete
    assert file_of(uploads, upload).read_bytes() == b"a" * 1000 + b"b" * 99_000


def test_a_file_that_is_shorter_than_its_record_is_not_believed(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = send(uploads, uploads.create("rows.csv", 10), b"01234")
    file_of(uploads, upload).write_bytes(b"0")
    (tmp_path / "0123456789abcdef.json").write_bytes(b"no record")
    (tmp_path / "fedcba9876543210").mkdir()
    assert Uploads(tmp_path).all() == []
    assert list(tmp_path.iterdir()) == []


def test_bytes_of_another_digest_are_refused_and_removed(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = uploads.create("rows.csv", 3, "AB" * 32)
    with pytest.raises(BadInput) as refused:
        send(uploads, upload, b"abc")
    assert refused.value.detail["reason"] == "digest"
    assert refused.value.detail["actual"] == hashlib.sha256(b"abc").hexdigest()
    assert uploads.all() == []
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_were_announced_are_refused_and_those_before_stay(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = uploads.create("rows.csv", 5)
    upload = send(uploads, upload, b"012")
    with pytest.raises(TooLong):
        send(uploads, upload, b"345", 3)
    assert uploads.get(upload.id).offset == 3


def test_one_request_at_a_time_sends_a_part(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = uploads.create("rows.csv", 5)
    with uploads.append(upload.id, 0):
        for refused in (lambda: uploads.append(upload.id, 0), lambda: uploads.remove(upload.id)):
            with pytest.raises(Conflict) as error:
                refused()
            assert error.value.detail["reason"] == "busy"
    assert send(uploads, upload, b"01234").is_complete


def test_limits_are_of_one_file_and_of_all_together(tmp_path: Path):
    uploads = Uploads(tmp_path, UploadLimits(most_bytes=100, most_bytes_together=150))
    with pytest.raises(TooLong) as refused:
        uploads.create("rows.csv", 101)
    assert refused.value.detail["key"] == "max_upload_bytes"
    first = uploads.create("rows.csv", 100)
    with pytest.raises(NoRoom) as full:
        uploads.create("more.csv", 51)
    assert full.value.detail["key"] == "max_uploads_bytes"
    uploads.remove(first.id)
    assert uploads.create("more.csv", 51).offset == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/etc/passwd", "a\0b", "a\nb", "\ud800", "ä" * 101])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path):
    with pytest.raises(BadInput) as refused:
        Uploads(tmp_path).create(name, 1)
    assert refused.value.detail["key"] == "name"
    assert list(tmp_path.iterdir()) == []


def test_what_was_neither_continued_nor_used_is_swept(tmp_path: Path):
    clock = Clock()
    uploads = Uploads(tmp_path, UploadLimits(lifetime_s=DAY_S), clock)
    sizes = {"begun": 4, "used": 0, "touched": 0, "sending": 4}
    begun, used, touched, sending = (uploads.create(f"{name}.csv", size) for name, size in sizes.items())
    clock.now += DAY_S / 2
    uploads.touch([touched.id])
    clock.now += DAY_S / 2
    with uploads.append(sending.id, 0):
        assert uploads.sweep({used.id}) == [begun]
    assert {one.name for one in Uploads(tmp_path).all()} == {"used.csv", "touched.csv", "sending.csv"}
    assert not (tmp_path / begun.id).exists()


def test_a_source_is_completed_with_the_name_of_its_file(tmp_path: Path):
    uploads = Uploads(tmp_path)
    upload = uploads.create("my: rows@1.csv", 3)
    with pytest.raises(Conflict) as early:
        uploads.follow(upload.ref)
    assert early.value.detail["offset"] == 0
    send(uploads, upload, b"a,b")
    assert uploads.follow("/data/rows.csv") == "/data/rows.csv"
    assert uploads.follow(upload.ref) == upload.path == f"upload:{upload.id}/my: rows@1.csv"
    assert uploads.follow(upload.path) == upload.path
    assert uploads.follow(f"{upload.ref}:sheet") == uploads.follow(f"{upload.path}:sheet") == f"{upload.path}:sheet"
    for wrong in (f"upload:{upload.id}/other.csv", f"{upload.path}x", "upload:", "upload:XYZ", "upload:../../etc"):
        with pytest.raises(BadInput):
            uploads.follow(wrong)
    with pytest.raises(UploadNotFound):
        uploads.follow("upload:0123456789abcdef")


def test_a_process_finds_an_uploaded_file_by_its_name_alone_in_its_folder(tmp_path: Path):
    read_uploads_in(str(tmp_path))
    try:
        assert real_path(Path("upload:0123456789abcdef/a.csv")) == tmp_path / "0123456789abcdef" / "a.csv"
        with pytest.raises(BadInput):
            real_path(Path("upload:0123456789abcdef/.."))
        for other in ("upload:0123456789abcdef/../a.csv", "upload:short/a.csv", "/upload:0123456789abcdef/a.csv"):
            assert real_path(Path(other)) == Path(other)
    finally:
        read_uploads_in("")
