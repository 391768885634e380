"""The key guard: whose key a request has, whether it may do this, and whether its limits leave room for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from starlette.requests import Request
from starlette.types import Scope

from llmos.abi.call import CallRequest
from llmos.abi.endpoint import is_address
from llmos.abi.error import LlmosError, ModelNotAllowed, ModelNotFound, ScopeMissing, Unauthorized
from llmos.abi.json_type import Json
from llmos.abi.key import ApiKey, KeyScope
from llmos.abi.process import Priority
from llmos.kernel.interface import KeysInterface
from llmos.kernel.keys.key_ledger import MINUTE_S, Moment, Remaining
from llmos.tasks.generate import MAX_ANSWERS

BEARER = b"bearer "
RANK = {priority: rank for rank, priority in enumerate(Priority)}  # 0 goes first
MOST_ESTIMATED = 8_192  # tokens of an answer: `max_tokens` may also say "as many as fit"
BYTES_A_TOKEN = 4  # of a request's body, for the estimate that a call holds until it ends
MODELS = "/v1/models/"
READ_WITH = (
    "base",
    "disagreements",
    "model",
    "models",
    "teacher",
    "translators",
    "writer",
)  # arguments of processes that name models
SEES_ALL = (KeyScope.DATA, KeyScope.ADMIN)
WHAT = ("limit", "remaining", "reset")  # of OpenAI's headers
SPANS_KEPT = 64  # a busy key has two: what is left of a minute, and of the day
OWN = "own_key"  # in the scope of a request of a process, without a connection: the id of the key it is for, or ""
REQUESTS, TOKENS = ([f"x-ratelimit-{what}-{unit}".encode() for what in WHAT] for unit in ("requests", "tokens"))
INCORRECT = "Incorrect API key provided"  # OpenAI's words, by which litellm tells that it is the key
HOW = "Send one: Authorization: Bearer llmos_..., or x-api-key. Make one: llmos key create"


class Visit:
    """One request with a key: from `enter` until `leave`, its concurrency, tokens and rights are this key's."""

    __slots__ = ("_has_entered", "_keys", "_ledger", "key")

    def __init__(self, key: ApiKey, keys: KeysInterface) -> None:
        self.key = key
        self._ledger = keys.ledger(key)
        self._keys = keys
        self._has_entered = False

    def enter(self, at: Moment) -> None:
        """Count this request; RateLimited if the key's limits leave no room for it."""
        self._ledger.enter(at)
        self._has_entered = True

    def count(self, at: Moment) -> None:
        """Count a request without a connection: it is not among those under way."""
        self._ledger.count(at)

    def take_call(self, call: CallRequest, body_bytes: int) -> tuple[CallRequest, int]:
        """The call as this key may make it, with at most its priority, and the tokens that it holds.

        ModelNotAllowed or RateLimited otherwise. `settle` gives the tokens back.
        """
        self.check_model(call.model)
        priority = self.lower(call.priority)
        if priority is not call.priority:
            call = replace(call, priority=priority)
        answers = _from_one(call.params.get("n"), MAX_ANSWERS, 1)
        tokens = _from_one(call.params.get("max_tokens"), MOST_ESTIMATED, 0)
        return call, self._ledger.hold(body_bytes // BYTES_A_TOKEN + answers * tokens, self._keys.moment())

    def lower(self, asked: Priority) -> Priority:
        """This priority, or the highest that the key has, if that is lower."""
        highest = self.key.priority
        return asked if RANK[asked] >= RANK[highest] else highest

    def settle(self, held: int, used: int) -> None:
        """A call is over, and has used so many tokens."""
        self._ledger.settle(held, used, self._keys.moment())

    def check_model(self, model: str) -> None:
        """Raise ModelNotAllowed for a model that is not this key's."""
        if not self.key.allows(model):
            known = ", ".join(self.key.models)
            raise ModelNotAllowed(f"The key {self.key.id} is not for {model!r}, but for: {known}", model=model)

    def check_name(self, model: str) -> None:
        """Raise ModelNotAllowed if no version of this name is the key's, whether there is such a model or not."""
        if not self.key.allows_name(model):
            self.check_model(model)

    def check_body(self, body: object) -> None:
        """`check_name` of the `model` of a body, if it has one: before anything is looked up, or said of it."""
        model = body.get("model") if isinstance(body, dict) else getattr(body, "model", None)
        if isinstance(model, str) and model and not self.key.sees_all:
            self.check_name(model)

    def check_scopes(self, scopes: Sequence[KeyScope]) -> None:
        """Raise ScopeMissing unless the key has one of them."""
        has_one = not scopes
        for scope in scopes:  # no generator: every request with a key comes by here
            has_one = has_one or scope in self.key.scopes
        if not has_one:
            needs, has = " or ".join(scopes), ", ".join(self.key.scopes)
            raise ScopeMissing(
                f"This needs a key with the scope {needs}; {self.key.id} has: {has}. Make one: llmos key create",
                needs=list(scopes),
                has=list(self.key.scopes),
            )

    def without_others(self, error: LlmosError) -> LlmosError:
        """The error without names of models that are not this key's: those near to a mistyped one."""
        if self.key.sees_all or not isinstance(error, ModelNotFound):
            return error
        return ModelNotFound(f"No such model for the key {self.key.id}. See those that it may use: GET /v1/models")

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's headers of rate limits, for each limit that the key has."""
        requests, tokens = self._ledger.remaining(self._keys.moment())
        found: list[tuple[bytes, bytes]] = []
        if requests is not None:
            _add_headers(found, REQUESTS, requests)
        if tokens is not None:
            _add_headers(found, TOKENS, tokens)
        return found

    def leave(self) -> None:
        """The request is over, whether it was let in or not."""
        if self._has_entered:
            self._has_entered = False
            self._ledger.leave()


class KeyGuard:
    """Lets requests in by their keys. Without any key in the home, everybody may come in."""

    def __init__(self, keys: KeysInterface) -> None:
        self._keys = keys

    def enter(self, scope: Scope, scopes: Sequence[KeyScope]) -> Visit | None:
        """Check and count this request for a route that asks for one of these scopes; None if no key is needed.

        Unauthorized, ScopeMissing, ModelNotAllowed or RateLimited otherwise. The key's id is put into `scope["key"]`.
        """
        scope["key"] = None
        if not scopes:
            return None
        if OWN in scope:
            return self._enter_own(scope, scopes)
        secret = secret_in(scope)
        key = None if secret is None else self._keys.find(secret)
        if key is None:
            if self._keys.is_needed:
                raise _no_valid_key(secret)
            return None  # also with the made-up key that some client insists on sending
        at = self._keys.moment()
        visit = self._visit(scope, key, scopes, at)
        if not key.sees_all and scope["path"].startswith(MODELS):
            for name in ("ref", "name"):
                if name in scope.get("path_params", ()):
                    visit.check_model(scope["path_params"][name])
        visit.enter(at)
        return visit

    def _enter_own(self, scope: Scope, scopes: Sequence[KeyScope]) -> Visit | None:
        """Check and count a request of a process, such as a line of a batch, for the key that has begun it.

        The key is asked for anew each time: what was removed or has expired meanwhile is refused.
        """
        key_id = scope[OWN]
        if not key_id:
            return None
        key = self._keys.get(key_id)
        if key is None:
            raise Unauthorized(
                f"The key {key_id}, by which this was begun, has been removed. Begin it again with another",
                reason="removed",
                id=key_id,
            )
        at = self._keys.moment()
        visit = self._visit(scope, key, scopes, at)
        visit.count(at)
        return visit

    def _visit(self, scope: Scope, key: ApiKey, scopes: Sequence[KeyScope], at: Moment) -> Visit:
        if key.has_expired(at.now):
            raise Unauthorized(
                f"{INCORRECT}: {key.id} has expired. Make another: llmos key create",
                reason="expired",
                id=key.id,
            )
        scope["key"] = key.id
        visit: Visit = Visit(key, self._keys)
        scope["visit"] = visit
        visit.check_scopes(scopes)
        return visit


def _from_one(given: Json, most: int, otherwise: int) -> int:
    """A number of a body as far as it can be meant: nobody has checked it yet."""
    return min(given, most) if type(given) is int and given >= 1 else otherwise


def visit_of(scope: Scope) -> Visit | None:
    """The visit of a request; None if it has no key, because none is needed."""
    visit: Visit | None = scope.get("visit")
    return visit


def may_use(request: Request, model: str) -> bool:
    """Whether the request's key is for this model, so that lists show only those."""
    visit = visit_of(request.scope)
    return visit is None or visit.key.allows(model)


def check_name(request: Request, model: str) -> None:
    """Raise ModelNotAllowed if the request's key is for no version of this name."""
    visit = visit_of(request.scope)
    if visit is not None:
        visit.check_name(model)


def check_model(request: Request, model: object) -> None:
    """Raise ModelNotAllowed if the request's key is not for the model that an argument names."""
    visit = visit_of(request.scope)
    if visit is not None and isinstance(model, str) and model:
        visit.check_model(model)


def check_models_in(request: Request, args: Mapping[str, Json], *, makes_model: bool) -> None:
    """`check_model` of all that a process's arguments name: what it reads with, and the `name` that it makes.

    The `name` may be a dataset's instead. Addresses of endpoints are no models of the store.
    """
    for argument in (*READ_WITH, *(("name",) if makes_model else ())):
        given = args.get(argument)
        for model in given if isinstance(given, list) else [given]:
            if not isinstance(model, str) or not is_address(model):
                check_model(request, model)


def lower_priority(request: Request, asked: Priority) -> Priority:
    """The priority that the request's key may have, if it asks for this one."""
    visit = visit_of(request.scope)
    return asked if visit is None else visit.lower(asked)


def may_see(request: Request, key_id: str) -> bool:
    """Whether the request's key may see what this key has begun: its own, or with a scope for all data."""
    visit = visit_of(request.scope)
    return visit is None or visit.key.id == key_id or any(one in visit.key.scopes for one in SEES_ALL)


def key_of(request: Request) -> str:
    """The id of the request's key, for what goes on after its answer; empty if it has none."""
    return str(request.scope.get("key") or "")


def permit(request: Request, *scopes: KeyScope) -> None:
    """Raise ScopeMissing unless the request's key has one of these: for routes that ask for more than their scope."""
    visit = visit_of(request.scope)
    if visit is not None:
        visit.check_scopes(scopes)


def has_scope(request: Request, scope: KeyScope) -> bool:
    """Whether the request's key has this scope, or no key is needed."""
    visit = visit_of(request.scope)
    return visit is None or scope in visit.key.scopes


def secret_in(scope: Scope) -> str | None:
    """The secret of a request: the bearer token of Authorization, else x-api-key; None if it has neither."""
    found = None
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            return str(value[len(BEARER) :].strip(), "latin-1")
        if name == b"x-api-key":
            found = str(value.strip(), "latin-1")
    return found


def _no_valid_key(secret: str | None) -> Unauthorized:
    if secret is None:
        return Unauthorized(f"A key is needed here, and the request has none. {HOW}", reason="missing")
    return Unauthorized(f"{INCORRECT}: it is none of this daemon's. {HOW}", reason="unknown")


def _add_headers(to: list[tuple[bytes, bytes]], names: Sequence[bytes], left: Remaining) -> None:
    limit, remaining, reset_s = left
    to += (
        (names[0], b"%d" % limit),
        (names[1], b"%d" % remaining),
        (names[2], _span(reset_s) if reset_s < MINUTE_S else _long_span(round(reset_s))),
    )


def _span(seconds: float) -> bytes:
    """A span below a minute as OpenAI writes it: 0s, 250ms, 12.5s."""
    if seconds < 1:
        return b"%dms" % round(seconds * 1000) if seconds > 0 else b"0s"
    return (f"{seconds:.3f}".rstrip("0").rstrip(".") + "s").encode()


@lru_cache(maxsize=SPANS_KEPT)
def _long_span(seconds: int) -> bytes:
    """A longer one: 6m0s, 23h59m1s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
