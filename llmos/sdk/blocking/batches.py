"""Parts of Client. Made by tools/sync_client.py from aio/batches.py: edit that file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from llmos.abi.batch import BatchInfo
from llmos.abi.upload import is_upload
from llmos.sdk import request
from llmos.sdk.blocking.datasets import DatasetsClient, OnUpload
from llmos.sdk.receiving import Receiving, export_target
from llmos.sdk.sending import at_once
from llmos.sdk.transport import check_reply


class BatchesClient(DatasetsClient):
    """Batches of calls."""

    def batch(
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
        ref = source if is_upload(source) else (self.upload(requests, on_progress=on_progress)).ref
        return self._ask(request.begin_batch(ref, endpoint, window, metadata))

    def show_batch(self, name: str) -> BatchInfo:
        """A batch as it is now."""
        return self._ask(request.show_batch(name))

    def batches(self) -> list[BatchInfo]:
        """The newest batches, the newest first."""
        return self._ask(request.batches())

    def cancel_batch(self, name: str) -> BatchInfo:
        """End a batch; what was answered stays."""
        return self._ask(request.cancel_batch(name))

    def fetch_file(self, file_id: str, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bytes of a file (`file-...`) to a file here, in parts; it is put in its place when it is whole."""
        target = at_once(lambda: export_target(out, overwrite=overwrite))
        file = Receiving(target, self._ask(request.file_facts(file_id)))
        while (part := file.next_part) is not None:
            response = self._send("GET", f"/v1/files/{file_id}/content", query={"part": str(part)})
            if not response.is_success:
                check_reply(response)
            at_once(partial(file.take, response.content))
        return at_once(file.finish)
