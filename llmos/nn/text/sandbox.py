"""The Jinja sandbox of chat templates: limited names, steps, output and memory.

The environment equals the one that transformers renders templates in. A template comes from an untrusted source:
operations that make large values from small ones (repeats, widths, joins, nested lists as text) are measured before
they run, and all values that are made are counted.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from types import TracebackType

from jinja2 import TemplateError, nodes, pass_context, pass_eval_context
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from llmos.abi.json_type import Json

MOST_CHARS = 1 << 26  # of one rendered conversation, and of each text on the way
MOST_ITEMS = 1 << 18  # of one list, and of values written as text or JSON
MOST_BYTES = 1 << 30  # of all values that one rendering makes, kept or not
MOST_BITS = 1 << 12  # of an integer
WIDEST = 10_000  # the largest width to pad a text to
DEEPEST = 64  # spaces of an indent
SHORT = 8  # a list of at most this many items is written without being counted
# a width of at least five digits in a % format, or one taken from an argument
PERCENT = re.compile(r"%[#0\- +]*[\d.]*(?:\d{5}|\*)")
BRACES = re.compile(r"\{[^{}]*(?:\d{5}|\{)")
NEVER = frozenset({"translate", "encode", "to_bytes", "from_bytes"})  # methods of texts and numbers
FILLED = frozenset({"center", "ljust", "rjust", "zfill"})
# Filters that make no text of their argument, which may be the whole conversation in every turn of a loop.
HANDED = frozenset({"attr", "d", "default", "first", "last", "max", "min", "random"})  # they make no new values either
PLAIN = HANDED | frozenset(
    {
        *("abs", "count", "dictsort", "float", "groupby", "int", "items", "length", "list", "map", "reject"),
        *("rejectattr", "reverse", "round", "select", "selectattr", "sort", "sum", "unique"),
    }
)
HEAVY = frozenset(
    {"capitalize", "e", "escape", "forceescape", "striptags", "title", "urlencode", "wordcount", "wordwrap"}
)
HEAVY_CHARS = 1 << 20  # texts above this size, whose pieces or conversions take many times as much


class TooMuch(Exception):
    """The template takes more time or memory than any conversation needs."""


class SandboxBudget:
    """The budget of one rendering. Inside the block, everything that this thread renders is counted."""

    def __init__(self, limit_s: float) -> None:
        self._ends_at = time.thread_time() + limit_s
        self._limit_s = limit_s
        self._steps = self._chars = self._bytes = 0

    def __enter__(self) -> SandboxBudget:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _CURRENT.reset(self._token)

    def step(self) -> None:
        self._steps += 1
        if self._steps % 64 == 0 and time.thread_time() > self._ends_at:
            raise TooMuch(f"it computes for more than {self._limit_s:g} seconds")

    def count(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        if self._bytes > MOST_BYTES:
            raise TooMuch(f"it makes more than {MOST_BYTES:,} bytes of texts and lists")

    def join(self, pieces: Iterable[str]) -> str:
        """Join the rendered pieces into the conversation."""
        return "".join(map(self._wrote, pieces))

    def _wrote(self, piece: str) -> str:
        self._chars += len(piece)
        _check_chars(self._chars)
        return piece


_CURRENT: ContextVar[SandboxBudget | None] = ContextVar("budget", default=None)


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with counted loops, texts and lists."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_finalize
        )
        self.filters["tojson"], self.filters["join"] = _tojson, _join
        self.filters["replace"] = lambda text, old, new, count=-1: _replace_filter(str(text), str(old), str(new), count)
        for name in ("xmlattr", "urlize", "pprint"):  # no chat template uses them
            del self.filters[name]
        self.filters = {name: _count_filter(name, function) for name, function in self.filters.items()}
        self.filters |= {"llmos_bounded": _bound_filter, "llmos_concat": _concat, "llmos_made": _count_value}
        self.concat = _concat  # type: ignore[method-assign]  # of blocks and macros
        del self.globals["lipsum"]
        self.globals["dict"] = lambda *given, **named: dict(*given, **named)
        self.globals["namespace"] = _Namespace
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _now

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _Counting(self).visit(tree)
        return tree

    def call_binop(self, context: Context, operator: str, left: Json, right: Json) -> Json:
        _check_operands(operator, left, right)
        return _count_value(super().call_binop(context, operator, left, right))

    def call(self, context: Context, called: Json, /, *args: Json, **kwargs: Json) -> Json:
        budget = _CURRENT.get()
        if budget is not None:
            budget.step()
        method = getattr(called, "__wrapped__", called)  # jinja wraps `format`
        owner, name = getattr(method, "__self__", None), getattr(called, "__name__", "")
        if isinstance(owner, (str, int, float, bytes)):
            if isinstance(owner, str) and name == "join" and len(args) == 1:
                return _join(None, args[0], owner)
            if isinstance(owner, str) and name == "replace" and len(args) in (2, 3):
                return _replace_filter(owner, *args)
            _check_method(owner, name, args, kwargs)
        given = super().call(context, called, *args, **kwargs)
        return given if isinstance(owner, dict) else _count_value(given)  # the values of a dict exist already


class _Counting(NodeTransformer):
    """Routes loops, `~`, slices and written lists through our filters, because jinja computes them without its
    environment."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit(self, node: nodes.Node, *args: Json, **named: Json) -> nodes.Node:
        self.generic_visit(node)
        match node:
            case nodes.For():
                node.iter = self._through("llmos_bounded", node.iter)
            case nodes.Concat():
                return self._through("llmos_concat", nodes.List(node.nodes, lineno=node.lineno))
            case nodes.Getitem(arg=nodes.Slice()):
                return self._through("llmos_made", node)
            case nodes.List() | nodes.Dict() if len(node.items) > SHORT:
                return self._through("llmos_made", node)
        return node

    def _through(self, name: str, value: nodes.Node) -> nodes.Filter:
        made = nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)
        made.set_environment(self._environment)
        return made


