"""/v1/datasets: the rows that models were trained on."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from llmos.abi.model import DatasetManifest
from llmos.abi.wire import to_plain
from llmos.api.endpoint import Endpoint, Reply, reply
from llmos.api.models import Removed
from llmos.kernel.interface import KernelInterface


class DatasetList(msgspec.Struct):
    """All versions of all datasets."""

    data: list[DatasetManifest]


class Datasets:
    """The routes of datasets."""

    def __init__(self, kernel: KernelInterface) -> None:
        self._models = kernel.models

    def endpoints(self) -> list[Endpoint]:
        one = "/v1/datasets/{ref}"
        return [
            Endpoint("GET", "/v1/datasets", self.list, "List datasets", gives=DatasetList),
            Endpoint("GET", one, self.show, "Show a dataset", gives=DatasetManifest),
            Endpoint("DELETE", one, self.remove, "Remove a version, or all versions of a name", gives=Removed),
        ]

    async def list(self, request: Request) -> Reply:
        return reply({"data": [_dataset_json(dataset) for dataset in self._models.datasets()]})

    async def show(self, request: Request) -> Reply:
        return reply(_dataset_json(self._models.dataset(request.path_params["ref"])))

    async def remove(self, request: Request) -> Reply:
        return reply(Removed(await self._models.remove_dataset(request.path_params["ref"])))


def _dataset_json(dataset: DatasetManifest) -> dict[str, object]:
    return {"ref": dataset.ref, **to_plain(dataset)}
