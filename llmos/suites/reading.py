"""Reads a suite from YAML; whatever cannot be tested is refused with its line and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from llmos.abi.error import BadInput, BadSuite
from llmos.abi.json_type import Json
from llmos.abi.roots import open_below
from llmos.abi.task import find_spec, task_names
from llmos.data.lexicons import LEXICONS
from llmos.data.noise import BY_WORDS, NOISES
from llmos.data.yaml_source import Fields, Items, Node, Scalar, YamlSource, parse, plain
from llmos.suites.families import SuiteFamily, suite_family
from llmos.suites.form import TEXT
from llmos.suites.suite import MOST_TEXTS, SEED, BehaviourTest, ScoreMove, Suite, TestKind, TextChange
from llmos.suites.templates import MARK, lexicon_of, slots_of

MAX_TEXTS = 2_000
SUITE_KEYS = ("suite", "about", "task", "model", "seed", "params", "lexicons", "max_failures", "max_texts", "tests")
TEST_KEYS = (
    "test", "about", "texts", "inputs", "expect", "unchanged_by", "changed_by", "rises", "falls", "variants",
    "max_failures", "max_texts",
)  # fmt: skip
LEAST_MOVE = 0.01  # of a score, where the test does not say
CUSTOM = ("append", "prepend", "replace", "lexicon")
SUITE_EXAMPLE = "suite: NAME, task: classify, and tests: with a list of tests"
TEST_EXAMPLE = '- test: NAME, texts: ["{name} wants a refund"], expect: LABEL'
CHANGE_EXAMPLE = (
    f"one of {', '.join(NOISES)}; typo: 0.2; append: TEXT; prepend: TEXT; replace: {{OLD: NEW}}; lexicon: NAME"
)


def load_suite(path: str | Path) -> Suite:
    """The suite in this file; BadSuite that names its line for one that cannot be run."""
    try:
        with open_below(Path(path)) as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Give the path of a suite in YAML") from error
    except UnicodeDecodeError as error:
        raise BadSuite(
            f"{path} is not UTF-8 at byte {error.start}. Save it as UTF-8", file=str(path), line=1
        ) from error
    return read_suite(text, str(path))


def read_suite(text: str, file: str) -> Suite:
    """The suite in this YAML; `file` is what errors call it."""
    source = YamlSource(file, frozenset((*SUITE_KEYS, *TEST_KEYS)))
    root = source.fields(parse(text, source), "the suite", SUITE_KEYS, SUITE_EXAMPLE)
    for key in ("suite", "task", "tests"):
        if key not in root.of:
            raise source.error(1, f"the suite has no key {key!r}", SUITE_EXAMPLE)
    task = _task(root.of["task"], source)
    reader = _Reader(source, task, _lexicons(root.of.get("lexicons"), source), root)
    tests = tuple(reader.test(node) for node in source.items(root.of["tests"], "tests", TEST_EXAMPLE))
    _refuse_twins(tests, source)
    return Suite(
        source.text(root.of["suite"], "suite", "suite: a name for people"),
        task,
        source,
        tests,
        reader.lexicons,
        model=source.text(root.of["model"], "model", "model: NAME") if "model" in root.of else "",
        about=source.text(root.of["about"], "about", "about: a sentence") if "about" in root.of else "",
        seed=source.whole(root.of["seed"], "seed", 0, 2**53) if "seed" in root.of else SEED,
        params=_params(root.of.get("params"), source),
    )


def _task(node: Node, source: YamlSource) -> str:
    task = source.text(node, "task", "task: classify")
    if find_spec(task) is None:
        raise source.error(node.line, f"there is no task {task!r}", f"one of {', '.join(task_names())}")
    try:
        suite_family(task)
    except BadInput as error:
        raise source.error(node.line, error.message, "task: classify, tag, answer, or one that writes") from error
    return task


def _params(node: Node | None, source: YamlSource) -> dict[str, Json]:
    if node is None:
        return {}
    if not isinstance(node, Fields):
        raise source.error(node.line, "params are no keys with values", "params: {max_tokens: 60}")
    return {key: plain(value) for key, value in node.of.items()}


def _lexicons(node: Node | None, source: YamlSource) -> dict[str, tuple[str, ...]]:
    """The suite's own lexicons beside those that are built in; one of the same name takes its place."""
    example = "lexicons: {item: [kettle, desk lamp]}"
    found = dict(LEXICONS)
    if node is None:
        return found
    if not isinstance(node, Fields):
        raise source.error(node.line, "lexicons are no names with lists", example)
    for name, entries in node.of.items():
        if lexicon_of(name) != name:
            what = f"the lexicon {name!r} cannot be the name of a slot"
            raise source.error(node.lines[name], what, "letters and _, and no digit at the end")
        texts = tuple(source.text(one, f"the lexicon {name}", example) for one in source.items(entries, name, example))
        found[name] = tuple(dict.fromkeys(texts))
    return found


