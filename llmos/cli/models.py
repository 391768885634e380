"""pull, ls, show, promote, rollback, gate: versions in the store, and the one that a name means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmos.abi.error import BadInput, NotFound
from llmos.abi.gate import KINDS, parse_requirement
from llmos.abi.method import find_method
from llmos.abi.model import Kind
from llmos.cli.client import box
from llmos.cli.terminal import note, number, say, say_json, say_metrics, say_table, size

if TYPE_CHECKING:
    from llmos.abi.api_types import Model

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ref = Annotated[str, typer.Argument(metavar="MODEL", help="A name (its promoted version), or name:version.")]
REPORT = "report.html"


def pull(
    source: Annotated[
        str, typer.Argument(help="A name of the catalog (minilm, smollm2), hf:org/name, a folder or a file.")
    ],
    name: Annotated[str | None, typer.Option(help="The model's name here.")] = None,
    base: Annotated[str | None, typer.Option(help="For an adapter that fits several bases: which one.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="int8: also make a version of the base that is served in int8.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option(help="The most that int8 may lose (default 0.01).")] = None,
    engine: Annotated[
        str | None, typer.Option(help="The engine that serves it: pytorch, llamacpp, onnx or vllm.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="ONNX graph: classify, tag or embed; adapter: generate, translate ...")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="ONNX graph: its labels in the order of its scores, separated by commas.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is in the store.")] = True,
    as_json: AsJson = False,
) -> None:
    """Bring in a base model, or an adapter for one."""
    from llmos.cli.progress import follow_or_say

    label_list = None if labels is None else [one.strip() for one in labels.split(",")]
    with box() as client:
        also: dict[str, Any] = {
            "dtype": dtype,
            "max_drop": max_drop,
            "engine": engine,
            "task": task,
            "labels": label_list,
        }  # Any: the values differ in type
        process = client.pull(source, name=name, base=base, wait=False, **also)
        ended = follow_or_say(client, process, wait=wait, as_json=as_json)
    if ended is not None:
        message = ended.progress.message if ended.progress else ""
        say(message or f"{' '.join(ended.made) or source} is here.")


def ls(
    data: Annotated[bool, typer.Option("--data", help="Datasets instead of models.")] = False, as_json: AsJson = False
) -> None:
    """List models and bases, or datasets."""
    with box() as client:
        if data:
            datasets = client.datasets()
            if as_json:
                say_json(datasets)
                return
            table = [(d.ref, d.task, sum(d.splits.values()), len(d.labels), d.created_at[:19]) for d in datasets]
            say_table(("DATASET", "TASK", "ROWS", "LABELS", "CREATED"), table)
            return
        models = client.models()
    if as_json:
        say_json(models)
        return
    head = ("MODEL", "TASK", "PROMOTED", "BASE", "METHOD", "METRIC", "SIZE", "CREATED")
    under_way = [model for model in models if model.rollout and not model.promoted]
    say_table(head, [_row(model) for model in models])
    for model in under_way:
        note(f"{model.ref} is being rolled out: {model.rollout}. See: llmos rollout {model.name}")
    if not models:
        note("The store is empty. Bring in a base: llmos pull minilm")


def _row(model: Model) -> tuple[object, ...]:
    metric = next((f"{key} {number(value)}" for key, value in model.metrics.items()), "")
    mark = "yes" if model.promoted else ""
    made = model.created_at[:19]
    how = f"{model.method or model.kind}{f' {model.dtype}' if model.dtype else ''}"
    return model.ref, model.task, mark, model.base, how, metric, size(model.size_bytes), made


def show(
    ref: Ref,
    report: Annotated[bool, typer.Option("--report", help="Print only the path of its evaluation page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a version: metrics, labels, lineage."""
    with box() as client:
        model = client.model(ref)
        if as_json:
            say_json(model)
            return
        page = Path(client.status().home) / "models" / model.name / str(model.version) / REPORT
        has_page = any(file.path == REPORT for file in model.files)
        if report:
            if not has_page:
                raise NotFound(f"{model.ref} has no evaluation page: {_why_none(model)}")
            say(str(page))
            return
        _say_model(model)
        if has_page:
            say(f"\nEvaluation: {page}\n            {client.url}/v1/models/{model.ref}/report")


