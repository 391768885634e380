"""Sending files by both clients: whole, on from where it ended, past errors that pass, and past none that stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from llmos import AsyncClient, Client
from llmos.abi.error import BadInput, Busy, Conflict, LlmosError, NoRoom, Unavailable
from llmos.abi.upload import Upload
from llmos.config import Config
from llmos.kernel.upload_service import UploadService
from llmos.sdk import request
from llmos.sdk.sending import MOST_FAILURES, PART_BYTES, Sending, append, read_file, show_upload
from llmos.testing.errors import fails_with
from llmos.testing.kernel import MemoryKernel
from llmos.testing.server import serving

DATA = bytes(range(256)) * (PART_BYTES // 256) + b"and a second part"


class BreakingUploads(UploadService):
    """Uploads whose next parts break: half of one arrives, or none because of this error."""

    def __init__(self, sound: UploadService, *errors: LlmosError) -> None:
        self._sound = sound
        self._errors = list(errors)
        self.count = 0  # of parts that came

    most_bytes = UploadService.most_bytes

    def all(self) -> list[Upload]:
        return self._sound.all()

    def get(self, name: str) -> Upload:
        return self._sound.get(name)

    async def create(self, name: str, size_bytes: int, sha256: str = "") -> Upload:
        return await self._sound.create(name, size_bytes, sha256)

    async def append(self, name: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
        self.count += 1
        if not self._errors:
            return await self._sound.append(name, offset, pieces)
        await self._sound.append(name, offset, _first_of(pieces))
        raise self._errors.pop(0)


async def _first_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    is_first = True
    async for piece in pieces:
        if is_first:
            yield piece
        is_first = False


@pytest.fixture
def kernel():
    return MemoryKernel()


@pytest.fixture
def url(kernel, tmp_path):
    with serving(kernel, Config(tmp_path, max_body_bytes=100_000)) as url:
        yield url


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(DATA)
    return file


def stored(kernel, upload):
    return (kernel.uploads_folder / upload.id / upload.name).read_bytes()


def test_a_file_is_sent_in_parts_and_says_how_far_it_is(kernel, url, rows):
    seen = []
    with Client(url) as client:
        upload = client.upload(rows, on_progress=lambda one: seen.append(one.offset))
        assert client.uploads() == [upload]
        assert (seen, upload.name, stored(kernel, upload)) == ([0, PART_BYTES, len(DATA)], "rows.csv", DATA)
        assert client.upload(rows, on_progress=lambda one: seen.append(one.offset)) == upload
        assert seen[3:] == [len(DATA)]
        assert client.remove_upload(upload.ref) == [upload.ref]
        assert client.uploads() == []


def test_a_call_goes_on_where_another_ended(kernel, url, rows):
    async def interrupted_and_resumed():
        seen = []

        def leave(upload):
            if upload.offset:
                raise KeyboardInterrupt

        async with AsyncClient(url) as client:
            with pytest.raises(KeyboardInterrupt):
                await client.upload(rows, on_progress=leave)
            upload = await client.upload(rows, on_progress=lambda one: seen.append(one.offset))
            return seen, upload, len(await client.uploads())

    seen, upload, count = asyncio.run(interrupted_and_resumed())
    assert (seen, count, stored(kernel, upload)) == ([PART_BYTES, len(DATA)], 1, DATA)


def test_errors_that_pass_are_outlived_without_a_lost_byte(kernel, url, rows):
    sound = kernel.uploads
    kernel.uploads = BreakingUploads(sound, Unavailable("going down"), Conflict("elsewhere", reason="offset"))
    with Client(url) as client:
        upload = client.upload(rows)
    assert kernel.uploads.count == 3  # two that broke, and the rest in one
    kernel.uploads = sound
    assert stored(kernel, upload) == DATA


def test_an_error_that_stays_is_raised_at_once(kernel, url, rows):
    kernel.uploads = BreakingUploads(kernel.uploads, NoRoom("full"))
    with Client(url) as client, pytest.raises(NoRoom):
        client.upload(rows)
    assert kernel.uploads.count == 1


def test_an_empty_file_is_there_at_once(url, tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"")
    with Client(url) as client:
        assert client.upload(tmp_path / "empty.csv", name="none.csv").path.endswith("/none.csv")


def test_after_an_error_the_offset_is_asked_for_before_more_is_sent(rows):
    sending = Sending(read_file(rows), Upload("a" * 16, "rows.csv", len(DATA)))
    assert sending.next().headers == append("a" * 16, 0, b"").headers
    waits = [sending.wait_s(Busy("later")) for _ in range(MOST_FAILURES)]
    assert waits == sorted(waits)
    assert 30 < sum(waits) < 60
    assert (sending.next().method, sending.next().path) == ("GET", show_upload("a" * 16).path)
    with pytest.raises(Busy):
        sending.wait_s(Busy("later"))
    sending.take(Upload("a" * 16, "rows.csv", len(DATA), PART_BYTES))
    assert sending.next().content == b"and a second part"
    assert sending.wait_s(Busy("later")) == waits[0]


def test_a_file_that_is_written_to_meanwhile_is_not_sent_on(rows):
    file = read_file(rows)
    rows.write_bytes(DATA + b"!")
    with fails_with(BadInput, file=str(rows), reason="changed"):
        file.part(0)


def test_what_is_no_file_is_refused_before_anything_is_sent(tmp_path):
    with fails_with(BadInput, file=str(tmp_path), reason="folder"):
        read_file(tmp_path)
    with fails_with(BadInput, file=str(tmp_path / "none")):
        read_file(tmp_path / "none")


def test_an_uploaded_file_is_no_path_of_this_machine():
    source = "upload:0123456789abcdef:Sheet 1"
    assert request.data_of(source, test=source).test == source
