"""Batches of calls."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from llmos.abi.batch import BatchInfo
from llmos.abi.upload import is_upload
from llmos.sdk import request
from llmos.sdk.aio.datasets import AsyncDatasetsClient, OnUpload
from llmos.sdk.receiving import Receiving, export_target
from llmos.sdk.sending import in_thread
from llmos.sdk.transport import check_reply


class AsyncBatchesClient(AsyncDatasetsClient):
    """Batches of calls."""

    async def batch(
        self,
        requests: str | Path,
        endpoint: str,
        *,
        window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        on_progress: OnUpload | None = None,
    ) -> BatchInfo:
        """Begin a batch of a file of requests, one a line (or `upload:ID`), which goes on without this client.

        Its answers are fetched by `fetch_file`, once `output_file_id` and `error_file_id` are there.
        """
        source = str(requests)
        ref = source if is_upload(source) else (await self.upload(requests, on_progress=on_progress)).ref
        return await self._ask(request.begin_batch(ref, endpoint, window, metadata))

    async def show_batch(self, name: str) -> BatchInfo:
        """A batch as it is now."""
        return await self._ask(request.show_batch(name))

    async def batches(self) -> list[BatchInfo]:
        """The newest batches, the newest first."""
        return await self._ask(request.batches())

    async def cancel_batch(self, name: str) -> BatchInfo:
        """End a batch; what was answered stays."""
        return await self._ask(request.cancel_batch(name))

    async def fetch_file(self, file_id: str, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bytes of a file (`file-...`) to a file here, in parts; it is put in its place when it is whole."""
        target = await in_thread(lambda: export_target(out, overwrite=overwrite))
        file = Receiving(target, await self._ask(request.file_facts(file_id)))
        while (part := file.next_part) is not None:
            response = await self._send("GET", f"/v1/files/{file_id}/content", query={"part": str(part)})
            if not response.is_success:
                check_reply(response)
            await in_thread(partial(file.take, response.content))
        return await in_thread(file.finish)
