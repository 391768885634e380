"""Compiles an untrusted grammar in a throw-away process first, bounded in time and memory.

What crashes llguidance, takes too long or too much memory ends that process, and is an answer to who sent the rule.
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

CPU_S = 8  # of compiling and the steps
WITHIN_S = 60.0  # of the clock, on a machine that has much else to do
LOOK_EVERY_S = 0.1  # so soon a process ends whose rule nobody waits for any more
MEMORY_BYTES = 2 << 30
STACK_BYTES = 1 << 20  # less than any thread that compiles has: what needs more is nested too deeply
STEPS = 8
STEP_CPU_S = 0.5  # neighbours wait for a step
PLAIN_CHARS = 8_000
LARGE = re.compile(r"\d{4}")  # numbers from a thousand on
MAX_MESSAGE = 400
EXCERPT = re.compile(r"^ *(\d+ \|.*|\^+ *)$", re.MULTILINE)  # lines of a grammar, and what points into them
STATE = re.compile(r"<(?:state|non-verbose)")  # what follows is for whoever mends llguidance
WHERE = re.compile(r"(?:at )?(\d+)\(\d+\): ")
COMPILING = "failed to compile JSON schema: "


def prove(grammar: Grammar) -> None:
    """BadInput for a rule that cannot be compiled, or not within the bounds; each is tried once, and small plain ones
    are not."""
    why = "" if is_plain(grammar) else _verdict(grammar.kind, grammar.text)
    if why:
        raise refusal_of(grammar, why, searches=True)


def is_plain(grammar: Grammar) -> bool:
    """Whether the rule is so small, and has so little in it that multiplies, that it needs no proof."""
    if len(grammar.text) > PLAIN_CHARS or LARGE.search(grammar.text):
        return False
    if grammar.kind == REGEX:
        return not any(one in grammar.text for one in "({")
    is_schema = grammar.kind == JSON_SCHEMA or grammar.key == TOOLS
    return is_schema and not any(word in grammar.text for word in ('"pattern', '"allOf"'))


def refusal_of(grammar: Grammar, why: str, *, called: str = "", searches: bool = False) -> BadInput:
    """What is said of a rule that cannot be kept to, and of tools, of which: the one that is `called`, the one that the
    error points at, or, if it `searches`, the one that is refused alone."""
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
    """The name of the rule at whose line of the grammar an error points; empty where it points nowhere."""
    found = WHERE.match(why)
    lines = grammar.text.split("\n")[int(found[1]) - 1 :] if found else []
    return lines[0].partition(":")[0] if lines else ""


def cause_of(grammar: Grammar, why: str) -> str:
    """What llguidance says is wrong, in a line: without the lines of a grammar that it was shown, and but for who wrote
    the grammar, without where."""
    said = STATE.split(why)[0]
    said = " ".join(EXCERPT.sub("", said).split())
    if grammar.kind != LARK or grammar.key:
        said = WHERE.sub("", said).removeprefix(COMPILING)
    return said[:MAX_MESSAGE]


def _guilty(parts: list[ToolRule]) -> list[ToolRule]:
    """The one of these that is refused alone, by halves; all of them where none is."""
    while len(parts) > 1:
        half = len(parts) // 2
        wrong = (some for some in (parts[:half], parts[half:]) if _verdict(LARK, alone(some)))
        if (found := next(wrong, None)) is None:
            break
        parts = found
    return parts


@lru_cache(maxsize=512)
def _verdict(kind: str, text: str) -> str:
    """Why a rule cannot be used; empty where it can."""
    command = [sys.executable, "-m", "llmos.nn.grammar.proof"]
    said = json.dumps({"kind": kind, "text": text}).encode()
    with os.fdopen(os.memfd_create("rule"), "w+b") as rule:  # not a pipe, which would have to be kept filled
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
    """What the process says, None if it takes too long; Cancelled, and it is killed, once nobody waits for that."""
    until = time.monotonic() + WITHIN_S
    try:
        while time.monotonic() < until:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=LOOK_EVERY_S)[0]
            if is_for_nobody():
                raise Cancelled("The client that sent the rule has left")
        return None
    finally:
        process.kill()  # nothing, where it has ended


def main() -> None:
    """Read a rule, prove it, and print what is wrong with it."""
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
    except ValueError as error:  # nested too deeply to be read
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
