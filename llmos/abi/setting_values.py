"""How values of settings are read: from a TOML file, the environment or a flag. ValueError or TypeError for others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Value = Any  # Any: what a TOML file, the environment or a flag holds; each reader checks it


def text(value: Value) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def path(value: Value) -> Path:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError
    return Path(value).expanduser().absolute()


def flag(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in ("true", "false", "1", "0"):
        raise ValueError
    return value.lower() in ("true", "1")


def list_of(read_one: Callable[[str], T]) -> Callable[[Value], tuple[T, ...]]:
    """A list in TOML; in the environment and in a flag, entries separated by commas."""

    def read(value: Value) -> tuple[T, ...]:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, (list, tuple)) or not all(isinstance(one, (str, Path)) for one in entries):
            raise ValueError
        return tuple(read_one(str(one).strip()) for one in entries if str(one).strip())

    return read


def host(value: str) -> str:
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:]*:[0-9a-fA-F:.]*|[\w.-]+", value):
        raise ValueError
    return value


def origin(value: str) -> str:
    """Scheme, host and optional port, as a browser sends it: in lower case, without a path."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://([^\s/?#@*:,A-Z]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", value):
        raise ValueError
    return value


def url(value: Value) -> str:
    """An http or https address with a host, without a user, a query or a fragment."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@\\]+(/[^\s?#]*)?", value):
        raise ValueError
    return value


def whole(low: int, high: int) -> Callable[[Value], int]:
    def read(value: Value) -> int:
        if isinstance(value, (bool, float)):
            raise TypeError
        number = int(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return read


def number(low: float, high: float) -> Callable[[Value], float]:
    def read(value: Value) -> float:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        if not low <= number <= high:  # NaN fails this too
            raise ValueError
        return number

    return read


def none_or_number(low: float, high: float) -> Callable[[Value], float]:
    def read(value: Value) -> float:
        found = number(0.0, high)(value)
        if 0.0 < found < low:
            raise ValueError
        return found

    return read


def one_of(*choices: str) -> Callable[[Value], str]:
    def read(value: Value) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return read
