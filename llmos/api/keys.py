"""/v1/keys: makes, lists, rotates and removes keys. A secret is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request

from llmos.abi.key import ANY_MODEL, ApiKey, KeyLimits, KeyScope, NewKey
from llmos.abi.process import Priority
from llmos.api.auditing import name_ref
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED
from llmos.kernel.interface import KernelInterface


class LimitsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a key may use; what is left out is not limited. A day is one of UTC."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrency: int | None = None


class KeyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The rights of a new key. `models` are names, or globs of names and refs; `priority` is the highest of its calls.

    `expires_at` is in seconds since 1970.
    """

    name: str = ""
    scopes: tuple[KeyScope, ...] = (KeyScope.INFER,)
    models: tuple[str, ...] = ANY_MODEL
    expires_at: float | None = None
    limits: LimitsRequest = LimitsRequest()
    priority: Priority = Priority.INTERACTIVE


class RotateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The present secret is taken for `grace_s` seconds more, so that programs can change to the new one."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0


class KeyList(msgspec.Struct):
    """All keys, oldest first, without their secrets."""

    data: list[ApiKey]


class RemovedKey(msgspec.Struct):
    """The ids of the removed keys."""

    removed: list[str]


CREATE = msgspec.json.Decoder(KeyRequest)
ROTATE = msgspec.json.Decoder(RotateRequest)


class KeyRoutes:
    """The routes of keys."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._kernel = kernel
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        some, one, admin = "/v1/keys", "/v1/keys/{id}", KeyScope.ADMIN
        made = "Make a key; its secret is in this answer and nowhere else"
        return [
            Endpoint("GET", some, self.list, "List keys", gives=KeyList, scope=admin),
            Endpoint("POST", some, self.create, made, KeyRequest, NewKey, status=CREATED, scope=admin),
            Endpoint("POST", f"{one}/rotate", self.rotate, "Change a key's secret", RotateRequest, NewKey, scope=admin),
            Endpoint("DELETE", one, self.remove, "Remove a key", gives=RemovedKey, scope=admin),
        ]

    async def list(self, request: Request) -> Reply:
        return reply(KeyList(self._kernel.keys.all()))

    async def create(self, request: Request) -> Reply:
        body = await self._bodies.read(request, CREATE)
        limits = KeyLimits(**msgspec.structs.asdict(body.limits))
        wanted = ApiKey("", body.name, body.scopes, body.models, 0.0, body.expires_at, limits, body.priority)
        made = await self._kernel.keys.create(wanted)
        name_ref(request, made.key.id)
        return reply(made, CREATED)

    async def rotate(self, request: Request) -> Reply:
        body = await self._bodies.read(request, ROTATE)
        return reply(await self._kernel.keys.rotate(request.path_params["id"], body.grace_s))

    async def remove(self, request: Request) -> Reply:
        return reply(RemovedKey([(await self._kernel.keys.remove(request.path_params["id"])).id]))
