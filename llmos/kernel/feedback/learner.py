"""The learner: begins what a standing order is due, a dataset with the feedback first, then a training on it.

What is due is told from journal, store and feedback alone, so a crash at any point only delays it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.abi.error import BadInput, Conflict, LlmosError
from llmos.abi.feedback import LEARNED, FeedbackCounts
from llmos.abi.gate import LEARNING_POLICY, GatePolicy
from llmos.abi.json_type import Json
from llmos.abi.learning import FEEDBACK, LearningState, LearnOrder, LearnStep, dataset_name, operation_of, rows_in
from llmos.abi.model import DatasetManifest, Manifest
from llmos.abi.process import Priority, Process, Spec, State
from llmos.abi.recipe import ROW_FILES
from llmos.abi.task import spec_of, tasks_in
from llmos.kernel.programs.learn_data import PROGRAM as LEARN_DATA
from llmos.kernel.programs.retraining import interrupted_training
from llmos.kernel.programs.train import PROGRAM as TRAIN

if TYPE_CHECKING:
    from llmos.kernel.feedback.feedback_service import FeedbackService
    from llmos.kernel.processes.process_service import ProcessService
    from llmos.kernel.store.store import Store

RETRY_S = 30.0  # until a process that something has interrupted goes on
log = logging.getLogger(__name__)


class FeedbackLearner:
    """Keeps standing orders, and begins what is due. `orders` reads them, `write` journals one (rows 0: none); `gate`
    says what a new version of a name must meet."""

    def __init__(
        self,
        store: Store,
        processes: ProcessService,
        feedback: FeedbackService,
        orders: Callable[[], Mapping[str, LearnOrder]],
        write: Callable[[LearnOrder], Awaitable[object]],
        gate: Callable[[str], GatePolicy] = lambda name: LEARNING_POLICY,
    ) -> None:
        self._store = store
        self._processes = processes
        self._feedback = feedback
        self._orders = orders
        self._write = write
        self._gate = gate
        self._one_at_a_time = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._noting: set[asyncio.Task[None]] = set()

    async def order(self, name: str, source: str, when: str) -> LearningState:
        """Learn from now on; BadInput for what cannot be learned, Conflict for a name without a promoted version."""
        if source != FEEDBACK:
            raise BadInput(f"from is {source[:80]!r}; models learn from {FEEDBACK}", key="from", expected=[FEEDBACK])
        rows, on_drift = rows_in(when)
        promoted = self._find_promoted(name)
        check_learnable(promoted)
        root_of(promoted, self._store)
        earlier = self._orders().get(name)
        await self._write(LearnOrder(name, rows, earlier.upto if earlier is not None else 0, on_drift))
        self.look(name)
        return await self.state(name)

    async def stop(self, name: str) -> LearningState:
        """Learn no more; what is at work goes on."""
        self._store.found(name)
        earlier = self._orders().get(name)
        if earlier is not None:
            await self._write(replace(earlier, rows=0))
        return await self.state(name)

    async def state(self, name: str) -> LearningState:
        """The order of this name, and its steps."""
        self._store.found(name)
        order = self._orders().get(name) or LearnOrder(name, 0)
        processes = self._processes.all()
        counts = await self._feedback.counts(name, last_begun(order, processes))
        at_work = [one for one in processes_of(name, processes) if one.state is not State.EXITED]
        steps = await asyncio.to_thread(steps_of, name, self._store, processes)
        return LearningState(
            name,
            order.when,
            order.rows,
            counts.rows,
            counts.agreed,
            counts.known,
            at_work[-1].pid if at_work else None,
            steps,
            self._gate(name).require,
        )

    def note_alarm(self, ref: str, at: float) -> None:
        """The monitor of a name has an alarm: an order that waits for drift may be due."""
        order = self._orders().get(ref.partition(":")[0])
        if order is not None and order.rows and order.on_drift:
            task = asyncio.get_running_loop().create_task(self._note_drift(order.name, at))
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def _note_drift(self, name: str, at: float) -> None:
        async with self._one_at_a_time:
            try:
                await self._write(replace(self._orders()[name], drifted_at=at))
            except LlmosError as error:
                log.warning("drift of %s is not noted: %s", name, error.message)
        self.look(name)

    def begin(self) -> None:
        """Look at every order, once the daemon has started."""
        for name in self._orders():
            self.look(name)

    def look_after(self, process: Process) -> None:
        """Look at the order that a process was begun for, now that it has ended; later, if it was interrupted."""
        name = learned_by(process)
        if name is not None and process.state is State.EXITED:
            self.look(name)
        elif name is not None and process.state is State.INTERRUPTED:
            asyncio.get_running_loop().call_later(RETRY_S, self.look, name)

    def look(self, name: str) -> None:
        """Begin what is due for this name, beside the loop; one look at a time, and one more if something came."""
        order = self._orders().get(name)
        if order is None or not order.rows:
            return
        if name in self._tasks:
            self._again.add(name)
            return
        task = self._tasks[name] = asyncio.get_running_loop().create_task(self._look(name))
        task.add_done_callback(lambda _: self._go_on(name))

    async def close(self) -> None:
        """Wait for what is being begun."""
        self._again.clear()
        await asyncio.gather(*self._noting, *self._tasks.values(), return_exceptions=True)

    def _go_on(self, name: str) -> None:
        self._tasks.pop(name, None)
        if name in self._again:
            self._again.discard(name)
            self.look(name)

    async def _look(self, name: str) -> None:
        async with self._one_at_a_time:
            try:
                order, processes = self._orders()[name], self._processes.all()
                counts = await self._feedback.counts(name, last_begun(order, processes))
                due = await asyncio.to_thread(next_step, order, counts, self._store, processes)
                if isinstance(due, Spec):
                    begun = await self._processes.submit(due)
                    if LEARN_DATA.runs(begun):
                        await self._write(replace(order, upto=int(begun.spec.args["upto"]), drifted_at=0.0))
                elif due is not None:
                    await self._processes.resume(due)
            except LlmosError as error:
                log.warning("%s does not learn: %s", name, error.message)
            except Exception:  # the top of a work beside the loop
                log.exception("%s does not learn", name)

    def _find_promoted(self, name: str) -> Manifest:
        version = self._store.promoted(name)
        if version is None:
            self._store.found(name)
            raise Conflict(f"No version of {name} is promoted. Promote one first: llmos promote {name}:1", name=name)
        return self._store.resolve(f"{name}:{version}")


def next_step(
    order: LearnOrder, counts: FeedbackCounts, store: Store, processes: Sequence[Process]
) -> Spec | int | None:
    """What is due: a process to start, the pid of an interrupted one to go on with, or nothing.

    `counts` are of the rows since the last that was begun with.
    """
    own = processes_of(order.name, processes)
    left = [one for one in own if one.state is not State.EXITED]
    if left:
        return interrupted_training(left)
    version = store.promoted(order.name)
    if version is None:
        return None
    promoted = store.resolve(f"{order.name}:{version}")
    newest = newest_dataset(order.name, store)
    if newest is not None and not is_learned(newest, store, own):
        return training_on(newest, promoted)
    if counts.rows < order.least:
        return None
    args: dict[str, Json] = {
        "data": root_of(promoted, store),
        "model": order.name,
        "name": dataset_name(order.name),
        "upto": counts.last_id,
        "accuracy": accuracy_of(promoted),
    }
    return Spec(LEARN_DATA.name, args, priority=Priority.BACKGROUND)


def training_on(dataset: DatasetManifest, promoted: Manifest) -> Spec:
    """The training of the promoted version's recipe on this dataset."""
    recipe = dict(promoted.lineage["recipe"])
    kept = {key: value for key, value in (recipe.get("data") or {}).items() if key not in ROW_FILES}
    data = {"train": dataset.ref, **{key: kept[key] for key in ("validation_share", "test_share") if key in kept}}
    recipe |= {"data": data, "learning_curve": False, "labelling": dataset.name, "track": None, "name": promoted.name}
    return Spec(TRAIN.name, recipe, priority=Priority.BACKGROUND)


