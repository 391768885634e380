"""The home's alerts.toml: rules and channels. A mistake is refused as a whole, with the line on which it stands.

Addresses that are called come from this file alone, which is the owner's: no request to the daemon can name one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn

from llmos.abi.alert import AlertSeverity
from llmos.abi.error import BadInput, LlmosError
from llmos.abi.json_type import Json
from llmos.abi.model import split_ref
from llmos.kernel.alerts.channel_settings import CHANNELS, ChannelSettings
from llmos.kernel.alerts.expression import Condition
from llmos.kernel.alerts.parser import duration_s, parse
from llmos.kernel.programs.arguments import check_arguments

FILE = "alerts.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RULE_KEYS = ("when", "for", "severity", "labels", "summary", "channels", "repeat", "start", "rollback")
MOST_RULES = 200
MOST_LABELS = 20
MOST_TEXT = 500
LONGEST_S = 30 * 86_400.0
HEADER = re.compile(r"\s*\[\s*([^\]]+?)\s*\]")


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule. `action` is empty, or what is done once for each alert: start a program, or roll a name back."""

    name: str
    text: str
    condition: Condition
    for_s: float = 0.0
    severity: AlertSeverity = AlertSeverity.WARNING
    summary: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    repeat_s: float | None = None
    action: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertRules:
    """What a file says."""

    rules: Mapping[str, AlertRule] = field(default_factory=dict)
    channels: Mapping[str, ChannelSettings] = field(default_factory=dict)


