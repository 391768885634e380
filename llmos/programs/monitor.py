"""monitor: looks at windows of calls to a name, beside its version's evaluation rows, and says which signals drift."""

from __future__ import annotations

import math
import random
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np

from llmos.abi import feedback_file
from llmos.abi.error import LlmosError
from llmos.abi.frame import CallsSeen, CallsWanted, DriftFound, Job, ModelAsked, ModelReplied
from llmos.abi.json_type import Json
from llmos.abi.monitoring import (
    LOOKS,
    REPORT,
    STATE,
    AccuracyState,
    DriftAlarm,
    LookRecord,
    MonitoredVersion,
    MonitorState,
    ObservedInput,
    SignalState,
    observed_input,
)
from llmos.abi.process import Progress
from llmos.abi.row_outcome import RowOutcome, read_outcomes
from llmos.abi.wire import from_json, to_json
from llmos.evaluation.drift.accuracy_estimate import estimate_accuracy
from llmos.evaluation.drift.look import InputSample, LookBudget, LookResult, look_at
from llmos.evaluation.drift.look_history import LookHistory, write_whole
from llmos.evaluation.drift.page import page
from llmos.evaluation.drift.permutation_test import Floats
from llmos.programs.channel import Channel, Stopped

WINDOW = 200  # inputs
REFERENCE = 500  # rows at most
LEAST_REFERENCE = 60
CALLS_A_LOOK = 50
AT_ONCE = 16  # inputs of a question
WAIT_S = 5.0
QUIET_P = 1e-3  # an alarm ends when a window without its calls is above this
MOST_ALARMS = 50
MOST_EMBEDDED = 600  # characters of a text
MOST_FEEDBACK = 1_000


def main(channel: Channel, job: Job) -> None:
    """Look until the process is to stop."""
    try:
        Monitor(channel, job).run()
    except Stopped:
        print("Stopped", flush=True)


@dataclass(slots=True)
class Reference:
    """What calls are compared with. `right` says of each input whether it was answered right, where that is known."""

    source: str = ""
    inputs: list[ObservedInput] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    vectors: Floats | None = None
    is_whole: bool = False