def root_of(promoted: Manifest, store: Store) -> str:
    """The dataset of a version's rows as they were before any feedback; BadInput if they are not here any more."""
    recipe = promoted.lineage.get("recipe") or {}
    source = str((recipe.get("data") or {}).get("train") or "")
    try:
        named = store.dataset(source) if "@" in source and "/" not in source else None
        operation = None if named is None else operation_of(named.provenance)
        return store.dataset(str(operation["root"] if operation else promoted.lineage.get("dataset") or "")).ref
    except LlmosError as error:
        raise BadInput(
            f"The rows that {promoted.ref} was trained on are not here, so feedback cannot be learned with them. Train "
            "it again first",
            model=promoted.ref,
        ) from error


def check_learnable(promoted: Manifest) -> None:
    """BadInput unless feedback on such a model becomes rows, labels that nobody has checked aside."""
    if spec_of(promoted.task).family not in LEARNED:
        able = ", ".join(name for family in LEARNED for name in tasks_in(family))
        raise BadInput(
            f"{promoted.ref} does {promoted.task}, whose feedback is kept and not learned from. Tasks that learn from "
            f"feedback are: {able}",
            task=promoted.task,
        )
    recipe = promoted.lineage.get("recipe") or {}
    teacher = str(recipe.get("teacher") or "")
    if teacher.partition(":")[0] == promoted.name:
        raise Conflict(
            f"{promoted.ref} was taught by {teacher}, which is itself: what it would learn are its own answers. "
            "Promote a version that people's labels have made",
            model=promoted.ref,
        )


