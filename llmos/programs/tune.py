"""tune: searches the settings of a training run by successive halving. It trains nothing itself: its trials do.

What it decides is a function of its journal, which a restart reads again; trials that were interrupted are resumed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

from llmos.abi.error import BadInput, DiskFull, LlmosError, NoRoom, Unavailable, error_of
from llmos.abi.frame import Job
from llmos.abi.json_type import Json
from llmos.abi.method import can_group, method_of
from llmos.abi.objective import needs_reference, primary_metric_of
from llmos.abi.process import DONE, Process, Progress, State
from llmos.abi.recipe import Lora, Recipe, check
from llmos.abi.task import spec_of
from llmos.abi.tuning import TUNE_ARGUMENTS, PackedTrial, budget_of, pack_of
from llmos.abi.wire import from_plain, to_plain
from llmos.data.dataset import gather
from llmos.programs.channel import Channel, Stopped
from llmos.programs.children import Children
from llmos.programs.dataset_operation import keep_result
from llmos.programs.method_choice import chosen_method
from llmos.programs.trial_outcome import outcomes_of
from llmos.training.recipe import POOLING_HEADS, resolve
from llmos.tuning.halving import MOST_TOGETHER, HalvingPlan, Joins, apart, decide, plan_of, progress
from llmos.tuning.history import Advanced, Begun, Chosen, Decision, Dropped, History, Reached, Record, history_of
from llmos.tuning.journal import SearchJournal
from llmos.tuning.leaderboard import Search, leaderboard
from llmos.tuning.page import PAGE, page
from llmos.tuning.samplers import sampler_of
from llmos.tuning.space import FIXES, SpaceFacts, recipe_changes, space_of

JOURNAL = "search.jsonl"
WARMUP = next(one.default for one in fields(Recipe) if one.name == "warmup_share")  # a user's own is kept
METHODS = ("full", "lora", "head")  # that are tried where none is named
MOST_CRASHES = 3  # of a trial on one rung: then it counts as failed
HOPELESS = 3  # trials that fail before one succeeds: then the input is wrong
SHOW_EVERY_S = 2.0
PASSING = (DiskFull, Unavailable)  # refusals that say nothing of a trial: the search goes on later


def main(channel: Channel, assignment: Job) -> None:
    """Search until the budget is spent and the winner is made; the same call again continues from the journal."""
    args = assignment.args
    recipe = from_plain({key: args[key] for key in args if key not in (*TUNE_ARGUMENTS, "reports")}, Recipe)
    check(recipe)
    channel.report(Progress("read", unit="rows"))
    search = SearchRun(channel, assignment, recipe)
    try:
        search.run()
    except Stopped:
        print("Stopped; its trials wait with their checkpoints", flush=True)


class SearchRun:
    """One search with its journal, its space and its trials."""

    def __init__(self, channel: Channel, job: Job, recipe: Recipe) -> None:
        self.channel, self.job, self.recipe = channel, job, recipe
        data = gather(recipe.data, recipe.task, recipe.options, job.datasets, key=bytes.fromhex(job.row_key))
        rows, labels = len(data.splits.train), len(data.splits.labels)
        self.plan: HalvingPlan = plan_of(budget_of(str(job.args["budget"])), len(data.splits.validation))
        self.recipe = recipe = replace(chosen_method(recipe, rows, job.models["base"]), method_why="")
        factor = float(job.models["base"].manifest.options.get("rate_factor", 1.0))
        pooling = str(job.models["base"].manifest.options.get("pooling", "mean"))
        self.space = space_of(_facts(job, recipe, pooling))
        sampler, self.sample = sampler_of(str(job.args["sampler"]), self.space, recipe.seed)
        self.joins = joins_of(recipe)
        self.journal = SearchJournal(Path(job.scratch) / JOURNAL)
        self.children = Children(channel)
        self.pids: dict[int, int] = {}
        self.shown_at = 0.0
        self.most_together = MOST_TOGETHER

        @cache
        def defaults(method: str) -> tuple[float, float, float, int]:
            """Epochs, learning rate, head rate ratio and batch size of a run with this method."""
            found = resolve(replace(recipe, method=method), rows, labels, factor)
            values = (found.epochs, found.learning_rate, found.head_rate_ratio)
            assert None not in (*values, found.batch_size), "a resolved recipe has them"
            epochs, rate, ratio = map(float, values)  # type: ignore[arg-type]  # none of them is None
            return epochs, rate, ratio, int(found.batch_size or 1)

        self.defaults = defaults
        self.search = Search(
            recipe.task,
            recipe.name,
            recipe.base,
            primary_metric_of(recipe.task, recipe.options),
            str(job.args["budget"]),
            sampler,
            self.plan.shares,
            self.space,
            lambda settings: flat_settings(recipe_changes(settings, defaults)),
        )

    @property
    def history(self) -> History:
        return history_of(self.journal.records)

    def run(self) -> None:
        """Decide, let a trial work, note the outcome; until nothing is left to decide."""
        for process in self.children.list().values():
            pack = pack_of(process.spec.args)
            if len(pack) == 1 or process.state is not State.EXITED or process.made:  # else its trials went on apart
                self.pids |= {one.number: process.pid for one in pack}
        while decisions := decide(self.plan, self.history, self.sample, self.joins):
            if not self.history.pending:
                self.journal.append(*decisions)
            self._show()
            self.journal.append(*self._outcomes(self._of_one_process(decisions)))
            self._show()
            self._check_hope()
        if self.history.made is None:
            raise BadInput(
                "No trial could be trained to its end. Why, each says: llmos logs PID", trials=len(self.pids)
            )
        self._end()

    def _of_one_process(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Those of the first one's process; the others stay pending."""
        pid = self.pids.get(decisions[0].trial)
        mine = [one for one in decisions if self.pids.get(one.trial) == pid]
        return mine if pid is not None else mine[: self.most_together]

    def _outcomes(self, decisions: Sequence[Decision]) -> list[Record]:
        """Let the trials of one process do what was decided, and wait for what comes of it."""
        trials, rung = [one.trial for one in decisions], self._rung(decisions[0])
        crashes = 0
        while True:
            try:
                process = self._start(trials, rung)
            except PASSING:
                raise
            except LlmosError as error:
                if len(trials) == 1 or trials[0] in self.pids:
                    return [Dropped(trial, "failed", error.message) for trial in trials]
                return self._outcomes(self._fewer(decisions, error))
            process = self.children.wait(process.pid, lambda one: self._show(one))
            outcomes = outcomes_of(process, trials, rung, is_last=rung == len(self.plan.shares))
            if outcomes:
                return outcomes
            crashes += 1
            said = f"Trial {trials[0]}" if len(trials) == 1 else f"Trials {', '.join(map(str, trials))}"
            print(f"{said} (pid {process.pid}): interrupted, {process.reason}", flush=True)
            if crashes >= MOST_CRASHES:
                if process.fault is not None and process.fault.code == "disk_full":
                    raise error_of(process.fault)
                self.children.kill(process.pid)
                if len(trials) > 1 and rung == 0:
                    return self._outcomes(self._apart(decisions))
                return [Dropped(trial, "failed", process.reason) for trial in trials]

    def _fewer(self, decisions: Sequence[Decision], error: LlmosError) -> Sequence[Decision]:
        """Some of these new trials, which the kernel refused to start together: it may have room for fewer at once.

        Where room is not why, one of them is the cause, and is found when each begins by itself.
        """
        if not isinstance(error, NoRoom):
            return decisions[:1]
        self.most_together = len(decisions) // 2
        return decisions[: self.most_together]

    def _apart(self, decisions: Sequence[Decision]) -> Sequence[Decision]:
        """The first of these trials, which begin anew, each in a process of its own."""
        print("They go on one by one", flush=True)
        self.most_together = 1
        for one in decisions:
            del self.pids[one.trial]
        return decisions[:1]

    def _rung(self, decision: Decision) -> int:
        match decision:
            case Begun():
                return 0
            case Advanced(rung=rung):
                return rung
            case Chosen():
                return len(self.plan.shares)

    def _start(self, trials: Sequence[int], rung: int) -> Process:
        """The process of these trials on its way to this rung: submitted, resumed, or as it is."""
        history = self.history
        asked: dict[str, Json] = {"rung": rung, "trials": len(history.settings), "active": list(trials)}
        known = self.children.known.get(self.pids.get(trials[0], -1))
        if known is None or _failed_by_others(known):
            args = {**self._recipe_args(history.settings[trials[0]]), "shares": list(self.plan.shares)}
            args |= {"number": trials[0], "search": self.job.pid}
            if len(trials) > 1:
                args["pack"] = to_plain([PackedTrial(one, self._changes(history.settings[one])) for one in trials])
            process = self.children.submit("trial", {**args, **asked})
            self.pids |= dict.fromkeys(trials, process.pid)
            return process
        reached = outcomes_of(known, trials, rung, is_last=False)
        is_there = known.spec.args.get("active") in (None, list(trials)) and any(
            isinstance(one, Reached) for one in reached
        )
        if known.state is State.EXITED or is_there or not known.is_ended:
            return known
        return self.children.resume(known.pid, asked)

    def _recipe_args(self, settings: Mapping[str, Json]) -> dict[str, Json]:
        """The recipe of a trial."""
        plain: dict[str, Json] = to_plain(self.recipe)
        return plain | self._changes(settings)

    def _changes(self, settings: Mapping[str, Json]) -> dict[str, Json]:
        """What a trial's recipe has of its own. Its warm-up is over before the first rung, where it is compared."""
        changes = recipe_changes(settings, self.defaults)
        changes["options"] = {**self.recipe.options, **changes.pop("options", {})}
        if len(self.plan.shares) > 1 and self.recipe.warmup_share == WARMUP:
            changes["warmup_share"] = min(self.recipe.warmup_share, self.plan.shares[0] / 2)
        if "method_settings" in changes:
            changes["method_settings"] = {**self.recipe.method_settings, **changes["method_settings"]}
        return changes

    def _check_hope(self) -> None:
        """Raise the fault of the trials if the first ones all fail, which others would do too."""
        history = self.history
        failed = [one for one in history.dropped.values() if one.word == "failed"]
        if not history.results and len(failed) >= HOPELESS:
            raise BadInput(f"The first {len(failed)} trials failed. The last one: {failed[-1].note}")

    def _show(self, running: Process | None = None) -> None:
        """Keep the leaderboard where clients read it, and report how far the search is."""
        now = time.monotonic()
        if running is not None and now - self.shown_at < SHOW_EVERY_S:
            return
        self.shown_at = now
        history = self.history
        queued = () if running is None or running.state is not State.QUEUED else (running.pid,)
        board = leaderboard(self.search, history, self.pids, queued=queued)
        keep_result(self.job, to_plain(board))
        best = history.at(max((one.rung for one in history.results.values()), default=0))
        figures = {"trials": float(len(history.settings)), "spent_s": history.spent_s}
        if best:
            figures["metric"] = best[0].metric
        done, total = progress(self.plan, history)
        unit = "rungs" if self.plan.budget.trials else "s"
        self.channel.report(Progress("tune", done, total, unit, figures))

    def _end(self) -> None:
        history = self.history
        assert history.made is not None
        board = leaderboard(self.search, history, self.pids)
        keep_result(self.job, to_plain(board))
        folder = Path(str(self.job.args["reports"]))
        aside = folder / f".tmp-{PAGE}"
        aside.write_text(page(board, self.space), encoding="utf-8")
        aside.rename(folder / PAGE)
        best = next(row for row in board.trials if row.number == history.made.trial)
        which = f"trial {best.number} of {len(board.trials)}"
        if best.is_default:
            which += ", the defaults, which none beats by more than a standard error"
        said = f"{history.made.ref} is {which}: {history.made.summary}"
        print(said, flush=True)
        figures = {"metric": best.metric or 0.0, "trials": float(len(board.trials)), "spent_s": board.spent_s}
        self.channel.report(Progress(DONE, 1, 1, "searches", figures, said), is_last=True)


