"""/v1/processes: starts, lists, follows, stops, pauses and continues processes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from llmos.abi.api_types import StreamEvent, process_json, stream_event_json
from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.key import WORK_SCOPES, KeyScope
from llmos.abi.process import Priority, Process, Program, Spec
from llmos.api.auditing import name_ref
from llmos.api.call_service import one_priority
from llmos.api.endpoint import Bodies, Endpoint, Media, Reply, reply
from llmos.api.errors import CREATED, shape_of
from llmos.api.key_guard import check_models_in, lower_priority, permit
from llmos.api.query import Query, asked_of
from llmos.api.stream import EVENTS, ServerSentEvents, event
from llmos.kernel.interface import KernelInterface
from llmos.kernel.programs import declaration_of, declarations
from llmos.kernel.programs.arguments import check_arguments


class ProcessRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A program and its arguments. `priority` (earlier name: `class`) defaults to the program's own."""

    program: Annotated[Program, msgspec.Meta(max_length=64)]
    args: dict[str, Json] = {}
    title: str = ""
    priority: Priority | None = None
    earlier_priority: Priority | None = msgspec.field(default=None, name="class")
    device: Annotated[str, msgspec.Meta(max_length=64)] = "cpu0"


class KillRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`force` ends the process at once; without it a trainer writes a checkpoint first."""

    force: bool = False


class NiceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The new priority (earlier name: `class`)."""

    priority: Priority | None = None
    earlier_priority: Priority | None = msgspec.field(default=None, name="class")


class ProcessList(msgspec.Struct):
    """All processes the journal remembers, oldest first."""

    data: list[Process]


PID_DIGITS = 18
TAIL = Query("tail", "only this many last lines; with follow, these and all new ones", "integer")
FOLLOW = Query("follow", "server-sent events as the log grows; the data of each is a piece of its text", "boolean")
PART_BYTES = 8 * 1024 * 1024
BYTES = "application/octet-stream"
PART = (Query("part", f"the number of a part of {PART_BYTES:,} bytes, from 1 (default 1)", "integer"),)
START = msgspec.json.Decoder(ProcessRequest)
KILL = msgspec.json.Decoder(KillRequest)
NICE = msgspec.json.Decoder(NiceRequest)


