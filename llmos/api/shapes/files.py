"""/v1/files: files with a purpose, in OpenAI's shape. They are the uploads of `/v1/uploads` that stay."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from llmos.abi.error import BadInput
from llmos.abi.key import KeyScope
from llmos.abi.upload import FILE_PREFIX, MOST_NAME_BYTES, Upload
from llmos.api.endpoint import Endpoint, Reply, header_of, reply
from llmos.api.multipart import MultipartParser, PartBegin, PartData
from llmos.api.query import Query, asked_of
from llmos.api.shapes.pages import page_of
from llmos.api.shapes.services import Services
from llmos.api.uploads import body_pieces
from llmos.kernel.interface import FilesInterface
from llmos.kernel.store.whole_file import WholeFile

PURPOSES = ("fine-tune", "batch", "batch_output", "user_data")
MOST_FILES = 10_000  # of a page
MOST_FIELD_BYTES = 4 * 1024
LEAST_LIFETIME_S, MOST_LIFETIME_S, MOST_DIGITS = 3_600, 30 * 86_400, 7
WRITE_BYTES = 1024 * 1024  # gathered before they are written
READ_BYTES = 256 * 1024
PART_BYTES = 8 * 1024 * 1024
PART = (Query("part", f"only a part of {PART_BYTES:,} bytes, by its number from 1 on", "integer"),)
FILE = "file"  # the field with the bytes
PAGE = (
    Query("after", "the id of the last file of the page before", "string"),
    Query("limit", f"at most this many, to {MOST_FILES:,} (default)", "integer"),
    Query("order", "asc or desc (default), by the time of their creation", "string"),
    Query("purpose", "only files with this purpose", "string"),
)


class FileView(msgspec.Struct):
    """A file. `bytes` is its size; times are seconds since the epoch. `sha256`: empty while it grows."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None = None
    object: str = "file"
    status: str = "processed"
    status_details: str | None = None
    sha256: str = ""


class FileList(msgspec.Struct):
    """A page of files."""

    data: list[FileView]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None
    object: str = "list"


class FileDeleted(msgspec.Struct):
    """The file is removed."""

    id: str
    deleted: bool = True
    object: str = "file"


@dataclass(slots=True)
class FileForm:
    """What a form has said: the draft of its file, and its fields."""

    draft: WholeFile
    file_name: str | None = None
    raw: dict[str, bytearray] = field(default_factory=dict)  # the fields

    def text(self, name: str) -> str | None:
        """What the field of this name says."""
        said = self.raw.get(name)
        return None if said is None else said.decode("utf-8", "replace")

    @property
    def purpose(self) -> str:
        said = self.text("purpose")
        if said not in PURPOSES:
            what = "has no purpose" if said is None else f"has the purpose {said[:40]!r}"
            raise BadInput(f"The form {what}. It is one of {', '.join(PURPOSES)}", key="purpose", expected=PURPOSES)
        return said

    @property
    def name(self) -> str:
        """The name of the file alone; BadInput if there was none in the form."""
        if self.file_name is None:
            raise BadInput("The form has no file: a part of it is called `file`", key=FILE)
        plain = "".join(sign for sign in self.file_name.replace("\\", "/").rpartition("/")[2] if sign.isprintable())
        short = plain.encode("utf-8", "replace")[:MOST_NAME_BYTES].decode("utf-8", "ignore")
        return FILE if short in ("", ".", "..") else short

    @property
    def lifetime_s(self) -> int:
        """Seconds, of `expires_after`; 0: it stays."""
        said, anchor = self.text("expires_after[seconds]"), self.text("expires_after[anchor]")
        if said is None and anchor is None:
            return 0
        is_count = said is not None and said.isascii() and said.isdecimal() and len(said) <= MOST_DIGITS
        if anchor != "created_at" or not is_count or not LEAST_LIFETIME_S <= int(said or 0) <= MOST_LIFETIME_S:
            raise BadInput(
                "expires_after has the anchor created_at, and seconds from "
                f"{LEAST_LIFETIME_S:,} to {MOST_LIFETIME_S:,}",
                key="expires_after",
            )
        return int(said or 0)


