"""Compiles an untrusted grammar in a throw-away process first, bounded in time and memory.

A grammar that crashes llguidance or exceeds the bounds ends only that process; its sender gets an error.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache

from llmos.abi.error import BadInput, Cancelled
from llmos.abi.waiting import is_for_nobody
from llmos.nn.grammar.grammar_text import limits, text_of
from llmos.tasks.grammar import JSON_SCHEMA, LARK, REGEX, TOOLS, Grammar
from llmos.tasks.text import quote_value
from llmos.tasks.tools import ANSWER, ToolRule, alone, parts_of

CPU_S = 8  # CPU time of compilation and the steps
WITHIN_S = 60.0  # wall-clock time, for a machine under load
LOOK_EVERY_S = 0.1  # how soon the process ends after its client has left
MEMORY_BYTES = 2 << 30
STACK_BYTES = 1 << 20  # smaller than the stack of any compiling thread: a rule that needs more is nested too deeply
STEPS = 8
STEP_CPU_S = 0.5  # per step: the rest of the batch waits for it
PLAIN_CHARS = 8_000
LARGE = re.compile(r"\d{4}")  # numbers from 1,000 on
MAX_MESSAGE = 400
# lines of a grammar in an error, and markers that point into them
EXCERPT = re.compile(r"^ *(\d+ \|.*|\^+ *)$", re.MULTILINE)
STATE = re.compile(r"<(?:state|non-verbose)")  # what follows is internal state of llguidance
WHERE = re.compile(r"(?:at )?(\d+)\(\d+\): ")
COMPILING = "failed to compile JSON schema: "


def prove(grammar: Grammar) -> None:
    """Raise BadInput if a rule cannot be compiled within the bounds.

    The result is cached; small plain rules are not tried.
    """
    why = "" if is_plain(grammar) else _verdict(grammar.kind, grammar.text)
    if why:
        raise refusal_of(grammar, why, searches=True)


def is_plain(grammar: Grammar) -> bool:
    """Whether the rule is small and has no construct that multiplies, so that it needs no trial."""
    if len(grammar.text) > PLAIN_CHARS or LARGE.search(grammar.text):
        return False
    if grammar.kind == REGEX:
        return not any(one in grammar.text for one in "({")
    is_schema = grammar.kind == JSON_SCHEMA or grammar.key == TOOLS
    return is_schema and not any(word in grammar.text for word in ('"pattern', '"allOf"'))


def refusal_of(grammar: Grammar, why: str, *, called: str = "", searches: bool = False) -> BadInput:
    """The error for a rule that cannot be enforced. For tools it names the tool.

    That is the tool in `called`, or the one at which the error points; with `searches`, the one that fails alone.
    """
    said = cause_of(grammar, why)
    if grammar.key != TOOLS:
        return BadInput(f"The {grammar.param} cannot be enforced: {said}", key=grammar.param)
    known, rule = parts_of(grammar.text), _pointed_at(grammar, why)
    if rule == ANSWER:
        return BadInput(f"The {JSON_SCHEMA} cannot be enforced: {said}", key=JSON_SCHEMA)
    found = [one for one in known if one.name == called or f"a{one.number}" == rule] or known
    if len(found) > 1 and searches:
        found = _guilty(known)
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        return BadInput(f"The tools {quote_value(names)} cannot be enforced together: {said}", key=TOOLS)
    key = f"{TOOLS}[{found[0].number}].function.parameters"
    return BadInput(f"{key} of {found[0].name} cannot be enforced: {said}", key=key)


def _pointed_at(grammar: Grammar, why: str) -> str:
    """The name of the rule at the line to which an error points; empty if it points nowhere."""
    found = WHERE.match(why)
    lines = grammar.text.split("\n")[int(found[1]) - 1 :] if found else []
    return lines[0].partition(":")[0] if lines else ""


def cause_of(grammar: Grammar, why: str) -> str:
    """llguidance's error in one line, without lines of the grammar. Only the grammar's own author sees positions."""
    said = STATE.split(why)[0]
    said = " ".join(EXCERPT.sub("", said).split())
    if grammar.kind != LARK or grammar.key:
        said = WHERE.sub("", said).removeprefix(COMPILING)
    return said[:MAX_MESSAGE]


def _guilty(parts: list[ToolRule]) -> list[ToolRule]:
    """The one tool that fails alone, found by bisection; all of them if there is none."""
    while len(parts) > 1:
        half = len(parts) // 2
        wrong = (some for some in (parts[:half], parts[half:]) if _verdict(LARK, alone(some)))
        if (found := next(wrong, None)) is None:
            break
        parts = found
    return parts


@lru_cache(maxsize=512)
def _verdict(kind: str, text: str) -> str:
    """Why a rule cannot be used; empty if it can."""
    command = [sys.executable, "-m", "llmos.nn.grammar.proof"]
    said = json.dumps({"kind": kind, "text": text}).encode()
    # not a pipe: the parent would have to write while the child reads
    with os.fdopen(os.memfd_create("rule"), "w+b") as rule:
        rule.write(said)
        rule.seek(0)
        with subprocess.Popen(command, stdin=rule, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            told = _read_verdict(process)
            code = process.poll()
    if told is None or code is None:
        return f"compiling it takes longer than {WITHIN_S:.0f} s. Make it smaller"
    if code == 0:
        return str(json.loads(told)["why"])
    if code > 0:
        return "compiling it needs too much memory. Make it smaller"
    return f"compiling it ends the process that tries ({-code}). Make it smaller, or nest it less deeply"


def _read_verdict(process: subprocess.Popen[bytes]) -> bytes | None:
    """The process's output; None if it takes too long. If the client has left, kill it and raise Cancelled."""
    until = time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < until:
            if is_for_nobody():
                raise Cancelled("The client that sent the rule has left")
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=LOOK_EVERY_S)[0]
        return None
    finally:
        process.kill()  # no effect if it has ended


def main() -> None:
    """Read a rule from stdin, try it, and print what is wrong with it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rule = json.load(sys.stdin.buffer)
    found: list[str] = []
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=lambda: found.append(_wrong_with(Grammar(rule["kind"], rule["text"]))))
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps({"why": found[0]}))


def _wrong_with(grammar: Grammar) -> str:
    from time import thread_time

    from llguidance import LLMatcher, LLTokenizer

    try:
        made = LLMatcher(LLTokenizer("byte"), text_of(grammar), log_level=0, limits=limits())
    except ValueError as error:  # JSON nested too deeply
        return str(error)
    if made.is_error():
        return "" if "special token" in made.get_error() else str(made.get_error())
    for step in range(STEPS):
        started = thread_time()
        mask = made.compute_bitmask()
        if thread_time() - started > STEP_CPU_S:
            return f"each token of it would take longer than {STEP_CPU_S} s. Make it smaller"
        if made.is_error():
            return str(made.get_error()) if step else "nothing can match it"
        allowed = [byte for byte in range(256) if mask[byte >> 3] >> (byte & 7) & 1]
        if not allowed or made.is_stopped():
            break
        made.consume_token(allowed[step % len(allowed)])
    return ""


if __name__ == "__main__":
    main()
