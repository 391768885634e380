"""Describes an imported ONNX graph: its task, inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from llmos.abi.error import BadInput
from llmos.abi.json_type import Json
from llmos.abi.task import spec_of, task_of_architecture
from llmos.engines.onnx.graph import Graph, GraphForm, Session, check_labels, graph_of, open_session
from llmos.programs.describe import LABELS, VOCABULARY, license_of, limits_of, pooling_of

MANY = "multi_label_classification"
TRIED = "a"  # a probe input that shows the labels of a graph whose output is a map


def describe_graph(folder: Path, paths: Sequence[str], args: dict[str, Json]) -> dict[str, Json]:
    """The draft of its manifest; BadInput if graph, task, labels and tokenizer do not fit each other."""
    config = _config(folder)
    task = str(args.get("task") or _task_of(config))
    session = open_session(folder / paths[0], threads=1)
    graph = graph_of(session, task)
    if not graph.reads_text and not VOCABULARY & set(paths):
        raise BadInput(
            "The graph reads tokens, and there is no tokenizer.json beside it. Save it there: "
            "tokenizer.save_pretrained(folder)",
            lacks="tokenizer.json",
        )
    labels = _labels(folder, config, args)
    if graph.form is GraphForm.MAP:
        has = _probability_labels(session, graph)
        labels = labels or has
        _check_map(labels, has)
    check_labels(graph, task, labels)
    options: dict[str, Json] = {"engine": "onnx", "tasks": [task]}
    if config.get("problem_type") == MANY:
        options["multi_label"] = True
    if graph.form is GraphForm.HIDDEN:
        options["pooling"] = pooling_of(folder)
    limit = graph.length or (None if graph.reads_text else limits_of(folder, config))
    if limit:
        options["max_tokens"] = limit
    return {
        "task": task,
        "architecture": str(config.get("model_type") or "onnx"),
        "license": license_of(folder),
        "labels": labels if spec_of(task).has_labels else [],
        "options": options,
    }


def _config(folder: Path) -> dict[str, Json]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BadInput(f"config.json is not valid JSON ({error}). Save it again", file="config.json") from error
    return found if isinstance(found, dict) else {}


def _task_of(config: dict[str, Json]) -> str:
    names = config.get("architectures") or [""]
    found = task_of_architecture(str(names[0]))
    if found is None:
        raise BadInput(
            "An ONNX graph does not say what it is for. Declare it: --task classify, tag or embed", key="task"
        )
    return found


def _labels(folder: Path, config: dict[str, Json], args: dict[str, Json]) -> list[str]:
    """The given labels, else those in the labels file, else those of the config."""
    if args.get("labels"):
        return [str(label) for label in args["labels"]]
    if (folder / LABELS).exists():
        return [line.strip() for line in (folder / LABELS).read_text(encoding="utf-8").splitlines() if line.strip()]
    by_id = config.get("id2label")
    return [str(by_id[key]) for key in sorted(by_id, key=int)] if isinstance(by_id, dict) else []


def _probability_labels(session: Session, graph: Graph) -> list[str]:
    """The labels of a graph whose output is a map from label to probability."""
    ((name, kind),) = graph.inputs.items()
    (found,) = session.run([graph.output], {name: [[TRIED]] if kind == "texts" else [TRIED]})
    return [str(label) for label in found[0]]


def _check_map(labels: Sequence[str], has: Sequence[str]) -> None:
    """Raise BadInput if the labels differ from those of the graph's map, where answers are looked up."""
    if len(labels) != len(has) or set(labels) != set(has):
        raise BadInput(
            f"The graph gives a map of {len(has)} labels ({', '.join(has[:12])}) and there are {len(labels)}: "
            f"{', '.join(labels[:12])}. It names its own: leave the labels out",
            key="labels",
            expected=has,
            count=len(labels),
        )