def _dtype(model: Model) -> str | None:
    """The version's own dtype if it has one, and what it costs."""
    cost = model.evidence.get("quantized")
    if not cost:
        return model.dtype or None
    if not cost["measured_on"]:
        return f"{cost['dtype']}: not measured. Do: llmos eval {model.ref} --data ROWS, and again with --dtype float32"
    against = cost.get("against", "float32")  # earlier versions do not record it
    measured = f"{cost['measure']} {number(cost['int8'])}, in {against} {number(cost[against])}"
    return f"{model.dtype}: {measured}, on {cost['measured_on']} {'texts' if model.kind is Kind.BASE else 'rows'}"


def _format_int8_gain(model: Model) -> str | None:
    """What int8 saves, as measured before the version was made, on the machine that made it."""
    here = (model.evidence.get("quantized") or {}).get("here")
    if not here:
        return None
    at_most = "" if here.get("is_whole", True) else "at most "
    sizes = f"{at_most}{size(here['int8_bytes'])} for {size(here['float_bytes'])} in {here['dtype']}"
    speeds = ", ".join(f"{speed:.2f} for {rows}" for rows, speed in here["speeds"].items())
    return f"{sizes}; products {speeds} tokens at once, times as fast" if speeds else sizes


def _format_calibration(model: Model) -> str | None:
    """The temperature, and how far confidence and accuracy lie apart on the test rows."""
    found = model.evidence.get("calibration")
    if not found:
        return None
    after, refused = found["after"], found.get("refused_temperature")
    if refused:
        error = f"error {number(after['error'])} ({number(after['by_chance'])} by chance)"
        return f"{error}; a temperature of {number(refused)} is not taken: it is no better than none beyond chance"
    biases = " and a bias for each label" if found.get("biases") else ""
    return (
        f"temperature {number(found['temperature'])}{biases}, error {number(after['error'])} "
        f"({number(found['before']['error'])} before; {number(after['by_chance'])} by chance)"
    )


def _format_abstention(model: Model) -> str | None:
    """What a model that was trained to abstain promises, and what was observed."""
    found = (model.evidence.get("calibration") or {}).get("abstain") or {}
    if found.get("why_not"):
        return f"no: {found['why_not']}"
    own = next((one for one in found.get("risks", ()) if one["promised"] == found["asked"]), None)
    if own is None:
        return None
    return (
        f"at most {own['promised']:.1%} of the answers given wrong; on test rows {own['share']:.1%} "
        f"of {own['answered']:,}, and {own['rows'] - own['answered']:,} withheld"
    )


def _why_none(model: Model) -> str:
    if model.kind is Kind.BASE:
        return "a base is evaluated as part of the models that stand on it. See them: llmos ls"
    return f"it came without one. Make one: llmos eval {model.ref} --data ROWS"


def _method(model: Model) -> str | None:
    """The model's method, and how such models are served."""
    spec = find_method(model.method)
    if spec is None:
        return model.method
    why = (model.lineage.get("recipe") or {}).get("method_why")
    return f"{spec.name}, served {spec.serving}{f' ({why})' if why else ''}"


def _say_model(model: Model) -> None:
    facts = {
        "task": model.task,
        "promoted": "yes" if model.promoted else "no",
        "rollout": model.rollout or None,
        "base": model.base,
        "method": _method(model),
        "served in": _dtype(model),
        "int8 saves": _format_int8_gain(model),
        "distilled from": (model.evidence.get("distillation") or {}).get("summary"),
        "calibration": _format_calibration(model),
        "abstains": _format_abstention(model),
        "engine": model.engine,
        "answers": ", ".join(model.capabilities) or None,
        "architecture": model.architecture,
        "size": size(model.size_bytes),
        "labels": f"{len(model.labels)}: {', '.join(model.labels[:12])}" if model.labels else None,
        "options": ", ".join(f"{key}={value}" for key, value in model.options.items()) or None,
        "chat template": _template(model.template),
        "license": model.license,
        "source": model.source,
        "created": model.created_at,
        **_format_lineage(model.lineage),
    }
    say(model.ref)
    for key, value in facts.items():
        if value not in (None, ""):
            say(f"  {key:<13} {value}")
    if model.metrics:
        say()
        say_metrics(model.metrics, bounds_of(model))
    _say_gate(model)
    per_class = model.evidence.get("per_class") or {}
    if per_class:
        say()
        keys = list(next(iter(per_class.values())))
        table = [(label, *(number(row.get(key)) for key in keys)) for label, row in per_class.items()]
        say_table(("LABEL", *(key.upper() for key in keys)), table)