class FileRoutes:
    """The routes of files."""

    def __init__(self, services: Services) -> None:
        self._kernel = services.kernel

    @property
    def _files(self) -> FilesInterface:
        return self._kernel.files

    def endpoints(self) -> list[Endpoint]:
        all_of_them, one, scope = "/v1/files", "/v1/files/{file_id}", KeyScope.DATA
        return [
            Endpoint("GET", all_of_them, self.list, "List files", gives=FileList, query=PAGE, scope=scope),
            Endpoint("POST", all_of_them, self.create, "Send a file, as a form", gives=FileView, scope=scope),
            Endpoint("GET", one, self.show, "Show a file", gives=FileView, scope=scope),
            Endpoint("DELETE", one, self.remove, "Remove a file", gives=FileDeleted, scope=scope),
            Endpoint(
                "GET",
                f"{one}/content",
                self.content,
                "Read a file",
                gives=str,
                media="application/octet-stream",
                query=PART,
                scope=scope,
            ),
        ]

    async def list(self, request: Request) -> Reply:
        asked = asked_of(request)
        purpose = asked.get("purpose")
        found = [one for one in self._files.all() if purpose in (None, one.purpose)]
        if asked.get("order", "desc") not in ("asc", "desc"):
            raise BadInput(f"order is {asked['order'][:20]!r}; it is asc or desc", key="order")
        if asked.get("order") != "asc":
            found.reverse()
        page, has_more = page_of(found, lambda one: one.file_id, asked.get("after"), asked.get("limit"), MOST_FILES)
        views = [file_view(one) for one in page]
        ends = (views[0].id, views[-1].id) if views else (None, None)
        return reply(FileList(views, has_more, *ends))

    async def create(self, request: Request) -> Reply:
        parser = MultipartParser(header_of(request.scope, b"content-type") or "")
        form = FileForm(await self._files.begin())
        try:
            await self._read(parser, form, body_pieces(request))
            return reply(file_view(await self._files.keep(form.draft, form.name, form.purpose, form.lifetime_s)))
        finally:
            await asyncio.shield(self._files.discard(form.draft))

    async def _read(self, parser: MultipartParser, form: FileForm, pieces: AsyncIterator[bytes]) -> None:
        """Read the form: its file goes to the disk, its fields are few and small."""
        name, waiting = "", bytearray()
        async for piece in pieces:
            for event in parser.feed(piece):
                match event:
                    case PartBegin(name, file_name) if name == FILE:
                        if form.file_name is not None:
                            raise BadInput("The form has two files. Send each in a form of its own", key=FILE)
                        form.file_name = file_name or FILE
                    case PartBegin(name):
                        form.raw[name] = bytearray()
                    case PartData(data) if name == FILE:
                        waiting += data
                    case PartData(data):
                        form.raw[name] += data
                        _check_field(name, form.raw[name])
            if len(waiting) >= WRITE_BYTES:
                await self._files.write(form.draft, bytes(waiting))
                waiting.clear()
        parser.finish()
        await self._files.write(form.draft, bytes(waiting))

    async def show(self, request: Request) -> Reply:
        upload, _ = await self._find(request.path_params["file_id"])
        return reply(file_view(upload))

    async def remove(self, request: Request) -> Reply:
        file_id = request.path_params["file_id"]
        await self._files.remove(file_id)
        return reply(FileDeleted(file_id))

    async def content(self, request: Request) -> Reply:
        upload, file = await self._open(request.path_params["file_id"])
        part = asked_of(request).get("part")
        start = 0 if part is None else (part - 1) * PART_BYTES
        left = max(0, upload.size_bytes - start)
        return FileContent(file, start, left if part is None else min(left, PART_BYTES))

    async def _open(self, file_id: str) -> tuple[Upload, BinaryIO]:
        """A file, opened here, where an error can still be answered."""
        upload, path = await self._find(file_id)
        try:
            return upload, await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:  # its batch has ended just now: it is a file of its own, under another path
            upload, path = self._files.get(file_id), self._files.path(file_id)
            return upload, await asyncio.to_thread(path.open, "rb")

    async def _find(self, file_id: str) -> tuple[Upload, Path]:
        """A file and its place; of a batch that has not ended, the lines so far."""
        growing = self._kernel.batches.lines_so_far(file_id)
        found = None if growing is None else await asyncio.to_thread(whole_lines, growing)
        if growing is None or found is None:
            return self._files.get(file_id), self._files.path(file_id)
        size_bytes, changed_at = found
        id = file_id.removeprefix(FILE_PREFIX)
        return Upload(id, growing.name, size_bytes, size_bytes, "", changed_at, 0.0, "batch_output"), growing


class FileContent:
    """Some bytes of a file, sent as they are read."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int) -> None:
        """The file is closed when they are sent."""
        self._file, self._start, self._left = file, start, size_bytes
        self.raw_headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(size_bytes).encode()),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = self._file
        try:
            file.seek(self._start)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while self._left and scope["method"] != "HEAD":
                data = await asyncio.to_thread(file.read, min(READ_BYTES, self._left))
                if not data:
                    raise OSError(f"{file.name} became shorter while it was read")
                self._left -= len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            file.close()


def whole_lines(path: Path) -> tuple[int, float] | None:
    """The bytes of the whole lines of a file that grows, and when it was last changed; None if there is no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            changed_at = os.fstat(file.fileno()).st_mtime
            while end:
                start = max(0, end - READ_BYTES)
                file.seek(start)
                at = file.read(end - start).rfind(b"\n")
                if at >= 0:
                    return start + at + 1, changed_at
                end = start
    except FileNotFoundError:
        return None
    return 0, changed_at


def file_view(upload: Upload) -> FileView:
    """A file as OpenAI's clients read it."""
    return FileView(
        upload.file_id,
        upload.size_bytes,
        int(upload.created_at),
        upload.name,
        upload.purpose,
        int(upload.expires_at) or None,
        sha256=upload.sha256,
    )


def _check_field(name: str, said: bytearray) -> None:
    if len(said) > MOST_FIELD_BYTES:
        raise BadInput(f"{name[:40]} has over {MOST_FIELD_BYTES:,} bytes", key=name[:40])


SHAPE = FileRoutes
