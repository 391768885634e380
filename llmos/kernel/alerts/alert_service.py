"""Alerts for the API and the kernel: looks at every rule now and then and after events, and tells the channels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path

from llmos.abi.alert import (
    Alert,
    AlertChannelView,
    AlertDelivery,
    AlertRuleView,
    AlertSeverity,
    AlertSilence,
    AlertStatus,
    AlertsView,
    AlertTest,
)
from llmos.abi.api_types import StreamEvent
from llmos.abi.error import BadInput, LlmosError, NotFound
from llmos.abi.json_type import Json
from llmos.abi.wire import to_plain
from llmos.kernel import events as ev
from llmos.kernel.alerts.alert_book import AlertBook
from llmos.kernel.alerts.channels import send
from llmos.kernel.alerts.evaluation import RuleFinding, evaluate
from llmos.kernel.alerts.expression import Measured, MeasureFunction, longest_window_s, parts_of
from llmos.kernel.alerts.outbox import Actions, Outbox, Send
from llmos.kernel.alerts.rounds import GONE, MOST_DELIVERIES, AlertLook, end_alert, messages, next_alert
from llmos.kernel.alerts.rules_file import FILE, AlertRule, AlertRules, read_rules
from llmos.kernel.alerts.windows import MetricSample, Windows
from llmos.kernel.event_stream import EventStream

LOOK_EVERY_S = 5.0
PAUSE_S = 0.05
LONGEST_SILENCE_S = 366 * 86_400.0
MOST_FILE_BYTES = 1 << 20
OWN_KIND = "alert"  # events of this kind are ours: no rule counts them
TEST_RULE = "test"
CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
log = logging.getLogger(__name__)


class AlertService:
    """The rules of one home. `begin` starts it; until then it only shows what the journal has."""

    def __init__(
        self,
        home: Path,
        book: Callable[[], AlertBook],
        ask: Callable[[ev.Event], Awaitable[None]],
        actions: Actions,
        event_stream: EventStream,
        clock: Callable[[], float],
        steady: Callable[[], float],
        *,
        look_every_s: float = LOOK_EVERY_S,
        sender: Send = send,
    ) -> None:
        """`ask` journals and applies an event."""
        self.path = home / FILE
        self.found = AlertRules()
        self.problem = ""
        self._book, self._ask, self._actions = book, ask, actions
        self._event_stream = event_stream
        self._clock, self._steady = clock, steady
        self._every_s = look_every_s
        self._read: Callable[[], Iterable[MetricSample]] = tuple
        self._windows = Windows(lambda: self._read(), steady)
        self.outbox = Outbox(book, lambda: self.found.channels, ask, actions, clock, sender=sender)
        self._true_since: dict[str, float] = {}
        self._findings: dict[str, RuleFinding] = {}
        self._began_at = steady()
        self._stamp: tuple[int, int, int] | None = None
        self._hurry = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def read_from(self, read: Callable[[], Iterable[MetricSample]]) -> None:
        """Where the samples of the daemon's metrics come from."""
        self._read = read

    def begin(self) -> None:
        """Look at the rules from now on, by what `read_from` has named."""
        loop = asyncio.get_running_loop()
        self._began_at = self._steady()
        self._tasks = [loop.create_task(self._follow_events()), loop.create_task(self._run())]

    async def close(self) -> None:
        """Stop; messages that did not arrive are sent at the next start."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.outbox.close()

    # Events.

    def see(self, kind: str, data: Callable[[], dict[str, Json]]) -> None:
        """An event has happened; its data is asked for only if a rule counts its kind."""
        if kind != OWN_KIND and self._windows.counts(kind):
            self._windows.see(kind, data())
            self._hurry.set()

    def see_kernel_event(self, event: ev.Event) -> None:
        """An event of the kernel; its kind is its name in small letters, such as child_exited."""
        self.see(CAPITAL.sub("_", type(event).__name__).lower(), lambda: to_plain(event))

    async def _follow_events(self) -> None:
        async with aclosing(self._event_stream.watch()) as events:
            async for event in events:
                self.see(event.kind, partial(_flat, event))

    # Looks.

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # the top of a loop: our own fault must not end the looks
                log.exception("alerts were not looked at")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._hurry.wait()
            self._hurry.clear()
            await asyncio.sleep(PAUSE_S)  # events that come together are looked at together

    async def look(self) -> None:
        """Read the file if it has changed, evaluate every rule, and send what is due."""
        async with self._one_at_a_time:
            await self._follow_file()
            if self.found.rules:
                self._windows.read()
            for rule in self.found.rules.values():
                await self._look_at(rule)
            for alert in list(self._book().firing.values()):
                if alert.rule not in self.found.rules and not self.problem:
                    await self._change(alert, end_alert(alert, self._clock(), GONE), {})
        self.outbox.send_due()

    async def _look_at(self, rule: AlertRule) -> None:
        now, steady = self._clock(), self._steady()
        finding = self._findings[rule.name] = evaluate(rule.condition, self._windows)
        if finding.is_true:
            self._true_since.setdefault(rule.name, steady)
        else:
            self._true_since.pop(rule.name, None)
        before = self._book().firing.get(rule.name)
        look = AlertLook(
            now,
            steady - self._true_since[rule.name] if finding.is_true else None,
            finding.value,
            self._last_event(rule) if finding.is_true and before is None else None,
            self._book().silenced_until(rule.name, now) is not None,
            steady - self._began_at >= longest_window_s(rule.condition),
        )
        after = next_alert(rule, before, look, lambda: new_id("alert"))
        if after is not None:
            await self._change(before, after, rule.action)

    async def _change(self, before: Alert | None, after: Alert, action: dict[str, Json]) -> None:
        told = messages(
            before,
            after,
            self._with_version(action),
            self.found.channels.keys(),
            is_silenced=self._book().silenced_until(after.rule, self._clock()) is not None,
            new_id=lambda: new_id("msg"),
        )
        if len(self._book().deliveries) + len(told) > MOST_DELIVERIES:
            log.error("%s messages about alerts wait already: nobody is told of %s", f"{MOST_DELIVERIES:,}", after.rule)
            told = ()
        await self._ask(ev.AlertChanged(self._clock(), after, told))
        if before is None or after.ended_at is not None:
            log.warning("alert %s (%s) %s: %s", after.rule, after.severity, after.state, after.expression)
            self._event_stream.publish(OWN_KIND, alert=to_plain(after))

    def _with_version(self, action: dict[str, Json]) -> dict[str, Json]:
        """A rollback says from which version, so that it is done once, however often it is tried."""
        if "rollback" not in action:
            return action
        return {**action, "from": self._actions.promoted_version(str(action["rollback"]))}

    def _last_event(self, rule: AlertRule) -> dict[str, Json] | None:
        for part in parts_of(rule.condition):
            if isinstance(part, Measured) and part.measure is MeasureFunction.EVENTS:
                found = self._windows.last_event(part)
                if found is not None:
                    return dict(found)
        return None

    # The file.

    async def _follow_file(self) -> None:
        """Take the file's rules if it has changed; a mistake leaves those before it in force, and is shown."""
        stamp = await asyncio.to_thread(stamp_of, self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(await asyncio.to_thread(text_of, self.path))
        except LlmosError as error:
            self.problem = error.message
            log.error("alerts: %s", error.message)

    def _take(self, text: str) -> None:
        found = read_rules(text)
        for rule in found.rules.values():
            if any(isinstance(one, Measured) and one.subject == OWN_KIND for one in parts_of(rule.condition)):
                raise BadInput(f"{FILE}: rules.{rule.name}.when: no rule counts events of the kind {OWN_KIND!r}")
        changed = {name for name, rule in found.rules.items() if self.found.rules.get(name) != rule}
        self._true_since = {key: at for key, at in self._true_since.items() if key not in changed}
        if changed and any(self._book().firing.keys() & changed):
            self._began_at = self._steady()  # their windows begin now
        self.found, self.problem = found, ""
        self._windows.watch([rule.condition for rule in found.rules.values()])

    # For the API.

    async def reload(self) -> AlertsView:
        """Read the file now; BadInput, with the line, for a mistake. The rules before it are then still in force."""
        async with self._one_at_a_time:
            self._stamp = await asyncio.to_thread(stamp_of, self.path)
            try:
                self._take(await asyncio.to_thread(text_of, self.path))
            except LlmosError as error:
                self.problem = error.message
                raise
        await self.look()
        return self.view()

    async def silence(self, rule: str, for_s: float, reason: str) -> AlertSilence:
        """Tell nobody of this rule for a while."""
        self._rule(rule)
        if not 0 < for_s <= LONGEST_SILENCE_S:
            raise BadInput("A silence lasts more than 0 and at most 366 days", key="for_s", value=for_s)
        now = self._clock()
        await self._ask(ev.AlertSilenced(now, AlertSilence(rule, now, now + for_s, reason)))
        return self._book().silences[rule]

    async def end_silence(self, rule: str) -> None:
        await self._ask(ev.AlertSilenceEnded(self._clock(), rule))
        self._hurry.set()

    async def acknowledge(self, rule: str) -> Alert:
        """Somebody looks after the rule's alert: it is not told again until it ends."""
        await self._ask(ev.AlertAcknowledged(self._clock(), rule))
        return self._book().firing[rule]

    async def test(self, channel: str | None) -> list[AlertTest]:
        """Send a message to this channel, or to all, once and now."""
        if channel is not None and channel not in self.found.channels:
            known = ", ".join(self.found.channels) or "none"
            raise NotFound(f"No channel {channel!r} in {self.path} (there are: {known})", channel=channel)
        names = list(self.found.channels) if channel is None else [channel]
        now = self._clock()
        about = "This is a test: nothing has happened"
        alert = Alert(new_id("alert"), TEST_RULE, AlertSeverity.INFO, about, "1 > 0", now, channels=tuple(names))
        tests = [AlertDelivery(new_id("msg"), name, TEST_RULE, alert, AlertStatus.TEST, now) for name in names]
        sent = (self.outbox.send_now(self.found.channels[one.channel], one) for one in tests)
        errors = await asyncio.gather(*sent)
        return [AlertTest(name, error) for name, error in zip(names, errors, strict=True)]

    def view(self) -> AlertsView:
        """All rules, channels, alerts, silences, and what is not sent yet."""
        book, now = self._book(), self._clock()
        return AlertsView(
            str(self.path),
            tuple(self._rule_view(rule) for rule in self.found.rules.values()),
            tuple(
                AlertChannelView(
                    name,
                    one.kind,
                    one.target,
                    self.outbox.counts[name, "sent"],
                    self.outbox.counts[name, "failed"],
                    self.outbox.errors.get(name, ""),
                )
                for name, one in self.found.channels.items()
            ),
            (*book.firing.values(), *book.ended),
            tuple(one for one in book.silences.values() if one.until > now),
            tuple(book.deliveries.values()),
            self.problem,
        )

    def _rule_view(self, rule: AlertRule) -> AlertRuleView:
        finding, since = self._findings.get(rule.name), self._true_since.get(rule.name)
        return AlertRuleView(
            rule.name,
            rule.text,
            rule.for_s,
            rule.severity,
            rule.summary,
            rule.labels,
            rule.channels,
            rule.action,
            rule.repeat_s,
            finding is not None and finding.is_true,
            None if finding is None else finding.value,
            None if since is None else self._clock() - (self._steady() - since),
            self._book().silenced_until(rule.name, self._clock()),
        )

    def _rule(self, name: str) -> AlertRule:
        found = self.found.rules.get(name)
        if found is None:
            names = ", ".join(self.found.rules) or "none"
            raise NotFound(f"No rule {name[:80]!r} in {self.path} (there are: {names})", rule=name[:80])
        return found


def _flat(event: StreamEvent) -> dict[str, Json]:
    """An event's data, beside its pid and process."""
    plain: dict[str, Json] = to_plain(event)
    return {**plain, **plain["data"]}


def new_id(kind: str) -> str:
    """An id that is never given twice; without a full stop, which ends it in what a webhook signs."""
    return f"{kind}_{secrets.token_hex(12)}"


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def text_of(path: Path) -> str:
    """The text of the file, empty if there is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_FILE_BYTES:
        raise BadInput(f"{path} has more than {MOST_FILE_BYTES:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{FILE}, line {line}: this is no UTF-8", line=line) from error