class Monitor:
    """One name's monitor, with its window in memory and its state in a file."""

    def __init__(
        self,
        channel: Channel,
        job: Job,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._channel, self._clock = channel, clock
        self._unsaid: list[DriftAlarm] = []  # until the state that has them is kept
        self._name, self._folder = str(job.args["model"]), Path(job.args["folder"])
        self._feedback = Path(job.args["feedback"])
        self._numbers = count(1)
        self._state = self._read()
        self._looks = LookHistory(self._folder / LOOKS)
        self._reference = Reference()
        self._version = MonitoredVersion("")
        self._window: deque[ObservedInput] = deque(maxlen=WINDOW)
        self._vectors: dict[str, Floats] = {}  # of the window's texts
        self._new = 0  # inputs since the last look
        self._since_alarm: Counter[str] = Counter()  # inputs since each alarm
        self._budget = LookBudget(clock(), 1.0 if self._state.looks else 20.0)

    def run(self) -> None:
        """Ask for calls, take them, look."""
        is_asked = False
        while not self._channel.stop_asked:
            if not is_asked:
                self._channel.send(CallsWanted(CALLS_A_LOOK))
                is_asked = True
            frame = self._channel.receive(WAIT_S)
            if isinstance(frame, CallsSeen):
                is_asked = False
                self._take(frame)
            if self._is_due():
                self._look()
            self._channel.report_usage()

    # Calls.

    def _take(self, seen: CallsSeen) -> None:
        if seen.version.ref != self._version.ref:
            self._begin(seen.version)
        self._state = replace(self._state, calls=self._state.calls + seen.calls)
        inputs = list(seen.inputs)
        if not self._reference.is_whole:
            taken, inputs = (
                inputs[: REFERENCE - len(self._reference.inputs)],
                inputs[REFERENCE - len(self._reference.inputs) :],
            )
            self._reference.inputs += taken
            if len(self._reference.inputs) >= REFERENCE:
                self._complete()
        self._window.extend(inputs)
        self._new += len(inputs)
        self._since_alarm.update({signal: len(inputs) for signal in self._since_alarm})
        rows = len(self._reference.inputs)
        status = self._state.status if self._state.looks and self._state.status != "starting" else "waiting"
        self._keep(replace(self._state, reference=self._reference.source, reference_rows=rows, status=status))

    def _begin(self, version: MonitoredVersion) -> None:
        """A version with its reference; what an earlier one's signals were is over."""
        self._version = version
        self._window.clear()
        self._vectors.clear()
        self._new = 0
        if self._state.ref not in ("", version.ref):
            self._end_alarms({one.signal for one in self._state.signals if one.is_drifting})
            self._state = replace(self._state, signals=(), labels={}, texts=(), status="waiting")
        self._since_alarm = Counter({one.signal: 0 for one in self._state.signals if one.is_drifting})
        self._state = replace(self._state, ref=version.ref, message="")
        self._reference = self._evaluation_rows(version) or Reference("first calls")

    def _evaluation_rows(self, version: MonitoredVersion) -> Reference | None:
        """The rows of the version's evaluation, answered by the version as calls are; None where there are too few."""
        if not version.predictions:
            return None
        try:
            rows = [
                one for one in read_outcomes(Path(version.predictions)) if len(one.texts) == 1 and one.texts[0].strip()
            ]
        except LlmosError as error:
            print(error.message, flush=True)
            return None
        if len(rows) < LEAST_REFERENCE:
            return None
        some: list[RowOutcome] = random.Random(7).sample(rows, min(REFERENCE, len(rows)))
        found = Reference("evaluation")
        for one, answer in self._answers(version.ref, version.task, [row.texts[0] for row in some], some):
            found.inputs.append(observed_input(one.texts[0], *answer, keeps_text=True))
            found.right.append(one.score if one.score is not None else math.nan)
        self._reference = found
        self._complete()
        return found if len(found.inputs) >= LEAST_REFERENCE else None

    def _complete(self) -> None:
        """The reference is whole: its vectors, where its texts are kept."""
        reference = self._reference
        reference.is_whole = True
        texts = [one.text for one in reference.inputs if one.text]
        if self._version.embeds and len(texts) >= LEAST_REFERENCE:
            known = self._embed(texts)
            reference.vectors = np.array([known[one] for one in texts if one in known])

    # Questions to the kernel.

    def _answers(
        self, ref: str, task: str, inputs: Sequence[str], rows: Sequence[RowOutcome]
    ) -> list[tuple[RowOutcome, tuple[Json, int, int]]]:
        """The answers to these inputs, with the tokens and the unknown ones; without those that are refused."""
        found: list[tuple[RowOutcome, tuple[Json, int, int]]] = []
        for start in range(0, len(inputs), AT_ONCE):
            part = inputs[start : start + AT_ONCE]
            self._channel.report(Progress("reference", start, len(inputs), "rows"))
            reply = self._ask(ref, task, part)
            if reply.fault is not None or len(reply.outputs) != len(part):
                print(f"The reference: {reply.fault.message if reply.fault else 'an answer is missing'}", flush=True)
                continue
            none = (0,) * len(part)
            answers = zip(reply.outputs, reply.sizes or none, reply.unknown or none, strict=True)
            found += zip(rows[start : start + AT_ONCE], answers, strict=True)
        return found

    def _embed(self, texts: Sequence[str]) -> dict[str, Floats]:
        """Vectors by text; a text that is refused has none."""
        found: dict[str, Floats] = {}
        wanted = list(dict.fromkeys(texts))
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            reply = self._ask(self._version.embeds, "embed", [one[:MOST_EMBEDDED] for one in part])
            if reply.fault is not None:
                print(f"No vectors: {reply.fault.message}", flush=True)
                continue
            for text, output in zip(part, reply.outputs, strict=True):
                data: bytes = output["data"]
                found[text] = np.array(struct.unpack(f"<{len(data) // 4}f", data))
        return found

    def _ask(self, model: str, task: str, inputs: Sequence[str]) -> ModelReplied:
        """Wait for the answer; Stopped if the process is to stop."""
        number = next(self._numbers)
        self._channel.send(ModelAsked(number, model, task, tuple(inputs)))
        while not self._channel.stop_asked:
            frame = self._channel.receive(WAIT_S)
            if isinstance(frame, ModelReplied) and frame.request_id == number:
                return frame
        raise Stopped

    # Looks.

    def _is_due(self) -> bool:
        is_enough = self._reference.is_whole and len(self._window) == WINDOW and self._new >= CALLS_A_LOOK
        return is_enough and self._budget.wait_s(self._clock()) == 0.0

    def _look(self) -> None:
        self._budget.take()
        self._new = 0
        window = list(self._window)
        texts = [one.text for one in window if one.text]
        sample = InputSample(window, self._window_vectors(texts), texts)
        found = look_at(
            InputSample(self._reference.inputs, self._reference.vectors), sample, seed=self._state.looks + 1
        )
        now = self._clock()
        states = self._signals(found, now)
        self._state = replace(
            self._state,
            looks=self._state.looks + 1,
            looked_at=now,
            window=len(window),
            signals=states,
            labels=_label_shares(self._reference.inputs, window),
            texts=found.texts if {"domain", "embeddings"} & {one.signal for one in states if one.is_drifting} else (),
            accuracy=self._accuracy(window),
            status="drift" if any(one.is_drifting for one in states) else "quiet",
        )
        self._keep(self._state)
        self._report(LookRecord(now, self._version.ref, self._state.calls, _figures(states)))
        what = [one.signal for one in states if one.is_drifting]
        said = f"drift of {', '.join(what)}" if what else "quiet"
        self._channel.report(Progress("watch", self._state.looks, 0, "looks", message=said))

    def _window_vectors(self, texts: Sequence[str]) -> Floats | None:
        if self._reference.vectors is None or not texts:
            return None
        self._vectors = {one: self._vectors[one] for one in texts if one in self._vectors}
        self._vectors |= self._embed([one for one in texts if one not in self._vectors])
        known = [self._vectors[one] for one in texts if one in self._vectors]
        return np.array(known) if len(known) == len(texts) else None

    def _signals(self, found: LookResult, now: float) -> tuple[SignalState, ...]:
        """How each signal stands now: an alarm begins at a look, and ends once a whole window is unlike it."""
        before = {one.signal: one for one in self._state.signals}
        states, ended = [], set()
        for signal, test in found.tests.items():
            was = before.get(signal)
            is_drifting, since = was is not None and was.is_drifting, was.since if was is not None else None
            if is_drifting and test.p_value > QUIET_P and self._since_alarm[signal] >= WINDOW:
                is_drifting, since = False, None
                ended.add(signal)
            elif not is_drifting and signal in found.alarms:
                is_drifting, since = True, now
                self._since_alarm[signal] = 0
                self._alarm(DriftAlarm(now, self._version.ref, signal, test.statistic, test.threshold, test.p_value))
            states.append(SignalState(signal, test.statistic, test.threshold, test.p_value, is_drifting, since))
        self._end_alarms(ended)
        return tuple(states)

    def _alarm(self, alarm: DriftAlarm) -> None:
        self._unsaid.append(alarm)
        self._state = replace(self._state, alarms=(alarm, *self._state.alarms)[:MOST_ALARMS])

    def _end_alarms(self, signals: set[str]) -> None:
        """The alarms of these signals are over."""
        alarms = []
        for one in self._state.alarms:
            if one.ended_at is None and one.signal in signals:
                one = replace(one, ended_at=self._clock())
                self._unsaid.append(one)
            alarms.append(one)
        self._state = replace(self._state, alarms=tuple(alarms))
        for signal in signals:
            self._since_alarm.pop(signal, None)

    def _accuracy(self, window: Sequence[ObservedInput]) -> AccuracyState:
        known = [
            (one.confidence, hit)
            for one, hit in zip(self._reference.inputs, self._reference.right, strict=False)
            if one.confidence is not None and not math.isnan(hit)
        ]
        asked = [one.confidence for one in window if one.confidence is not None]
        state = AccuracyState()
        if known and len(asked) == len(window):
            sure, right = [one for one, _ in known], [hit for _, hit in known]
            found, low, high = estimate_accuracy(sure, right, asked)
            state = AccuracyState(float(np.mean(right)), found, low, high)
        rows = self._agreements()
        if rows:
            low, high = wilson(sum(rows), len(rows))
            state = replace(
                state, measured=sum(rows) / len(rows), measured_low=low, measured_high=high, measured_rows=len(rows)
            )
        return state

    def _agreements(self) -> list[bool]:
        """Whether the newest feedback on this version agrees with its answers."""
        if not self._feedback.exists():
            return []
        with feedback_file.open_feedback(self._feedback) as database:
            rows = feedback_file.newest(database, self._name, "", MOST_FEEDBACK)
        return [one.agrees for one in rows if one.ref == self._version.ref and one.agrees is not None]

    # The file.

    def _keep(self, state: MonitorState) -> None:
        """Write the state, whole or not at all; then say what has begun or ended: who hears of it looks there."""
        self._state = state
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._folder / STATE, to_json(state))
        for alarm in self._unsaid:
            self._channel.send(DriftFound(alarm))
        self._unsaid.clear()

    def _report(self, look: LookRecord) -> None:
        """Note the look, and write the page; the state is written already, and counts if either is damaged."""
        self._looks.add(look)
        write_whole(self._folder / REPORT, page(self._state, self._looks.newest).encode())

    def _read(self) -> MonitorState:
        try:
            return from_json((self._folder / STATE).read_bytes(), MonitorState)
        except FileNotFoundError:
            return MonitorState(self._name)
        except LlmosError as error:
            print(f"The state is damaged, and begun anew: {error.message}", flush=True)
            return MonitorState(self._name)


def _figures(states: Sequence[SignalState]) -> dict[str, tuple[float, float, float]]:
    """By signal; a threshold that nothing can reach is left out, for JSON has no such number."""
    return {one.signal: (one.statistic, one.threshold, one.p_value) for one in states if math.isfinite(one.threshold)}


def _label_shares(
    reference: Sequence[ObservedInput], window: Sequence[ObservedInput]
) -> dict[str, tuple[float, float]]:
    """The share of each label in both, the largest change first."""
    old, new = Counter(one.label for one in reference), Counter(one.label for one in window)
    shares = {one: (old[one] / len(reference), new[one] / len(window)) for one in {*old, *new} if one}
    return dict(sorted(shares.items(), key=lambda item: (-abs(item[1][0] - item[1][1]), item[0]))[:20])


def wilson(hits: int, rows: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share."""
    share, part = hits / rows, z * z / rows
    middle = (share + part / 2) / (1 + part)
    half = z * math.sqrt(share * (1 - share) / rows + part / (4 * rows)) / (1 + part)
    return max(0.0, middle - half), min(1.0, middle + half)