def read_rules(text: str) -> AlertRules:
    """The rules and channels in a file's text; BadInput, with the `line`, for the first mistake."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise BadInput(f"{FILE}: {error}", line=number) from error
    reader = _Reader(text)
    reader.check_keys((), found, ("rules", "channels"))
    channels = {name: reader.channel(name, table) for name, table in reader.tables(found, "channels")}
    rules = {name: reader.rule(name, table, channels) for name, table in reader.tables(found, "rules")}
    if len(rules) > MOST_RULES:
        reader.fail(("rules",), "", f"there are {len(rules)} rules, at most {MOST_RULES} may be")
    return AlertRules(rules, channels)


class _Reader:
    """Checks the tables of one file, and knows on which line each value stands."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def fail(self, path: tuple[str, ...], key: str, message: str) -> NoReturn:
        line = self._line(path, key)
        where = ".".join((*path, key) if key else path)
        raise BadInput(f"{FILE}, line {line}: {where}: {message}", line=line, key=where)

    def _line(self, path: tuple[str, ...], key: str) -> int:
        """The line of a key in a table; of its header, where the key is not found; 1 if neither is."""
        current: tuple[str, ...] = ()
        header_line = 1
        for number, line in enumerate(self._lines, 1):
            if found := HEADER.match(line):
                current = tuple(part.strip().strip("\"'") for part in found[1].split("."))
                if current in (path, (*path, key)):
                    header_line = number
                if current == (*path, key):
                    return number
                continue
            name = line.partition("=")[0].strip().strip("\"'")
            if key and current == path and name.partition(".")[0] == key:
                return number
            if path and current == path[:-1] and name.partition(".")[0] == path[-1]:
                header_line = number
        return header_line

    def check_keys(self, path: tuple[str, ...], table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, 1)
                hint = f"; is it {near[0]}?" if near else f"; there are: {', '.join(known)}"
                self.fail(path, key, f"nothing has this name{hint}")

    def tables(self, found: Mapping[str, Any], kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables of a kind by name, such as [rules.slow]."""
        tables = found.get(kind, {})
        if not isinstance(tables, dict):
            self.fail((), kind, f"expected tables such as [{kind}.NAME]")
        for name, table in tables.items():
            if not NAME.fullmatch(name):
                self.fail((kind, name), "", "a name has letters, digits, '_', '.' and '-', at most 64")
            if not isinstance(table, dict):
                self.fail((kind,), name, f"expected a table: [{kind}.{name}]")
        return list(tables.items())

    def channel(self, name: str, table: Mapping[str, Any]) -> ChannelSettings:
        path = ("channels", name)
        kinds = [kind for kind in CHANNELS if kind in table]
        if len(kinds) != 1:
            self.fail(path, kinds[1] if kinds else "", f"a channel has one of: {', '.join(CHANNELS)}")
        self.check_keys(path, table, CHANNELS[kinds[0]].keys)
        try:
            return CHANNELS[kinds[0]].read(name, table)
        except LlmosError as error:
            self.fail(path, str(error.detail.get("key", "")), error.message)

    def rule(self, name: str, table: Mapping[str, Any], channels: Mapping[str, ChannelSettings]) -> AlertRule:
        path = ("rules", name)
        self.check_keys(path, table, RULE_KEYS)
        text = self._text(path, table, "when")
        if not text:
            self.fail(path, "", 'the expression is missing: when = "..."')
        try:
            condition = parse(text)
        except BadInput as error:
            self.fail(path, "when", error.message)
        severity = table.get("severity", AlertSeverity.WARNING)
        if severity not in list(AlertSeverity):
            self.fail(path, "severity", f"expected one of {', '.join(AlertSeverity)}, got {severity!r}")
        return AlertRule(
            name,
            text,
            condition,
            self._span(path, table, "for") or 0.0,
            AlertSeverity(severity),
            self._text(path, table, "summary"),
            self._labels(path, table),
            self._channels(path, table, channels),
            self._span(path, table, "repeat"),
            self._action(path, table),
        )

    def _text(self, path: tuple[str, ...], table: Mapping[str, Any], key: str) -> str:
        found = table.get(key, "")
        if not isinstance(found, str) or (key != "when" and len(found) > MOST_TEXT):
            self.fail(path, key, f"expected a text of at most {MOST_TEXT} characters")
        return found

    def _span(self, path: tuple[str, ...], table: Mapping[str, Any], key: str) -> float | None:
        found = table.get(key)
        if found is None:
            return None
        try:
            seconds = duration_s(str(found))
        except ValueError:
            self.fail(path, key, f"expected a duration such as 30s, 5m or 2h, got {found!r}")
        if seconds > LONGEST_S or (key == "repeat" and seconds < 60.0):
            self.fail(path, key, "expected at most 30d" + (" and at least 1m" if key == "repeat" else ""))
        return seconds

    def _labels(self, path: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, str]:
        found = table.get("labels", {})
        is_plain = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
        if not is_plain or len(found) > MOST_LABELS or any(len(value) > MOST_TEXT for value in found.values()):
            self.fail(path, "labels", f'expected at most {MOST_LABELS} texts by name, such as {{team = "support"}}')
        return dict(found)

    def _channels(
        self, path: tuple[str, ...], table: Mapping[str, Any], channels: Mapping[str, ChannelSettings]
    ) -> tuple[str, ...]:
        """The named channels; without names, all."""
        found = table.get("channels", list(channels))
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            self.fail(path, "channels", "expected a list of names")
        for one in found:
            if one not in channels:
                self.fail(path, "channels", f"no channel {one!r}; there are: {', '.join(channels) or 'none'}")
        return tuple(dict.fromkeys(found))

    def _action(self, path: tuple[str, ...], table: Mapping[str, Any]) -> dict[str, Json]:
        if "start" in table and "rollback" in table:
            self.fail(path, "rollback", "a rule starts a program or rolls back, not both")
        if "rollback" in table:
            name = table["rollback"]
            try:
                is_bare = isinstance(name, str) and split_ref(name)[1] is None
            except LlmosError:
                is_bare = False
            if not is_bare:
                self.fail(path, "rollback", f"expected a model's bare name, got {name!r}")
            return {"rollback": name}
        if "start" not in table:
            return {}
        start = table["start"]
        inner = (*path, "start")
        if not isinstance(start, dict):
            self.fail(path, "start", 'expected a table such as {program = "train", args = {...}}')
        self.check_keys(inner, start, ("program", "args"))
        if not isinstance(start.get("program"), str) or not isinstance(start.get("args", {}), dict):
            self.fail(path, "start", "expected a program's name, and its args as a table")
        try:
            check_arguments(start["program"], start.get("args", {}))
        except LlmosError as error:
            self.fail(path, "start", error.message)
        return {"start": {"program": start["program"], "args": start.get("args", {})}}
