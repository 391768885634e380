"""The door: `python -m bench [all|encoder|finetune|start ...]` measures, shows a table and writes its JSON."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from bench import data as texts
from bench.box import HOME
from bench.record import ROOT, Record, show
from bench.stop import Stop
from llmos.abi.error import LlmosError


class Bench(StrEnum):
    """What can be measured."""

    ALL = "all"
    ENCODER = "encoder"
    GENERATE = "generate"
    FINETUNE = "finetune"
    START = "start"
    MEMORY = "memory"
    HTTP = "http"
    COST = "cost"
    QUALITY = "quality"
    GATE = "gate"
    ADAPTERS = "adapters"
    MIXED = "mixed"
    NEIGHBOURS = "neighbours"
    SERVERS = "servers"
    SOAK = "soak"
    DATA = "data"
    AUGMENTATION = "augmentation"
    CALIBRATION = "calibration"
    CHECKS = "checks"
    LEARNING = "learning"
    FEEDBACK = "feedback"
    SHADOW = "shadow"
    DRIFT = "drift"
    METHODS = "methods"
    DISTIL = "distil"
    FEW_LABELS = "few-labels"
    LABEL_ORACLE = "label-oracle"
    TRIALS = "trials"
    TUNE = "tune"


WITH_SETS = (Bench.AUGMENTATION, Bench.METHODS, Bench.FEW_LABELS, Bench.LABEL_ORACLE, Bench.TUNE)
WITH_SEEDS = (Bench.FEW_LABELS, Bench.LABEL_ORACLE, Bench.TUNE)
WITH_WAYS = (Bench.FEW_LABELS, Bench.DRIFT)
WITH_METHODS = (Bench.METHODS, Bench.LABEL_ORACLE)
WITH_DTYPE = (Bench.ENCODER, Bench.FINETUNE, Bench.GENERATE, Bench.SERVERS, Bench.TRIALS)


def main(
    bench: Annotated[Bench, typer.Argument(help="What to measure.")] = Bench.ALL,
    *,
    full: Annotated[bool, typer.Option("--full/--quick", help="All rows and more rounds, or a few minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON instead of a table.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each is repeated.")] = None,
    count: Annotated[
        int | None,
        typer.Option("--texts", min=1, help="Texts; rows, tokens, calls, megabytes where those are counted."),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="What llmos computes in (encoder, finetune, servers, trials); generate: what else, by commas."
        ),
    ] = "auto",
    minutes: Annotated[float | None, typer.Option(min=0.1, help="How long the soak lasts.")] = None,
    sets: Annotated[
        str | None,
        typer.Option(help="Data sets by commas, in this order (augmentation, methods, few-labels, label-oracle, tune)"),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds by commas, such as 1,2,3 (few-labels, label-oracle, tune).")
    ] = None,
    ways: Annotated[
        str | None, typer.Option(help="Ways to learn (few-labels); planted, quiet (drift): by commas.")
    ] = None,
    tried: Annotated[
        str | None, typer.Option("--methods", help="Training methods by commas (methods); the one of label-oracle.")
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder of public data sets.")] = texts.DEFAULT,
    home: Annotated[Path, typer.Option(help="The bench's own LLMOS_HOME.")] = HOME,
    device: Annotated[str | None, typer.Option(help="cpu0, cuda0 ...; the best there is if left out.")] = None,
    save: Annotated[bool, typer.Option("--save/--no-save", help="Write bench/results/*.json.")] = True,
) -> None:
    """Ratios of llmos to its peers, measured side by side in one run, their answers compared."""
    if bench is Bench.ALL:
        raise typer.Exit(_each())
    if dtype != "auto" and bench not in WITH_DTYPE:
        raise typer.BadParameter(f"{bench} has none; those that have: {', '.join(WITH_DTYPE)}", param_hint="--dtype")
    if tried is not None and bench not in WITH_METHODS:
        raise typer.BadParameter(
            f"{bench} has none; those that have: {', '.join(WITH_METHODS)}", param_hint="--methods"
        )
    if sets is not None and bench not in WITH_SETS:
        raise typer.BadParameter(f"{bench} has none; those that have: {', '.join(WITH_SETS)}", param_hint="--sets")
    if seeds is not None and bench not in WITH_SEEDS:
        raise typer.BadParameter(f"{bench} has none; those that have: {', '.join(WITH_SEEDS)}", param_hint="--seeds")
    if ways is not None and bench not in WITH_WAYS:
        raise typer.BadParameter(f"{bench} has none; those that have: {', '.join(WITH_WAYS)}", param_hint="--ways")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a daemon we started ends with us
    try:
        if bench is Bench.SERVERS:
            record = _servers(full, rounds, count, dtype, data.absolute(), home.absolute())
        elif bench is Bench.GENERATE:
            record = _generate(full, rounds, count, dtype, data.absolute(), home.absolute(), device)
        elif bench is Bench.SOAK:
            record = _soak(full, minutes, data.absolute(), home.absolute())
        elif bench is Bench.METHODS:
            record = _methods(full, rounds, count, sets, tried, data.absolute(), home.absolute())
        elif bench in WITH_SETS:
            measure: Callable[..., Record] = _module(bench).measure
            chosen: dict[str, object] = {} if seeds is None else {"seeds": _numbers(seeds)}
            chosen |= {} if tried is None else {"method": tried}
            chosen |= {} if ways is None else {"ways": ways}
            chosen |= {} if bench is not Bench.TUNE else {"count": count}
            record = measure(data.absolute(), home.absolute(), mode="full" if full else "quick", names=sets, **chosen)
        elif bench is Bench.DRIFT:
            record = _drift(full, rounds, ways, data.absolute(), home.absolute())
        else:
            record = _measure(bench, full, rounds, count, dtype, data.absolute(), home.absolute(), device)
    except (Stop, LlmosError) as stop:
        print(stop, file=sys.stderr)
        raise typer.Exit(1) from stop
    show(record, as_json=as_json)
    if save:
        print(f"written: {record.save()}", file=sys.stderr)


def _measure(
    bench: Bench,
    full: bool,
    rounds: int | None,
    count: int | None,
    dtype: str,
    data: Path,
    home: Path,
    device: str | None,
) -> Record:
    module, mode = _module(bench), "full" if full else "quick"
    measure: Callable[..., Record] = module.measure
    if bench in (Bench.ENCODER, Bench.ADAPTERS):
        chosen = {"rounds": rounds or (7 if full else 3), "count": count or 512, "device": device}
        chosen |= {"dtype": dtype} if bench is Bench.ENCODER else {}
        return measure(data, home, mode=mode, **chosen)
    if bench is Bench.FINETUNE:
        return measure(data, home, mode=mode, count=count, dtype=dtype, device=device)
    if bench is Bench.TRIALS:
        return measure(data, home, mode=mode, dtype=dtype, device=device)
    if bench is Bench.GATE:
        return measure(mode=mode)
    if bench is Bench.START:
        return measure(home, mode=mode, rounds=rounds or (15 if full else 5))
    if bench is Bench.HTTP:
        return measure(home, mode=mode, rounds=rounds or (9 if full else 3), connections=64, calls=count or 2000)
    if bench is Bench.COST:
        return measure(home, mode=mode, rounds=rounds or (40 if full else 16), connections=16, calls=count or 500)
    if bench is Bench.NEIGHBOURS:
        return measure(home, mode=mode, seconds=60.0 if full else 20.0)
    if bench is Bench.MIXED:
        return measure(data, home, mode=mode, seconds=60.0 if full else 20.0)
    if bench is Bench.DATA:
        return measure(mode=mode, megabytes=count or (1024 if full else 64))
    if bench in (Bench.CALIBRATION, Bench.LEARNING, Bench.FEEDBACK):
        return measure(data, home, mode=mode, seeds=rounds or 1)
    if bench is Bench.CHECKS:
        return measure(data, home, mode=mode)
    if bench is Bench.SHADOW:
        return measure(data, home, mode=mode, rounds=rounds, calls=count)
    if bench in (Bench.QUALITY, Bench.DISTIL):
        return measure(data, home, mode=mode, count=count)
    return measure(data, home, mode=mode, models=count or 20)


def _drift(full: bool, rounds: int | None, ways: str | None, data: Path, home: Path) -> Record:
    measure: Callable[..., Record] = _module(Bench.DRIFT).measure
    chosen = {} if ways is None else {"parts": frozenset(word.strip() for word in ways.split(","))}
    return measure(data, home, mode="full" if full else "quick", seeds=rounds or 1, **chosen)


def _methods(
    full: bool, rounds: int | None, count: int | None, sets: str | None, tried: str | None, data: Path, home: Path
) -> Record:
    measure: Callable[..., Record] = _module(Bench.METHODS).measure
    chosen = {"names": sets, "seeds": rounds, "methods": tried, "rows": count}
    return measure(data, home, mode="full" if full else "quick", **chosen)


def _servers(full: bool, rounds: int | None, count: int | None, dtype: str, data: Path, home: Path) -> Record:
    measure: Callable[..., Record] = _module(Bench.SERVERS).measure
    chosen = {"rounds": rounds or (7 if full else 3), "count": count or 512, "dtype": dtype}
    return measure(data, home, mode="full" if full else "quick", **chosen)


def _generate(
    full: bool, rounds: int | None, count: int | None, dtype: str, data: Path, home: Path, device: str | None
) -> Record:
    measure: Callable[..., Record] = _module(Bench.GENERATE).measure
    chosen = {"rounds": rounds or (5 if full else 2), "count": count or (128 if full else 48), "device": device}
    dtypes = ("int8",) if dtype == "auto" else tuple(dtype.split(","))
    return measure(data, home, mode="full" if full else "quick", dtypes=dtypes, **chosen)


def _soak(full: bool, minutes: float | None, data: Path, home: Path) -> Record:
    measure: Callable[..., Record] = _module(Bench.SOAK).measure
    return measure(data, home, mode="full" if full else "quick", minutes=minutes or (30.0 if full else 3.0))


def _numbers(seeds: str) -> list[int]:
    try:
        found = [int(word) for word in seeds.split(",") if word.strip()]
    except ValueError:
        found = []
    if not found:
        raise typer.BadParameter(f"{seeds!r} is no list of whole numbers, such as 1,2,3", param_hint="--seeds")
    return found


def _module(bench: Bench) -> ModuleType:
    name = "reading" if bench is Bench.DATA else bench.replace("-", "_")  # data.py holds the texts
    try:
        return import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("bench", "llmos"):
            raise
        raise Stop(
            f"This bench compares with peers, and {error.name} is not installed. "
            f"Install them: {sys.executable} -m pip install -r bench/requirements.txt"
        ) from error


def _each() -> int:
    """Every bench with the same options, each in a Python of its own, so that none inherits another's memory."""
    options = [word for word in sys.argv[1:] if word != Bench.ALL]
    ends = [
        subprocess.run([sys.executable, "-m", "bench", bench, *options], cwd=ROOT, check=False).returncode
        for bench in Bench
        if bench
        not in (
            Bench.ALL,
            Bench.QUALITY,
            Bench.GENERATE,
            Bench.SOAK,
            *WITH_SETS,
            Bench.CALIBRATION,
            Bench.LEARNING,
            Bench.FEEDBACK,
            Bench.SHADOW,
            Bench.DRIFT,
            Bench.DISTIL,
        )  # those take long: only when asked for
    ]
    return max(ends)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