def _failed_by_others(process: Process) -> bool:
    """Whether it has ended by a fault of some of its trials: the others, which waited, go on in another process."""
    is_pack = len(pack_of(process.spec.args)) > 1
    return is_pack and process.state is State.EXITED and process.fault is not None and not process.made


def joins_of(recipe: Recipe) -> Joins:
    """Which trials of this recipe train together: those of low-rank adapters for a head, on the same rows."""
    if spec_of(recipe.task).head not in ("sequence", "token") or needs_reference(recipe.options) or recipe.track:
        return apart

    def joins(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
        is_grouped = all(can_group(str(some["method"]), recipe.method_settings) for some in (one, other))
        return is_grouped and recipe.lora.dropout == 0 and one.get("augment") == other.get("augment")

    return joins


def _facts(job: Job, recipe: Recipe, pooling: str) -> SpaceFacts:
    """What the space depends on: the task, and what the user has fixed."""
    spec = spec_of(recipe.task)
    given = {one.name for one in fields(Recipe) if getattr(recipe, one.name) != one.default}
    fixed = given | set(recipe.options) | set(recipe.method_settings)
    if recipe.lora != Lora():
        fixed |= {"rank"}
    methods = tuple(job.args["methods"]) or _methods(recipe)
    return SpaceFacts(
        methods=methods,
        default_method=recipe.method,
        has_head=spec.head in ("sequence", "token"),
        pooling=pooling if spec.head in POOLING_HEADS else "",
        augment=recipe.augment or "",
        fixed=frozenset(fixed & {name for names in FIXES.values() for name in names}),
    )


def _methods(recipe: Recipe) -> tuple[str, ...]:
    """The methods to try where none is named: the recipe's own if it has settings, else some that the task can have."""
    if recipe.method_settings or recipe.method not in METHODS:
        return (recipe.method,)
    if recipe.lora != Lora():
        return ("lora",)
    has_head = spec_of(recipe.task).head in ("sequence", "token")
    specs = [method_of(name) for name in METHODS]
    is_frozen = needs_reference(recipe.options)
    return tuple(spec.name for spec in specs if (has_head or spec.trains_layers) and (spec.keeps_base or not is_frozen))


def flat_settings(changes: Mapping[str, Json]) -> dict[str, Json]:
    """A trial's settings as people read them: flat, without what only follows from the rank."""
    flat: dict[str, Json] = {}
    for key, value in changes.items():
        if key == "method_settings":
            flat["rank"] = value["rank"]
        elif key == "options":
            flat |= value
        else:
            flat[key] = value
    return flat
