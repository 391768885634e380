"""demo: runs the whole path on the example rows: pull two bases, fine-tune and promote two models, ask, chat."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.abi.error import Internal, NotFound
from llmos.abi.process import Process, State, of_program
from llmos.cli import daemon
from llmos.cli.client import box
from llmos.cli.progress import follow
from llmos.cli.terminal import say, span

if TYPE_CHECKING:
    from llmos.sdk.client import Client

BASES = ("minilm", "smollm2")
QUESTION = "Explain in one sentence what an operating system does."


@dataclass(frozen=True, slots=True)
class Lesson:
    """One model of the demo: its task, its files, and a text to try it on.

    It trains for fewer epochs than the recipe's default, so that the demo takes minutes.
    """

    name: str
    task: str
    files: str
    headline: str
    epochs: int
    text: str


LESSONS = (
    Lesson(
        "support", "classify", "intents.{}.csv", "accuracy", 10, "You took the chairs back last week. Where's my money?"
    ),
    Lesson(
        "support-entities",
        "tag",
        "entities.{}.conll",
        "f1",
        6,
        "Hi, Olga Petrova here: the rice cooker from order WX-461355 cost me $89.50 on 7 July.",
    ),
)


def demo() -> None:
    """Run the whole path on example rows: pull, fine-tune, promote, ask, chat."""
    begun = time.monotonic()
    rows = examples()
    with stage("daemon"):
        if not daemon.running():
            daemon.up()
        else:
            say("already up")
    with box() as client:
        for base in BASES:
            with stage(f"pull {base}"):
                say(ensure_pulled(client, base))
        for lesson in LESSONS:
            with stage(f"fine-tune {lesson.name} ({lesson.task})"):
                say(ensure_trained(client, lesson, rows))
        with stage("evaluate: the same test rows, beside a bag of words"):
            compare(client, rows)
        with stage("ask"):
            for lesson in LESSONS:
                ask(client, lesson)
        with stage("chat with smollm2"):
            chat(client)
    say(f"\nDone in {span(time.monotonic() - begun)}. The daemon stays up. Go on with:\n")
    for command in next_commands(rows):
        say(f"  {command}")


def examples() -> Path:
    """The folder with the example rows: in the current folder, or in the source tree of this installation."""
    tree = Path(__file__).resolve().parents[2]
    for top in (Path.cwd(), tree):
        if (top / "examples" / "support" / "intents.train.csv").is_file():
            return top / "examples" / "support"
    raise NotFound(
        "The demo's rows (examples/support) come with the source tree, not with the package. Clone the project and run "
        "make demo there, or train on rows of your own: llmos train classify --data tickets.csv"
    )


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Print a heading, and afterwards how long the stage took."""
    say(f"\n── {title}")
    begun = time.monotonic()
    yield
    say(f"   {time.monotonic() - begun:.1f} s")


def ensure_pulled(client: Client, base: str) -> str:
    """Pull a base unless it is here, and print which."""
    if any(model.name == base for model in client.models()):
        return f"{base} is here already"
    process = running(client, "pull", base) or client.pull(base, wait=False)
    return f"{', '.join(follow(client, process, quiet=False).made) or base} is here"


def ensure_trained(client: Client, lesson: Lesson, rows: Path) -> str:
    """Fine-tune with the gate unless that is done, and print the gate's verdict."""
    if any(model.name == lesson.name and model.promoted for model in client.models()):
        return f"{lesson.name} is promoted already; its numbers follow"
    process = running(client, "train", lesson.name) or client.train(
        lesson.task,
        data=rows / lesson.files.format("train"),
        validation=str(rows / lesson.files.format("validation")),
        test=str(rows / lesson.files.format("test")),
        base="minilm",
        method="full",
        name=lesson.name,
        epochs=lesson.epochs,
        batch_size=16,
        wait=False,
    )
    ended = follow(client, process, quiet=False)
    return ended.reason or f"made {', '.join(ended.made)}"


def running(client: Client, program: str, name: str) -> Process | None:
    """The unfinished process of an earlier demo for the same model; an interrupted one is continued."""
    for process in of_program(client.processes(), program):
        if process.state is not State.EXITED:
            args = process.spec.args
            if name in (args.get("name"), args.get("source")):
                return client.resume(process.pid) if process.state is State.INTERRUPTED else process
    return None


def compare(client: Client, rows: Path) -> None:
    """Print each model's primary metric on the test rows, and a bag of words' on the same rows."""
    baseline = subprocess.run(
        [sys.executable, str(rows / "baseline.py"), "--json"], capture_output=True, text=True, check=False
    )
    if baseline.returncode:
        raise Internal(f"{rows / 'baseline.py'} failed: {baseline.stderr.strip().splitlines()[-1]}")
    beside = json.loads(baseline.stdout)
    for lesson in LESSONS:
        model = client.model(lesson.name)
        counted = model.evidence.get("rows", {}).get("test", "?")
        found = model.metrics[lesson.headline]
        ours = f"{model.ref:<20} {lesson.headline:<9} {found:.3f}"
        say(f"{ours}   bag of words {beside[lesson.task]:.3f}   ({counted} test rows)")


def ask(client: Client, lesson: Lesson) -> None:
    """Ask the promoted version, and show its answer."""
    from llmos.sdk.result import Classified, Tagged

    answer = client.run(lesson.name, lesson.text)
    say(f"{lesson.name} ← {lesson.text}")
    if isinstance(answer, Classified):
        say(f"  {answer.label}  {answer.score or 0:.2f}")
    elif isinstance(answer, Tagged):
        for found in answer.spans:
            say(f"  {found.label:<8} {found.text}  {found.score:.2f}")


def chat(client: Client) -> None:
    """Stream one answer, piece by piece."""
    say(f"smollm2 ← {QUESTION}")
    sys.stdout.write("  ")
    for piece in client.chat("smollm2", QUESTION, max_tokens=60, temperature=0.0):
        sys.stdout.write(piece)
        sys.stdout.flush()
    say()


def next_commands(rows: Path) -> tuple[str, ...]:
    """The next commands to try, in the form that this shell needs."""
    llmos = spell_llmos()
    with box() as client:
        url = client.url
    body = shlex.quote(json.dumps({"model": "support", "input": "where is my parcel"}))
    return (
        f'{llmos} run support "I was charged twice, please help"',
        f'{llmos} run support-entities "Order #4711 for Mei Conti arrived on Sunday"',
        f'{llmos} chat smollm2 "Name three uses of a paper clip."',
        f"{llmos} show support",
        f"curl -s {url}/v1/tasks/classify -H 'content-type: application/json' -d {body}",
        f"{llmos} train classify --data {shlex.quote(str(rows / 'intents.train.csv'))} --name mine --method lora",
        f"{llmos} ps",
        f"{llmos} down",
    )


def spell_llmos() -> str:
    """`llmos` if the shell finds this installation under that name, else its path."""
    here = Path(sys.argv[0]).absolute()
    found = shutil.which("llmos")
    if found and Path(found).resolve() == here.resolve():
        return "llmos"
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))