def _refuse_twins(tests: Sequence[BehaviourTest], source: YamlSource) -> None:
    lines: dict[str, int] = {}
    for test in tests:
        if test.name in lines:
            raise source.error(test.line, f"a test of line {lines[test.name]} has this name too", "another name")
        lines[test.name] = test.line


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the tests of one suite."""

    source: YamlSource
    task: str
    lexicons: Mapping[str, tuple[str, ...]]
    root: Fields

    @property
    def family(self) -> SuiteFamily:
        return suite_family(self.task)

    def test(self, node: Node) -> BehaviourTest:
        source, family = self.source, self.family
        given = source.fields(node, "a test", TEST_KEYS, TEST_EXAMPLE)
        of = given.of
        if "test" not in of:
            raise source.error(node.line, "a test has no name", TEST_EXAMPLE)
        name, line = source.text(of["test"], "test", TEST_EXAMPLE), given.lines["test"]
        expectation = family.read_expectation(of["expect"], source) if "expect" in of else None
        kind, changes, templates = self._kind(name, given), self._changes(given), self._templates(name, given)
        most = int(self._limit("max_texts", given, 1, MAX_TEXTS, max(MOST_TEXTS, len(templates))))
        if len(templates) > most:
            raise source.error(
                line, f"{name!r} has {len(templates)} texts", f"max_texts: {len(templates)}, or fewer texts"
            )
        return BehaviourTest(
            name,
            line,
            kind,
            templates,
            expectation,
            changes,
            self._moves(given),
            about=source.text(of["about"], "about", "about: a sentence") if "about" in of else "",
            variants=source.whole(of["variants"], "variants", 1, 20) if "variants" in of else 1,
            max_failures=self._limit("max_failures", given, 0.0, 1.0, 0.0),
            max_texts=most,
        )

    def _kind(self, name: str, given: Fields) -> TestKind:
        of, source, line = given.of, self.source, given.lines["test"]
        moved = [key for key in ("rises", "falls") if key in of]
        if "unchanged_by" in of and ("changed_by" in of or moved):
            raise source.error(line, f"{name!r} is of two kinds", "unchanged_by, or changed_by with rises or falls")
        if bool(moved) != ("changed_by" in of):
            what = f"{name!r} has {'no changed_by' if moved else 'changed_by and neither rises nor falls'}"
            raise source.error(line, what, "changed_by: [append: TEXT], and rises: {LABEL: 0.1} or falls: {LABEL: 0.1}")
        if moved and not self.family.has_scores:
            raise source.error(given.lines[moved[0]], f"{self.task} gives labels no scores", "expect or unchanged_by")
        if "changed_by" in of:
            if "expect" in of:
                raise source.error(given.lines["expect"], f"{name!r} is of two kinds", "expect in a test of its own")
            return TestKind.DIRECTION
        if "unchanged_by" in of:
            return TestKind.INVARIANCE
        if "expect" not in of:
            raise source.error(
                line, f"{name!r} expects nothing", "expect, unchanged_by, or changed_by with rises or falls"
            )
        return TestKind.MINIMUM

    def _limit(self, key: str, given: Fields, least: float, most: float, otherwise: float) -> float:
        """A number of the test, or of the whole suite."""
        node = given.of.get(key) or self.root.of.get(key)
        return otherwise if node is None else self.source.number(node, key, least, most)

    def _templates(self, name: str, given: Fields) -> tuple[Mapping[str, str], ...]:
        of, source = given.of, self.source
        if ("texts" in of) == ("inputs" in of):
            what = f"{name!r} has {'texts and inputs' if 'texts' in of else 'no texts'}"
            raise source.error(given.lines["test"], what, 'texts: ["{name} wants a refund"]')
        if "inputs" in of:
            nodes = source.items(of["inputs"], "inputs", "inputs: with a list of keys and texts")
            templates = [self._fields(node) for node in nodes]
        elif self.family.noisy_field != TEXT:
            example = f"inputs: with a list of {self.family.noisy_field} and what else the task {self.task} takes"
            raise source.error(given.lines["texts"], f"an input of {self.task} is more than a text", example)
        else:
            node = of["texts"]
            nodes = node.of if isinstance(node, Items) else [node]
            found = source.texts(node, "texts", 'texts: ["{name} wants a refund"]')
            templates = [{TEXT: text} for text in found]
        for node, template in zip(nodes, templates, strict=True):
            self._check_slots(slots_of(template.values()), node.line)
        expected = of.get("expect")
        if self.family.uses_marks and isinstance(expected, Scalar):
            self._check_marks(name, expected, templates)
        if expected is not None and not self.family.has_scores:
            known = {slot for template in templates for slot in slots_of(template.values())}
            for slot in slots_of(_texts_in(expected)):
                if slot not in known:
                    raise source.error(
                        expected.line,
                        f"expect has the slot {{{slot}}}, which no text has",
                        "a slot of its texts; {{ and }} for braces",
                    )
        return tuple(templates)

    def _check_marks(self, name: str, expected: Scalar, templates: Sequence[Mapping[str, str]]) -> None:
        """`marked` without a mark, and `none` with one, test something else than they say."""
        has_marks = any(MARK.search(text) for template in templates for text in template.values())
        if has_marks != (expected.text == "marked"):
            what = f"{name!r} expects {expected.text}, and its texts have {'' if has_marks else 'no '}marked spans"
            raise self.source.error(expected.line, what, "[Olga](PERSON) for a span, and expect: marked")

    def _fields(self, node: Node) -> Mapping[str, str]:
        if not isinstance(node, Fields):
            raise self.source.error(node.line, "an input has no keys", "- question: TEXT, and passage: TEXT under it")
        found = {key: self.source.text(value, key, f"{key}: TEXT") for key, value in node.of.items()}
        if self.family.noisy_field not in found:
            raise self.source.error(
                node.line, f"an input has no {self.family.noisy_field}", f"{self.family.noisy_field}: TEXT"
            )
        return found

    def _check_slots(self, slots: Sequence[str], line: int) -> None:
        for slot in slots:
            if lexicon_of(slot) not in self.lexicons:
                near = get_close_matches(slot, self.lexicons, 1)
                what = f"no lexicon fills the slot {{{slot}}}"
                write = (
                    f"{{{near[0]}}}"
                    if near
                    else f"one of {', '.join(self.lexicons)}, a lexicon of your own, or {{{{ and }}}} for braces"
                )
                raise self.source.error(line, what, write)

    def _changes(self, given: Fields) -> tuple[TextChange, ...]:
        node = given.of.get("unchanged_by", given.of.get("changed_by"))
        if node is None:
            return ()
        nodes = node.of if isinstance(node, Items) and node.of else [node]
        return tuple(change for one in nodes for change in self._change(one))

    def _change(self, node: Node) -> list[TextChange]:
        source = self.source
        if isinstance(node, Scalar):
            if node.text not in NOISES:
                near = get_close_matches(node.text, NOISES, 1)
                write = near[0] if near else CHANGE_EXAMPLE
                raise source.error(node.line, f"there is no change {node.text!r}", write)
            return [TextChange(node.text, node.line, noise=node.text)]
        given = source.fields(node, "a change", (*NOISES, *CUSTOM), CHANGE_EXAMPLE)
        return [self._custom(key, value, given.lines[key]) for key, value in given.of.items()]

    def _custom(self, key: str, node: Node, line: int) -> TextChange:
        source = self.source
        if key in NOISES:
            if key not in BY_WORDS:
                raise source.error(line, f"there is no more or less of {key}", f"{key} alone, without a number")
            share = source.number(node, key, 0.0, 1.0)
            return TextChange(f"{key} {share:.0%}", line, noise=key, share=share)
        if key == "replace":
            if not isinstance(node, Fields) or not node.of:
                raise source.error(line, "replace has no old and new texts", "replace: {OLD: NEW}")
            swaps = tuple((old, one.text if isinstance(one, Scalar) else "") for old, one in node.of.items())
            if any(not old for old, _ in swaps) or not all(isinstance(one, Scalar) for one in node.of.values()):
                raise source.error(line, "replace has no old and new texts", "replace: {OLD: NEW}")
            return TextChange("replace " + ", ".join(f"{old!r} by {new!r}" for old, new in swaps), line, swaps=swaps)
        text = source.text(node, key, f"{key}: TEXT")
        if key == "lexicon":
            if text not in self.lexicons:
                near = get_close_matches(text, self.lexicons, 1)
                raise source.error(line, f"there is no lexicon {text!r}", near[0] if near else ", ".join(self.lexicons))
            return TextChange(f"another {text}", line, lexicon=text)
        if key == "append":
            return TextChange(f"append {text.strip()!r}", line, after=text)
        return TextChange(f"prepend {text.strip()!r}", line, before=text)

    def _moves(self, given: Fields) -> tuple[ScoreMove, ...]:
        found = []
        for key in ("rises", "falls"):
            node = given.of.get(key)
            if node is None:
                continue
            if isinstance(node, Scalar):
                label = self.source.text(node, key, f"{key}: LABEL")
                found.append(ScoreMove(label, LEAST_MOVE, key == "rises"))
                continue
            if not isinstance(node, Fields) or not node.of:
                raise self.source.error(node.line, f"{key} names no label", f"{key}: {{LABEL: 0.1}}")
            for label, least in node.of.items():
                found.append(ScoreMove(label, self.source.number(least, f"{key}: {label}", 0.0, 1.0), key == "rises"))
        return tuple(found)


def _texts_in(node: Node) -> list[str]:
    if isinstance(node, Scalar):
        return [node.text]
    parts = node.of.values() if isinstance(node, Fields) else node.of
    return [text for part in parts for text in _texts_in(part)]
