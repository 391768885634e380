"""Keys: who may call what, and how much. The secret itself is shown once and kept nowhere: its SHA-256 is."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache

from llmos.abi.error import BadInput
from llmos.abi.process import Priority

PREFIX = "llmos"
ID = re.compile(r"[a-z0-9]{1,16}")
ID_SIGNS = 8
SECRET_BYTES = 32
MOST_GLOBS = 100
MOST_NAME = 100
MOST_COUNT = 10**12
MOST_REF = 256  # characters of a ref whose match is remembered
MATCHES_KEPT = 1_024
ANY_MODEL = ("*",)
IDS = "abcdefghijklmnopqrstuvwxyz234567"  # base32: no sign is taken for another


class KeyScope(StrEnum):
    """What a key may do. A route names the one that it asks for; `None` there means that anyone may."""

    INFER = "infer"  # call models
    FEEDBACK = "feedback"  # say what an answer should have been
    TRAIN = "train"  # start and steer processes that train and evaluate
    DATA = "data"  # datasets, files, and the processes that work on them
    MODELS = "models"  # pull, promote, roll back and remove models
    MONITOR = "monitor"  # see what the machine does, and change nothing: status, metrics, events
    ADMIN = "admin"  # keys, usage, audit, and the store as a whole


ALL_SCOPES = tuple(KeyScope)
WORK_SCOPES = (KeyScope.TRAIN, KeyScope.DATA, KeyScope.MODELS)  # their work is done by processes


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much a key may use; None: as much as there is.

    A minute is any 60 seconds; a day is one of UTC, and begins at midnight. `concurrency` counts requests under way.
    """

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. Times are seconds since the epoch; `models` are globs of names and refs.

    `priority` is the highest that its calls have: one that asks for more has this one.
    """

    id: str
    name: str = ""
    scopes: tuple[KeyScope, ...] = (KeyScope.INFER,)
    models: tuple[str, ...] = ANY_MODEL
    created_at: float = 0.0
    expires_at: float | None = None
    limits: KeyLimits = KeyLimits()
    priority: Priority = Priority.INTERACTIVE

    def has_expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at

    @property
    def sees_all(self) -> bool:
        """Whether it may use every model."""
        return "*" in self.models

    def allows(self, model: str) -> bool:
        """Whether it may use this model: one of its globs matches the ref, or the name alone."""
        return _matches(self.models, model) if len(model) <= MOST_REF else _matches.__wrapped__(self.models, model)

    def allows_name(self, model: str) -> bool:
        """Whether it may use some version of the name in this ref."""
        return _names(self.models, model) if len(model) <= MOST_REF else _names.__wrapped__(self.models, model)


@lru_cache(maxsize=MATCHES_KEPT)
def _matches(globs: tuple[str, ...], model: str) -> bool:
    name = model.partition(":")[0]
    return any(glob == "*" or fnmatchcase(name, glob) or fnmatchcase(model, glob) for glob in globs)


@lru_cache(maxsize=MATCHES_KEPT)
def _names(globs: tuple[str, ...], model: str) -> bool:
    name = model.partition(":")[0]
    return any(fnmatchcase(name, glob.partition(":")[0]) for glob in globs)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made or rotated just now, with the secret, which is not shown again."""

    key: ApiKey
    secret: str


def make_id() -> str:
    """A new key's id."""
    return "".join(secrets.choice(IDS) for _ in range(ID_SIGNS))


def make_secret(key_id: str) -> str:
    """`llmos_<id>_<32 random bytes, url-safe>`."""
    return f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(secret: str) -> str:
    """What is kept of a secret. It has 256 random bits, so that a slow hash would protect nothing more."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def id_in(secret: str) -> str:
    """The id in a secret; empty where it is none of ours."""
    parts = secret.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX and ID.fullmatch(parts[1]) else ""


def check_key(key: ApiKey, now: float) -> None:
    """Raise BadInput for a key that could do nothing, or says what cannot be read."""
    if not key.scopes:
        raise BadInput(f"A key has scopes: some of {', '.join(ALL_SCOPES)}", key="scopes")
    if not key.models or len(key.models) > MOST_GLOBS or not all(key.models):
        raise BadInput(f"A key has 1 to {MOST_GLOBS} names of models, which may have *: support-*", key="models")
    if len(key.name) > MOST_NAME or not (key.name.isprintable()):
        raise BadInput(f"A key's name has at most {MOST_NAME} characters, all of them printable", key="name")
    if key.expires_at is not None and not now < key.expires_at < 1e11:
        raise BadInput("expires_at is not in the future. Give seconds since 1970", key="expires_at")
    for name, value in limits_of(key.limits):
        if value is not None and not 1 <= value <= MOST_COUNT:
            raise BadInput(f"{name} is {value}; it must be from 1 to {MOST_COUNT:,}", key=name)


def limits_of(limits: KeyLimits) -> Sequence[tuple[str, int | None]]:
    """Each limit with its name."""
    return [(name, getattr(limits, name)) for name in KeyLimits.__slots__]
