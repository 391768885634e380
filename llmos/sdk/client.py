"""Client: the daemon's API from Python. Made by tools/sync_client.py from async_client.py: edit that file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, overload
from urllib.parse import quote

import httpx

from llmos.abi.api_types import DiskUse, JournalSnapshot, Model, Status, StreamEvent, Verified, stream_event_of
from llmos.abi.batch import BatchInfo
from llmos.abi.call_record import CallRecord
from llmos.abi.check_marks import CheckSummary
from llmos.abi.device import Device
from llmos.abi.error import LlmosError
from llmos.abi.feedback import FeedbackRow
from llmos.abi.gate import Gate
from llmos.abi.json_type import Json
from llmos.abi.key import ANY_MODEL, ApiKey, KeyLimits, KeyScope, NewKey
from llmos.abi.labelling import LabellingState
from llmos.abi.learning import FEEDBACK, LearningState
from llmos.abi.model import DatasetManifest
from llmos.abi.process import Priority, Process
from llmos.abi.recipe import Data
from llmos.abi.rollout import RolloutView
from llmos.abi.row_outcome import RowErrors
from llmos.abi.tuning import Leaderboard
from llmos.abi.upload import Upload, is_upload, upload_id
from llmos.abi.wire import from_plain
from llmos.sdk import feedback_requests, request, sending
from llmos.sdk.authentication import auth_for
from llmos.sdk.receiving import Receiving, export_target
from llmos.sdk.request import Request
from llmos.sdk.result import Result
from llmos.sdk.sending import Sending, at_once, sleep
from llmos.sdk.transport import address, check_reply, encode_body, timeouts, unreachable
from llmos.sdk.wait import SSEParser, raise_unless_done

if TYPE_CHECKING:
    from llmos.suites.result import SuiteResult
    from llmos.suites.robustness import NoisePoint, NoisyRow
    from llmos.suites.suite import Suite

BATCH_INPUTS = 256  # of one call of many: each has the time of a call, and others come between
T = TypeVar("T")
OnProgress = Callable[[Process], None]
OnUpload = Callable[[Upload], None]


class Client:
    """A client of the daemon. `base_url` is its address; by default the address that this user's daemon wrote down.

    `api_key` defaults to the setting of that name. Whoever owns the daemon's home needs none on its machine.
    """

    def __init__(
        self, base_url: str | None = None, *, api_key: str | None = None, timeout_s: float | None = 600.0
    ) -> None:
        self.url = address(base_url)
        auth = auth_for(self.url, api_key)
        self._http = httpx.Client(base_url=self.url, auth=auth, timeout=timeouts(timeout_s), trust_env=False)
        self.last_call_id = ""
        """The id of this client's last answer (`x-request-id`), by which feedback and the request log name a call."""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def status(self) -> Status:
        """The daemon at a glance."""
        return self._ask(request.status())

    def devices(self) -> list[Device]:
        """The processors the daemon owns."""
        return self._ask(request.devices())

    def disk(self) -> DiskUse:
        """The bytes in each part of the store."""
        return self._ask(request.disk())

    def gc(self) -> int:
        """Delete everything that no name refers to; returns the freed bytes."""
        return self._ask(request.collect())

    def snapshot(self) -> JournalSnapshot:
        """Write the snapshot beside the daemon's journal, with all that was acknowledged until now, for a backup."""
        return self._ask(request.snapshot())

    def verify(self) -> Verified:
        """Read every byte of the store; returns the files that are damaged."""
        return self._ask(request.verify())

    def keys(self) -> list[ApiKey]:
        """All keys, oldest first, without their secrets."""
        return self._ask(request.keys())

    def create_key(
        self,
        name: str = "",
        *,
        scopes: Sequence[KeyScope | str] = (KeyScope.INFER,),
        models: Sequence[str] = ANY_MODEL,
        expires_at: float | None = None,
        limits: KeyLimits | None = None,
        priority: Priority | str = Priority.INTERACTIVE,
    ) -> NewKey:
        """Make a key; its `secret` is shown nowhere else. `models` may be globs of names; `priority` is the highest."""
        return self._ask(request.create_key(name, scopes, models, expires_at, limits, priority))

    def rotate_key(self, key_id: str, *, grace_s: float = 0.0) -> NewKey:
        """Give a key another secret; the present one is taken for `grace_s` seconds more."""
        return self._ask(request.rotate_key(key_id, grace_s))

    def remove_key(self, key_id: str) -> list[str]:
        """Remove a key; returns its id."""
        return self._ask(request.remove_key(key_id))

    def models(self) -> list[Model]:
        """All versions of all models and bases."""
        return self._ask(request.models())

    def model(self, ref: str) -> Model:
        """A version; a bare name means the promoted one."""
        return self._ask(request.model(ref))

    def promote(self, ref: str) -> Model:
        """Make the name mean this version."""
        return self._ask(request.promote(ref))

    def rollback(self, name: str) -> Model:
        """Make the name mean the version promoted before."""
        return self._ask(request.rollback(name))

    def gate(self, name: str) -> Gate:
        """What new versions of this name must meet to be promoted."""
        return self._ask(request.gate(name))

    def set_gate(self, name: str, require: Sequence[str] | None = None, margin: float | None = None) -> Gate:
        """Replace the requirements (`"f1.low>=0.8"`), the margin of the primary metric, or both."""
        return self._ask(request.set_gate(name, require, margin))

    def reset_gate(self, name: str) -> Gate:
        """Back to the default: promote what is at least as good as the promoted version."""
        return self._ask(request.reset_gate(name))

    def rollout(self, name: str) -> RolloutView:
        """The rollout of a name that is under way, else the last one, with what its guards have seen."""
        return self._ask(request.rollout(name))

    def start_rollout(
        self,
        name: str,
        candidate: int | str,
        *,
        mode: str | None = None,
        share: float | None = None,
        steps: Sequence[float] | None = None,
        guards: Sequence[str] | None = None,
        calls: int | None = None,
        alpha: float | None = None,
        promote: bool | None = None,
    ) -> RolloutView:
        """Try a version on live traffic beside the promoted one: as a shadow, a canary (the default) or in an ab test.

        `steps` are its shares of calls, each for `calls` of its calls; `guards` (`"errors<=0.02"`, `"p95<=200ms"`,
        `"agreement>=0.9"`, `"feedback>=promoted-0.05"`) roll it back where they are shown to be broken.
        """
        asked: dict[str, Json] = {"mode": mode, "share": share, "calls": calls, "alpha": alpha, "promote": promote}
        asked |= {"steps": steps and list(steps), "guards": guards and list(guards)}
        return self._ask(request.start_rollout(name, candidate, asked))

    def follow_rollout(self, name: str) -> Iterator[RolloutView]:
        """How a rollout stands now, and after each change, until it has ended."""
        for _, data in self._events("GET", f"/v1/models/{quote(name)}/rollout/events"):
            yield from_plain(data, RolloutView)

    def stop_rollout(self, name: str) -> RolloutView:
        """End a rollout: all calls go to the promoted version again."""
        return self._ask(request.stop_rollout(name))

    def errors(
        self,
        ref: str,
        *,
        kind: str | None = None,
        label: str | None = None,
        slice: str | None = None,
        limit: int | None = None,
        evaluation: int | None = None,
    ) -> RowErrors:
        """The rows that a version answers wrongly, worst first: of a kind, of a label, in a slice (`language=de`).

        They are those of the evaluation that the version was made with, else of its newest `evaluate`, or of the one
        with the pid `evaluation`.
        """
        return self._ask(request.errors(ref, kind, label, slice, limit, evaluation))

    def remove(self, ref: str) -> list[str]:
        """Remove a version, or all versions of a name; returns the removed refs."""
        return self._ask(request.remove(ref))

    def datasets(self) -> list[DatasetManifest]:
        """All versions of all datasets."""
        return self._ask(request.datasets())

    def dataset(self, ref: str) -> DatasetManifest:
        """A dataset."""
        return self._ask(request.dataset(ref))

    def dataset_rows(self, ref: str, *, split: str | None = None, offset: int = 1, limit: int = 20) -> list[Json]:
        """Rows of a dataset's split, from number `offset` on, as dicts."""
        return self._ask(request.dataset_rows(ref, split, offset, limit))

    def dataset_findings(self, ref: str) -> CheckSummary:
        """What the last check of a dataset found, by kind, and when; NotFound if it was never checked."""
        return self._ask(request.dataset_findings(ref))

    def remove_dataset(self, ref: str) -> list[str]:
        """Remove a dataset; returns the removed refs."""
        return self._ask(request.remove_dataset(ref))

    def import_dataset(
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
        return self._start(asked, wait=wait, on_progress=on_progress)

    def operate_dataset(
        self, ref: str, operation: str, *, wait: bool = True, on_progress: OnProgress | None = None, **args: Json
    ) -> Process:
        """Start an operation on a dataset by its name: those below, and those of other packages."""
        asked = request.operate(ref, operation, args)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def split_dataset(
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
        return self.operate_dataset(ref, "split", wait=wait, on_progress=on_progress, **args)

    def check_dataset(
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
        return self.operate_dataset(ref, "check", wait=wait, on_progress=on_progress, **args)

    def fix_dataset(
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
        return self.operate_dataset(ref, "fix", wait=wait, on_progress=on_progress, **args)

    def merge_datasets(
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
        return self.operate_dataset(ref, "merge", wait=wait, on_progress=on_progress, **args)

    def sample_dataset(
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
        return self.operate_dataset(ref, "sample", wait=wait, on_progress=on_progress, **args)

    def augment_dataset(
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
        return self.operate_dataset(ref, "augment", wait=wait, on_progress=on_progress, **args)

    def queue_dataset(
        self,
        ref: str,
        *,
        n: int | None = None,
        strategy: str | None = None,
        base: str | None = None,
        model: str | None = None,
        seed: int | None = None,
        without: Sequence[str] = (),
        second: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """The unlabelled rows whose labels are worth most, with suggestions, and how good a head on the labels is.

        `strategy` is badge, margin or random; `without` are ids that are being answered already. The newest version of
        `model` is asked as well, and suggests where it is right as often as the head. With `second`, a person's name,
        these are rows that others have answered and this person has not, without suggestions.
        """
        args: dict[str, Json] = {"n": n, "strategy": strategy, "base": base, "model": model, "seed": seed}
        args |= {"without": list(without) or None, "second": second}
        process = self.operate_dataset(ref, "queue", on_progress=on_progress, **args)
        return self.result(process.pid)

    def label_dataset(
        self,
        ref: str,
        answers: str | Path,
        *,
        split: str | None = None,
        name: str | None = None,
        model: str | None = None,
        retrain: int | None = None,
        base: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Put the answers in a file of JSON lines, or upload:ID, to a dataset's rows, in a new version.

        `model` is trained on it in the background when `retrain` labels more than at its last training have come (by
        default a quarter more, 50 at least; 0: never). Settings are those of `train`; `labelling` says how it stands.
        """
        trained = request.retraining(model, retrain, base, settings)
        args = {"answers": request.answers_of(answers), "split": split, "name": name, **trained}
        return self.operate_dataset(ref, "label", wait=wait, on_progress=on_progress, **args)

    def weak_label_dataset(
        self,
        ref: str,
        rules: str | Path,
        *,
        models: Sequence[str] | None = None,
        combine: str | None = None,
        least: float | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Label the unlabelled rows by the rules in a file, or upload:ID, in a new version; `result` has the report.

        `models` are those that rules ask, by default as the file has them. `combine` is dawid-skene or majority; rows
        whose likeliest label is less likely than `least` stay unlabelled.
        """
        asked = request.models_of_rules(rules) if models is None else list(models)
        args = {"rules": request.answers_of(rules), "models": asked or None, "combine": combine, "least": least}
        args["name"] = name
        return self.operate_dataset(ref, "weak-label", wait=wait, on_progress=on_progress, **args)

    def labelling(self, ref: str, *, model: str | None = None, retrain: int | None = None) -> LabellingState:
        """How many rows of a dataset have labels, and how the training of this model on them stands."""
        return self._ask(request.labelling(ref, model, retrain))

    def diff_datasets(self, ref: str, other: str, *, on_progress: OnProgress | None = None) -> Json:
        """The rows that were added, removed and changed from one dataset to another, by their ids."""
        process = self.operate_dataset(ref, "diff", on_progress=on_progress, other=other)
        return self.result(process.pid)

    def find_rows(
        self, texts: Sequence[str] = (), *, ids: Sequence[str] = (), on_progress: OnProgress | None = None
    ) -> Json:
        """The rows of all datasets with these texts or ids, and those that were made of them."""
        process = self._start(request.find_rows(texts, ids), wait=True, on_progress=on_progress)
        return self.result(process.pid)

    def result(self, pid: int) -> Json:
        """What a process has found: the differences of two datasets, for one."""
        return self._ask(request.result(pid))

    def export_dataset(
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
        at_once(lambda: export_target(out, overwrite=overwrite))
        args: dict[str, Json] = {"format": format, "split": split, "scheme": scheme}
        made = self.operate_dataset(ref, "export", on_progress=on_progress, **args)
        return self.fetch_export(made.pid, out, overwrite=overwrite)

    def fetch_export(self, pid: int, out: str | Path, *, overwrite: bool = False) -> dict[str, Json]:
        """Fetch the file that this process has exported, in parts; it is put in its place when it is whole."""
        target = at_once(lambda: export_target(out, overwrite=overwrite))
        found: dict[str, Json] = self.result(pid)
        file = Receiving(target, found)
        while (part := file.next_part) is not None:
            response = self._send("GET", f"/v1/processes/{pid}/file", query={"part": str(part)})
            if not response.is_success:
                check_reply(response)
            at_once(partial(file.take, response.content))
        return {**found, "path": str(at_once(file.finish))}

    def upload(self, path: str | Path, *, name: str | None = None, on_progress: OnUpload | None = None) -> Upload:
        """Send a file to the daemon; its `ref` names it wherever a file of rows may be named.

        It is sent in parts of 8 MiB, each durable when it is acknowledged. Broken connections are tried again for half
        a minute. Another call goes on where this one was interrupted, and sends nothing if all is there already.
        """
        file = at_once(lambda: sending.read_file(path, name))
        begun = file.find_in(self.uploads())
        if begun is None:
            begun = self._ask(sending.create_upload(file))
        way = Sending(file, begun)
        if on_progress is not None:
            on_progress(way.upload)
        while (asked := at_once(way.next)) is not None:
            try:
                way.take(self._ask(asked))
            except LlmosError as error:
                sleep(way.wait_s(error))
            else:
                if on_progress is not None:
                    on_progress(way.upload)
        return way.upload

    def uploads(self) -> list[Upload]:
        """All uploaded files, also those of which a part is here, the oldest first."""
        return self._ask(sending.list_uploads())

    def remove_upload(self, ref: str) -> list[str]:
        """Remove an uploaded file (`upload:ID`), which no process uses; returns the removed refs."""
        return self._ask(sending.remove_upload(upload_id(ref)))

    def feedback(
        self,
        call: str | None = None,
        *,
        model: str | None = None,
        input: Json = None,
        label: Json = None,
        score: float | None = None,
        text: str | None = None,
        index: int | None = None,
        user: str | None = None,
        source: str | None = None,
        new_label: bool | None = None,
    ) -> FeedbackRow:
        """Say what an answer should have been; the row is durable when this returns.

        Name the answer by its `call` (`last_call_id`), or say `model` and `input`. Give `label`, `score` or `text`.
        """
        said = {"call": call, "model": model, "input": input, "label": label, "score": score, "text": text}
        more = {"index": index, "user": user, "source": source, "new_label": new_label}
        return self._ask(feedback_requests.give_feedback(**said, **more))

    def feedback_rows(
        self, *, model: str | None = None, user: str | None = None, limit: int | None = None
    ) -> list[FeedbackRow]:
        """The newest rows of feedback."""
        return self._ask(feedback_requests.feedback_rows(model=model, user=user, limit=limit))

    def erase_feedback(self, user: str) -> int:
        """Erase the rows that a user gave, and those on a user's calls; returns how many there were."""
        return self._ask(feedback_requests.erase_feedback(user))

    def learn(self, name: str, when: str | None = None, *, source: str = FEEDBACK) -> LearningState:
        """Train the model again whenever so many further rows have come ("200 rows"); without `when`, how it stands."""
        return self._ask(feedback_requests.learn(name, when, source))

    def stop_learning(self, name: str) -> LearningState:
        """Learn no more; what is at work goes on."""
        return self._ask(feedback_requests.stop_learning(name))

    def requests(
        self,
        *,
        model: str | None = None,
        user: str | None = None,
        outcome: str | None = None,
        day: str | None = None,
        limit: int | None = None,
    ) -> list[CallRecord]:
        """The newest calls in the request log, without their texts; `day` is in UTC, such as 2026-01-31."""
        wanted = {"model": model, "user": user, "outcome": outcome, "day": day, "limit": limit}
        return self._ask(feedback_requests.requests(**wanted))

    def request(self, call: str) -> CallRecord:
        """A call in the request log, with its text where it was kept."""
        return self._ask(feedback_requests.request(call))

    def erase_requests(self, user: str) -> int:
        """Erase a user's calls from the request log; returns how many there were."""
        return self._ask(feedback_requests.erase_requests(user))

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

    def processes(self) -> list[Process]:
        """All processes the journal remembers, oldest first."""
        return self._ask(request.processes())

    def process(self, pid: int) -> Process:
        """A process in its current state."""
        return self._ask(request.process(pid))

    def kill(self, pid: int, *, force: bool = False) -> Process:
        """Stop a process; a trainer writes a checkpoint first, unless by force."""
        return self._ask(request.kill(pid, force=force))

    def suspend(self, pid: int) -> Process:
        """Pause a process."""
        return self._ask(request.suspend(pid))

    def resume(self, pid: int) -> Process:
        """Continue a process; an interrupted one goes on from its checkpoint."""
        return self._ask(request.resume(pid))

    def nice(self, pid: int, priority: Priority | str) -> Process:
        """Change the priority of a process."""
        return self._ask(request.nice(pid, priority))

    def pull(
        self,
        source: str,
        *,
        name: str | None = None,
        base: str | None = None,
        dtype: str | None = None,
        max_drop: float | None = None,
        engine: str | None = None,
        task: str | None = None,
        labels: Sequence[str] | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Bring in a base or an adapter: a catalog name, `hf:org/name`, or a folder.

        `dtype="int8"` also makes an int8 version of the base. `engine` is the engine that serves it. An ONNX graph
        needs `task`, and `labels` if its folder has none.
        """
        said = None if labels is None else list(labels)
        asked = request.pull(source, name, base, dtype, max_drop, engine=engine, task=task, labels=said)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def train(
        self,
        task: str,
        *,
        data: str | Path | Data,
        name: str,
        base: str | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Fine-tune `base` on labelled rows into a new version of `name`; the process's `made` is its ref.

        The default base is minilm, or smollm2 for generative tasks. Settings are the recipe's (`method`, `epochs`,
        `seed` ...), the data's (`validation`, `test`, `text` ...), LoRA's with the prefix `lora_`, and the task's
        options (`multi_label` ...).
        """
        recipe = request.recipe(task, name, base, data, settings)
        return self._start(request.train(recipe, device), wait=wait, on_progress=on_progress)

    def tune(
        self,
        task: str,
        *,
        data: str | Path | Data,
        name: str,
        budget: str | None = None,
        base: str | None = None,
        methods: Sequence[str] | None = None,
        sampler: str | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Search the settings of a training run in a budget (`15m`, `24 trials`), and train the best into a version.

        Settings are those of `train`: what is given is the same in all trials, and the search has the others. It tries
        these `methods`, or some that fit. `leaderboard` of its pid says how it stands; the version's ref is in it.
        """
        if method := settings.pop("method", None):
            methods = [*(methods or ()), method]
        recipe = request.recipe(task, name, base, data, settings)
        asked = request.tune(recipe, budget, methods, sampler, device)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def leaderboard(self, pid: int) -> Leaderboard:
        """The trials of a search by its pid, best first, as they stand now."""
        return self._ask(request.leaderboard(pid))

    def evaluate(
        self,
        model: str,
        *,
        data: str | Path | Data,
        task: str | None = None,
        options: Mapping[str, Json] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        engine: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Evaluate a model on labelled rows, by default by the engine that serves it, in the dtype that it has there.

        A generative base is evaluated at the given `task`, with that task's `options`.
        """
        asked = request.evaluate(model, request.data_of(data, **settings), device, dtype, task, options, engine)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def quantize(
        self,
        model: str,
        *,
        data: str | Path | Data | None = None,
        max_drop: float | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Make an int8 version of the model, if it loses no more than `max_drop` of its primary metric."""
        rows = None if data is None else request.data_of(data, **settings)
        return self._start(request.quantize(model, rows, max_drop), wait=wait, on_progress=on_progress)

    def shrink(
        self,
        base: str,
        *,
        layers: int | str | Sequence[int] | None = None,
        static: bool = False,
        dimensions: int | None = None,
        neighbours: int | None = None,
        name: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Process:
        """Make a smaller base of a base: so many of its `layers` (or these), or a `static` table of token vectors.

        A model is then distilled into it: `train(..., base=NAME, teacher=MODEL)`.
        """
        asked = request.shrink(base, layers, static, dimensions, neighbours, name)
        return self._start(asked, wait=wait, on_progress=on_progress)

    def adapt(
        self,
        base: str,
        *,
        data: str | Path | Data,
        general: str | Path | None = None,
        device: str | None = None,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        **settings: Json,
    ) -> Process:
        """Let a base read texts without labels; `made` names the new base.

        Settings: name, objective (masked, causal, contrastive), epochs, learning_rate, batch_size, max_tokens,
        matryoshka, pairs, keep_head, seed, and how texts are read (text, format, validation, test ...).
        """
        asked = request.adapt(base, data, general, device, settings)
        return self._start(asked, wait=wait, on_progress=on_progress)

    @overload
    def run(
        self,
        model: str,
        inputs: str | Mapping[str, Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Result: ...
    @overload
    def run(
        self,
        model: str,
        inputs: Sequence[Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> list[Result]: ...
    def run(
        self,
        model: str,
        inputs: str | Mapping[str, Json] | Sequence[Json],
        *,
        task: str | None = None,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Result | list[Result]:
        """Call a model: one input gives one result, a list gives a list. `task` and `engine` default to the model's
        own.

        With `n` (generate and chat) a list gives n results for each of its inputs, in order. The answer comes within
        `timeout_s` or fails. `priority` is interactive, batch or background.
        """
        given, is_one = request.inputs_of(inputs)
        options = request.call_options(timeout_s, priority, engine, params)
        said = request.one_answer(params) if is_one else params
        results = self._ask(request.run(task or None, model, given, said, options))
        return results[0] if is_one else results

    def test(
        self,
        model: str,
        suite: str | Path | Suite,
        *,
        timeout_s: float | None = None,
        engine: str | None = None,
    ) -> SuiteResult:
        """Run a behaviour suite (a YAML file) on what is served under this name, and say what came of each test."""
        from llmos.suites.plan import plan_of
        from llmos.suites.reading import load_suite
        from llmos.suites.result import judge_outputs
        from llmos.suites.suite import Suite

        read = suite if isinstance(suite, Suite) else load_suite(suite)
        plan = plan_of(read)
        found = self.model(model)
        read.check_labels(found.labels)
        outputs = self._outputs(read.task, found.ref, plan.inputs, plan.params, timeout_s, engine)
        return judge_outputs(plan, outputs, found.ref)

    def robustness(
        self,
        model: str,
        rows: Sequence[NoisyRow],
        *,
        noises: Sequence[str] | None = None,
        levels: Sequence[float] | None = None,
        seed: int = 7,
        most_rows: int = 300,
        timeout_s: float | None = None,
        engine: str | None = None,
    ) -> tuple[NoisePoint, ...]:
        """How many answers stay the same, and stay right, as more of the words of these texts are noisy.

        `rows` are what `llmos.suites.rows.noisy_rows` reads from a file. `levels` are shares of words.
        """
        from llmos.suites.robustness import KINDS, LEVELS, judge_robustness, plan_robustness

        found = self.model(model)
        plan = plan_robustness(found.task, rows, noises or KINDS, levels or LEVELS, seed, most_rows)
        outputs = self._outputs(found.task, found.ref, plan.inputs, {}, timeout_s, engine)
        return judge_robustness(plan, outputs)

    def draft_suite(self, model: str, data: str | Path | None = None) -> str:
        """A behaviour suite to begin with, in YAML: from the model's labels, and the rows of a file or its own dataset.

        A dataset's rows are read from the daemon's home, which must be on this machine.
        """
        from llmos.suites.draft import draft_suite
        from llmos.suites.rows import measured_rows, rows_in

        found = self.model(model)
        if data is None:
            rows = measured_rows(found, (self.status()).home)
        else:
            rows = rows_in(str(data), found.task, found.options)
        return draft_suite(found.task, found.ref, rows, found.labels)

    def _outputs(
        self,
        task: str,
        ref: str,
        inputs: Sequence[Json],
        params: Mapping[str, Json],
        timeout_s: float | None,
        engine: str | None,
    ) -> list[Json]:
        """The outputs of any number of inputs, as HTTP has them."""
        options = request.call_options(timeout_s, Priority.BATCH, engine, {})
        found: list[Json] = []
        for start in range(0, len(inputs), BATCH_INPUTS):
            some = inputs[start : start + BATCH_INPUTS]
            answered: list[Json] = self._ask(request.outputs(task, ref, some, params, options))
            found += answered
        return found

    def chat(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Json]],
        *,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Iterator[str]:
        """The next message of a conversation, in pieces as it is generated."""
        body = request.chat_body(model, messages, params, request.call_options(timeout_s, priority, engine, params))
        for _, data in self._events("POST", "/v1/tasks/chat", body):
            for output in data["outputs"]:
                yield output["message"].get("content") or ""

    def generate(
        self,
        model: str,
        prompt: str,
        *,
        timeout_s: float | None = None,
        priority: Priority | str | None = None,
        engine: str | None = None,
        **params: Json,
    ) -> Iterator[str]:
        """Text that continues a prompt, in pieces as it is generated."""
        body = request.generate_body(model, prompt, params, request.call_options(timeout_s, priority, engine, params))
        for _, data in self._events("POST", "/v1/tasks/generate", body):
            for output in data["outputs"]:
                yield output["text"]

    def wait(self, pid: int, *, on_progress: OnProgress | None = None) -> Process:
        """Wait for a process to end and return it; if it failed, its error is raised."""
        for stream_event in self.watch(pid):
            if stream_event.process is not None and on_progress is not None:
                on_progress(stream_event.process)
        return raise_unless_done(self.process(pid))

    def watch(self, pid: int | None = None) -> Iterator[StreamEvent]:
        """Events from now on; of one process: its present state first, then its events to its end."""
        path = "/v1/events" if pid is None else f"/v1/processes/{pid}/events"
        for _, data in self._events("GET", path):
            yield stream_event_of(data)

    def logs(self, pid: int, *, tail: int | None = None) -> str:
        """The log of a process, or its last lines."""
        query = {} if tail is None else {"tail": str(tail)}
        response = self._send("GET", f"/v1/processes/{pid}/log", query=query)
        if not response.is_success:
            check_reply(response)
        return response.text

    def follow(self, pid: int, *, tail: int | None = None) -> Iterator[str]:
        """The log of a process from its start or its last lines, and further lines as they are written."""
        last = "" if tail is None else f"&tail={tail}"
        for _, text in self._events("GET", f"/v1/processes/{pid}/log?follow=true{last}"):
            yield text

    def _start(self, asked: Request[Process], *, wait: bool, on_progress: OnProgress | None) -> Process:
        process = self._ask(asked)
        return self.wait(process.pid, on_progress=on_progress) if wait else process

    def _ask(self, asked: Request[T]) -> T:
        content = encode_body(asked.body) if asked.content is None else asked.content
        response = self._send(asked.method, asked.path, content, asked.query, asked.headers)
        return asked.read(check_reply(response))

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=content, params=query or None, headers=headers)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        self.last_call_id = response.headers.get("x-request-id", "")
        return response

    def _events(self, method: str, path: str, body: Json = None) -> Iterator[tuple[str, Json]]:
        with self._stream(method, path, body) as response:
            if not response.is_success:
                response.read()
                check_reply(response)
            self.last_call_id = response.headers.get("x-request-id", "")
            lines = SSEParser()
            for line in response.iter_lines():
                yield from lines.feed(line)

    @contextmanager
    def _stream(self, method: str, path: str, body: Json) -> Iterator[httpx.Response]:
        content = encode_body(body)
        timeout = timeouts(None)  # a stream is quiet for as long as nothing happens
        try:
            with self._http.stream(method, path, content=content, timeout=timeout) as response:
                yield response
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
