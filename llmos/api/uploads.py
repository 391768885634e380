"""/v1/uploads: files that clients send in parts, in the way of tus 1.0 (core, creation, expiration, termination)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from typing import Annotated

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from llmos.abi.error import BadInput, TooLong
from llmos.abi.key import KeyScope
from llmos.abi.upload import Upload
from llmos.abi.wire import to_plain
from llmos.api.endpoint import Bodies, Endpoint, Reply, header_of, reply
from llmos.api.errors import CREATED, NO_CONTENT, refusal
from llmos.api.models import Removed
from llmos.kernel.interface import KernelInterface, UploadsInterface

TUS = "1.0.0"
EXTENSIONS = "creation,expiration,termination"
MEDIA = ("application/offset+octet-stream", "application/octet-stream", "application/partial-upload")
WRONG_VERSION, WRONG_MEDIA = 412, 415
MOST_DIGITS = 15  # of a number of bytes


class UploadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A file to send: its name without folders, its size and, to be checked at the end, its digest."""

    name: Annotated[str, msgspec.Meta(max_length=1024)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(max_length=128)] | None = None


class UploadView(msgspec.Struct):
    """An uploaded file. `ref` names it wherever a file of rows may be named; it goes on at `offset`."""

    id: str
    ref: str
    name: str
    size_bytes: int
    offset: int
    is_complete: bool
    sha256: str
    created_at: float
    expires_at: float
    purpose: str = ""


class UploadList(msgspec.Struct):
    """All uploaded files, the oldest first."""

    data: list[UploadView]


CREATE = msgspec.json.Decoder(UploadRequest)


class UploadRoutes:
    """The routes of uploads. Requests with the header Tus-Resumable are answered as tus has it, others in JSON."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._kernel = kernel
        self._bodies = bodies

    @property
    def _uploads(self) -> UploadsInterface:
        return self._kernel.uploads

    def endpoints(self) -> list[Endpoint]:
        all_of_them, one = "/v1/uploads", "/v1/uploads/{id}"
        endpoint = partial(Endpoint, scope=KeyScope.DATA)
        found = [
            endpoint("GET", all_of_them, self.list, "List uploaded files", gives=UploadList),
            endpoint(
                "POST", all_of_them, self.create, "Begin to upload a file", UploadRequest, UploadView, status=CREATED
            ),
            Endpoint("OPTIONS", all_of_them, self.options, "What of tus is spoken here", status=NO_CONTENT, scope=None),
            endpoint("GET", one, self.show, "Show an uploaded file; HEAD gives its Upload-Offset", gives=UploadView),
            endpoint(
                "PATCH",
                one,
                self.append,
                "Send a part of a file, from Upload-Offset on",
                gives=UploadView,
                changes=False,
            ),
            endpoint("PUT", one, self.append, "Send a part of a file, or all of it", gives=UploadView, changes=False),
            endpoint("POST", one, self.override, "The method in X-HTTP-Method-Override, as tus has it"),
            endpoint("DELETE", one, self.remove, "Remove an uploaded file", gives=Removed),
        ]
        return [replace(one, headers={"Tus-Resumable": TUS}) for one in found]

    async def list(self, request: Request) -> Reply:
        return reply({"data": [view_of(one) for one in self._uploads.all()]})

    async def options(self, request: Request) -> Reply:
        said = {"Tus-Version": TUS, "Tus-Extension": EXTENSIONS, "Tus-Max-Size": str(self._uploads.most_bytes)}
        return Response(status_code=NO_CONTENT, headers={"Tus-Resumable": TUS, **said})

    async def create(self, request: Request) -> Reply:
        if (refused := _other_version(request)) is not None:
            return refused
        body = _announcement(request) if _is_tus(request) else await self._bodies.read(request, CREATE)
        upload = await self._uploads.create(body.name, body.size_bytes, body.sha256 or "")
        return _answer(request, upload, CREATED)

    async def show(self, request: Request) -> Reply:
        if (refused := _other_version(request)) is not None:
            return refused
        return _answer(request, self._uploads.get(request.path_params["id"]), 200)

    async def append(self, request: Request) -> Reply:
        if (refused := _other_version(request) or _other_media(request)) is not None:
            return refused
        upload = self._uploads.get(request.path_params["id"])
        offset = _count(request, "upload-offset", 0 if request.method == "PUT" else None)
        size_bytes = _count(request, "content-length", 0)
        if offset + size_bytes > upload.size_bytes:
            raise TooLong(
                f"{size_bytes:,} bytes from {offset:,} on are more than were announced of {upload.name}: it has "
                f"{upload.size_bytes:,}. Send that file",
                size=offset + size_bytes,
                limit=upload.size_bytes,
                unit="bytes",
                reason="announced",
            )
        upload = await self._uploads.append(upload.id, offset, body_pieces(request))
        return _answer(request, upload, 200)

    async def override(self, request: Request) -> Reply:
        """For clients that can send no PATCH and DELETE."""
        method = (header_of(request.scope, b"x-http-method-override") or "").strip().upper()
        handlers = {"PATCH": self.append, "DELETE": self.remove, "HEAD": self.show}
        if method not in handlers:
            said = "A part of a file is sent by PATCH, or by POST with X-HTTP-Method-Override: PATCH"
            raise BadInput(said, key="x-http-method-override", value=method[:20], expected=sorted(handlers))
        return await handlers[method](request)

    async def remove(self, request: Request) -> Reply:
        if (refused := _other_version(request)) is not None:
            return refused
        upload = await self._uploads.remove(request.path_params["id"])
        if _is_tus(request):
            return Response(status_code=NO_CONTENT, headers={"Tus-Resumable": TUS})
        return reply(Removed([upload.ref]))


def view_of(upload: Upload) -> dict[str, object]:
    """An uploaded file as JSON has it."""
    return {"ref": upload.ref, "is_complete": upload.is_complete, **to_plain(upload)}


async def body_pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; ClientDisconnect if the client leaves before its end."""
    is_last = False
    while not is_last:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        is_last = not message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


