"""The parser of alert expressions: text to a condition, or BadInput that names the place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from llmos.abi.error import BadInput
from llmos.kernel.alerts.expression import (
    OF_CALLS,
    OF_QUANTILES,
    OF_SERIES,
    Arithmetic,
    Condition,
    JoinedConditions,
    LabelMatcher,
    Measured,
    MeasureFunction,
    MetricSeries,
    Negated,
    Not,
    Number,
    NumberComparison,
    Quantity,
)

MOST_CHARS = 2_000
MOST_TOKENS = 400  # so that no chain of operators is too long to be walked
MOST_DEPTH = 50
LONGEST_WINDOW_S = 7 * 86_400.0
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
TOKEN = re.compile(
    rf"(?P<duration>{NUMBER}(?:ms|[smhdw])(?![\w.]))|(?P<number>{NUMBER}(?![\w.]))"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r'|(?P<text>"(?:[^"\\]|\\.)*"|\'[^\'\\]*\')'
    r"|(?P<sign><=|>=|==|!=|[<>=+\-*/(){},])"
)
DURATION = re.compile(rf"({NUMBER})(ms|[smhdw])")
COMPARES = ("<", "<=", ">", ">=", "==", "!=")
WORDS = ("and", "or", "not")
METRIC = re.compile(r"llmos_[a-z0-9_]+")
HELP = 'An expression compares numbers, such as errors("support", 5m) > 0.01. See docs/alerts.md'


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # duration, number, name, text, sign, or end
    text: str
    at: int


def duration_s(text: str) -> float:
    """The seconds of a duration such as 30s or 2h; ValueError for what is none."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return float(found[1]) * SECONDS[found[2]]