def accuracy_of(promoted: Manifest) -> float:
    """How often a version may be right: the upper end of its accuracy's interval on the test rows; 1 if not known."""
    ends = (promoted.evidence.get("intervals") or {}).get("accuracy") or {}
    found = ends.get("high") if isinstance(ends, dict) else None
    metrics = promoted.evidence.get("metrics") or {}
    value = found if found is not None else metrics.get("accuracy")
    return float(value) if isinstance(value, int | float) else 1.0


def processes_of(name: str, processes: Iterable[Process]) -> list[Process]:
    """The processes that learn for this name, the oldest first."""
    return sorted((one for one in processes if learned_by(one) == name), key=lambda one: one.pid)


def learned_by(process: Process) -> str | None:
    """The name that a process learns for; None if it does something else."""
    args = process.spec.args
    if LEARN_DATA.runs(process):
        return str(args.get("model"))
    name = str(args.get("name") or "")
    is_own = TRAIN.runs(process) and name and args.get("labelling") == dataset_name(name)
    return name if is_own else None


def last_begun(order: LearnOrder, processes: Iterable[Process]) -> int:
    """The last row that anything has been begun with."""
    own = [one for one in processes_of(order.name, processes) if LEARN_DATA.runs(one)]
    return max([order.upto, *(int(one.spec.args.get("upto") or 0) for one in own)])


def newest_dataset(name: str, store: Store) -> DatasetManifest | None:
    """The newest rows with feedback on this name."""
    found = [one for one in store.datasets() if one.name == dataset_name(name) and operation_of(one.provenance)]
    return max(found, key=lambda one: one.version, default=None)


def is_learned(dataset: DatasetManifest, store: Store, own: Iterable[Process]) -> bool:
    """Whether a training on this dataset has been begun."""
    recipes = [one.lineage.get("recipe") or {} for one in store.manifests()]
    recipes += [one.spec.args for one in own if TRAIN.runs(one)]
    return any(_source(one) == dataset.ref for one in recipes)


def steps_of(name: str, store: Store, processes: Iterable[Process]) -> tuple[LearnStep, ...]:
    """Every step that has left a dataset, the newest first.

    Of a version that was refused and then removed, because a later one has superseded it, the training's process tells.
    """
    made = {_source(one.lineage.get("recipe") or {}): one for one in store.manifests() if one.name == name}
    ended = [one for one in processes_of(name, processes) if TRAIN.runs(one) and one.state is State.EXITED]
    trained = {_source(one.spec.args): one for one in ended}
    history = store.promotions(name)
    steps = []
    for dataset in sorted(store.datasets(), key=lambda one: -one.version):
        operation = operation_of(dataset.provenance) if dataset.name == dataset_name(name) else None
        if operation is None:
            continue
        model, process = made.get(dataset.ref), trained.get(dataset.ref)
        removed, why = ("", "") if process is None else (next(iter(process.made), ""), process.reason)
        steps.append(
            LearnStep(
                dataset.ref,
                dataset.created_at,
                int(operation.get("rows") or 0),
                int(operation.get("held_out") or 0),
                dict(operation.get("left_out") or {}),
                removed if model is None else model.ref,
                model is not None and model.version in history,
                why if model is None else verdict_of(model),
            )
        )
    return tuple(steps)


def verdict_of(model: Manifest) -> str:
    """What the gate found: how the version stands to the one promoted before, or which conditions it did not meet."""
    gate = model.evidence.get("gate") or {}
    unmet = [str(one.get("sentence")) for one in gate.get("conditions") or () if not one.get("is_met")]
    return "; ".join(unmet) or str(gate.get("standing") or "")


def _source(recipe: Mapping[str, Json]) -> str:
    data = recipe.get("data")
    return str(data.get("train") or "") if isinstance(data, Mapping) else str(data or "")