def _answer(request: Request, upload: Upload, status: int) -> Response:
    headers = {
        "Tus-Resumable": TUS,
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.size_bytes),
        "Upload-Expires": formatdate(upload.expires_at, usegmt=True),
        "Cache-Control": "no-store",
    }
    if status == CREATED:
        headers["Location"] = f"/v1/uploads/{upload.id}"
    if _is_tus(request) and request.method not in ("GET", "HEAD") and status != CREATED:
        return Response(status_code=NO_CONTENT, headers=headers)
    answer = reply(view_of(upload), status)
    answer.headers.update(headers)
    return answer


def _is_tus(request: Request) -> bool:
    return header_of(request.scope, b"tus-resumable") is not None


def _other_version(request: Request) -> Response | None:
    """The refusal of a version of tus that is not spoken here."""
    version = header_of(request.scope, b"tus-resumable")
    if version in (None, TUS):
        return None
    said = f"Tus-Resumable is {version[:20]!r}; this is tus {TUS}" if version else "Tus-Resumable is empty"
    return refusal(
        BadInput(said, key="tus-resumable"), status=WRONG_VERSION, headers={"Tus-Version": TUS, "Tus-Resumable": TUS}
    )


def _other_media(request: Request) -> Response | None:
    """The refusal of a body that says it is something else than bytes of a file, or packed."""
    media = (header_of(request.scope, b"content-type") or MEDIA[0]).partition(";")[0].strip().lower()
    coding = (header_of(request.scope, b"content-encoding") or "identity").strip().lower()
    if media in MEDIA and coding == "identity":
        return None
    said = (
        f"A part of a file is sent as {MEDIA[0]}, without Content-Encoding; this one is {media[:60]!r}, {coding[:20]!r}"
    )
    return refusal(BadInput(said, key="content-type"), status=WRONG_MEDIA, headers={"Tus-Resumable": TUS})


def _announcement(request: Request) -> UploadRequest:
    """The file that the headers of tus announce: Upload-Length, and Upload-Metadata with filename and sha256."""
    metadata: dict[str, str] = {}
    for pair in (header_of(request.scope, b"upload-metadata") or "").split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            metadata[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            said = f"Upload-Metadata has {key[:40]!r} with a value that is no base64 of UTF-8"
            raise BadInput(said, key="upload-metadata") from error
    name = metadata.get("filename") or metadata.get("name") or ""
    if not name:
        raise BadInput("Upload-Metadata has no filename. Send: filename BASE64", key="upload-metadata")
    return UploadRequest(name, _count(request, "upload-length", None), metadata.get("sha256"))


def _count(request: Request, name: str, default: int | None) -> int:
    """A header that is a number of bytes."""
    value = header_of(request.scope, name.encode())
    if value is None and default is not None:
        return default
    if value is None or not (value.isascii() and value.isdecimal()) or len(value) > MOST_DIGITS:
        said = "is missing" if value is None else f"is {value[:20]!r}"
        raise BadInput(f"The header {name.title()} {said}. It is a number of bytes", key=name)
    return int(value)
