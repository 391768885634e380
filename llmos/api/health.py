"""Routes about the daemon: /healthz, status, devices, disk, gc, verify."""

from __future__ import annotations

import re

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos import __version__
from llmos.abi.api_types import DiskUse, JournalSnapshot, Status, Verified
from llmos.abi.device import Device
from llmos.abi.key import KeyScope
from llmos.api.endpoint import Endpoint, Media, Reply, reply
from llmos.kernel.interface import KernelInterface

ABOUT = """llmos: a daemon that serves and trains small models.

OpenAI's clients use the address of this page with /v1 behind it as base_url.
Any key will do until one is made: llmos key create
/docs             this interface, as a page
/openapi.json     the same, for programs
/v1/models        the models that are here
/v1/status        the daemon at a glance
/metrics          for Prometheus"""
TEXT = (Media("text/plain", str),)
LINK = re.compile(r"^(/\S*)", re.MULTILINE)
LINKED = LINK.sub(r'<a href="\1">\1</a>', ABOUT)
PAGE = f"<!doctype html><meta charset=utf-8><title>llmos</title><pre>{LINKED}</pre>"


class Healthy(msgspec.Struct):
    """The daemon answers."""

    version: str
    status: str = "ok"


class DeviceList(msgspec.Struct):
    """The processors the daemon owns."""

    data: list[Device]


class Collected(msgspec.Struct):
    """The bytes that garbage collection freed."""

    freed_bytes: int


class Health:
    """The routes about the daemon itself."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._kernel = kernel

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/",
                self.front,
                "Say what this is, as a page or as text",
                media="text/html",
                also=TEXT,
                scope=None,
            ),
            Endpoint("GET", "/healthz", self.healthz, "Check that the daemon answers", gives=Healthy, scope=None),
            Endpoint(
                "GET",
                "/v1/status",
                self.status,
                "Show devices, memory and processes",
                gives=Status,
                scope=KeyScope.MONITOR,
            ),
            Endpoint("GET", "/v1/devices", self.devices, "List devices", gives=DeviceList, scope=KeyScope.MONITOR),
            Endpoint(
                "GET", "/v1/disk", self.disk, "Show the disk use of the home", gives=DiskUse, scope=KeyScope.MONITOR
            ),
            Endpoint(
                "POST",
                "/v1/verify",
                self.verify,
                "Read every byte of the store",
                gives=Verified,
                scope=KeyScope.ADMIN,
                changes=False,
            ),
            Endpoint(
                "POST",
                "/v1/gc",
                self.collect,
                "Free the bytes that no name refers to",
                gives=Collected,
                scope=KeyScope.ADMIN,
            ),
            Endpoint(
                "POST",
                "/v1/snapshot",
                self.snapshot,
                "Write the journal's snapshot",
                gives=JournalSnapshot,
                scope=KeyScope.ADMIN,
            ),
        ]

    async def front(self, request: Request) -> Reply:
        """An HTML page for browsers, else plain text."""
        headers = {"Vary": "Accept"}
        if "text/html" in request.headers.get("accept", ""):
            return Response(PAGE, media_type="text/html; charset=utf-8", headers=headers)
        return Response(f"{ABOUT}\n", media_type="text/plain; charset=utf-8", headers=headers)

    async def healthz(self, request: Request) -> Reply:
        return reply(Healthy(__version__))

    async def status(self, request: Request) -> Reply:
        return reply(self._kernel.status())

    async def devices(self, request: Request) -> Reply:
        return reply(DeviceList(self._kernel.devices()))

    async def disk(self, request: Request) -> Reply:
        return reply(await self._kernel.models.disk_use())

    async def verify(self, request: Request) -> Reply:
        return reply(await self._kernel.models.verify())

    async def collect(self, request: Request) -> Reply:
        return reply(Collected(await self._kernel.models.collect()))

    async def snapshot(self, request: Request) -> Reply:
        return reply(await self._kernel.snapshot())