class Processes:
    """The routes of processes."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._processes = kernel.processes
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/processes/{pid}"
        log = (TAIL, FOLLOW)
        followed = (Media(EVENTS, str),)
        endpoint = partial(Endpoint, scope=KeyScope.TRAIN, also_for=WORK_SCOPES)
        return [
            endpoint("GET", "/v1/processes", self.list, "List processes", gives=ProcessList),
            endpoint("POST", "/v1/processes", self.start, "Start a process", ProcessRequest, Process, status=CREATED),
            endpoint("GET", one, self.show, "Show a process", gives=Process),
            endpoint(
                "GET", f"{one}/events", self.events, "Follow a process to its end", gives=StreamEvent, media=EVENTS
            ),
            endpoint("GET", f"{one}/result", self.result, "What a process has found, as JSON", gives=dict[str, Any]),
            endpoint(
                "GET", f"{one}/report", self.report, "Show the report page of a process", gives=str, media="text/html"
            ),
            endpoint(
                "GET", f"{one}/file", self.file, "Read a part of an exported file", gives=str, query=PART, media=BYTES
            ),
            endpoint("GET", f"{one}/log", self.log, "Read a process's log", None, str, log, "text/plain", followed),
            endpoint(
                "POST", f"{one}/kill", self.kill, "Stop a process, or give up an interrupted one", KillRequest, Process
            ),
            endpoint("POST", f"{one}/suspend", self.suspend, "Pause a process", gives=Process),
            endpoint(
                "POST",
                f"{one}/resume",
                self.resume,
                "Continue a process, an interrupted one from its checkpoint",
                gives=Process,
            ),
            endpoint("POST", f"{one}/nice", self.nice, "Change the priority", NiceRequest, Process),
        ]

    async def list(self, request: Request) -> Reply:
        return reply({"data": [process_json(process) for process in self._processes.all()]})

    async def start(self, request: Request) -> Reply:
        body = await self._bodies.read(request, START)
        program = declaration_of(body.program)
        permit(request, program.scope)
        check_models_in(request, body.args, makes_model=program.scope is not KeyScope.DATA)
        check_arguments(body.program, body.args)
        asked = one_priority(body.priority, body.earlier_priority)
        priority = lower_priority(request, asked or program.default_priority)
        args = {key: value for key, value in body.args.items() if value is not None}
        name_ref(request, body.program, args.get("name") or args.get("ref") or args.get("model"))
        process = await self._processes.submit(Spec(body.program, args, body.title, priority, body.device))
        name_ref(request, body.program, args.get("name") or args.get("ref") or args.get("model"), process.pid)
        return reply(process_json(process), CREATED)

    async def show(self, request: Request) -> Reply:
        return reply(process_json(self._processes.get(_pid(request))))

    async def events(self, request: Request) -> Reply:
        process = self._processes.get(_pid(request))
        return ServerSentEvents(event_stream(self._processes.watch(process.pid)))

    async def result(self, request: Request) -> Reply:
        found = await self._processes.result(self._readable_pid(request))
        return Response(found, media_type="application/json")

    async def report(self, request: Request) -> Reply:
        page = await self._processes.report(self._readable_pid(request))
        return Response(page, media_type="text/html; charset=utf-8")

    async def file(self, request: Request) -> Reply:
        asked = asked_of(request)
        offset = (int(asked.get("part") or 1) - 1) * PART_BYTES
        part = await self._processes.export_part(self._readable_pid(request), offset, PART_BYTES)
        return Response(part, media_type=BYTES)

    async def log(self, request: Request) -> Reply:
        pid = self._readable_pid(request)
        asked = asked_of(request)
        tail = asked.get("tail")
        if asked.get("follow"):
            return ServerSentEvents(_pieces(self._processes.follow_log(pid, tail_lines=tail)))
        text = await self._processes.log(pid, tail_lines=tail)
        return Response(text, media_type="text/plain; charset=utf-8")

    async def kill(self, request: Request) -> Reply:
        body = await self._bodies.read(request, KILL)
        return reply(process_json(await self._processes.kill(self._steered_pid(request), force=body.force)))

    async def suspend(self, request: Request) -> Reply:
        return reply(process_json(await self._processes.suspend(self._steered_pid(request))))

    async def resume(self, request: Request) -> Reply:
        return reply(process_json(await self._processes.resume(self._steered_pid(request))))

    async def nice(self, request: Request) -> Reply:
        body = await self._bodies.read(request, NICE)
        priority = one_priority(body.priority, body.earlier_priority)
        if priority is None:
            raise BadInput("Missing required field `priority`: interactive, batch or background", key="priority")
        return reply(
            process_json(await self._processes.nice(self._steered_pid(request), lower_priority(request, priority)))
        )

    def _steered_pid(self, request: Request) -> int:
        """The pid of a process that the request's key may steer: as it may start one of its program."""
        pid = _pid(request)
        permit(request, declaration_of(self._processes.get(pid).spec.program).scope)
        return pid

    def _readable_pid(self, request: Request) -> int:
        """The pid of a process whose findings and log the request's key may read: as it may start one with its args.

        They may hold texts of a dataset, or of calls to a model.
        """
        pid = _pid(request)
        spec = self._processes.get(pid).spec
        program = declarations().get(spec.program)  # none if its package was removed
        scope = KeyScope.ADMIN if program is None else program.scope
        permit(request, scope)
        check_models_in(request, spec.args, makes_model=scope is not KeyScope.DATA)
        return pid


def _pid(request: Request) -> int:
    text = request.path_params["pid"]
    if not (text.isascii() and text.isdecimal()) or len(text) > PID_DIGITS:
        raise BadInput(f"{text!r} is no pid: a pid is a whole number. All pids: GET /v1/processes", key="pid")
    return int(text)


async def event_stream(source: AsyncGenerator[StreamEvent, None]) -> AsyncGenerator[bytes, None]:
    """Stream events as server-sent events, named by their kind."""
    try:
        async with aclosing(source):
            async for one in source:
                yield event(stream_event_json(one), name=one.kind, sequence=one.sequence)
    except LlmosError as error:  # the status was sent long ago: the error becomes the stream's last event
        yield event(shape_of(error), name="error")


async def _pieces(source: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(source):
            async for piece in source:
                yield event(piece, name="log")
    except LlmosError as error:
        yield event(shape_of(error), name="error")