def bounds_of(model: Model) -> dict[str, tuple[float, float]]:
    """The ends of the intervals of its metrics; none of a version made earlier."""
    found = model.evidence.get("intervals") or {}
    return {name: (one["low"], one["high"]) for name, one in found.items()}


def _say_gate(model: Model) -> None:
    """What each condition of the gate found when the version was made."""
    found = (model.evidence.get("gate") or {}).get("conditions") or []
    if found:
        say()
        rows = [(one["require"], "met" if one["is_met"] else "not met", one["sentence"]) for one in found]
        say_table(("REQUIRED", "", "FOUND"), rows)


def _template(tried: dict[str, Any]) -> str | None:  # Any: JSON
    """The problems of a base's chat template in its trials, if there are any."""
    if "error" in tried:
        return str(tried["error"])
    notes = [f"refuses {kind}: {why}" for kind, why in (tried.get("refuses") or {}).items()]
    if tried.get("parts"):
        notes.append(f"reads by parts the text of: {', '.join(tried['parts'])}")
    return "; ".join(notes) or None


def _format_lineage(lineage: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """A version's lineage, without keys that only the store needs."""
    facts = {key: value for key, value in lineage.items() if isinstance(value, str | int | float)}
    made = {"made by": f"process {facts['pid']}"} if "pid" in facts else {}
    return {**{key: value for key, value in facts.items() if key not in ("pid", "offer", "born")}, **made}


def promote(ref: Ref, as_json: AsJson = False) -> None:
    """Make a name mean this version."""
    with box() as client:
        _say_promoted(client.promote(ref), as_json=as_json)


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")], as_json: AsJson = False
) -> None:
    """Make a name mean the version promoted before."""
    with box() as client:
        _say_promoted(client.rollback(name), as_json=as_json)


def gate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name; there need be no version of it yet.")],
    require: Annotated[
        list[str] | None,
        typer.Option(help="A requirement, such as 'f1.low>=0.8' or better; replaces all there were. May be repeated."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="How much worse the primary metric may be, such as 0.01.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or change what new versions of a name must meet to be promoted."""
    if reset and (require or margin is not None):
        raise BadInput("--reset goes back to the default; give it without --require and --margin")
    with box() as client:
        if reset:
            found = client.reset_gate(name)
        elif require or margin is not None:
            found = client.set_gate(name, require or None, margin)
        else:
            found = client.gate(name)
        newest = next((one for one in reversed(client.models()) if one.name == name and one.evidence.get("gate")), None)
    if as_json:
        say_json(found)
        return
    say(f"{name}{' (the default)' if found.is_default else ''}, margin {found.margin:g}")
    kinds = [KINDS[parse_requirement(one).kind] for one in found.require]
    say_table(("REQUIRED", "MEANING"), [(one, kind.help) for one, kind in zip(found.require, kinds, strict=True)])
    if newest is not None:
        say(f"\n{newest.ref}:")
        _say_gate(newest)


def _say_promoted(model: Model, *, as_json: bool) -> None:
    if as_json:
        say_json(model)
        return
    say(f"{model.name} now means {model.ref}.")


VERBS: dict[str, Any] = {  # Any: verbs differ in what they take
    "pull": pull,
    "ls": ls,
    "show": show,
    "promote": promote,
    "rollback": rollback,
    "gate": gate,
}
