"""Datasets and uploaded files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from llmos.abi.check_marks import CheckSummary
from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Process
from llmos.abi.recipe import Data
from llmos.abi.upload import Upload, upload_id
from llmos.sdk import request, sending
from llmos.sdk.aio.connection import AsyncDaemonConnection, OnProgress
from llmos.sdk.receiving import Receiving, export_target
from llmos.sdk.sending import Sending, in_thread, pause
from llmos.sdk.transport import check_reply

OnUpload = Callable[[Upload], None]


class AsyncDatasetsClient(AsyncDaemonConnection):
    """Datasets and uploaded files."""

    async def datasets(self) -> list[DatasetManifest]:
        """All versions of all datasets."""
        return await self._ask(request.datasets())

    async def dataset(self, ref: str) -> DatasetManifest:
        """A dataset."""
        return await self._ask(request.dataset(ref))

    async def dataset_rows(self, ref: str, *, split: str | None = None, offset: int = 1, limit: int = 20) -> list[Json]:
        """Rows of a dataset's split, from number `offset` on, as dicts."""
        return await self._ask(request.dataset_rows(ref, split, offset, limit))

    async def dataset_findings(self, ref: str) -> CheckSummary:
        """What the last check of a dataset found, by kind, and when; NotFound if it was never checked."""
        return await self._ask(request.dataset_findings(ref))

    async def remove_dataset(self, ref: str) -> list[str]:
        """Remove a dataset; returns the removed refs."""
        return await self._ask(request.remove_dataset(ref))

    async def import_dataset(
        self,
        data: str | Path | Data,
        *,
        name: str,
        task: str | None = None,
        options: Mapping[str, Json] | None = None,
        license: str | None = None,
        source: str | None = None,
        group: str | None = None,
        time: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Import labelled rows as a version of the dataset `name`; the process's `made` is its ref.

        `task` may be left out where the content decides it. Settings are the data's (`test`, `text`, `on_bad_row` ...).
        Splits do not part rows of one `group`, and test rows are later by `time`; both are columns.
        """
        said = {"license": license, "source": source, "group": group, "time": time}
        asked = request.import_dataset(name, request.data_of(data, **settings), task, options, said)
        return await self._start(asked, wait=wait, on_progress=on_progress)

    async def operate_dataset(
        self, ref: str, operation: str, *, wait: bool = True, on_progress: OnProgress | None = None, **args: Json
    ) -> Process:
        """Start an operation on a dataset by its name: those below, and those of other packages."""
        asked = request.operate(ref, operation, args)
        return await self._start(asked, wait=wait, on_progress=on_progress)

    async def split_dataset(
        self,
        ref: str,
        *,
        test: float = 0.1,
        validation: float = 0.1,
        group: str | None = None,
        time: str | None = None,
        again: bool = False,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Take these shares of the training rows as test and validation rows, in a new version.

        Stratified, or without parting a `group`, or the latest by `time`. `again` puts all rows together first.
        """
        args = {"test": test, "validation": validation, "group": group, "time": time, "again": again, "name": name}
        return await self.operate_dataset(ref, "split", wait=wait, on_progress=on_progress, **args)

    async def check_dataset(
        self,
        ref: str,
        *,
        base: str | None = None,
        without: Sequence[str] | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Check a dataset's rows; `result` of the process is the report. `without` names checks to leave out.

        The base gives vectors to find wrong labels with, and its limit; by default the one that trains by default.
        """
        args = {"base": base, "without": None if without is None else list(without)}
        return await self.operate_dataset(ref, "check", wait=wait, on_progress=on_progress, **args)

    async def fix_dataset(
        self,
        ref: str,
        *,
        drop: Sequence[str] | None = None,
        relabel: Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        only: Sequence[str] | None = None,
        least_score: float | None = None,
        with_test: bool = False,
        with_doubt: bool = False,
        dry_run: bool = False,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Mend what the last check has found, in a new version: drop or relabel kinds of findings, keep rows by id.

        Kept rows are not reported again. `only` are the ids of the rows that may change; test rows stay as they are
        unless `with_test`. Suggestions of a model that is often wrong itself are refused unless `only` names the rows,
        or `with_doubt`. A dry run makes nothing, and its `result` is the plan.
        """
        lists = {"drop": drop, "relabel": relabel, "keep": keep, "only": only}
        args: dict[str, Json] = {key: None if one is None else list(one) for key, one in lists.items()}
        args |= {"least_score": least_score, "with_test": with_test, "with_doubt": with_doubt}
        args |= {"dry_run": dry_run, "name": name}
        return await self.operate_dataset(ref, "fix", wait=wait, on_progress=on_progress, **args)

    async def merge_datasets(
        self,
        ref: str,
        *others: str,
        prefer: str | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Join datasets in a new version; a row of several is in it once. `prefer` says which counts if they differ."""
        args = {"others": list(others), "prefer": prefer, "name": name}
        return await self.operate_dataset(ref, "merge", wait=wait, on_progress=on_progress, **args)

    async def sample_dataset(
        self,
        ref: str,
        *,
        n: int | None = None,
        share: float | None = None,
        balance: bool = False,
        seed: int | None = None,
        split: str | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Take so many rows, or a share, in a new version: of every label the same share, or with `balance` as many."""
        args = {"n": n, "share": share, "balance": balance, "seed": seed, "split": split, "name": name}
        return await self.operate_dataset(ref, "sample", wait=wait, on_progress=on_progress, **args)

    async def augment_dataset(
        self,
        ref: str,
        *,
        by: str | None = None,
        copies: int | None = None,
        share: float | None = None,
        strength: float | None = None,
        only_labels: Sequence[str] = (),
        balance: bool = False,
        seed: int | None = None,
        base: str | None = None,
        model: str | None = None,
        writer: str | None = None,
        translators: Sequence[str] = (),
        via: str | None = None,
        language: str | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Add changed copies of training rows, in a new version: `by` augmenters such as "swap,delete".

        A `base` proposes words for `neighbour` and `masked`; only copies that the `model` labels as their row are kept.
        A `writer` paraphrases; `translators` translate there, to the language `via`, and back to `language`.
        """
        numbers = {"copies": copies, "share": share, "strength": strength, "seed": seed}
        named = {"by": by, "base": base, "model": model, "writer": writer, "via": via, "language": language}
        lists = {"only_labels": list(only_labels) or None, "translators": list(translators) or None}
        args = {**named, **numbers, **lists, "balance": balance, "name": name}
        return await self.operate_dataset(ref, "augment", wait=wait, on_progress=on_progress, **args)

    async def diff_datasets(self, ref: str, other: str, *, on_progress: OnProgress | None = None) -> Json:
        """The rows that were added, removed and changed from one dataset to another, by their ids."""
        process = await self.operate_dataset(ref, "diff", on_progress=on_progress, other=other)
        return await self.result(process.pid)

    async def find_rows(
        self, texts: Sequence[str] = (), *, ids: Sequence[str] = (), on_progress: OnProgress | None = None
    ) -> Json:
        """The rows of all datasets with these texts or ids, and those that were made of them."""
        process = await self._start(request.find_rows(texts, ids), wait=True, on_progress=on_progress)
        return await self.result(process.pid)

    async def export_dataset(
        self,
        ref: str,
        out: str | Path,
        *,
        format: str,
        split: str | None = None,
        scheme: str | None = None,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> dict[str, Json]:
        """Write a dataset's rows to a file of another format; returns its name, rows, size, digest, and what it loses.

        Of a dataset with several splits, `split` names one, or `all`. `scheme` is that of tags in CoNLL: iob2 or bioes.
        """
        await in_thread(lambda: export_target(out, overwrite=overwrite))
        args: dict[str, Json] = {"format": format, "split": split, "scheme": scheme}
        made = await self.operate_dataset(ref, "export", on_progress=on_progress, **args)
        return await self.fetch_export(made.pid, out, overwrite=overwrite)

    async def fetch_export(self, pid: int, out: str | Path, *, overwrite: bool = False) -> dict[str, Json]:
        """Fetch the file that this process has exported, in parts; it is put in its place when it is whole."""
        target = await in_thread(lambda: export_target(out, overwrite=overwrite))
        found: dict[str, Json] = await self.result(pid)
        file = Receiving(target, found)
        while (part := file.next_part) is not None:
            response = await self._send("GET", f"/v1/processes/{pid}/file", query={"part": str(part)})
            if not response.is_success:
                check_reply(response)
            await in_thread(partial(file.take, response.content))
        return {**found, "path": str(await in_thread(file.finish))}

    async def upload(self, path: str | Path, *, name: str | None = None, on_progress: OnUpload | None = None) -> Upload:
        """Send a file to the daemon; its `ref` names it wherever a file of rows may be named.

        It is sent in parts of 8 MiB, each durable when it is acknowledged. Broken connections are tried again for half
        a minute. Another call goes on where this one was interrupted, and sends nothing if all is there already.
        """
        file = await in_thread(lambda: sending.read_file(path, name))
        begun = file.find_in(await self.uploads())
        if begun is None:
            begun = await self._ask(sending.create_upload(file))
        way = Sending(file, begun)
        if on_progress is not None:
            on_progress(way.upload)
        while (asked := await in_thread(way.next)) is not None:
            try:
                way.take(await self._ask(asked))
            except LlmosError as error:
                await pause(way.wait_s(error))
            else:
                if on_progress is not None:
                    on_progress(way.upload)
        return way.upload

    async def uploads(self) -> list[Upload]:
        """All uploaded files, also those of which a part is here, the oldest first."""
        return await self._ask(sending.list_uploads())

    async def remove_upload(self, ref: str) -> list[str]:
        """Remove an uploaded file (`upload:ID`), which no process uses; returns the removed refs."""
        return await self._ask(sending.remove_upload(upload_id(ref)))