def parse(text: str) -> Condition:
    """The condition that a text says; BadInput with the place (`at`, from 1) for what is none."""
    if len(text) > MOST_CHARS:
        raise BadInput(f"An expression has at most {MOST_CHARS:,} characters; this one has {len(text):,}", at=1)
    parser = _Parser(text)
    condition = parser.condition_of(parser.either(0))
    parser.expect_end()
    return condition


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = TOKEN.match(text, at)
        if token is None:
            raise BadInput(f"At character {at + 1}: {text[at : at + 20]!r} is not understood. {HELP}", at=at + 1)
        assert token.lastgroup is not None
        found.append(_Token(token.lastgroup, token[0], at))
        at = token.end()
    if len(found) > MOST_TOKENS:
        raise BadInput(f"An expression has at most {MOST_TOKENS} words and signs; this one has {len(found)}", at=1)
    return [*found, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent; `either` is the whole, each method below binds tighter."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._place]

    def _error(self, message: str, token: _Token | None = None) -> BadInput:
        at = (token or self._token).at + 1
        return BadInput(f"At character {at}: {message}. {HELP}", at=at)

    def _take(self, *texts: str) -> str | None:
        """The next token if it is one of these signs or words, and go on behind it."""
        token = self._token
        if token.kind not in ("sign", "name") or token.text not in texts:
            return None
        self._place += 1
        return token.text

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise self._error(
                f"expected {text!r}, got {self._token.text!r}" if self._token.text else f"{text!r} is missing"
            )

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise self._error(f"{self._token.text!r} follows a complete expression")

    def condition_of(self, node: Quantity | Condition, token: _Token | None = None) -> Condition:
        if isinstance(node, NumberComparison | Not | JoinedConditions):
            return node
        raise self._error("a condition is missing: compare this number with another", token)

    def _number_of(self, node: Quantity | Condition, token: _Token) -> Quantity:
        if isinstance(node, NumberComparison | Not | JoinedConditions):
            raise self._error("a number is expected here, not a condition", token)
        return node

    def either(self, depth: int) -> Quantity | Condition:
        return self._join("or", depth)

    def _join(self, word: str, depth: int) -> Quantity | Condition:
        first, token = self._token, self._token
        left = self._both_side(word, depth)
        while self._take(word):
            token = self._token
            right = self.condition_of(self._both_side(word, depth), token)
            left = JoinedConditions(word, self.condition_of(left, first), right)
        return left

    def _both_side(self, word: str, depth: int) -> Quantity | Condition:
        return self._join("and", depth) if word == "or" else self._inversion(depth)

    def _inversion(self, depth: int) -> Quantity | Condition:
        self._check_depth(depth)
        if self._take("not"):
            token = self._token
            return Not(self.condition_of(self._inversion(depth + 1), token))
        return self._comparison(depth)

    def _comparison(self, depth: int) -> Quantity | Condition:
        first = self._token
        left = self._sum(depth)
        operator = self._take(*COMPARES)
        if operator is None:
            return left
        token = self._token
        right = self._number_of(self._sum(depth), token)
        return NumberComparison(operator, self._number_of(left, first), right)

    def _sum(self, depth: int) -> Quantity | Condition:
        return self._arithmetic(("+", "-"), depth)

    def _arithmetic(self, operators: tuple[str, ...], depth: int) -> Quantity | Condition:
        first = self._token
        left = self._operand(operators, depth)
        while operator := self._take(*operators):
            token = self._token
            right = self._number_of(self._operand(operators, depth), token)
            left = Arithmetic(operator, self._number_of(left, first), right)
        return left

    def _operand(self, operators: tuple[str, ...], depth: int) -> Quantity | Condition:
        return self._arithmetic(("*", "/"), depth) if "+" in operators else self._unary(depth)

    def _unary(self, depth: int) -> Quantity | Condition:
        self._check_depth(depth)
        if self._take("-"):
            token = self._token
            return Negated(self._number_of(self._unary(depth + 1), token))
        return self._atom(depth)

    def _check_depth(self, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise self._error(f"an expression is at most {MOST_DEPTH} levels deep")

    def _atom(self, depth: int) -> Quantity | Condition:
        token = self._token
        if self._take("("):
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        if token.kind in ("number", "duration"):
            self._place += 1
            return Number(duration_s(token.text) if token.kind == "duration" else float(token.text))
        if token.kind == "name" and token.text not in WORDS:
            return self._name(token)
        raise self._error(
            f"a number is missing before {token.text!r}" if token.text else "the expression ends too early"
        )

    def _name(self, token: _Token) -> Quantity:
        if self._tokens[self._place + 1].text != "(":
            return self._series()
        try:
            measure = MeasureFunction(token.text)
        except ValueError:
            raise self._error(f"no function {token.text!r}; there are: {', '.join(MeasureFunction)}") from None
        self._place += 2
        found = self._measure(measure)
        self._expect(")")
        return found

    def _series(self) -> MetricSeries:
        token = self._token
        if token.kind != "name" or not METRIC.fullmatch(token.text):
            raise self._error(f"{token.text!r} is no metric; their names begin with llmos_")
        self._place += 1
        matchers: list[LabelMatcher] = []
        if self._take("{"):
            while not self._take("}"):
                matchers.append(self._matcher())
                if self._take(",") is None and self._token.text != "}":
                    raise self._error("expected ',' or '}'")
        return MetricSeries(token.text, tuple(matchers))

    def _measure(self, measure: MeasureFunction) -> Measured:
        q, series, subject = None, None, ""
        if measure is MeasureFunction.QUANTILE:
            q = self._quantile()
            self._expect(",")
        if measure in OF_SERIES:
            series = self._series()
        else:
            subject = self._text()
        self._expect(",")
        if measure in OF_CALLS & OF_QUANTILES:
            q = self._quantile()
            self._expect(",")
        window_s = self._window()
        matchers: list[LabelMatcher] = []
        while measure is MeasureFunction.EVENTS and self._take(","):
            matchers.append(self._matcher())
        return Measured(measure, window_s, subject, series, q, tuple(matchers))

    def _matcher(self) -> LabelMatcher:
        token = self._token
        if token.kind != "name":
            raise self._error("the name of a label or field is missing")
        self._place += 1
        sign = self._take("=", "!=", "==")
        if sign is None:
            raise self._error("expected = or !=")
        return LabelMatcher(token.text, self._text(), sign == "!=")

    def _text(self) -> str:
        token = self._token
        if token.kind != "text":
            raise self._error(f'a text in quotes is expected, such as "support"; got {token.text!r}')
        self._place += 1
        if token.text[0] == "'":
            return token.text[1:-1]
        try:
            return str(json.loads(token.text, strict=False))
        except ValueError:
            raise self._error("this text has an escape that JSON does not have", token) from None

    def _quantile(self) -> float:
        token = self._token
        if token.kind != "number" or not 0 < float(token.text) < 1:
            raise self._error("a quantile is a number between 0 and 1, such as 0.99")
        self._place += 1
        return float(token.text)

    def _window(self) -> float:
        token = self._token
        if token.kind != "duration":
            raise self._error(f"a window such as 5m is expected; got {token.text!r}")
        window_s = duration_s(token.text)
        if not 1.0 <= window_s <= LONGEST_WINDOW_S:
            raise self._error("a window is from 1s to 7d")
        self._place += 1
        return window_s