def _check_chars(count: int) -> None:
    if count > MOST_CHARS:
        raise TooMuch(f"it writes more than {MOST_CHARS:,} characters")


def _check_items(count: int) -> None:
    if count > MOST_ITEMS:
        raise TooMuch(f"it makes a list of more than {MOST_ITEMS:,} items")


def _count_value(value: Json) -> Json:
    """Count a value that the template has made."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.step()
        if isinstance(value, (str, bytes)):
            budget.count(sys.getsizeof(value))
        elif isinstance(value, (list, tuple, dict)):
            budget.count(64 * (len(value) + 1))
    if isinstance(value, str):
        _check_chars(len(value))
    elif isinstance(value, (list, tuple, dict)):
        _check_items(len(value))
    return value


def _check_text(value: Json) -> None:
    """Raise TooMuch for a value that is too large as text; nested lists count as often as they are referred to."""
    if not isinstance(value, (list, tuple, dict)):
        return
    chars, items = 0, 0
    waiting: list[Json] = [value]
    while waiting:
        one = waiting.pop()
        items += 1
        if isinstance(one, str):
            chars += len(one)
        elif isinstance(one, (list, tuple)):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        if items + len(waiting) > MOST_ITEMS:
            raise TooMuch(f"it writes a list of more than {MOST_ITEMS:,} items")
        _check_chars(chars)


def _check_operands(operator: str, left: Json, right: Json) -> None:
    """Raise TooMuch for a repeat, padding or power larger than any conversation needs."""
    sized = [one for one in (left, right) if isinstance(one, (str, bytes, list, tuple))]
    whole = [one for one in (left, right) if isinstance(one, int)]
    if operator == "%" and isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    if operator == "*" and sized and whole:
        (_check_chars if isinstance(sized[0], (str, bytes)) else _check_items)(len(sized[0]) * whole[0])
    if operator == "+" and len(sized) == 2:
        (_check_chars if isinstance(left, str) else _check_items)(len(left) + len(right))
    if len(whole) == 2:
        bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
        if operator in ("*", "**") and bits > MOST_BITS:
            raise TooMuch(f"it makes a number of more than {MOST_BITS:,} bits")


def _check_format(text: str, args: Iterable[Json]) -> None:
    """Raise TooMuch for a format with a large width or many repetitions."""
    chars = 0
    for one in args:
        _check_text(one)
        chars += len(one) if isinstance(one, str) else 0
    if PERCENT.search(text) or BRACES.search(text):
        raise TooMuch("it fills a text up to a width that no conversation needs")
    _check_chars(len(text) + chars * (text.count("{") + 1))


def _check_method(owner: Json, name: str, args: tuple[Json, ...], named: Mapping[str, Json]) -> None:
    numbers = [abs(one) for one in (*args, *named.values()) if isinstance(one, int)]
    if name in NEVER or isinstance(owner, bytes):
        raise TooMuch(f"it calls {name}, which no conversation needs")
    if name in FILLED and max(numbers, default=0) > WIDEST:
        raise TooMuch("it fills a text up to a width that no conversation needs")
    if name == "expandtabs" and max(numbers, default=8) > DEEPEST:
        raise TooMuch("it fills a text up to a width that no conversation needs")
    if name in ("format", "format_map"):
        _check_format(owner, [*args, *named.values()])
    if name in ("split", "rsplit", "splitlines") and isinstance(owner, str):
        by = args[0] if args and isinstance(args[0], str) else None
        _check_items(owner.count(by) if by else len(owner) // 2)


def _replace_filter(text: str, old: str, new: str, count: int = -1) -> str:
    times = text.count(old) if count is None or count < 0 else min(count, text.count(old))
    _check_chars(len(text) + times * max(0, len(new) - len(old)))
    return str(_count_value(text.replace(old, new, -1 if count is None else count)))


@pass_eval_context
def _join(context: EvalContext | None, values: Iterable[Json], by: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None and context is not None:
        values = map(make_attrgetter(context.environment, attribute), values)
    return _together(values, str(by))


def _concat(values: Iterable[Json]) -> str:
    return _together(values, "")


def _together(values: Iterable[Json], by: str) -> str:
    pieces: list[str] = []
    chars = 0
    for one in values:
        _check_text(one)
        pieces.append(str(one))
        chars += len(pieces[-1]) + len(by)
        _check_chars(chars)
        _check_items(len(pieces))
    return str(_count_value(by.join(pieces)))


@pass_context
def _finalize(context: Context, value: Json) -> Json:
    """Count what is written. It takes the context, so that jinja does not evaluate constants when it compiles."""
    _check_text(value)
    return value


def _count_filter(name: str, function: Callable[..., Json]) -> Callable[..., Json]:
    """A filter with bounded arguments and a counted result."""
    passes = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)  # also copies jinja's own markers of what it passes
    def count_result(*args: Json, **named: Json) -> Json:
        value, given = args[passes], [*args[passes + 1 :], *named.values()]
        if name == "sum" and any(isinstance(one, (list, tuple)) for one in given):
            raise TooMuch("it adds up what are no numbers")
        if name == "format":
            _check_format(str(value), given)
        if name in HEAVY and len(str(value)) > HEAVY_CHARS:
            raise TooMuch(f"it puts a text of more than {HEAVY_CHARS:,} characters through {name}")
        if name not in PLAIN:
            _check_text(value)
        if name not in PLAIN and name not in ("format", "join", "replace", "truncate"):
            most = DEEPEST if name in ("indent", "tojson") else WIDEST
            if any(abs(one) > most if isinstance(one, int) else len(str(one)) > WIDEST for one in given):
                raise TooMuch("it fills a text up to a width that no conversation needs")
        if name == "indent":
            text = str(value)
            width = max(
                (one if isinstance(one, int) else len(one) for one in given if isinstance(one, (int, str))), default=4
            )
            _check_chars(len(text) + width * (text.count("\n") + 1))
        if name == "list" and isinstance(value, str):
            _check_items(len(value))
        return function(*args, **named) if name in HANDED else _count_value(function(*args, **named))

    return count_result


class _Generation(Extension):
    """`{% generation %}`, which marks the answers in a template for training elsewhere; its content is rendered
    unchanged."""

    tags = {"generation"}  # noqa: RUF012  # as jinja's extensions say it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return [nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True))]


class _Namespace(Namespace):
    """Jinja's namespace, without names that lead to Python's own."""

    def __setitem__(self, name: str, value: Json) -> None:
        if name.startswith("_"):
            raise TemplateError(f"a namespace has no names such as {name}")
        super().__setitem__(name, value)


def _bound_filter(values: Iterable[Json]) -> Iterator[Json]:
    budget = _CURRENT.get()
    for one in values:
        if budget is not None:
            budget.step()
            budget.count(512)  # an estimate of a turn's own objects, beside the values counted separately
        yield one


def _tojson(
    value: Json,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if separators is not None and any(len(one) > DEEPEST for one in separators):
        raise TooMuch("it fills a text up with one that no conversation needs")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return encoder.encode(value) if indent is None else _together(encoder.iterencode(value), "")


def _now(form: str) -> str:
    """The caller's local date, formatted."""
    if re.search(r"\d{3}", form) or len(form) > WIDEST:
        raise TooMuch("it writes a date that no conversation needs")
    return datetime.now().strftime(form)


def _raise(message: str) -> str:
    raise TemplateError(message)
