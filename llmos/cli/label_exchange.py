"""Puts answers into a dataset and asks for the next rows, in a thread, while the person goes on answering."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from llmos.abi.error import LlmosError
from llmos.abi.json_type import Json
from llmos.abi.process import Process
from llmos.cli.answer_file import AnswerFile
from llmos.cli.sending import reachable

if TYPE_CHECKING:
    from llmos.sdk.client import Client

Show = Callable[[Process], None]
Clients = Callable[[], AbstractContextManager["Client"]]


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What is asked, by whom, and which model is trained with the answers."""

    by: str
    n: int
    strategy: str
    split: str | None = None
    base: str | None = None
    model: str | None = None
    retrain: int | None = None
    settings: dict[str, Json] = field(default_factory=dict)
    is_second: bool = False  # rows that others have answered, in place of rows without labels
    disagreements: str | None = None  # the model on whose rollouts' disagreements labels are asked too


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What came of it: the dataset that is asked of now, what putting answers in said, and the next rows.

    The queue is None where no row is left without a label, or where the answers arrived and the queue did not.
    """

    ref: str
    said: str = ""
    queue: Json = None
    error: LlmosError | None = None


def exchange(
    client: Client,
    plan: LabelPlan,
    given: AnswerFile,
    ref: str,
    without: Sequence[str],
    *,
    wants_rows: bool,
    on_progress: Show | None = None,
) -> Exchanged:
    """Put the answers so far in, and ask for rows that are none of `without`."""
    said = ""
    try:
        if (path := given.begin_sending()) is not None:
            arrived = False
            try:
                process = client.label_dataset(
                    ref,
                    reachable(client, str(path), quiet=True),
                    split=plan.split,
                    model=plan.model,
                    retrain=plan.retrain,
                    base=plan.base,
                    disagreements=plan.disagreements,
                    on_progress=on_progress,
                    **plan.settings,
                )
                arrived = True
                if process.made and "@" in ref:  # a name alone means its newest version, whoever made it
                    ref = process.made[-1]
                said = process.progress.message if process.progress is not None else ""
            finally:
                given.end_sending(arrived=arrived)
        queue = None
        if wants_rows and (plan.is_second or plan.disagreements or client.labelling(ref).unlabelled):
            queue = client.queue_dataset(
                ref,
                n=plan.n,
                strategy=plan.strategy,
                base=plan.base,
                model=plan.model,
                without=without,
                second=plan.by if plan.is_second else None,
                disagreements=plan.disagreements,
                on_progress=on_progress,
            )
    except LlmosError as error:
        return Exchanged(ref, said, error=error)
    return Exchanged(ref, said, queue)


class Beside:
    """One exchange at a time in a thread of its own, with a client of its own."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._thread: threading.Thread | None = None
        self._found: Exchanged | Exception | None = None
        self._progress: SimpleQueue[Process | None] = SimpleQueue()  # None: it is over

    @property
    def is_running(self) -> bool:
        """Whether an exchange has begun that nobody has taken the outcome of."""
        return self._thread is not None

    def begin(self, plan: LabelPlan, given: AnswerFile, ref: str, without: Sequence[str], *, wants_rows: bool) -> None:
        """Begin an exchange; there must be none running."""
        assert self._thread is None
        without = list(without)
        progress = self._progress = SimpleQueue()

        def work() -> None:
            try:
                with self._clients() as client:
                    self._found = exchange(
                        client, plan, given, ref, without, wants_rows=wants_rows, on_progress=progress.put
                    )
            except LlmosError as error:  # no daemon
                self._found = Exchanged(ref, error=error)
            except Exception as error:  # noqa: BLE001  # the top of a thread: it is raised where the outcome is taken
                self._found = error
            finally:
                progress.put(None)

        # A daemon thread: whoever leaves with Ctrl-C does not wait, and unsent answers are in the file.
        self._thread = threading.Thread(target=work, name="label-exchange", daemon=True)
        self._thread.start()

    def take(self, *, wait: bool, show: Show = lambda process: None) -> Exchanged | None:
        """The outcome, once; None while it is not there, or if nothing was begun. `show` sees what is waited for."""
        if self._thread is None or (self._thread.is_alive() and not wait):
            return None
        while (process := self._progress.get()) is not None:
            show(process)
        self._thread.join()
        self._thread, found, self._found = None, self._found, None
        if isinstance(found, Exception):
            raise found
        return found
