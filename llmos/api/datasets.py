"""/v1/datasets: imported rows and those that models were trained on; operations on them are processes."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request

from llmos.abi.api_types import process_json
from llmos.abi.check_marks import CheckSummary, read_check_summary
from llmos.abi.error import BadInput, NotFound
from llmos.abi.json_type import Json
from llmos.abi.key import KeyScope
from llmos.abi.labelling import LabellingState
from llmos.abi.model import DatasetManifest, split_dataset_ref
from llmos.abi.process import Process, Program, Spec
from llmos.abi.wire import to_plain
from llmos.api.endpoint import Bodies, Endpoint, Reply, reply
from llmos.api.errors import CREATED
from llmos.api.key_guard import check_models_in
from llmos.api.models import Removed
from llmos.api.query import Query, asked_of
from llmos.kernel.interface import KernelInterface
from llmos.kernel.programs import dataset_operations, declaration_of
from llmos.kernel.programs.arguments import check_arguments
from llmos.kernel.programs.find_rows import FindRows
from llmos.kernel.programs.import_data import ImportData
from llmos.tasks.tag import words_of


class ImportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The rows to import: `data` is an absolute path, or an object with `train`, `validation`, `test` and how to read
    them, as a recipe's `data` has it.

    `task` may be left out where the content decides it. `group` and `time` are columns: splits do not part a group, and
    test rows are later than training rows. `source` is a remark on where the rows are from.
    """

    name: str
    data: str | dict[str, Json]
    task: str | None = None
    options: dict[str, Json] | None = None
    license: str | None = None
    source: str | None = None
    group: str | None = None
    time: str | None = None


class FindRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The rows to look for, by their texts, whatever their case and white space, or by their ids.

    The texts are not kept: the process has their ids alone.
    """

    texts: list[str] = []
    ids: list[str] = []


class RowPage(msgspec.Struct):
    """Rows of a split, of which it has `total`; the first one is number `offset`.

    A row has its id, the columns of its task, `file` and `line`, and `extra` and `origin` where it has such.
    """

    split: str
    total: int
    offset: int
    rows: list[dict[str, Any]]


class DatasetList(msgspec.Struct):
    """All versions of all datasets."""

    data: list[DatasetManifest]


DEFAULT_ROWS, MOST_ROWS = 20, 1000
PAGE = (
    Query("split", "train, validation or test (default: the first there is)", "string"),
    Query("offset", "the number of the first row, from 1", "integer"),
    Query("limit", f"this many rows at most (default {DEFAULT_ROWS}, at most {MOST_ROWS:,})", "integer"),
)
LABELLING = (
    Query("model", "the model that is trained on the labels", "string"),
    Query("retrain", "labels between two trainings (default: a quarter more, 50 at least)", "integer"),
)
IMPORT = msgspec.json.Decoder(ImportRequest)
FIND = msgspec.json.Decoder(FindRequest)
OPERATION = msgspec.json.Decoder(dict[str, Json])


class Datasets:
    """The routes of datasets."""

    def __init__(self, kernel: KernelInterface, bodies: Bodies) -> None:
        self._models, self._processes = kernel.models, kernel.processes
        self._bodies = bodies

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/datasets/{ref}"
        known = ", ".join(dataset_operations())
        endpoint = partial(Endpoint, scope=KeyScope.DATA)
        return [
            endpoint("GET", "/v1/datasets", self.list, "List datasets", gives=DatasetList),
            endpoint("POST", "/v1/datasets", self.start_import, "Import rows", ImportRequest, Process, status=CREATED),
            endpoint("GET", one, self.show, "Show a dataset; a bare name means the newest", gives=DatasetManifest),
            endpoint("DELETE", one, self.remove, "Remove a version, or all versions of a name", gives=Removed),
            endpoint("GET", f"{one}/rows", self.rows, "Read rows of a dataset", gives=RowPage, query=PAGE),
            endpoint("GET", f"{one}/findings", self.findings, "What its last check found", gives=CheckSummary),
            endpoint(
                "GET",
                f"{one}/labelling",
                self.labelling,
                "How many rows have labels, and how the training on them stands",
                gives=LabellingState,
                query=LABELLING,
            ),
            endpoint(
                "POST", "/v1/find-rows", self.find, "Find rows in all datasets", FindRequest, Process, status=CREATED
            ),
            endpoint(
                "POST",
                f"{one}/{{operation}}",
                self.operate,
                f"Start an operation on a dataset ({known}); the body has its arguments",
                dict[str, Any],
                Process,
                status=CREATED,
            ),
        ]

    async def list(self, request: Request) -> Reply:
        return reply({"data": [_dataset_json(dataset) for dataset in self._models.datasets()]})

    async def show(self, request: Request) -> Reply:
        return reply(_dataset_json(self._models.dataset(request.path_params["ref"])))

    async def remove(self, request: Request) -> Reply:
        return reply(Removed(await self._models.remove_dataset(request.path_params["ref"])))

    async def rows(self, request: Request) -> Reply:
        asked = asked_of(request)
        limit = int(asked.get("limit") or DEFAULT_ROWS)
        if limit > MOST_ROWS:
            raise BadInput(f"limit is {limit:,}; at most {MOST_ROWS:,} rows are read at a time", key="limit")
        first = int(asked.get("offset") or 1)
        split = asked.get("split")
        page = await self._models.dataset_rows(
            request.path_params["ref"], None if split is None else str(split), first - 1, limit
        )
        return reply({"split": page["split"], "total": page["total"], "offset": first, "rows": page["rows"]})

    async def findings(self, request: Request) -> Reply:
        ref, folder = self._models.dataset_check(request.path_params["ref"])
        # A report has the ids of all rows that it names: its reading does not hold up the loop.
        return reply(await asyncio.to_thread(read_check_summary, Path(folder), ref))

    async def labelling(self, request: Request) -> Reply:
        asked = asked_of(request)
        model, every = asked.get("model"), asked.get("retrain")
        ref = request.path_params["ref"]
        return reply(
            self._models.labelling(ref, None if model is None else str(model), None if every is None else int(every))
        )

    async def find(self, request: Request) -> Reply:
        body = await self._bodies.read(request, FIND)
        if not body.ids and not any(text.strip() for text in body.texts):
            raise BadInput('Nothing to look for. Send {"texts": ["..."]}, or {"ids": ["..."]}', key="texts")
        found = await self._models.row_ids([form for text in body.texts for form in _forms(text)]) if body.texts else []
        return await self._start(request, FindRows.name, {"ids": [*found, *body.ids]})

    async def start_import(self, request: Request) -> Reply:
        body = await self._bodies.read(request, IMPORT)
        args = {key: value for key, value in msgspec.structs.asdict(body).items() if value is not None}
        return await self._start(request, ImportData.name, args)

    async def operate(self, request: Request) -> Reply:
        ref, operation = request.path_params["ref"], request.path_params["operation"]
        known = dataset_operations()
        if operation not in known:
            raise NotFound(
                f"No operation {operation[:60]!r} on a dataset. There are: {', '.join(known)}",
                operation=operation[:60],
                expected=list(known),
            )
        split_dataset_ref(ref)
        body = await self._bodies.read(request, OPERATION)
        return await self._start(request, known[operation], {**body, "data": ref})

    async def _start(self, request: Request, program: Program, args: dict[str, Json]) -> Reply:
        check_models_in(request, args, makes_model=False)
        check_arguments(program, args)
        given = {key: value for key, value in args.items() if value is not None}
        spec = Spec(program, given, priority=declaration_of(program).default_priority)
        return reply(process_json(await self._processes.submit(spec)), CREATED)


def _forms(text: str) -> set[str]:
    """The text as it is, and its words with spaces between, as rows of tagged words have it."""
    words = words_of({"text": text})
    return {text, " ".join(words.text[start:end] for start, end in words.offsets)}


def _dataset_json(dataset: DatasetManifest) -> dict[str, Any]:
    return {"ref": dataset.ref, **to_plain(dataset)}
